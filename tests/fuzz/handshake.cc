// A link between two of ours, of which one message is not as it was sent: never up with a stranger.
//
// The first byte says which message is changed, the second where; the rest is put there.
#include "crypto/init.h"
#include "overlay/links/link.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::overlay;

namespace {

struct Keys {
  SeededRandom random{1};
  Identity one = Identity::generate(random);
  Identity two = Identity::generate(random);
};

LinkConfig config(NoiseRole role, const Identity& identity) {
  LinkConfig out{.role = role, .identity = identity, .hello = {}};
  if (role == NoiseRole::kInitiator) {
    out.secret = LinkSecret{"one", SecretKey{}};
  } else {
    out.find_secret = [](View) { return std::optional<SecretKey>(SecretKey{}); };
  }
  return out;
}

void frames_of(Link& link) {
  FrameView frame;
  while (true) {
    const auto more = link.next_frame(frame);
    if (!more || !*more) return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool ready = crypto_init().ok();
  fuzz::require(ready, "crypto_init");
  static Keys keys;
  const View in = fuzz::view(data, size);
  {
    Link alone(config(NoiseRole::kResponder, keys.two), keys.random);
    bool good = true;
    fuzz::in_pieces(in, [&](View piece) {
      if (good) good = alone.receive(piece).ok();
    });
    fuzz::require(!alone.up(), "a link is up with somebody who has no key");
  }
  if (size < 2) return 0;
  const unsigned changed = data[0] % 6;
  Link one(config(NoiseRole::kInitiator, keys.one), keys.random);
  Link two(config(NoiseRole::kResponder, keys.two), keys.random);
  bool good = true;
  bool different = false;
  for (unsigned turn = 0; turn < 6 && good; ++turn) {
    Bytes message = (turn % 2 == 0 ? one : two).output();
    if (turn == changed) {
      const Bytes sent = message;
      const std::size_t at = data[1] % (message.size() + 1);
      message.replace(at, in.size() - 2, in.substr(2));
      different = message != sent;
    }
    Link& receiver = turn % 2 == 0 ? two : one;
    good = receiver.receive(message).ok();
    if (good && receiver.up()) frames_of(receiver);
  }
  fuzz::require(different || (one.up() && two.up()), "an honest handshake fails");
  return 0;
}
