#include "crypto/access/keyring.h"

#include <set>

#include <gtest/gtest.h>

#include "crypto/msgpack.h"
#include "tests/crypto/support.h"

namespace starling {
namespace {

TEST(Keyring, OpensWhatItSealed) {
  SeededRandom random(1);
  const Keyring ring(key_of(1));
  for (View plain : {View(""), View("x"), View("a longer packet of gossip")}) {
    const Bytes sealed = ring.seal(plain, "header", random);
    EXPECT_EQ(sealed.size(), plain.size() + kKeyringOverhead);
    EXPECT_EQ(ring.open(sealed, "header").value(), plain);
  }
  EXPECT_NE(ring.seal("x", "", random), ring.seal("x", "", random));
}

TEST(Keyring, RefusesChangedBytesOtherHeadersAndCuts) {
  SeededRandom random(2);
  const Keyring ring(key_of(1));
  const Bytes sealed = ring.seal("hello", "header", random);
  EXPECT_EQ(ring.open(sealed, "other").code(), Errc::kCorrupt);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    Bytes changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_EQ(ring.open(changed, "header").code(),
              i < KeyId::kSize ? Errc::kForeign : Errc::kCorrupt);
    EXPECT_FALSE(ring.open(View(sealed).substr(0, i), "header").ok());
  }
  EXPECT_EQ(Keyring(key_of(2)).open(sealed, "header").code(), Errc::kForeign);
}

TEST(Keyring, UnderstandsEveryNodeAtEveryStepOfARotation) {
  SeededRandom random(3);
  const KeyId fresh = key_id(key_of(2));
  const KeyId old = key_id(key_of(1));
  Keyring steps[4] = {Keyring(key_of(1)), Keyring(key_of(1)), Keyring(key_of(1)),
                      Keyring(key_of(1))};
  for (int i = 1; i < 4; ++i) ASSERT_TRUE(steps[i].add(key_of(2)).ok());
  for (int i = 2; i < 4; ++i) ASSERT_TRUE(steps[i].promote(fresh).ok());
  ASSERT_TRUE(steps[3].remove(old).ok());
  for (int step = 0; step < 3; ++step) {
    const Keyring& behind = steps[step];
    const Keyring& ahead = steps[step + 1];
    EXPECT_TRUE(behind.open(ahead.seal("x", "", random), "").ok()) << step;
    EXPECT_TRUE(ahead.open(behind.seal("x", "", random), "").ok()) << step;
    EXPECT_EQ(behind.link_psk(), ahead.link_psk(behind.ids()[0]).value());
    EXPECT_EQ(ahead.link_psk(), behind.link_psk(ahead.ids()[0]).value());
  }
  EXPECT_EQ(steps[3].open(steps[0].seal("x", "", random), "").code(), Errc::kForeign);
  EXPECT_EQ(steps[2].ids(), (std::vector<KeyId>{fresh, old}));
  EXPECT_EQ(steps[3].primary(), key_of(2));
}

TEST(Keyring, PromotionKeepsTheOrderOfTheOthers) {
  Keyring ring(key_of(1));
  for (std::uint8_t i : {2, 3}) ASSERT_TRUE(ring.add(key_of(i)).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(3))).ok());
  EXPECT_EQ(ring.ids(),
            (std::vector<KeyId>{key_id(key_of(3)), key_id(key_of(1)), key_id(key_of(2))}));
  ASSERT_TRUE(ring.promote(key_id(key_of(3))).ok());
  EXPECT_EQ(ring.primary(), key_of(3));
}

TEST(Keyring, RefusesWrongSteps) {
  Keyring ring(key_of(1));
  EXPECT_EQ(ring.add(key_of(1)).code(), Errc::kExists);
  EXPECT_EQ(ring.promote(key_id(key_of(9))).code(), Errc::kNotFound);
  EXPECT_EQ(ring.remove(key_id(key_of(9))).code(), Errc::kNotFound);
  EXPECT_EQ(ring.remove(key_id(key_of(1))).code(), Errc::kInvalid);
  for (std::uint8_t i = 2; i <= kKeyringKeysMax; ++i) ASSERT_TRUE(ring.add(key_of(i)).ok());
  EXPECT_EQ(ring.add(key_of(100)).code(), Errc::kTooLarge);
  EXPECT_EQ(ring.derive(key_id(key_of(100)), "x").code(), Errc::kForeign);
  EXPECT_EQ(ring.link_psk(key_id(key_of(100))).code(), Errc::kForeign);
}

TEST(Keyring, GivesEachPurposeAndEachKeyItsOwnKey) {
  const Keyring one(key_of(1));
  const Keyring two(key_of(2));
  std::set<Bytes> keys;
  for (const Keyring* ring : {&one, &two}) {
    keys.emplace(ring->primary().view());
    keys.emplace(ring->link_psk().view());
    keys.emplace(ring->derive("a").view());
    keys.emplace(ring->derive("b").view());
  }
  EXPECT_EQ(keys.size(), 8u);
  EXPECT_EQ(one.derive("a"), Keyring(key_of(1)).derive("a"));
}

