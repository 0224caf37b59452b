#include "crypto/random.h"
#include "overlay/links/link.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_input.h"

namespace starling::bench {
namespace {

constexpr std::size_t kFrames = 16;       // Sealed at once; a count is of all of them.
constexpr std::size_t kFrameBytes = 280;  // A change and what goes around it.
constexpr Instant kNow{std::chrono::seconds(1000)};

SecretKey secret() {
  SecretKey key;
  key.raw.fill(9);
  return key;
}

// Two ends that know each other.
struct Pair {
  Pair() {
    for (bool moved = true; moved;) moved = carry(a, b) || carry(b, a);
    require(a.up() && b.up(), "no link");
  }
  static bool carry(overlay::Link& from, overlay::Link& to) {
    const Bytes bytes = from.output();
    require(to.receive(bytes).ok(), "the handshake failed");
    overlay::FrameView frame;
    const auto more = to.next_frame(frame);
    require(more && !*more, "a frame before its time");
    return !bytes.empty();
  }
  static overlay::LinkConfig initiator(const Identity& identity) {
    overlay::LinkConfig config{NoiseRole::kInitiator, identity, {}};
    config.secret = overlay::LinkSecret{"one", secret()};
    return config;
  }
  static overlay::LinkConfig responder(const Identity& identity) {
    overlay::LinkConfig config{NoiseRole::kResponder, identity, {}};
    config.find_secret = [](View) { return std::optional(secret()); };
    return config;
  }
  Bytes sealed() {
    overlay::FrameQueue queue;
    for (std::size_t i = 0; i < kFrames; ++i) {
      queue.push({overlay::FrameType::kNotice, 0, overlay::Method::kPush, 0, kNever,
                  Bytes(kFrameBytes, 'x')});
    }
    return a.seal(queue, 1 << 20, kNow);
  }

  SeededRandom random{1};
  Identity ours = Identity::generate(random);
  Identity theirs = Identity::generate(random);
  overlay::Link a{initiator(ours), random};
  overlay::Link b{responder(theirs), random};
};

Micro::Operation seal() {
  return [pair = std::make_shared<Pair>()](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      require(pair->sealed().size() > kFrames * kFrameBytes, "nothing was sealed");
    }
  };
}

// Sealing is counted with it: a message can be opened once.
Micro::Operation seal_and_open() {
  return [pair = std::make_shared<Pair>()](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      require(pair->b.receive(pair->sealed()).ok(), "not opened");
      std::size_t frames = 0;
      overlay::FrameView frame;
      while (true) {
        const auto more = pair->b.next_frame(frame);
        require(more.ok(), "no frame");
        if (!*more) break;
        ++frames;
      }
      require(frames == kFrames, "frames are missing");
    }
  };
}

}  // namespace

std::vector<Micro> link_micros() {
  return {{"link seal", 32, seal}, {"link seal and open", 32, seal_and_open}};
}

}  // namespace starling::bench
