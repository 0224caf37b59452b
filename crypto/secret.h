// Secret<N>: N bytes of key material. It wipes itself when it dies and compares in constant time.
//
// A copy is a second secret that wipes itself too. There is no hash, no order and no text form, so
// a key does not slip into a map, a log line or an error.
// Thread: any; value types.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "crypto/bytes.h"
#include "crypto/random.h"

namespace starling {

// Overwrites memory in a way that the compiler keeps.
void wipe(void* data, std::size_t size);
inline void wipe(Bytes& bytes) {
  wipe(bytes.data(), bytes.size());
  bytes.clear();
}

// Takes the same time wherever the first difference is. Lengths are not secret.
bool equal_in_constant_time(View a, View b);

template <std::size_t N>
struct Secret {
  static constexpr std::size_t kSize = N;
  std::array<std::uint8_t, N> raw{};

  Secret() = default;
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret() { wipe(raw.data(), N); }

  static Secret random(Random& random) {
    Secret out;
    random.fill(out.raw);
    return out;
  }
  // Exactly N bytes; another length leaves `out` alone and returns false.
  static bool from(View bytes, Secret& out) {
    if (bytes.size() != N) return false;
    std::memcpy(out.raw.data(), bytes.data(), N);
    return true;
  }
  // Borrows: use it while the secret lives, and copy it nowhere.
  [[nodiscard]] View view() const { return {reinterpret_cast<const char*>(raw.data()), N}; }

  friend bool operator==(const Secret& a, const Secret& b) {
    return equal_in_constant_time(a.view(), b.view());
  }
};

using SecretKey = Secret<32>;

}  // namespace starling