std::vector<KeyId> ids_of(std::initializer_list<std::uint8_t> keys) {
  std::vector<KeyId> out;
  for (const auto key : keys) out.push_back(key_id(key_of(key)));
  return out;
}

TEST(Keyring, OldKeysRetireAtTheirTimeAndThePrimaryNever) {
  Keyring ring(key_of(1));
  ASSERT_TRUE(ring.add(key_of(2)).ok());
  EXPECT_EQ(ring.unused(), key_id(key_of(2)));
  ASSERT_TRUE(ring.promote(key_id(key_of(2)), 1000).ok());
  EXPECT_EQ(ring.unused(), std::nullopt);
  EXPECT_EQ(ring.retire(999), 0u);
  EXPECT_EQ(ring.ids(), ids_of({2, 1}));
  EXPECT_EQ(ring.retire(1000), 1u);
  EXPECT_EQ(ring.ids(), ids_of({2}));
  EXPECT_EQ(ring.retire(99999), 0u);
  EXPECT_EQ(ring.add(key_of(1)).code(), Errc::kExists) << "a retired key does not come back";
}

// Two operators at once: neither key takes a date from the other's rotation before it is known which wins.
TEST(Keyring, OfTwoRotationsAtOnceTheWinnerHasNoDateAndTheOtherHas) {
  Keyring a(key_of(1));
  ASSERT_TRUE(a.add(key_of(2)).ok());
  ASSERT_TRUE(a.add(key_of(3)).ok());
  Keyring b = a;  // Each has told the other of its new key.
  ASSERT_TRUE(a.promote(key_id(key_of(2)), 500).ok());
  ASSERT_TRUE(b.promote(key_id(key_of(3)), 700).ok());
  EXPECT_TRUE(a.merge(b));
  EXPECT_TRUE(b.merge(a));
  ASSERT_EQ(a.infos(), b.infos());
  const auto merged = a.infos();
  ASSERT_EQ(merged.size(), 3u);
  EXPECT_EQ(merged[0].retire_at_ms, 0);
  EXPECT_EQ(merged[1].used, merged[0].used);
  EXPECT_EQ(merged[1].retire_at_ms, 0) << "nobody knew that it would lose";
  EXPECT_EQ(merged[2].retire_at_ms, 500);
  EXPECT_TRUE(a.retire_others(600));
  EXPECT_FALSE(a.retire_others(900));
  EXPECT_TRUE(b.merge(a));
  EXPECT_EQ(b.infos()[0].retire_at_ms, 0);
  EXPECT_EQ(b.infos()[1].retire_at_ms, 600);
  // A later rotation gives it its whole time.
  ASSERT_TRUE(b.add(key_of(4)).ok());
  ASSERT_TRUE(b.promote(key_id(key_of(4)), 9000).ok());
  EXPECT_EQ(b.infos()[1].id, merged[0].id);
  EXPECT_EQ(b.infos()[1].retire_at_ms, 9000);
}

TEST(Keyring, WhatWasPutToUseLosesTheDateThatAnOlderProgramGaveIt) {
  Keyring ring(key_of(1));
  ASSERT_TRUE(ring.add(key_of(2)).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(2)), 500).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(1))).ok());  // Dated, and primary again.
  EXPECT_EQ(ring.primary(), key_of(1));
  EXPECT_EQ(ring.infos()[0].retire_at_ms, 0);
  const auto read = Keyring::parse(ring.serialise());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->infos(), ring.infos());
}

TEST(Keyring, KnowsWhichSecretsItHolds) {
  Keyring ring(key_of(1));
  ASSERT_TRUE(ring.add(key_of(2)).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(2)), 10).ok());
  EXPECT_TRUE(ring.holds(key_of(1)));
  EXPECT_TRUE(ring.holds(key_of(2)));
  EXPECT_FALSE(ring.holds(key_of(3)));
  ring.retire(10);
  EXPECT_FALSE(ring.holds(key_of(1)));
}

TEST(Keyring, MergingIsTheSameInEveryOrderAndOftenAsOnce) {
  // Nodes that took part in a rotation to different degrees, and two operators at once.
  std::vector<Keyring> rings(6, Keyring(key_of(1)));
  ASSERT_TRUE(rings[1].add(key_of(2)).ok());
  ASSERT_TRUE(rings[2].add(key_of(2)).ok());
  ASSERT_TRUE(rings[2].promote(key_id(key_of(2)), 500).ok());
  ASSERT_TRUE(rings[3].add(key_of(3)).ok());
  ASSERT_TRUE(rings[3].promote(key_id(key_of(3)), 700).ok());
  rings[4] = rings[2];
  EXPECT_EQ(rings[4].retire(500), 1u);
  ASSERT_TRUE(rings[5].add(key_of(4)).ok());
  SeededRandom random(9);
  std::optional<std::vector<KeyInfo>> expected;
  for (int round = 0; round < 50; ++round) {
    std::vector<Keyring> nodes = rings;
    for (int i = 0; i < 200; ++i) {
      Keyring& to = nodes[random.below(nodes.size())];
      (void)to.merge(nodes[random.below(nodes.size())]);
    }
    for (const auto& node : nodes) {
      if (!expected) expected = node.infos();
      ASSERT_EQ(node.infos(), *expected) << round;
      ASSERT_FALSE(Keyring(node).merge(nodes.front()));
    }
  }
  EXPECT_EQ(expected->size(), 3u);
  EXPECT_GT(expected->at(0).used, 0u);
  EXPECT_EQ(expected->at(2).id, key_id(key_of(4))) << "installed, not used";
}

