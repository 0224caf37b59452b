// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput, as libFuzzer wants it;
// without clang, driver.cc calls it.
//
// A target may return anything but must not crash, hang, or allocate without bound; require() states
// what else must hold. scripts/check-golden looks that every decoder is called by one.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "crypto/msgpack.h"

// Of the sanitizers' runtime; not every compiler brings its header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void*, std::size_t),
                                                         void (*freed)(const volatile void*));

namespace starling::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// --- Bounds. ---

// What a byte of input may make a decoder allocate, in all: the worst is a list of structs of which each is one byte
// (an empty array) on the wire.
inline constexpr std::size_t kAllocatedPerByteMax = 512;
inline constexpr std::size_t kAllocatedAnyway = 64 << 10;  // Zones, buffers, texts of errors.

inline std::size_t allocated = 0;  // Bytes, since the start; what was freed counts, too.
inline void count_allocation(const volatile void*, std::size_t size) { allocated += size; }
inline void ignore_free(const volatile void*) {}
inline const bool counting = __sanitizer_install_malloc_and_free_hooks(count_allocation, ignore_free) != 0;

// decode(in), which allocates no more than a constant times its input.
template <class Decode>
auto bounded(View in, Decode decode) {
  require(counting, "allocations are counted");
  const std::size_t before = allocated;
  auto out = decode(in);
  const std::size_t used = allocated - before;
  if (used > kAllocatedAnyway + kAllocatedPerByteMax * in.size()) {
    std::fprintf(stderr, "%zu bytes allocated for %zu\n", used, in.size());
    require(false, "a decoder allocates without bound");
  }
  return out;
}

// --- Encoding. ---

inline Bytes list_of(std::uint32_t n, View item) {
  Bytes out("\xdd");
  BytesWriter(out).u32be(n);
  for (; n > 0; --n) out.append(item);
  return out;
}

// A T of which one field is a list of empty arrays: the most that a list can hold for its bytes. Of which a field is a
// list with one item, of whose fields each is such a list. And the list instead of a T.
template <class T>
bool survives_bombs() {
  const Bytes empty = list_of(4096, "\x90");
  const Bytes nested = list_of(1, list_of(12, list_of(512, "\x90")));
  const Bytes plain = pack(T{});
  const auto decode = [](View in) { return unpack<T>(in).ok(); };
  (void)bounded(View(empty), decode);
  const auto handle = msgpack::unpack(plain.data(), plain.size());
  const msgpack::object& whole = handle.get();
  if (whole.type != msgpack::type::ARRAY) return true;
  for (std::uint32_t at = 0; at < whole.via.array.size; ++at) {
    for (const Bytes* bomb : {&empty, &nested}) {
      Bytes bytes("\xdd");
      BytesWriter(bytes).u32be(whole.via.array.size);
      for (std::uint32_t i = 0; i < whole.via.array.size; ++i) {
        if (i == at) bytes.append(*bomb);
        else pack_into(bytes, whole.via.array.ptr[i]);
      }
      (void)bounded(View(bytes), decode);
    }
  }
  return true;
}

// What decodes is encoded again to bytes that decode to the same bytes.
template <class T>
void round_trip(View in) {
  static const bool bombed = survives_bombs<T>();
  require(bombed, "bombs");
  const auto once = bounded(in, [](View bytes) { return unpack<T>(bytes); });
  if (!once) return;
  const Bytes packed = pack(*once);
  const auto twice = unpack<T>(packed);
  require(twice && pack(*twice) == packed, "what was decoded does not survive encoding");
}

template <class... T>
void round_trips(View in) {
  (round_trip<T>(in), ...);
}

// What parse() takes is what write() writes.
template <class Parse, class Write>
void same_bytes(View in, Parse parse, Write write) {
  const auto value = bounded(in, parse);
  if (value) require(write(*value) == in, "what is read is not what was written");
}

// The input, piece by piece: for parsers that are fed as bytes come.
template <class Feed>
void in_pieces(View in, Feed feed) {
  while (!in.empty()) {
    const std::size_t size = 1 + static_cast<std::uint8_t>(in[0]) % 97;
    feed(in.substr(0, size));
    in.remove_prefix(std::min(size, in.size()));
  }
}

inline View view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace starling::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
