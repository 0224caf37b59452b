// The two small objects at the heart of Noise (revision 34, sections 5.1 and 5.2), for the suite
// 25519_ChaChaPoly_BLAKE2b. crypto/noise/noise.h is what callers use.
//
// NoiseCipher    a key and the number of the next message; no number is used twice with a key.
// NoiseSymmetric the chaining key and the transcript hash, which everything sent or read goes into,
//                so two sides with different transcripts cannot read each other.
// Thread: one owner.
#pragma once

#include <array>
#include <cstdint>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

inline constexpr std::size_t kNoiseTagSize = 16;
inline constexpr std::size_t kNoiseHashSize = 64;

class NoiseCipher {
 public:
  NoiseCipher() = default;
  explicit NoiseCipher(const SecretKey& key, std::uint64_t nonce = 0) : key_(key), nonce_(nonce) {}

  // Appends plain.size() + kNoiseTagSize bytes. kUnavailable when the last number is used up.
  // REQUIRES: `plain` does not point into `out`.
  Status seal_into(Bytes& out, View associated, View plain);
  // Writes sealed.size() - kNoiseTagSize bytes to `out`, which may be where `sealed` is. kCorrupt,
  // with the number not used up, when the bytes are not the next ones that the peer sealed.
  Status open(char* out, View associated, View sealed);

 private:
  SecretKey key_;
  std::uint64_t nonce_ = 0;
};

class NoiseSymmetric {
 public:
  explicit NoiseSymmetric(View protocol_name);

  void mix_hash(View data);
  void mix_key(View input);
  void mix_key_and_hash(View input);
  // Before the first mix_key these pass the bytes through in the clear, as Noise says.
  Status encrypt_and_hash(Bytes& out, View plain);
  Status decrypt_and_hash(Bytes& out, View sealed);
  // How much encrypt_and_hash adds: the tag, once there is a key.
  [[nodiscard]] std::size_t overhead() const { return has_key_ ? kNoiseTagSize : 0; }
  [[nodiscard]] View hash() const;
  // The keys for what the initiator and then the responder sends.
  void split(SecretKey& first, SecretKey& second) const;

 private:
  void set_key(const SecretKey& key);

  Secret<kNoiseHashSize> chaining_key_;
  std::array<std::uint8_t, kNoiseHashSize> hash_{};
  NoiseCipher cipher_;
  bool has_key_ = false;
};

}  // namespace starling
