// What the crypto tests share: published vectors, bytes from hex, and a source that is not random.
#pragma once

#include <cassert>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "crypto/access/identity.h"
#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/secret.h"
#include "crypto/text.h"

namespace starling {

// Nothing where the shared folder is absent; then skip with kNoVectors.
inline std::optional<nlohmann::json> load_vectors(const std::string& file) {
  const char* shared = std::getenv("STARLING_SHARED");
  if (shared == nullptr) return std::nullopt;
  std::ifstream in(std::string(shared) + "/data/vectors/" + file);
  if (!in) return std::nullopt;
  return nlohmann::json::parse(in);
}
inline constexpr const char* kNoVectors =
    "NOT TESTED: published vectors are missing, set STARLING_SHARED to the folder with "
    "data/vectors";

inline Bytes from_hex(View text) {
  auto bytes = parse_hex(text);
  assert(bytes.ok());
  return *bytes;
}

inline SecretKey key_from_hex(View text) {
  SecretKey out;
  [[maybe_unused]] const bool fits = SecretKey::from(from_hex(text), out);
  assert(fits);
  return out;
}

inline SecretKey key_of(std::uint8_t byte) {
  SecretKey out;
  out.raw.fill(byte);
  return out;
}

// Gives the bytes it was made with, in order; asserts that there are enough.
class FixedRandom final : public Random {
 public:
  explicit FixedRandom(Bytes bytes) : bytes_(std::move(bytes)) {}
  void fill(std::span<std::uint8_t> out) override {
    assert(bytes_.size() - at_ >= out.size());
    std::memcpy(out.data(), bytes_.data() + at_, out.size());
    at_ += out.size();
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
};

}  // namespace starling
