// Noise: two nodes that share a secret prove who they are and then talk in private.
//
// A pure machine of the Noise Protocol Framework, revision 34 (noiseprotocol.org), for
// 25519_ChaChaPoly_BLAKE2b. Patterns are tables of tokens; links speak XXpsk3:
//   -> e                 readable by anybody: name the key of the ring here, nothing else
//   <- e, ee, s, es      the responder's identity, hidden from who only listens
//   -> s, se, psk        the initiator's; only here the responder knows that the psk is shared
// Whoever is the initiator calls write() first; then the two sides take turns until done(); split()
// gives the transport. Any error ends the handshake for good. A static key proves a key, not a
// member: compare remote_static() with dh_public() of the member you expect.
// Invariants: a message that was altered, repeated, left out or moved is refused, and nothing of it
// is handed out. The first message has no secret yet, so whoever listens can forge all of it; then
// the second fails.
// Thread: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "crypto/access/identity.h"
#include "crypto/bytes.h"
#include "crypto/noise/noise_state.h"
#include "crypto/random.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

inline constexpr std::size_t kNoiseMessageSizeMax = 65535;
inline constexpr std::size_t kNoisePlainSizeMax = kNoiseMessageSizeMax - kNoiseTagSize;

enum class NoisePattern { kXX, kXXpsk3, kIKpsk2, kNNpsk0 };
enum class NoiseRole { kInitiator, kResponder };

// One direction each way; the numbers that guard against replay die with the object.
class NoiseTransport {
 public:
  // `first_number` other than 0 is for tests of the end.
  NoiseTransport(const SecretKey& send, const SecretKey& receive, std::uint64_t first_number = 0)
      : send_(send, first_number), receive_(receive, first_number) {}

  // Appends the sealed message, plain.size() + kNoiseTagSize bytes. kTooLarge over
  // kNoisePlainSizeMax; kUnavailable when the session is used up (after 2^64 - 1 messages).
  // REQUIRES: `plain` does not point into `out`.
  Status seal_into(Bytes& out, View plain);
  // Opens in place; the view is the front of `message`. After kCorrupt the bytes are lost: close.
  Result<View> open(std::span<char> message);

 private:
  NoiseCipher send_;
  NoiseCipher receive_;
};

struct NoiseConfig {
  NoisePattern pattern = NoisePattern::kXXpsk3;
  NoiseRole role = NoiseRole::kInitiator;
  View prologue = {};                          // What both sides must agree on beforehand.
  std::optional<DhKeyPair> static_keys = {};   // All patterns but NN.
  std::optional<SecretKey> psk = {};           // Patterns with psk.
  std::optional<DhPublic> remote_static = {};  // Initiator of IK.
};

class NoiseHandshake {
 public:
  // Borrows `random`, which must outlive the handshake; it gives the ephemeral key.
  // REQUIRES: the keys that the pattern needs, see NoiseConfig.
  NoiseHandshake(const NoiseConfig& config, Random& random);

  // The next message with `payload` in it. kTooLarge over the message limit.
  // REQUIRES: is_my_turn().
  Result<Bytes> write(View payload);
  // The payload of the peer's next message.
  Result<Bytes> read(View message);
  // Replaces the psk before it is used: a responder learns from the first message which key of its
  // ring the peer holds. REQUIRES: a pattern with psk.
  void use_psk(const SecretKey& psk);

  [[nodiscard]] bool is_my_turn() const;
  [[nodiscard]] bool done() const { return !failed_ && next_ == message_count(); }
  // Proven once done(); before that a claim.
  [[nodiscard]] const std::optional<DhPublic>& remote_static() const { return remote_static_; }
  // The same on both sides of one session and of no other. REQUIRES: done().
  [[nodiscard]] View handshake_hash() const;
  // REQUIRES: done().
  [[nodiscard]] NoiseTransport split() const;

 private:
  enum class Token : std::uint8_t { kEnd, kE, kS, kEe, kEs, kSe, kSs, kPsk };
  struct Pattern;
  static const Pattern& pattern_table(NoisePattern pattern);

  [[nodiscard]] std::size_t message_count() const;
  [[nodiscard]] bool is_initiator() const { return role_ == NoiseRole::kInitiator; }
  // Size of the next message without its payload.
  [[nodiscard]] std::size_t next_overhead() const;
  Status write_token(Token token, Bytes& out);
  Status read_token(Token token, BytesReader& in);
  // The tokens that have no bytes of their own: Diffie-Hellman and psk.
  Status mix(Token token);
  Status mix_dh(const DhKeyPair& mine, const std::optional<DhPublic>& theirs);
  void mix_ephemeral(const DhPublic& key);

  const Pattern& pattern_;
  const NoiseRole role_;
  Random& random_;
  NoiseSymmetric symmetric_;
  std::optional<DhKeyPair> static_;
  std::optional<SecretKey> psk_;
  std::optional<DhKeyPair> ephemeral_;
  std::optional<DhPublic> remote_static_;
  std::optional<DhPublic> remote_ephemeral_;
  std::size_t next_ = 0;  // Index of the next message.
  bool failed_ = false;
};

}  // namespace starling
