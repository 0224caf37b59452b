// Hazard F16: what a login was to read at the owner that was left, the one followed now may lack. hazards.h says how.
#include "node/session/feeds.h"
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

// A device logs in at d, whose feed goes from the coordinator of a group to the next owner; messages are at all owners
// but one.
class MovingFeeds : public Hazards {
 protected:
  MovingFeeds() : Hazards(4, 64) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    while (d == a || d == b || d == c) ++d;
    std::map<PartitionId, std::string> groups;  // That d has nothing of.
    for (int i = 0; i < 80; ++i) {
      const std::string name = "#h" + std::to_string(i);
      const auto owners = cluster.owners_of(name);
      const auto of = partition_of(slot_of(mailbox_of(name)), options.partitions);
      if (std::find(owners.begin(), owners.end(), d) != owners.end() || !groups.emplace(of, name).second) continue;
      ASSERT_TRUE(work.add_group(name, {"@alice", "@bob"}));
    }
    tap.on_leave = [this](const TapMessage& m) { return leaves(m); };
    tap.on_answer = [this](const TapMessage& m, const Result<Bytes>& answer) {
      const auto follow = m.method == Method::kFollow && m.from == d && answer ? unpack<node::FollowRequest>(m.body)
                                                                              : Result<node::FollowRequest>(Error{});
      if (follow && follow->partition == partition) followed = m.to;
      if (follow && groups_followed) groups_followed->emplace(follow->partition, m.to);
      const bool repairs = m.method == Method::kFetch || m.method == Method::kCompare || m.method == Method::kHold;
      if (lacking && repairs && m.from != m.to && (m.from == *lacking || m.to == *lacking)) return Fate::kDamage;
      const Fate fate = on_answer ? on_answer(m) : Fate::kPass;
      held += fate == Fate::kHold ? 1 : 0;
      return fate;
    };
    // Whom it follows, and whom then: the same each time.
    groups_followed.emplace();
    start(*bob, d);
    for (const auto& [of, first] : *groups_followed) {
      if (!groups.contains(of) || cluster.owners_of(groups[of])[0] != first) continue;
      group = groups[of];
      partition = of;
      followed = first;
    }
    groups_followed.reset();
    ASSERT_FALSE(group.empty());
    order.push_back(*followed);
    while (order.size() < 3) {
      ASSERT_NO_FATAL_FAILURE(move_feed());
      order.push_back(*followed);
    }
    bob->close();
    start(*alice, order[0]);  // No link that breaks is in its way.
    avoided.clear();
    world.run_for(node::kAvoidFor + 1s);
  }
  Fate leaves(const TapMessage& m) {
    if (m.method == Method::kFollow && m.from == d && avoided.contains(m.to)) return Fate::kLose;
    const auto x = m.method == Method::kReplicate ? find(m, sent) : std::nullopt;
    if (x) dot = x->dot;
    return m.method == Method::kReplicate && m.to == lacking ? Fate::kLose : Fate::kPass;
  }
  // The one looked for is the last of them.
  void send_to_all_but(std::size_t owner, std::size_t large = 0) {
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    lacking = owner;
    const Bytes filling(40 << 10, 'x');
    for (std::size_t i = 0; i < large; ++i) ASSERT_TRUE(acked(alice->send(group, std::to_string(i) + filling)));
    sent = send(*alice, group);
    ASSERT_TRUE(acked(sent));
    ASSERT_TRUE(dot && synced(owner, *dot) < dot->n) << "it has it";
  }
  // By a device at d, of the owner that is followed first.
  bool reads_group(const TapMessage& m) {
    const auto read = m.method == Method::kRead && m.from == d && m.to == order[0]
                          ? unpack<node::ReadRequest>(m.body)
                          : Result<node::ReadRequest>(Error{});
    return read && read->mailbox == mailbox_of(group);
  }
  // Its link goes down, and it does not take the request of a follower.
  void move_feed() {
    const std::size_t left = *followed;
    avoided.insert(left);
    cluster.network().reset_streams(cluster.ip(d), cluster.ip(left));
    ASSERT_TRUE(until([&] { return followed != left; }, 300ms));
  }
  // Which the owner followed first has answered; the third tells nothing of what it has.
  void move_feed_during_the_read() {
    on_answer = [this](const TapMessage& m) {
      if (m.from != d) return Fate::kPass;
      if (m.method == Method::kHeads && m.to == order[2]) return Fate::kDamage;
      return reads_group(m) ? Fate::kHold : Fate::kPass;
    };
    bob2->start(d);
    ASSERT_TRUE(until([&] { return held > 0; }));
    ASSERT_NO_FATAL_FAILURE(move_feed());
    on_answer = nullptr;
  }
  void expect_it_is_shown_by_login() {
    ASSERT_TRUE(until([&] { return bob2->ready(); }, 30s));
    ASSERT_EQ(followed, lacking);
    EXPECT_LT(synced(*lacking, *dot), dot->n);
    EXPECT_EQ(shown(*bob2, sent), 1u);
    finish();
  }

  std::size_t d = 0;               // Owns nothing of the group.
  std::string group;
  std::vector<std::size_t> order;  // Its owners, as d follows them; the first coordinates.
  std::optional<std::map<PartitionId, std::size_t>> groups_followed;  // While they are noted.
  std::optional<Dot> dot;          // Of `sent`.
  std::optional<std::size_t> followed, lacking;
  std::set<std::size_t> avoided;
  std::function<Fate(const TapMessage&)> on_answer;
  int held = 0;  // Answers, so far.
  SendIndex sent = kUnsent;
};

