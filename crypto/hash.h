// BLAKE2b (RFC 7693), the only cryptographic hash in Starling.
//
// The parts are hashed as if joined, so a caller whose parts vary in length writes the lengths too.
// Thread: any; no shared state.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>

#include "crypto/bytes.h"

namespace starling {

// Fills `out` (16..64 bytes); with a key (16..64 bytes) it is a MAC.
void blake2b(std::span<std::uint8_t> out, std::initializer_list<View> parts, View key = {});

template <class Id>
Id blake2b_id(std::initializer_list<View> parts, View key = {}) {
  Id out;
  blake2b(out.raw, parts, key);
  return out;
}

}  // namespace starling
