// Hazard F23: a message in two mailboxes has one position in both (decision 0052). hazards.h says how.
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

// One node, a, coordinates both mailboxes of a message. It dies with the message, while the copy of it stays: the other
// owner that heard of it had a gap in the one log and none in the other.
class OrphanedCopy : public Hazards {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    const auto owners = cluster.owners_of("@alice");
    a = owners[0];
    maker = owners[1];
    keeper = owners[2];
    for (int i = 0; reader == nullptr && i < 60; ++i) {
      const std::string name = "@reader" + std::to_string(i);
      const bool apart = partition_of(slot_of(mailbox_of(name)), options.partitions) !=
                         partition_of(slot_of(mailbox_of("@alice")), options.partitions);
      if (!apart || cluster.owners_of(name)[0] != a) continue;
      ASSERT_TRUE(work.add_user(name));
      reader = &work.add_device(name, "d0");
    }
    ASSERT_NE(reader, nullptr);
    start(*alice, keeper);
    start(*reader, keeper);
    ASSERT_TRUE(acked(send(*alice, to())));
  }
  [[nodiscard]] const std::string& to() const { return reader->identity().user; }

  // Acknowledged as another id than that of the copy.
  void orphan_a_copy() {
    tap.on_leave = [this](const TapMessage& m) {
      const bool repairs = m.method == Method::kFetch || m.method == Method::kCompare || m.method == Method::kHold;
      if (repairs && m.from != m.to) return Fate::kHold;
      if (m.method != Method::kReplicate || m.from != a) return Fate::kPass;
      if (m.to == keeper && find(m, note)) return Fate::kLose;  // The gap: it has no copy.
      return m.to == maker && find(m, sent) ? Fate::kLose : Fate::kPass;
    };
    note = send(*reader, to());
    ASSERT_TRUE(acked(note));
    world.run_for(300ms);  // The links are back.
    tap.on_arrive = [this](const TapMessage& m) {
      if (m.method != Method::kReplicate || m.from != a || m.to != keeper) return;
      for (const auto& x : carried(m)) {
        if (sent != kUnsent && x.hash == record(sent).hash) lost_id = x.id;
      }
    };
    cluster.disk(a).hold(true);
    sent = send(*alice, to());
    ASSERT_TRUE(until([&] { return !lost_id.is_zero(); }, 3s));
    world.run_for(50ms);  // Synced at the keeper.
    cluster.crash(a, Crash::kPower);
    ASSERT_TRUE(acked(sent));
    ASSERT_LT(lost_id, acked_id(sent)) << "made anew";
  }
  // The smallest that each of these was told.
  std::string position_on(const SimDevice& device) {
    std::string id;
    for (const auto& d : work.history().deliveries()) {
      if (d.device == device.index() && d.hash == record(sent).hash && (id.empty() || d.id < id)) id = d.id;
    }
    return id;
  }
  void bring_a_back() {
    tap.on_leave = nullptr;
    tap.on_arrive = nullptr;
    tap.release();
    cluster.disk(a).hold(false);
    ASSERT_TRUE(cluster.restart(a));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    world.run_for(10s);
    start(*alice2, maker);
    ASSERT_TRUE(until([&] { return shown(*alice2, sent) == 1 && shown(*reader, sent) == 1; }));
  }

  SimDevice* reader = nullptr;
  std::size_t maker = 0;   // Makes the message anew, and the copy.
  std::size_t keeper = 0;  // Of the first copy.
  SendIndex note = kUnsent;  // Of the reader to itself.
  SendIndex sent = kUnsent;
  EntryId lost_id;
};

