// Bytes: the vocabulary for raw bytes that every folder shares.
//
// Bytes owns, View borrows (it must not outlive what it points to), Shared is an immutable
// buffer that many holders keep at once (one encoded message on a thousand sockets).
// BytesWriter and BytesReader build and read fixed layouts: big-endian where keys must sort as
// numbers, little-endian in records. A reader that runs past its end turns bad and stays bad, so a
// decoder checks `ok()` once at the end.
// Thread: any; value types.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace starling {

using Bytes = std::string;
using View = std::string_view;
using Shared = std::shared_ptr<const Bytes>;

// As libsodium takes bytes.
inline const unsigned char* octets(View bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

// N raw bytes with an identity of their own: `struct NodeTag; using NodeId = Fixed<NodeTag, 16>`.
// Two kinds of the same length do not convert into each other.
template <class Tag, std::size_t N>
struct Fixed {
  static constexpr std::size_t kSize = N;
  std::array<std::uint8_t, N> raw{};

  [[nodiscard]] View view() const { return {reinterpret_cast<const char*>(raw.data()), N}; }
  [[nodiscard]] bool is_zero() const {
    for (auto byte : raw) {
      if (byte != 0) return false;
    }
    return true;
  }
  // Exactly N bytes; asserts nothing: a wrong length gives a zero value and false.
  static bool from(View bytes, Fixed& out) {
    if (bytes.size() != N) return false;
    std::memcpy(out.raw.data(), bytes.data(), N);
    return true;
  }
  friend bool operator==(const Fixed&, const Fixed&) = default;
  friend auto operator<=>(const Fixed&, const Fixed&) = default;
};

// A number with an identity of its own, so that arguments cannot be swapped.
template <class Tag, class Rep>
struct Id {
  Rep value{};
  friend bool operator==(const Id&, const Id&) = default;
  friend auto operator<=>(const Id&, const Id&) = default;
};

class BytesWriter {
 public:
  explicit BytesWriter(Bytes& out) : out_(out) {}

  void u8(std::uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void u16be(std::uint16_t v) { big(v, 2); }
  void u32be(std::uint32_t v) { big(v, 4); }
  void u64be(std::uint64_t v) { big(v, 8); }
  void u16le(std::uint16_t v) { little(v, 2); }
  void u32le(std::uint32_t v) { little(v, 4); }
  void u64le(std::uint64_t v) { little(v, 8); }
  void raw(View bytes) { out_.append(bytes); }
  // u32le length, then the bytes.
  void sized(View bytes) {
    u32le(static_cast<std::uint32_t>(bytes.size()));
    raw(bytes);
  }

 private:
  void big(std::uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) out_.push_back(static_cast<char>(v >> (8 * i)));
  }
  void little(std::uint64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) out_.push_back(static_cast<char>(v >> (8 * i)));
  }
  Bytes& out_;
};

class BytesReader {
 public:
  explicit BytesReader(View in) : in_(in) {}

  std::uint8_t u8() { return static_cast<std::uint8_t>(big(1)); }
  std::uint16_t u16be() { return static_cast<std::uint16_t>(big(2)); }
  std::uint32_t u32be() { return static_cast<std::uint32_t>(big(4)); }
  std::uint64_t u64be() { return big(8); }
  std::uint16_t u16le() { return static_cast<std::uint16_t>(little(2)); }
  std::uint32_t u32le() { return static_cast<std::uint32_t>(little(4)); }
  std::uint64_t u64le() { return little(8); }
  View raw(std::size_t n) {
    if (!need(n)) return {};
    View out = in_.substr(at_, n);
    at_ += n;
    return out;
  }
  View sized() { return raw(u32le()); }
  template <class Tag, std::size_t N>
  Fixed<Tag, N> fixed() {
    Fixed<Tag, N> out;
    View bytes = raw(N);
    if (ok_) std::memcpy(out.raw.data(), bytes.data(), N);
    return out;
  }

  [[nodiscard]] View rest() const { return in_.substr(at_); }
  [[nodiscard]] std::size_t left() const { return in_.size() - at_; }
  [[nodiscard]] bool ok() const { return ok_; }
  // Good, and nothing left over.
  [[nodiscard]] bool done() const { return ok_ && at_ == in_.size(); }

 private:
  bool need(std::size_t n) {
    if (!ok_ || in_.size() - at_ < n) ok_ = false;
    return ok_;
  }
  std::uint64_t big(std::size_t n) {
    std::uint64_t v = 0;
    if (!need(n)) return 0;
    for (std::size_t i = 0; i < n; ++i) v = (v << 8) | static_cast<std::uint8_t>(in_[at_++]);
    return v;
  }
  std::uint64_t little(std::size_t n) {
    std::uint64_t v = 0;
    if (!need(n)) return 0;
    for (std::size_t i = 0; i < n; ++i) {
      v |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(in_[at_++])) << (8 * i);
    }
    return v;
  }
  View in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace starling

template <class Tag, std::size_t N>
struct std::hash<starling::Fixed<Tag, N>> {
  std::size_t operator()(const starling::Fixed<Tag, N>& v) const noexcept {
    // Ids are hashes, keys or random: their ends do as they are, mixed for those that tests make up.
    constexpr std::size_t size = N < 8 ? N : 8;
    std::uint64_t head = 0, tail = 0;
    std::memcpy(&head, v.raw.data(), size);
    std::memcpy(&tail, v.raw.data() + N - size, size);
    return head ^ tail * 0x9E3779B97F4A7C15ULL;
  }
};

template <class Tag, class Rep>
struct std::hash<starling::Id<Tag, Rep>> {
  std::size_t operator()(const starling::Id<Tag, Rep>& v) const noexcept {
    return std::hash<Rep>{}(v.value);
  }
};
