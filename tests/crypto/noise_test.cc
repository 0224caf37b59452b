#include "crypto/noise/noise.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crypto/support.h"

namespace starling {
namespace {

std::optional<NoisePattern> pattern_named(const std::string& name) {
  if (name == "Noise_XX_25519_ChaChaPoly_BLAKE2b") return NoisePattern::kXX;
  if (name == "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b") return NoisePattern::kXXpsk3;
  if (name == "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b") return NoisePattern::kIKpsk2;
  if (name == "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b") return NoisePattern::kNNpsk0;
  return std::nullopt;
}

NoiseConfig config_of(const nlohmann::json& vector, const std::string& side,
                      const Bytes& prologue) {
  NoiseConfig out;
  out.pattern = *pattern_named(vector.at("protocol_name"));
  out.role = side == "init" ? NoiseRole::kInitiator : NoiseRole::kResponder;
  out.prologue = prologue;
  const auto text = [&](const std::string& field) {
    return vector.at(side + "_" + field).get<std::string>();
  };
  if (vector.contains(side + "_static"))
    out.static_keys = dh_key_pair(key_from_hex(text("static")));
  if (vector.contains(side + "_psks")) {
    out.psk = key_from_hex(vector.at(side + "_psks").at(0).get<std::string>());
  }
  if (vector.contains(side + "_remote_static")) {
    DhPublic::from(from_hex(text("remote_static")), out.remote_static.emplace());
  }
  return out;
}

void run_vector(const nlohmann::json& vector) {
  const Bytes prologue = from_hex(vector.at("init_prologue").get<std::string>());
  FixedRandom first_random(from_hex(vector.at("init_ephemeral").get<std::string>()));
  FixedRandom second_random(from_hex(vector.at("resp_ephemeral").get<std::string>()));
  NoiseHandshake first(config_of(vector, "init", prologue), first_random);
  NoiseHandshake second(config_of(vector, "resp", prologue), second_random);
  std::optional<NoiseTransport> first_link;
  std::optional<NoiseTransport> second_link;
  bool first_sends = true;
  for (const auto& message : vector.at("messages")) {
    const Bytes payload = from_hex(message.at("payload").get<std::string>());
    const Bytes expected = from_hex(message.at("ciphertext").get<std::string>());
    if (!first.done()) {
      const auto sent = (first_sends ? first : second).write(payload);
      ASSERT_TRUE(sent.ok()) << sent.error().text;
      EXPECT_EQ(hex(*sent), hex(expected));
      const auto got = (first_sends ? second : first).read(*sent);
      ASSERT_TRUE(got.ok()) << got.error().text;
      EXPECT_EQ(*got, payload);
      if (first.done()) {
        EXPECT_EQ(hex(first.handshake_hash()), vector.at("handshake_hash").get<std::string>());
        EXPECT_EQ(first.handshake_hash(), second.handshake_hash());
        first_link = first.split();
        second_link = second.split();
      }
    } else {
      Bytes sent;
      ASSERT_TRUE((first_sends ? first_link : second_link)->seal_into(sent, payload).ok());
      EXPECT_EQ(hex(sent), hex(expected));
      EXPECT_EQ((first_sends ? second_link : first_link)->open(sent).value(), payload);
    }
    first_sends = !first_sends;
  }
  EXPECT_TRUE(first_link.has_value());
}

TEST(Noise, MatchesThePublishedVectors) {
  const auto vectors = load_vectors("noise_cacophony_subset.json");
  if (!vectors) GTEST_SKIP() << kNoVectors;
  std::set<std::string> proven;
  for (const auto& vector : vectors->is_array() ? *vectors : vectors->at("vectors")) {
    SCOPED_TRACE(vector.at("protocol_name").get<std::string>());
    ASSERT_TRUE(pattern_named(vector.at("protocol_name")).has_value());
    run_vector(vector);
    proven.insert(vector.at("protocol_name"));
  }
  EXPECT_EQ(proven.size(), 4u);
  EXPECT_TRUE(proven.contains("Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b")) << "what links speak";
}

// Two nodes of one cluster with a fresh handshake between them.
struct Pair {
  explicit Pair(NoisePattern pattern = NoisePattern::kXXpsk3, std::uint8_t first_psk = 1,
                std::uint8_t second_psk = 1, View first_prologue = "p", View second_prologue = "p")
      : random(7),
        alice(Identity::generate(random)),
        bob(Identity::generate(random)),
        first(config(pattern, NoiseRole::kInitiator, first_psk, first_prologue), random),
        second(config(pattern, NoiseRole::kResponder, second_psk, second_prologue), random) {}

