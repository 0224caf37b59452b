#include "crypto/secret.h"

#include <sodium.h>

namespace starling {

void wipe(void* data, std::size_t size) { sodium_memzero(data, size); }

bool equal_in_constant_time(View a, View b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace starling
