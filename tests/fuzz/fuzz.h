// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput, as libFuzzer wants it;
// without clang, driver.cc calls it.
//
// A target may return anything but must not crash, hang, or allocate without bound; require() states
// what else must hold.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "crypto/msgpack.h"

namespace starling::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// What decodes is encoded again to bytes that decode to the same bytes.
template <class T>
void round_trip(View in) {
  const auto once = unpack<T>(in);
  if (!once) return;
  const Bytes packed = pack(*once);
  const auto twice = unpack<T>(packed);
  require(twice && pack(*twice) == packed, "what was decoded does not survive encoding");
}

template <class... T>
void round_trips(View in) {
  (round_trip<T>(in), ...);
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