  NoiseConfig config(NoisePattern pattern, NoiseRole role, std::uint8_t psk, View prologue) {
    NoiseConfig out{pattern, role, prologue, {}, {}, {}};
    const bool initiator = role == NoiseRole::kInitiator;
    if (pattern != NoisePattern::kNNpsk0) out.static_keys = (initiator ? alice : bob).dh_keys();
    if (pattern != NoisePattern::kXX) out.psk = key_of(psk);
    if (pattern == NoisePattern::kIKpsk2 && initiator) out.remote_static = bob.dh_keys().public_key;
    return out;
  }

  // Runs to the end or to the first error; `tamper` may change the message with this index.
  template <class Tamper>
  bool run(Tamper tamper) {
    for (std::size_t i = 0; !first.done() || !second.done(); ++i) {
      NoiseHandshake& from = i % 2 == 0 ? first : second;
      NoiseHandshake& to = i % 2 == 0 ? second : first;
      if (!from.is_my_turn()) return false;
      auto message = from.write("payload " + std::to_string(i));
      if (!message) return false;
      tamper(i, *message);
      sizes.push_back(message->size());
      const auto payload = to.read(*message);
      if (!payload) return false;
      payloads.push_back(*payload);
    }
    return true;
  }
  bool run() {
    return run([](std::size_t, Bytes&) {});
  }