TEST(Keyring, ARetiredKeyIsNotBroughtBackByANodeThatWasAway) {
  const Keyring away(key_of(1));
  Keyring ring(key_of(1));
  ASSERT_TRUE(ring.add(key_of(2)).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(2)), 10).ok());
  Keyring back = ring;  // It had the new key before it went away.
  ring.retire(10);
  EXPECT_FALSE(ring.merge(away));
  EXPECT_FALSE(ring.merge(back));
  EXPECT_EQ(ring.ids(), ids_of({2}));
  EXPECT_TRUE(back.merge(ring));
  EXPECT_EQ(back.ids(), ids_of({2}));
}

TEST(Keyring, NeverLosesItsLastKey) {
  Keyring a(key_of(1)), b(key_of(1));
  ASSERT_TRUE(b.add(key_of(2)).ok());
  ASSERT_TRUE(b.promote(key_id(key_of(2))).ok());
  ASSERT_TRUE(b.remove(key_id(key_of(1))).ok());
  ASSERT_TRUE(a.add(key_of(2)).ok());
  ASSERT_TRUE(a.promote(key_id(key_of(2))).ok());
  ASSERT_TRUE(a.promote(key_id(key_of(1))).ok());
  ASSERT_TRUE(a.remove(key_id(key_of(2))).ok());
  a.merge(b);
  EXPECT_EQ(a.ids().size(), 1u);
}

TEST(Keyring, HoldsNoMoreThanItsLimitHoweverMuchItIsTold) {
  Keyring a(key_of(1)), b(key_of(50));
  for (std::uint8_t i = 2; i <= kKeyringKeysMax; ++i) {
    ASSERT_TRUE(a.add(key_of(i)).ok());
    ASSERT_TRUE(b.add(key_of(static_cast<std::uint8_t>(50 + i))).ok());
  }
  a.merge(b);
  EXPECT_EQ(a.ids().size(), kKeyringKeysMax);
}

TEST(Keyring, ARingThatWasNeverRotatedIsWrittenAsTheFirstProgramsWroteIt) {
  const Keyring ring(key_of(1));
  EXPECT_EQ(ring.serialise(), Bytes("\x92\x01\x91\xc4\x20", 5) + Bytes(key_of(1).view()));
  // Several keys under the first format: the first is in use.
  const Bytes two = Bytes("\x92\x01\x92\xc4\x20", 5) + Bytes(key_of(1).view()) + Bytes("\xc4\x20", 2) +
                    Bytes(key_of(2).view());
  const auto read = Keyring::parse(two);
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_EQ(read->ids(), ids_of({1, 2}));
  EXPECT_EQ(read->unused(), key_id(key_of(2)));
}

TEST(Keyring, ReadsBackItsFile) {
  Keyring ring(key_of(1));
  ASSERT_TRUE(ring.add(key_of(2)).ok());
  ASSERT_TRUE(ring.promote(key_id(key_of(2)), 1234).ok());
  ASSERT_TRUE(ring.add(key_of(3)).ok());
  ASSERT_TRUE(ring.remove(key_id(key_of(3))).ok());
  const auto again = Keyring::parse(ring.serialise());
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(again->infos(), ring.infos());
  EXPECT_EQ(again->primary(), key_of(2));
  EXPECT_EQ(again->serialise(), ring.serialise());
}

struct RawFile {
  std::uint32_t version;
  std::vector<Blob> keys;
  FIELDS(version, keys)
};

TEST(Keyring, RefusesFilesItDidNotWrite) {
  const Bytes whole = Keyring(key_of(1)).serialise();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(Keyring::parse(View(whole).substr(0, i)).ok()) << i;
  }
  EXPECT_EQ(Keyring::parse(whole + "x").code(), Errc::kCorrupt);
  EXPECT_EQ(Keyring::parse(pack(RawFile{3, {{Bytes(32, 'x')}}})).code(), Errc::kUnsupported);
  EXPECT_EQ(Keyring::parse(pack(RawFile{1, {}})).code(), Errc::kCorrupt);
  EXPECT_EQ(Keyring::parse(pack(RawFile{1, {{Bytes(31, 'x')}}})).code(), Errc::kCorrupt);
  EXPECT_EQ(Keyring::parse(pack(RawFile{1, {{Bytes(32, 'x')}, {Bytes(32, 'x')}}})).code(),
            Errc::kCorrupt);
  RawFile many{1, {}};
  for (char i = 0; i < 9; ++i) many.keys.push_back({Bytes(32, i)});
  EXPECT_EQ(Keyring::parse(pack(many)).code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling
