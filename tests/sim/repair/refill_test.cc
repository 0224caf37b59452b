// A file of a store that cannot be read is emptied only on everybody's word (decision 0019, hazards F30).
#include "tests/sim/repair/repair.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Refill : public Repair {
 protected:
  // bob2's messages, acknowledged by c alone, which is cut off from everybody. The last.
  SendIndex say_at_c_alone(const std::string& to, int count = 1) {
    start(*bob2, c);
    EXPECT_TRUE(cluster.run_until_quiet(30s));
    leave_alone(c);
    SendIndex said = kUnsent;
    for (; count > 0; --count) {
      said = bob2->send(to, work.body(*bob2), {.grade = node::protocol::Grade::kLocal});
      EXPECT_TRUE(acked(said));
      EXPECT_EQ(record(said).copies, 1);
    }
    bob2->close();
    return said;
  }
  void rot(const std::vector<Dot>& dots) {
    ASSERT_TRUE(cluster.stop(c));
    alter(c, [&](storage::Engine& engine, rocksdb::WriteBatch& batch) {
      for (const Dot& dot : dots) {
        engine.put(batch, storage::ColumnFamily::kLog,
                   storage::log_key(first_slot(partition, options.partitions), dot).view(), "not a change");
      }
    });
    ASSERT_TRUE(cluster.restart(c));
  }
  void lose_a_file_of(PartitionId of) {
    ASSERT_TRUE(cluster.stop(c));
    const auto slot = first_slot(of, options.partitions);
    alter(c, [&](storage::Engine& engine, rocksdb::WriteBatch& batch) {
      engine.put(batch, storage::ColumnFamily::kDamage, storage::refill_key(slot, 0).view(),
                 storage::damage_value(storage::DamageState::kRefill).view());
    });
    ASSERT_TRUE(cluster.restart(c));
  }
  [[nodiscard]] PartitionId partition_at(const std::string& address) const {
    return partition_of(slot_of(mailbox_of(address)), options.partitions);
  }
  bool c_holds(PartitionId of, const std::map<WriterId, std::uint64_t>& all) {
    const auto vectors = cluster.vectors(c);
    const auto it = vectors.find(of);
    if (it == vectors.end()) return false;
    return std::all_of(all.begin(), all.end(), [&](const auto& run) {
      const auto held = it->second.find(run.first);
      return held != it->second.end() && held->second >= run.second;
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Refill, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// What only c has lies in another partition: it would go with the file, so nothing goes before it is elsewhere.
TEST_P(Refill, F30_AFileIsEmptiedOnceEveryOtherOwnerHasAllThatIsHere) {
  say();
  std::string other;
  for (int i = 0; other.empty(); ++i) {
    const std::string name = "#o" + std::to_string(i);
    if (partition_at(name) != partition) other = name;
  }
  ASSERT_TRUE(work.add_group(other, {"@alice", "@bob"}));
  const auto only = say_at_c_alone(other);
  const auto mine = cluster.vectors(c)[partition_at(other)];
  const auto fatal = cluster.fatal_errors();
  lose_a_file_of(partition);
  world.run_for(65s);  // Two tries, with nobody there to ask.
  EXPECT_EQ(cluster.fatal_errors(), fatal);
  EXPECT_TRUE(c_holds(partition_at(other), mine));
  std::size_t compared = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const auto compare = m.method == Method::kCompare && m.from == c ? unpack<node::CompareRequest>(m.body)
                                                                    : Result<node::CompareRequest>(Error{});
    compared += compare && compare->all ? 1 : 0;
    return m.method == Method::kFetch && m.to == c && m.from != c ? Fate::kHold : Fate::kPass;
  };
  cluster.heal();
  world.run_for(100s);  // All are there, and cannot get it.
  ASSERT_GT(compared, 0u);
  EXPECT_EQ(cluster.fatal_errors(), fatal);
  EXPECT_TRUE(c_holds(partition_at(other), mine));
  tap.clear();
  EXPECT_TRUE(until([&] { return cluster.fatal_errors() == fatal + 1; }, 120s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 1u);
  start(*alice2, a);
  EXPECT_TRUE(until([&] { return shown(*alice2, only) == 1; }));
  world.run_for(10s);
  const auto report = verify(a);
  EXPECT_EQ(report.at("same"), options.partitions) << report;
  finish();
}

// What only c has lies in the file itself, and can be read: the others get it, and then the file goes.
TEST_P(Refill, F30_WhatCanBeReadOfAFileIsElsewhereBeforeItGoes) {
  say();
  const auto only = say_at_c_alone("#g");
  const auto fatal = cluster.fatal_errors();
  lose_a_file_of(partition);
  world.run_for(65s);  // Two tries, with nobody there to ask.
  EXPECT_EQ(cluster.fatal_errors(), fatal);
  cluster.heal();
  EXPECT_TRUE(until([&] { return cluster.fatal_errors() == fatal + 1; }, 120s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  start(*alice2, a);
  EXPECT_TRUE(until([&] { return shown(*alice2, only) == 1; }));
  world.run_for(10s);
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  finish();
}

// The same, and it cannot be read: the file stays until the operator writes that off.
TEST_P(Refill, F30_AFileWithWhatNobodyCanReadStaysForTheOperator) {
  say();
  (void)say_at_c_alone("#g", 3);
  const auto mine = cluster.vectors(c)[partition];
  const auto theirs = cluster.vectors(a)[partition];
  std::vector<Dot> only;
  for (const auto& [writer, n] : mine) {
    const auto held = theirs.find(writer);
    for (auto at = held == theirs.end() ? 1 : held->second + 1; at <= n; ++at) only.push_back({writer, at});
  }
  ASSERT_EQ(only.size(), 3u);
  only.erase(only.begin() + 1);  // One between the others can be read.
  rot(only);
  const auto fatal = cluster.fatal_errors();
  lose_a_file_of(partition);
  std::size_t compared = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const auto compare = m.method == Method::kCompare && m.from == c ? unpack<node::CompareRequest>(m.body)
                                                                    : Result<node::CompareRequest>(Error{});
    compared += compare && compare->all ? 1 : 0;
    return Fate::kPass;
  };
  cluster.heal();
  world.run_for(150s);
  ASSERT_GT(compared, 0u);
  EXPECT_EQ(cluster.fatal_errors(), fatal);
  EXPECT_TRUE(c_holds(partition, mine));
  EXPECT_EQ(outcome_of(verify(a)), "damaged");
  EXPECT_TRUE(acked(send(*alice))) << "the others go on";
  const auto given = give_up(c);
  EXPECT_EQ(given.at("damaged"), 0) << given;
  EXPECT_TRUE(until([&] { return cluster.fatal_errors() == fatal + 1; }, 120s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(lost_of(verify(a)), 2u);
}

}  // namespace
}  // namespace starling::sim
