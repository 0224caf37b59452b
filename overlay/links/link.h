// Link: one encrypted connection between two nodes, a pure machine: bytes in, frames and bytes out.
//
//   initiator                                   responder
//   -> e                 {which secret}
//                        <- e, ee, s, es        {Introduction}
//   -> s, se, psk        {Introduction}
//                        <- sealed WireError    code 0: welcome
//   then frames, sealed
//
// All of it is laid out as `size:u16le message[size]`. The last step tells the initiator that the
// responder holds the same secret and wants the link; a refusal arrives with its reason.
// Invariants: (1) no frame is handed out before both sides are known to each other;
//             (2) the peer's id is the fingerprint of an Ed25519 key whose X25519 form it proved;
//             (3) a frame over the limit is refused at its header, before it is buffered;
//             (4) after an error nothing more is taken; what output() holds may still be sent.
// Pure: no clock, no socket.   Thread: one loop.   On the wire: wire.h.
#pragma once

#include <functional>
#include <optional>

#include "crypto/access/identity.h"
#include "crypto/noise/noise.h"
#include "crypto/random.h"
#include "overlay/links/frame.h"
#include "overlay/links/wire.h"

namespace starling::overlay {

inline constexpr View kLinkPrologue = "starling link 1";
inline constexpr std::size_t kHandshakeMessageSizeMax = 1024;

// The payload of handshake messages 2 and 3.
struct Introduction {
  Hello hello;
  PublicKey key;
  FIELDS(hello, key)
};

struct LinkPeer {
  NodeId id;
  PublicKey key;
  Hello hello;
  std::uint16_t version = 0;  // The highest that both speak.
};

// The secret that both sides hold, and the name under which message 1 asks for it.
struct LinkSecret {
  Bytes name;
  SecretKey key;
};

struct LinkConfig {
  NoiseRole role = NoiseRole::kInitiator;
  const Identity& identity;
  Hello hello;
  std::optional<LinkSecret> secret = {};                                // The initiator's.
  std::function<std::optional<SecretKey>(View name)> find_secret = {};  // The responder's.
  std::function<Status(const LinkPeer&)> admit =
      {};  // The last word on a proven peer. May be empty.
  std::function<Result<DhPublic>(const PublicKey&)> dh_form = dh_public;  // Of the key that a peer shows.
};

// kUnsupported, with both ranges in the text, when there is no common version.
Result<std::uint16_t> common_version(const Hello& ours, const Hello& theirs);

class Link {
 public:
  Link(LinkConfig config, Random& random);

  // What there is to send outside of seal(). Empty at most times.
  [[nodiscard]] Bytes output() { return std::exchange(output_, {}); }
  // Takes bytes from the peer. After an error: send output(), then close.
  Status receive(View bytes);
  // The next frame, whose body borrows until the next receive(). False: no more for now.
  Result<bool> next_frame(FrameView& frame);
  // Takes frames from the queue until `budget` bytes are sealed. REQUIRES: up().
  Bytes seal(FrameQueue& queue, std::size_t budget, Instant now);

  [[nodiscard]] bool up() const { return state_ == State::kUp; }
  // REQUIRES: up(), or inside admit.
  [[nodiscard]] const LinkPeer& peer() const { return peer_; }

 private:
  enum class State { kHandshake, kAwaitWelcome, kUp, kFailed };

  Status message(View bytes);
  Status handshake(View bytes);
  Status first_message(View payload);
  Status introduced(View payload);
  Status identify(View payload);
  Status welcomed(View bytes);
  Status data(View bytes);
  Status send_handshake(View payload);
  void send_sealed(View plain);
  Status open_behind(View bytes);

  const LinkConfig config_;
  NoiseHandshake noise_;
  std::optional<NoiseTransport> transport_;
  State state_ = State::kHandshake;
  bool named_ = false;  // Message 1 was read or written.
  LinkPeer peer_;
  Bytes output_;
  Bytes partial_;  // The start of a message whose end is not here yet.
  Bytes plain_;    // Opened bytes; frames are parsed from parsed_ on.
  std::size_t parsed_ = 0;
  Bytes scratch_;  // Frames of one seal().
};

}  // namespace starling::overlay
