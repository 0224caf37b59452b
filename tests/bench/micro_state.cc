#include "crypto/access/token.h"
#include "crypto/random.h"
#include "overlay/loop/hlc.h"
#include "overlay/ring/ring.h"
#include "storage/version_vector.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_input.h"
#include "tests/overlay/ring_fixture.h"

namespace starling::bench {
namespace {

constexpr std::uint64_t kWriters = 6;  // Of a partition of three owners, each restarted once.

storage::VersionVector vector_of(std::uint64_t n) {
  storage::VersionVector out;
  for (std::uint64_t writer = 1; writer <= kWriters; ++writer)
    out.raise({writer * 0x9e3779b97f4a7c15}, n + writer);
  return out;
}

Micro::Operation compare_vectors() {
  return [older = vector_of(1000), newer = vector_of(1001)](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      require(newer.covers(older) && !older.covers(newer) && older.digest() != newer.digest(),
              "vectors compare ill");
    }
  };
}

Micro::Operation merge_vectors() {
  return [older = vector_of(1000), newer = vector_of(1001)](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      auto merged = older;
      merged.merge(newer);
      require(merged == newer, "vectors merge ill");
    }
  };
}

Micro::Operation read_clock() {
  return [clock = std::make_shared<overlay::HlcClock>()](std::size_t times) {
    constexpr auto kWall = static_cast<std::int64_t>(kWallMs);
    for (std::size_t i = 0; i < times; ++i) {
      const Hlc before = clock->last();
      require(clock->observe(hlc_at(kWallMs), kWall).ok() && clock->next(kWall) > before,
              "the clock stands");
    }
  };
}

Micro::Operation look_up_owners() {
  auto ring = overlay::Ring::make(overlay::test_ring(3));
  require(ring.ok(), "no ring");
  return [ring = *ring](std::size_t times) {
    MailboxId mailbox;
    const NodeId self = ring->members()[1].id;
    std::size_t ours = 0;
    for (std::size_t i = 0; i < times; ++i) {
      mailbox.raw[0] = static_cast<std::uint8_t>(i);
      mailbox.raw[1] = static_cast<std::uint8_t>(i >> 8);
      const PartitionId partition = ring->partition_of(mailbox);
      for (const NodeId& owner : ring->owners(partition)) ours += owner == self ? 1 : 0;
      require(ring->is_owner(partition, self), "of three nodes each owns all");
    }
    require(ours == times, "an owner is missing");
  };
}

Micro::Operation check_token() {
  SeededRandom random(1);
  const auto node = std::make_shared<Identity>(Identity::generate(random));
  constexpr auto kWall = static_cast<std::int64_t>(kWallMs);
  const auto token = issue_token(*node, {"@alice", "phone", 3, kWall, kWall + 1000});
  require(token.ok(), "no token");
  return [node, token = *token](std::size_t times) {
    const KeyLookup lookup = [&](const NodeId&) { return std::optional(node->public_key()); };
    for (std::size_t i = 0; i < times; ++i) {
      require(verify_token(token, lookup, kWall).ok(), "the token is refused");
    }
  };
}

}  // namespace

std::vector<Micro> state_micros() {
  return {{"vector compare", 256, compare_vectors},
          {"vector merge", 256, merge_vectors},
          {"hlc", 1024, read_clock},
          {"ring lookup", 1024, look_up_owners},
          {"session token check", 8, check_token}};
}

}  // namespace starling::bench
