#include "overlay/links/link.h"

#include <memory>

#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

constexpr Instant kNow{1000s};

SecretKey secret(std::uint8_t fill) {
  SecretKey key;
  key.raw.fill(fill);
  return key;
}

// One side of a link and what it heard.
struct Side {
  Side(NoiseRole role, std::uint64_t seed, std::uint8_t psk)
      : random(seed), identity(Identity::generate(random)) {
    config.role = role;
    if (role == NoiseRole::kInitiator) {
      config.secret = LinkSecret{"one", secret(psk)};
    } else {
      config.find_secret = [psk](View name) -> std::optional<SecretKey> {
        if (name != "one") return std::nullopt;
        return secret(psk);
      };
    }
  }
  void begin() { link = std::make_unique<Link>(config, random); }
  void receive(View bytes) {
    if (failure) return;
    if (const auto status = link->receive(bytes); !status) failure = status.error();
    FrameView frame;
    while (!failure) {
      const auto more = link->next_frame(frame);
      if (!more) failure = more.error();
      if (!more || !*more) break;
      bodies.emplace_back(frame.body);
      last = frame;
    }
  }

  SeededRandom random;
  Identity identity;
  LinkConfig config{NoiseRole::kInitiator, identity, {}};
  std::unique_ptr<Link> link;
  std::optional<Error> failure;
  std::vector<Bytes> bodies;
  FrameView last;
};

class LinkTest : public ::testing::Test {
 protected:
  // Carries bytes both ways until nobody has any, `step` at a time.
  void shake(std::size_t step = 1 << 20) {
    if (!a_.link) a_.begin();
    if (!b_.link) b_.begin();
    for (bool moved = true; moved;) {
      moved = carry(a_, b_, step);
      moved = carry(b_, a_, step) || moved;
    }
  }
  bool carry(Side& from, Side& to, std::size_t step) {
    const Bytes bytes = from.link->output();
    deliver(to, bytes, step);
    return !bytes.empty();
  }
  static void deliver(Side& to, View bytes, std::size_t step) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(step, bytes.size()))) {
      to.receive(bytes.substr(0, step));
    }
  }
  static Frame notice(Bytes body) {
    return {FrameType::kNotice, 0, Method::kPush, 0, kNever, std::move(body)};
  }

  Side a_{NoiseRole::kInitiator, 1, 7};
  Side b_{NoiseRole::kResponder, 2, 7};
};

TEST_F(LinkTest, TellsBothSidesWhoTheOtherIs) {
  a_.config.hello.writer.value = 11;
  b_.config.hello.writer.value = 22;
  shake();
  ASSERT_TRUE(a_.link->up() && b_.link->up());
  EXPECT_EQ(a_.link->peer().id, b_.identity.node_id());
  EXPECT_EQ(b_.link->peer().id, a_.identity.node_id());
  EXPECT_EQ(a_.link->peer().hello.writer.value, 22u);
  EXPECT_EQ(b_.link->peer().hello.writer.value, 11u);
  EXPECT_EQ(a_.link->peer().version, kWireVersionMax);
}

TEST_F(LinkTest, ComesUpFromSingleBytes) {
  shake(1);
  EXPECT_TRUE(a_.link->up() && b_.link->up());
}

TEST_F(LinkTest, RefusesAnotherSecretAndNamesTheCause) {
  a_.config.secret->key = secret(8);
  shake();
  ASSERT_TRUE(b_.failure);
  EXPECT_EQ(b_.failure->code, Errc::kUnauthenticated);
  EXPECT_NE(b_.failure->text.find("cluster secret"), std::string::npos);
  EXPECT_FALSE(a_.link->up());
}

TEST_F(LinkTest, RefusesASecretItDoesNotKnowByName) {
  a_.config.secret->name = "two";
  shake();
  ASSERT_TRUE(b_.failure);
  EXPECT_EQ(b_.failure->code, Errc::kUnauthenticated);
  EXPECT_FALSE(a_.link->up());
}

