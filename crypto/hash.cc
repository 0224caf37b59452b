#include "crypto/hash.h"

#include <cassert>

#include <sodium.h>

namespace starling {

void blake2b(std::span<std::uint8_t> out, std::initializer_list<View> parts, View key) {
  assert(out.size() >= crypto_generichash_BYTES_MIN && out.size() <= crypto_generichash_BYTES_MAX);
  assert(key.empty() || (key.size() >= crypto_generichash_KEYBYTES_MIN &&
                         key.size() <= crypto_generichash_KEYBYTES_MAX));
  crypto_generichash_state state;
  const auto* key_data = octets(key);
  crypto_generichash_init(&state, key.empty() ? nullptr : key_data, key.size(), out.size());
  for (View part : parts) {
    crypto_generichash_update(&state, octets(part),
                              part.size());
  }
  crypto_generichash_final(&state, out.data(), out.size());
  sodium_memzero(&state, sizeof state);
}

}  // namespace starling
