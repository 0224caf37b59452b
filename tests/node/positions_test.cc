// Where two copies of a message met, the recipient's mailbox is asked for the smaller id: so many in a turn, so many at
// once, and nobody who does not answer holds up the others (parts.h). In clusters: hazards_positions_test.cc.
#include "node/repair/positions.h"

#include "tests/node/parts.h"

namespace starling::node {
namespace {

constexpr WriterId kPeer{500};

class PositionsInTurn : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    const auto& ring = view->ring();
    for (std::uint16_t i = 0; i < ring.partitions(); ++i) {
      if (ring.is_owner(PartitionId{i}, view->self)) owned.push_back(PartitionId{i});
    }
    ASSERT_GE(owned.size(), 2u);
  }
  // Of a user whose mailbox is there.
  std::string sender_in(PartitionId partition) {
    for (int i = 0;; ++i) {
      const std::string name = "@sender" + std::to_string(i);
      if (box.store->partition_of(mailbox_of(name)) == partition) return name;
    }
  }
  // The sender's copies of a message, of which the second has the smaller id.
  storage::Superseded meet(PartitionId partition, const std::string& to, std::uint8_t flags = storage::kEntryIsCopy) {
    const std::string from = sender_in(partition);
    auto& n = dots[partition];
    ++seq;
    auto copy = testing::entry(mailbox_of(from), seq, hlc_at(2000 + seq));
    copy.entry.from = from;
    copy.entry.to = to;
    copy.entry.conversation = mailbox_of(to);
    copy.entry.flags = flags;
    const auto keep = [&] {
      const Dot dot{kPeer, ++n};
      EXPECT_TRUE(box.store->apply(partition, dot, encoded(copy, dot)).ok());
      return dot;
    };
    const Dot first = keep();
    copy.entry.id.time = hlc_at(1000 + seq);
    return {first, keep()};
  }
  void begin() {
    box.sync();
    in_turn([&] {
      forwarder = std::make_unique<Forwarder>(*view);
      positions = std::make_unique<Positions>(*view, *forwarder);
    });
  }
  // What was asked is answered: of who is away, that nobody can be reached.
  void answer() {
    for (auto& call : std::exchange(rpc.calls, {})) {
      const auto request = unpack<AppendRequest>(call.body);
      ASSERT_TRUE(request && (request->flags & kAppendPosition) != 0);
      const bool away = request->to == "@away";
      in_turn([&] {
        away ? call.done(Error{Errc::kUnavailable, "nobody is there"})
             : call.done(pack(AppendReply{request->ring, request->id, 2}));
      });
    }
  }
  [[nodiscard]] std::size_t settled(PartitionId partition, const std::vector<storage::Superseded>& pairs) const {
    return static_cast<std::size_t>(std::count_if(
        pairs.begin(), pairs.end(), [&](const auto& pair) { return positions->is_settled(partition, pair); }));
  }

  std::vector<PartitionId> owned;
  std::map<PartitionId, std::uint64_t> dots;
  std::uint64_t seq = 0;
  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<Positions> positions;
};

TEST_F(PositionsInTurn, ThoseThatNobodyAcknowledgesHoldUpNoOthers) {
  std::vector<storage::Superseded> stuck;
  for (std::size_t i = 0; i < 3 * kPositionsAtOnceMax; ++i) stuck.push_back(meet(owned[0], "@away"));
  const auto behind = meet(owned[0], "@there");
  const auto elsewhere = meet(owned[1], "@there");
  begin();
  for (int turn = 0; turn < 20; ++turn) {
    run_for(1s);
    EXPECT_LE(positions->asking(), kPositionsAtOnceMax);
    while (!rpc.calls.empty()) answer();
  }
  EXPECT_TRUE(positions->is_settled(owned[0], behind));
  EXPECT_TRUE(positions->is_settled(owned[1], elsewhere));
  EXPECT_EQ(settled(owned[0], stuck), 0u);
}

// Those that are answered late keep their places; the others go on with what is left.
TEST_F(PositionsInTurn, EachIsAskedForOnceAtATime) {
  for (std::size_t i = 0; i < 5; ++i) meet(owned[0], "@there");
  begin();
  run_for(5s);
  EXPECT_EQ(rpc.calls.size(), 5u);
  EXPECT_EQ(positions->asking(), 5u);
  answer();
  run_for(5s);
  EXPECT_EQ(rpc.calls.size(), 0u);
}

TEST_F(PositionsInTurn, SoManyAreLookedAtInATurn) {
  constexpr std::size_t kLooksMax = 500, kTurns = 3;
  std::vector<storage::Superseded> pairs;  // Of messages to groups, as it were: nothing is owed.
  for (std::size_t i = 0; i < kTurns * kLooksMax; ++i) pairs.push_back(meet(owned[0], "@there", 0));
  begin();
  std::size_t before = 0;
  for (std::size_t turn = 1; turn <= kTurns; ++turn) {
    run_for(1s);
    const std::size_t now = settled(owned[0], pairs);
    EXPECT_LE(now - before, kLooksMax) << turn;
    before = now;
  }
  run_for(2s);
  EXPECT_EQ(settled(owned[0], pairs), pairs.size());
  EXPECT_TRUE(rpc.calls.empty());
}

}  // namespace
}  // namespace starling::node
