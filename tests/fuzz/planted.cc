// A decoder with a mistake that only a sanitizer sees: the driver must find it.
#include <algorithm>
#include <memory>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 6 || data[0] != 0xff) return 0;
  const auto copy = std::make_unique<std::uint8_t[]>(size);
  std::copy(data, data + size, copy.get());
  starling::fuzz::require(copy[size] != data[1], "a byte that is not ours");  // One too far.
  return 0;
}