  SeededRandom random;
  Identity alice;
  Identity bob;
  NoiseHandshake first;
  NoiseHandshake second;
  std::vector<std::size_t> sizes;
  std::vector<Bytes> payloads;
};

constexpr NoisePattern kAllPatterns[] = {NoisePattern::kXX, NoisePattern::kXXpsk3,
                                         NoisePattern::kIKpsk2, NoisePattern::kNNpsk0};

TEST(Noise, LetsBothSidesLearnTheOthersKey) {
  Pair pair;
  EXPECT_FALSE(pair.first.done());
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.first.remote_static(), dh_public(pair.bob.public_key()).value());
  EXPECT_EQ(pair.second.remote_static(), dh_public(pair.alice.public_key()).value());
  EXPECT_EQ(pair.first.handshake_hash(), pair.second.handshake_hash());
  EXPECT_EQ(pair.payloads, (std::vector<Bytes>{"payload 0", "payload 1", "payload 2"}));
}

TEST(Noise, NeverCompletesWhenAnyByteOfAnyMessageIsFlipped) {
  for (NoisePattern pattern : kAllPatterns) {
    Pair plain(pattern);
    ASSERT_TRUE(plain.run());
    for (std::size_t message = 0; message < plain.sizes.size(); ++message) {
      for (std::size_t byte = 0; byte < plain.sizes[message]; ++byte) {
        for (std::uint8_t bit : {0x01, 0x80}) {
          Pair pair(pattern);
          EXPECT_FALSE(pair.run([&](std::size_t i, Bytes& bytes) {
            if (i == message) bytes[byte] = static_cast<char>(bytes[byte] ^ bit);
          })) << message
              << " " << byte;
          EXPECT_FALSE(pair.first.done() && pair.second.done());
        }
      }
    }
  }
}

TEST(Noise, NeverCompletesWhenAMessageIsCutOrExtended) {
  for (NoisePattern pattern : kAllPatterns) {
    Pair plain(pattern);
    ASSERT_TRUE(plain.run());
    for (std::size_t message = 0; message < plain.sizes.size(); ++message) {
      for (std::size_t size = 0; size < plain.sizes[message] + 2; ++size) {
        if (size == plain.sizes[message]) continue;
        Pair pair(pattern);
        EXPECT_FALSE(pair.run([&](std::size_t i, Bytes& bytes) {
          if (i == message) bytes.resize(size);
        })) << message
            << " " << size;
      }
    }
  }
}

TEST(Noise, FailsWithAnotherPskOrPrologue) {
  for (NoisePattern pattern :
       {NoisePattern::kXXpsk3, NoisePattern::kIKpsk2, NoisePattern::kNNpsk0}) {
    Pair other_psk(pattern, 1, 2);
    EXPECT_FALSE(other_psk.run());
    EXPECT_FALSE(other_psk.first.done() && other_psk.second.done());
  }
  for (NoisePattern pattern : kAllPatterns) EXPECT_FALSE(Pair(pattern, 1, 1, "p", "q").run());
}

TEST(Noise, ResponderOfXXpsk3DoesNotAcceptAnInitiatorWithoutThePsk) {
  Pair pair(NoisePattern::kXXpsk3, 1, 2);
  EXPECT_FALSE(pair.run());
  EXPECT_EQ(pair.payloads.size(), 2u);  // The third message, which carries the psk, is refused.
  EXPECT_FALSE(pair.second.done());
}

TEST(Noise, ResponderMayChooseThePskAfterTheFirstMessage) {
  Pair pair(NoisePattern::kXXpsk3, 2, 1);
  ASSERT_TRUE(pair.second.read(pair.first.write("key 2").value()).ok());
  pair.second.use_psk(key_of(2));
  ASSERT_TRUE(pair.first.read(pair.second.write("").value()).ok());
  ASSERT_TRUE(pair.second.read(pair.first.write("").value()).ok());
  EXPECT_TRUE(pair.first.done() && pair.second.done());
}

TEST(Noise, EndsForGoodWithTheFirstError) {
  Pair pair;
  const Bytes good = pair.first.write("").value();
  Bytes bad = good;
  bad.resize(10);
  EXPECT_EQ(pair.second.read(bad).code(), Errc::kCorrupt);
  EXPECT_EQ(pair.second.read(good).code(), Errc::kCorrupt);
  EXPECT_FALSE(pair.second.is_my_turn());
}

TEST(Noise, RefusesMessagesThatAreNotDue) {
  Pair early;
  EXPECT_EQ(early.first.read("anything").code(), Errc::kCorrupt);
  Pair late;
  ASSERT_TRUE(late.run());
  EXPECT_EQ(late.second.read("anything").code(), Errc::kCorrupt);
  EXPECT_FALSE(late.second.done());
}

TEST(Noise, RefusesAKeyOfLowOrder) {
  Pair pair(NoisePattern::kXX);
  ASSERT_TRUE(pair.second.read(Bytes(32, '\0')).ok());  // No key in use yet.
  EXPECT_EQ(pair.second.write("").code(), Errc::kCorrupt);
  EXPECT_FALSE(pair.second.is_my_turn());
}

TEST(Noise, KeepsTheMessageLimitInTheHandshake) {
  for (NoisePattern pattern : kAllPatterns) {
    Pair plain(pattern);
    ASSERT_TRUE(plain.run());
    Pair pair(pattern);
    NoiseHandshake* from = &pair.first;
    NoiseHandshake* to = &pair.second;
    for (std::size_t size : plain.sizes) {
      const std::size_t room = kNoiseMessageSizeMax - (size - std::string("payload 0").size());
      EXPECT_EQ(from->write(Bytes(room + 1, 'x')).code(), Errc::kTooLarge);
      const auto message = from->write(Bytes(room, 'x'));
      ASSERT_TRUE(message.ok());
      EXPECT_EQ(message->size(), kNoiseMessageSizeMax);
      EXPECT_EQ(to->read(*message).value().size(), room);
      std::swap(from, to);
    }
    EXPECT_TRUE(pair.first.done() && pair.second.done());
  }
  Pair pair;
  EXPECT_EQ(pair.second.read(Bytes(kNoiseMessageSizeMax + 1, 'x')).code(), Errc::kTooLarge);
}

struct Linked {
  Linked() : pair(), ready(pair.run()), first(pair.first.split()), second(pair.second.split()) {}
  Bytes seal(View plain) {
    Bytes out;
    EXPECT_TRUE(first.seal_into(out, plain).ok());
    return out;
  }
  Pair pair;
  bool ready;
  NoiseTransport first;
  NoiseTransport second;
};

TEST(NoiseTransport, CarriesMessagesBothWays) {
  Linked link;
  for (int i = 0; i < 100; ++i) {
    Bytes there = "frame:";
    ASSERT_TRUE(link.first.seal_into(there, "ping " + std::to_string(i)).ok());
    EXPECT_EQ(there.substr(0, 6), "frame:");
    EXPECT_EQ(link.second.open({there.data() + 6, there.size() - 6}).value(),
              "ping " + std::to_string(i));
    Bytes back;
    ASSERT_TRUE(link.second.seal_into(back, "pong").ok());
    EXPECT_EQ(link.first.open(back).value(), "pong");
  }
  Bytes empty = link.seal("");
  EXPECT_EQ(link.second.open(empty).value(), "");
}

TEST(NoiseTransport, RefusesReplayedReorderedLostAndReflectedMessages) {
  {
    Linked link;
    const Bytes message = link.seal("once");
    Bytes first = message;
    Bytes again = message;
    EXPECT_TRUE(link.second.open(first).ok());
    EXPECT_EQ(link.second.open(again).code(), Errc::kCorrupt);
  }
  {
    Linked link;
    const Bytes one = link.seal("one");
    Bytes two = link.seal("two");
    EXPECT_EQ(link.second.open(two).code(), Errc::kCorrupt);
  }
  {
    Linked link;
    Bytes mine = link.seal("mine");
    EXPECT_EQ(link.first.open(mine).code(), Errc::kCorrupt);
  }
}

TEST(NoiseTransport, RefusesEveryFlippedByteAndEveryCut) {
  Linked link;
  const Bytes message = link.seal("hello");
  for (std::size_t i = 0; i < message.size(); ++i) {
    Bytes changed = message;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_EQ(link.second.open(changed).code(), Errc::kCorrupt) << i;
    Bytes cut = message.substr(0, i);
    EXPECT_EQ(link.second.open(cut).code(), Errc::kCorrupt) << i;
  }
  Bytes whole = message;
  EXPECT_EQ(link.second.open(whole).value(), "hello");
}

TEST(NoiseTransport, KeepsTheMessageLimit) {
  Linked link;
  Bytes out;
  EXPECT_EQ(link.first.seal_into(out, Bytes(kNoisePlainSizeMax + 1, 'x')).code(), Errc::kTooLarge);
  EXPECT_TRUE(out.empty());
  ASSERT_TRUE(link.first.seal_into(out, Bytes(kNoisePlainSizeMax, 'x')).ok());
  EXPECT_EQ(out.size(), kNoiseMessageSizeMax);
  EXPECT_EQ(link.second.open(out).value().size(), kNoisePlainSizeMax);
  Bytes over(kNoiseMessageSizeMax + 1, 'x');
  EXPECT_EQ(link.second.open(over).code(), Errc::kTooLarge);
}

TEST(NoiseTransport, StopsBeforeANumberWouldComeBack) {
  const std::uint64_t last = ~std::uint64_t{0} - 1;
  NoiseTransport a(key_of(1), key_of(2), last);
  NoiseTransport b(key_of(2), key_of(1), last);
  Bytes message;
  ASSERT_TRUE(a.seal_into(message, "last").ok());
  EXPECT_EQ(b.open(message).value(), "last");
  Bytes more;
  EXPECT_EQ(a.seal_into(more, "x").code(), Errc::kUnavailable);
  EXPECT_TRUE(more.empty());
  Bytes next(32, 'x');
  EXPECT_EQ(b.open(next).code(), Errc::kUnavailable);
}

}  // namespace
}  // namespace starling