TEST_F(LinkTest, NeverComesUpOnBothSidesWhenAnyByteOfTheHandshakeFlips) {
  // Messages alternate a, b, a, b: three of the handshake and the welcome.
  for (int message = 0; message < 4; ++message) {
    for (std::size_t at = 0; at < 400; ++at) {
      Side a(NoiseRole::kInitiator, 1, 7);
      Side b(NoiseRole::kResponder, 2, 7);
      a.begin();
      b.begin();
      Side* from = &a;
      Side* to = &b;
      std::size_t size = 0;
      for (int i = 0; i < 4; ++i, std::swap(from, to)) {
        Bytes bytes = from->link->output();
        if (i == message) {
          size = bytes.size();
          bytes[at % size] ^= 0x01;
        }
        to->receive(bytes);
        if (to->failure || bytes.empty()) break;
      }
      // A flipped size may only leave a side waiting for more.
      EXPECT_FALSE(a.link->up()) << "message " << message << " byte " << at;
      if (at + 1 >= size) break;
    }
  }
}

TEST_F(LinkTest, RefusesAKeyThatIsNotThePeersOwn) {
  // The responder proves its static key and then claims another identity.
  NoiseConfig config;
  config.role = NoiseRole::kResponder;
  config.prologue = kLinkPrologue;
  config.static_keys = b_.identity.dh_keys();
  config.psk = secret(7);
  NoiseHandshake forger(config, b_.random);
  a_.begin();
  const Bytes first = a_.link->output();
  ASSERT_TRUE(forger.read(View(first).substr(2)).ok());
  SeededRandom random(99);
  const auto second =
      forger.write(pack(Introduction{Hello{}, Identity::generate(random).public_key()}));
  Bytes framed;
  BytesWriter(framed).u16le(static_cast<std::uint16_t>(second->size()));
  a_.receive(framed + *second);
  ASSERT_TRUE(a_.failure);
  EXPECT_EQ(a_.failure->code, Errc::kUnauthenticated);
}

TEST_F(LinkTest, NamesBothRangesWhenNoVersionIsCommon) {
  a_.config.hello.version_min = 3;
  a_.config.hello.version_max = 4;
  shake();
  ASSERT_TRUE(a_.failure);
  EXPECT_EQ(a_.failure->code, Errc::kUnsupported);
  EXPECT_NE(a_.failure->text.find("1..1"), std::string::npos);
  EXPECT_NE(a_.failure->text.find("3..4"), std::string::npos);
}

TEST(LinkVersion, IsTheHighestThatBothSpeak) {
  const auto hello = [](int min, int max) {
    Hello out;
    out.version_min = static_cast<std::uint16_t>(min);
    out.version_max = static_cast<std::uint16_t>(max);
    return out;
  };
  EXPECT_EQ(*common_version(hello(1, 3), hello(2, 4)), 3);
  EXPECT_EQ(*common_version(hello(2, 4), hello(1, 3)), 3);
  EXPECT_EQ(*common_version(hello(1, 1), hello(1, 9)), 1);
  EXPECT_EQ(common_version(hello(1, 1), hello(2, 2)).code(), Errc::kUnsupported);
  EXPECT_EQ(common_version(hello(2, 2), hello(1, 1)).code(), Errc::kUnsupported);
}

TEST_F(LinkTest, TellsTheInitiatorWhyItWasRefused) {
  b_.config.admit = [](const LinkPeer&) -> Status {
    return Error{Errc::kForeign, "another lineage"};
  };
  shake();
  ASSERT_TRUE(a_.failure && b_.failure);
  EXPECT_EQ(a_.failure->code, Errc::kForeign);
  EXPECT_NE(a_.failure->text.find("another lineage"), std::string::npos);
}

TEST_F(LinkTest, LetsTheInitiatorRefuseBeforeItShowsItself) {
  a_.config.admit = [](const LinkPeer&) -> Status { return Error{Errc::kForeign, "no"}; };
  shake();
  EXPECT_EQ(a_.failure->code, Errc::kForeign);
  EXPECT_FALSE(b_.link->up());
  EXPECT_FALSE(b_.failure);
}

TEST_F(LinkTest, RefusesBytesOfAnotherProtocolAtOnce) {
  b_.begin();
  b_.receive("GET / HTTP/1.1\r\n");
  ASSERT_TRUE(b_.failure);
  EXPECT_EQ(b_.failure->code, Errc::kCorrupt);
}