INSTANTIATE_TEST_SUITE_P(Seeds, OrphanedCopy, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

TEST_P(OrphanedCopy, F23_TellsTheOtherMailboxWhereTheMessageStands) {
  ASSERT_NO_FATAL_FAILURE(orphan_a_copy());
  ASSERT_NO_FATAL_FAILURE(bring_a_back());
  EXPECT_EQ(position_on(*alice2), to_text(lost_id));
  EXPECT_EQ(position_on(*reader), to_text(lost_id));
  finish();
}

// The same when nobody carries that out: a request for a position is answered, and nothing done.
TEST_P(OrphanedCopy, F23_LeavesTheMessageAtTwoPositionsIfItTellsNobody) {
  tap.forge = [](const TapMessage& m) -> std::optional<Bytes> {
    const auto request = m.method == Method::kAppend ? unpack<node::AppendRequest>(m.body)
                                                     : Result<node::AppendRequest>(Error{});
    if (!request || (request->flags & node::kAppendPosition) == 0) return std::nullopt;
    return pack(node::AppendReply{request->ring, request->id, 2});
  };
  ASSERT_NO_FATAL_FAILURE(orphan_a_copy());
  ASSERT_NO_FATAL_FAILURE(bring_a_back());
  EXPECT_EQ(position_on(*alice2), to_text(lost_id));
  EXPECT_EQ(position_on(*reader), to_text(acked_id(sent)));
}

// Of two messages that are on their way together the copy of the second is made, and that of the first is not yet, when
// their coordinator, a, loses power with both: the other owners have a gap in the log of the recipient's partition. The
// owner that made the one copy makes the messages anew.
class CopyAhead : public Hazards {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    maker = cluster.owners_of("@alice")[0];
    for (int i = 0; reader == nullptr && i < 60; ++i) {
      const std::string name = "@reader" + std::to_string(i);
      a = cluster.owners_of(name)[0];
      if (a == maker) continue;
      ASSERT_TRUE(work.add_user(name));
      reader = &work.add_device(name, "d0");
    }
    ASSERT_NE(reader, nullptr);
    start(*alice, maker);
    start(*reader, maker);
    ASSERT_TRUE(acked(send(*alice, to())));
  }
  [[nodiscard]] const std::string& to() const { return reader->identity().user; }

  // `once`: only the first request for the copy of the first message is slow, not that which a makes for the second's sake.
  void second_copy_ahead(bool once) {
    SendIndex note = kUnsent, first = kUnsent, second = kUnsent;
    std::size_t first_asked = 0, gaps = 0;
    bool second_asked = false, lost = false;
    tap.on_leave = [&](const TapMessage& m) {
      if (lost) return Fate::kPass;
      const bool repairs = m.method == Method::kFetch || m.method == Method::kCompare || m.method == Method::kHold;
      if (repairs && m.from != m.to) return Fate::kHold;
      if (m.method == Method::kReplicate && m.from == a && find(m, note)) return Fate::kLose;  // The gap.
      if (m.method != Method::kAppend || m.from != a) return Fate::kPass;
      second_asked = second_asked || appends(m, second);
      return appends(m, first) && (first_asked++ == 0 || !once) ? Fate::kHold : Fate::kPass;
    };
    tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
      gaps += appends(m, second) && m.from == a && !answer && answer.code() == Errc::kLaneGap ? 1 : 0;
      return Fate::kPass;
    };
    note = reader->send(to(), work.body(*reader), {.grade = node::protocol::Grade::kLocal});
    ASSERT_TRUE(acked(note));
    world.run_for(300ms);  // The links are back.
    cluster.disk(a).hold(true);
    first = send(*alice, to());
    second = send(*alice, to());
    ASSERT_TRUE(until([&] { return second_asked; }, 1s));
    world.run_for(20ms);  // What is made of it is synced.
    ASSERT_EQ(gaps, 1u);
    ASSERT_EQ(first_asked, 2u);
    lost = true;
    cluster.crash(a, Crash::kPower);
    ASSERT_TRUE(acked(first) && acked(second)) << world.trace().text("", 60);
    cluster.disk(a).hold(false);
    ASSERT_TRUE(cluster.restart(a));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    finish();
  }

  SimDevice* reader = nullptr;
  std::size_t maker = 0;  // First owner of the sender's mailbox.
};

INSTANTIATE_TEST_SUITE_P(Seeds, CopyAhead, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

TEST_P(CopyAhead, F06_NoCopyIsMadeBeforeThatOfTheNumberBefore) { second_copy_ahead(/*once=*/false); }
TEST_P(CopyAhead, F06_TheCopyOfTheNumberBeforeIsMadeFirst) { second_copy_ahead(/*once=*/true); }

}  // namespace
}  // namespace starling::sim
