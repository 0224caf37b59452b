#include "crypto/noise/noise.h"

#include <cassert>

#include <sodium.h>

namespace starling {
namespace {

constexpr std::size_t kMessagesMax = 3;
constexpr std::size_t kTokensMax = 4;

Error over_limit() {
  return {Errc::kTooLarge, "a noise message holds at most 65535 bytes: send it in parts"};
}

}  // namespace

// Messages alternate, the initiator's first; unused places are kEnd.
struct NoiseHandshake::Pattern {
  View protocol_name;
  std::size_t message_count = 0;
  bool has_static = false;  // Both sides have a static key.
  bool has_psk = false;
  bool knows_responder = false;  // The responder's static key is a pre-message.
  std::array<std::array<Token, kTokensMax>, kMessagesMax> messages{};
};

const NoiseHandshake::Pattern& NoiseHandshake::pattern_table(NoisePattern pattern) {
  using enum Token;
  static constexpr Pattern kXX{
      .protocol_name = "Noise_XX_25519_ChaChaPoly_BLAKE2b",
      .message_count = 3,
      .has_static = true,
      .messages = {{{kE}, {kE, kEe, kS, kEs}, {kS, kSe}}},
  };
  static constexpr Pattern kXXpsk3{
      .protocol_name = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b",
      .message_count = 3,
      .has_static = true,
      .has_psk = true,
      .messages = {{{kE}, {kE, kEe, kS, kEs}, {kS, kSe, kPsk}}},
  };
  static constexpr Pattern kIKpsk2{
      .protocol_name = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b",
      .message_count = 2,
      .has_static = true,
      .has_psk = true,
      .knows_responder = true,
      .messages = {{{kE, kEs, kS, kSs}, {kE, kEe, kSe, kPsk}}},
  };
  static constexpr Pattern kNNpsk0{
      .protocol_name = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b",
      .message_count = 2,
      .has_psk = true,
      .messages = {{{kPsk, kE}, {kE, kEe}}},
  };
  switch (pattern) {
    case NoisePattern::kXX: return kXX;
    case NoisePattern::kXXpsk3: return kXXpsk3;
    case NoisePattern::kIKpsk2: return kIKpsk2;
    case NoisePattern::kNNpsk0: return kNNpsk0;
  }
  assert(false);
  return kXXpsk3;
}

NoiseHandshake::NoiseHandshake(const NoiseConfig& config, Random& random)
    : pattern_(pattern_table(config.pattern)),
      role_(config.role),
      random_(random),
      symmetric_(pattern_.protocol_name),
      static_(config.static_keys),
      psk_(config.psk),
      remote_static_(config.remote_static) {
  assert(static_.has_value() == pattern_.has_static);
  assert(psk_.has_value() == pattern_.has_psk);
  assert(remote_static_.has_value() == (pattern_.knows_responder && is_initiator()));
  symmetric_.mix_hash(config.prologue);
  if (pattern_.knows_responder) {
    symmetric_.mix_hash(is_initiator() ? remote_static_->view() : static_->public_key.view());
  }
}

std::size_t NoiseHandshake::message_count() const { return pattern_.message_count; }

bool NoiseHandshake::is_my_turn() const {
  return !failed_ && next_ < message_count() && (next_ % 2 == 0) == is_initiator();
}

void NoiseHandshake::use_psk(const SecretKey& psk) {
  assert(pattern_.has_psk);
  psk_ = psk;
}

View NoiseHandshake::handshake_hash() const {
  assert(done());
  return symmetric_.hash();
}

NoiseTransport NoiseHandshake::split() const {
  assert(done());
  SecretKey from_initiator;
  SecretKey from_responder;
  symmetric_.split(from_initiator, from_responder);
  return is_initiator() ? NoiseTransport(from_initiator, from_responder)
                        : NoiseTransport(from_responder, from_initiator);
}

std::size_t NoiseHandshake::next_overhead() const {
  std::size_t size = 0;
  std::size_t tag = symmetric_.overhead();
  for (Token token : pattern_.messages[next_]) {
    if (token == Token::kE) size += DhPublic::kSize;
    if (token == Token::kS) size += DhPublic::kSize + tag;
    // Every other token mixes a key, and so does e in a pattern with psk.
    const bool keyless =
        token == Token::kEnd || token == Token::kS || (token == Token::kE && !pattern_.has_psk);
    if (!keyless) tag = kNoiseTagSize;
  }
  return size + tag;
}

Result<Bytes> NoiseHandshake::write(View payload) {
  assert(is_my_turn());
  if (payload.size() > kNoiseMessageSizeMax - next_overhead()) return over_limit();
  failed_ = true;  // Until the whole message stands.
  Bytes out;
  out.reserve(next_overhead() + payload.size());
  for (Token token : pattern_.messages[next_]) TRY(write_token(token, out));
  TRY(symmetric_.encrypt_and_hash(out, payload));
  failed_ = false;
  ++next_;
  return out;
}

Result<Bytes> NoiseHandshake::read(View message) {
  if (failed_ || next_ == message_count() || is_my_turn()) {
    failed_ = true;
    return Error{Errc::kCorrupt, "noise: a handshake message that was not due: close the link"};
  }
  failed_ = true;  // Until the whole message is proven.
  if (message.size() > kNoiseMessageSizeMax) return over_limit();
  BytesReader in(message);
  for (Token token : pattern_.messages[next_]) TRY(read_token(token, in));
  Bytes payload;
  TRY(symmetric_.decrypt_and_hash(payload, in.rest()));
  failed_ = false;
  ++next_;
  return payload;
}

Status NoiseHandshake::write_token(Token token, Bytes& out) {
  if (token == Token::kE) {
    ephemeral_ = dh_key_pair(SecretKey::random(random_));
    out.append(ephemeral_->public_key.view());
    mix_ephemeral(ephemeral_->public_key);
    return ok_status();
  }
  if (token == Token::kS) return symmetric_.encrypt_and_hash(out, static_->public_key.view());
  return mix(token);
}

Status NoiseHandshake::read_token(Token token, BytesReader& in) {
  if (token != Token::kE && token != Token::kS) return mix(token);
  const std::size_t tag = token == Token::kS ? symmetric_.overhead() : 0;
  const View bytes = in.raw(DhPublic::kSize + tag);
  if (!in.ok()) return Error{Errc::kCorrupt, "noise: handshake cut short: close the link"};
  if (token == Token::kE) {
    DhPublic::from(bytes, remote_ephemeral_.emplace());
    mix_ephemeral(*remote_ephemeral_);
    return ok_status();
  }
  Bytes key;
  TRY(symmetric_.decrypt_and_hash(key, bytes));
  DhPublic::from(key, remote_static_.emplace());
  return ok_status();
}

Status NoiseHandshake::mix(Token token) {
  // In es the e is the initiator's and the s the responder's; in se the other way round.
  const bool my_ephemeral = (token == Token::kEs) == is_initiator();
  switch (token) {
    case Token::kEe: return mix_dh(*ephemeral_, remote_ephemeral_);
    case Token::kSs: return mix_dh(*static_, remote_static_);
    case Token::kEs:
    case Token::kSe:
      return my_ephemeral ? mix_dh(*ephemeral_, remote_static_)
                          : mix_dh(*static_, remote_ephemeral_);
    case Token::kPsk: symmetric_.mix_key_and_hash(psk_->view()); return ok_status();
    case Token::kE:
    case Token::kS:
    case Token::kEnd: return ok_status();
  }
  return ok_status();
}

Status NoiseHandshake::mix_dh(const DhKeyPair& mine, const std::optional<DhPublic>& theirs) {
  assert(theirs.has_value());
  SecretKey shared;
  // libsodium refuses the points of low order, whose result would be the same for every key.
  if (crypto_scalarmult(shared.raw.data(), mine.secret.raw.data(), theirs->raw.data()) != 0) {
    return Error{Errc::kCorrupt, "noise: the peer sent a key of low order: close the link"};
  }
  symmetric_.mix_key(shared.view());
  return ok_status();
}

// With a psk the ephemeral keys go into the key too, so that no two sessions share one
// (section 9.2).
void NoiseHandshake::mix_ephemeral(const DhPublic& key) {
  symmetric_.mix_hash(key.view());
  if (pattern_.has_psk) symmetric_.mix_key(key.view());
}

Status NoiseTransport::seal_into(Bytes& out, View plain) {
  if (plain.size() > kNoisePlainSizeMax) return over_limit();
  return send_.seal_into(out, {}, plain);
}

Result<View> NoiseTransport::open(std::span<char> message) {
  if (message.size() > kNoiseMessageSizeMax) return over_limit();
  TRY(receive_.open(message.data(), {}, View(message.data(), message.size())));
  return View(message.data(), message.size() - kNoiseTagSize);
}

}  // namespace starling