TEST_F(LinkTest, SealsAllFramesOfATurnInOneMessage) {
  shake();
  FrameQueue queue;
  for (int i = 0; i < 100; ++i) queue.push(notice("body " + std::to_string(i)));
  const std::size_t plain = queue.bytes();
  const Bytes sealed = a_.link->seal(queue, 1 << 20, kNow);
  EXPECT_EQ(sealed.size(), 2 + plain + kNoiseTagSize);
  b_.receive(sealed);
  ASSERT_EQ(b_.bodies.size(), 100u);
  EXPECT_EQ(b_.bodies[99], "body 99");
}

TEST_F(LinkTest, CarriesAFrameOverManyMessagesInOddPieces) {
  shake();
  FrameQueue queue;
  Bytes body(1'000'000, '\0');
  b_.random.fill({reinterpret_cast<std::uint8_t*>(body.data()), body.size()});
  queue.push(notice("before"));
  queue.push(notice(body));
  queue.push(notice("after"));
  const Bytes sealed = a_.link->seal(queue, 8 << 20, kNow);
  EXPECT_TRUE(queue.empty());
  deliver(b_, sealed, 7919);
  ASSERT_EQ(b_.bodies.size(), 3u);
  EXPECT_EQ(b_.bodies[0], "before");
  EXPECT_TRUE(b_.bodies[1] == body);
  EXPECT_EQ(b_.bodies[2], "after");
}

TEST_F(LinkTest, ClosesOnAFlippedByteAndHandsNothingOut) {
  shake();
  FrameQueue queue;
  queue.push(notice("secret"));
  Bytes sealed = a_.link->seal(queue, 1 << 20, kNow);
  sealed[10] ^= 1;
  b_.receive(sealed);
  ASSERT_TRUE(b_.failure);
  EXPECT_EQ(b_.failure->code, Errc::kCorrupt);
  EXPECT_TRUE(b_.bodies.empty());
}

TEST_F(LinkTest, RefusesAMessageThatIsReplayed) {
  shake();
  FrameQueue queue;
  queue.push(notice("pay 5"));
  const Bytes sealed = a_.link->seal(queue, 1 << 20, kNow);
  b_.receive(sealed);
  b_.receive(sealed);
  EXPECT_EQ(b_.bodies.size(), 1u);
  EXPECT_TRUE(b_.failure);
}

TEST_F(LinkTest, CarriesTheLargestFrameAndRefusesOneByteMoreAtItsHeader) {
  shake();
  FrameQueue queue;
  queue.push(notice(Bytes(kFrameBodySizeMax, 'x')));
  b_.receive(a_.link->seal(queue, 16 << 20, kNow));
  ASSERT_EQ(b_.bodies.size(), 1u);
  EXPECT_EQ(b_.bodies[0].size(), kFrameBodySizeMax);

  // A hostile peer: the same keys, its own frames.
  NoiseConfig config;
  config.prologue = kLinkPrologue;
  config.static_keys = a_.identity.dh_keys();
  config.psk = secret(7);
  Side b(NoiseRole::kResponder, 5, 7);
  b.begin();
  NoiseHandshake hostile(config, a_.random);
  const auto framed = [](View message) {
    Bytes out;
    BytesWriter(out).u16le(static_cast<std::uint16_t>(message.size()));
    return out + Bytes(message);
  };
  b.receive(framed(*hostile.write("one")));
  const Bytes second = b.link->output();
  ASSERT_TRUE(hostile.read(View(second).substr(2)).ok());
  b.receive(framed(*hostile.write(pack(Introduction{Hello{}, a_.identity.public_key()}))));
  ASSERT_TRUE(b.link->up());
  NoiseTransport transport = hostile.split();
  Bytes header;
  BytesWriter writer(header);
  writer.u32le(kFrameBodySizeMax + 1);
  writer.u8(1);
  writer.raw(Bytes(kFrameHeaderSize - 5, '\0'));
  Bytes sealed;
  ASSERT_TRUE(transport.seal_into(sealed, header).ok());
  b.receive(framed(sealed));
  ASSERT_TRUE(b.failure);
  EXPECT_EQ(b.failure->code, Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::overlay