INSTANTIATE_TEST_SUITE_P(Seeds, MovingFeeds, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The owners are being asked: the one that has it by the feed that is left, and the one that lacks it.
TEST_P(MovingFeeds, F16_WhileTheOwnersAreAsked) {
  ASSERT_NO_FATAL_FAILURE(send_to_all_but(order[1]));
  bool moved = false;
  on_answer = [&](const TapMessage& m) {
    if (moved || m.method != Method::kHeads || m.from != d) return Fate::kPass;
    if (m.to == order[2]) return Fate::kDamage;
    return m.to == order[0] ? Fate::kHold : Fate::kPass;
  };
  bob2->start(d);
  ASSERT_TRUE(until([&] { return held > 0; }));
  ASSERT_NO_FATAL_FAILURE(move_feed());
  moved = true;
  tap.release();
  expect_it_is_shown_by_login();
}

// And once more, while they are asked anew.
TEST_P(MovingFeeds, F16_WhileTheOwnersAreAskedASecondTime) {
  ASSERT_NO_FATAL_FAILURE(send_to_all_but(order[2]));
  std::size_t moves = 0;
  on_answer = [&](const TapMessage& m) {
    if (moves > 1 || m.method != Method::kHeads || m.from != d) return Fate::kPass;
    if (m.to == order[1 - moves]) return Fate::kDamage;  // It is the next to be followed, or was left.
    return m.to == order[moves] ? Fate::kHold : Fate::kPass;
  };
  bob2->start(d);
  while (moves < 2) {
    ASSERT_TRUE(until([&, before = held] { return held > before; })) << moves;
    ASSERT_NO_FATAL_FAILURE(move_feed());
    ++moves;
    tap.release();
  }
  expect_it_is_shown_by_login();
}

// The first page came, without it; the rest would be read at the next owner.
TEST_P(MovingFeeds, F16_BetweenTwoPages) {
  ASSERT_NO_FATAL_FAILURE(send_to_all_but(order[1], 20));
  ASSERT_NO_FATAL_FAILURE(move_feed_during_the_read());
  tap.release();
  expect_it_is_shown_by_login();
}

// The read at the owner that was left fails when the next is followed already.
TEST_P(MovingFeeds, F16_BeforeTheReadFails) {
  ASSERT_NO_FATAL_FAILURE(send_to_all_but(order[1]));
  ASSERT_NO_FATAL_FAILURE(move_feed_during_the_read());  // Whose answer is held beyond its deadline.
  expect_it_is_shown_by_login();
}

// The read fails, which makes the gateway follow the next one; then it is repeated.
TEST_P(MovingFeeds, F16_BecauseTheReadFailed) {
  ASSERT_NO_FATAL_FAILURE(send_to_all_but(order[1]));
  std::size_t failed = 0;
  on_answer = [&](const TapMessage& m) {
    if (failed > 0 || m.from != d) return Fate::kPass;
    if (m.method == Method::kHeads && m.to == order[2]) return Fate::kDamage;
    if (!reads_group(m)) return Fate::kPass;
    ++failed;
    return Fate::kDamage;
  };
  bob2->start(d);
  ASSERT_TRUE(until([&] { return failed > 0; }));
  expect_it_is_shown_by_login();
}

}  // namespace
}  // namespace starling::sim
