// Each checker passes a good history and fails one that breaks its promise.
#include <gtest/gtest.h>

#include "tests/sim/judge/checkers.h"

namespace starling::sim {
namespace {

// Alice and Bob with two devices each, Carol with one, a group of Alice and Bob.
class Checkers : public ::testing::Test {
 protected:
  Checkers() {
    for (const char* name : {"phone", "laptop"}) a.push_back(history.add_device("@alice", name));
    for (const char* name : {"phone", "laptop"}) b.push_back(history.add_device("@bob", name));
    c = history.add_device("@carol", "phone");
    history.add_group("#ops", {"@alice", "@bob"});
  }

  // "id7" stands at 7.
  static std::string position(const std::string& name) {
    return name.empty() ? name : to_text(EntryId{std::stoull(name.substr(2)), WriterId{1}});
  }
  SendIndex send(DeviceIndex from, const std::string& to, const std::string& body) {
    return history.invoke(from, to, body, now += 1ms);
  }
  // Sent and acknowledged as number `seq` at position `id`.
  SendIndex acked(DeviceIndex from, const std::string& to, const std::string& body,
                  std::uint64_t seq, const std::string& id) {
    const auto index = send(from, to, body);
    history.acked(index, seq, position(id), 2, now += 1ms);
    return index;
  }
  Delivery delivery(SendIndex index, DeviceIndex device, std::uint64_t seq, const std::string& id) {
    const auto& s = history.sends()[index];
    const auto& sender = history.devices()[s.device];
    Delivery d;
    d.device = device;
    d.at = now += 1ms;
    d.mailbox = s.to.starts_with("#") ? s.to : history.devices()[device].user;
    // One dot for each mailbox and position.
    d.dot = {WriterId{7}, dots.try_emplace(d.mailbox + id, dots.size() + 1).first->second};
    d.id = position(id);
    d.key = {sender.id, lane_to(mailbox_of(s.to)), seq};
    d.from = sender.user;
    d.to = s.to;
    d.hash = s.hash;
    d.size = s.size;
    return d;
  }
  void deliver(SendIndex index, DeviceIndex device, std::uint64_t seq, const std::string& id) {
    history.delivered(delivery(index, device, seq, id));
  }
  // To every device of both users.
  void deliver_all(SendIndex index, std::uint64_t seq, const std::string& id) {
    for (const auto device : {a[0], a[1], b[0], b[1]}) deliver(index, device, seq, id);
  }
  static void expect_only(const Violations& found, int invariant) {
    ASSERT_FALSE(found.empty());
    for (const auto& v : found) EXPECT_EQ(v.invariant, invariant) << v.text;
  }

  History history;
  std::vector<DeviceIndex> a, b;
  DeviceIndex c = 0;
  Instant now = Instant{} + 1s;
  std::map<std::string, std::uint64_t> dots;
};

TEST_F(Checkers, AGoodHistoryPassesAll) {
  deliver_all(acked(a[0], "@bob", "one", 1, "id1"), 1, "id1");
  deliver_all(acked(a[0], "@bob", "two", 2, "id2"), 2, "id2");
  deliver_all(acked(b[0], "@alice", "three", 1, "id3"), 1, "id3");
  deliver_all(acked(a[1], "#ops", "four", 1, "id4"), 1, "id4");
  send(a[0], "@carol", "never answered");
  const auto found = check_all(history, nullptr);
  EXPECT_TRUE(found.empty()) << text(found);
}

// The rest of what clients see is tested in tests/node/checker_test.cc.
TEST_F(Checkers, AnAckedMessageThatADeviceLacksIsFoundAndNamedByItsBody) {
  const auto m = acked(a[0], "@bob", "one", 1, "id1");
  deliver(m, a[1], 1, "id1");
  deliver(m, b[0], 1, "id1");
  const auto found = check_delivered(history);
  ASSERT_EQ(found.size(), 1u) << text(found);
  EXPECT_NE(found[0].text.find("@bob/laptop"), std::string::npos);
  EXPECT_EQ(found[0].needle, hash_text(history.sends()[m].hash));
}

TEST_F(Checkers, WhatTheClientDidNotTakeUsesNoNumber) {
  history.not_taken(send(a[0], "@bob", "refused at once"), Errc::kTooLarge, now);
  deliver_all(acked(a[0], "@bob", "one", 1, "id1"), 1, "id1");
  EXPECT_TRUE(check_clients(history).empty()) << text(check_clients(history));
}

TEST_F(Checkers, ABodyNobodySentIsFound) {
  deliver_all(acked(a[0], "@bob", "one", 1, "id1"), 1, "id1");
  auto d = delivery(0, b[0], 2, "id2");
  history.delivered(d);
  expect_only(check_clients(history), 7);
}

// Two nodes that own everything.
class StoreCheckers : public Checkers {
 protected:
  StoreCheckers() {
    stores.partition_count = 1;
    stores.nodes = {{"n1", {}}, {"n2", {}}};
    stores.owners[PartitionId{0}] = {0, 1};
  }
  void store(std::size_t node, const std::string& mailbox, SendIndex index) {
    const auto& s = history.sends()[index];
    auto& partition = stores.nodes[node].partitions[PartitionId{0}];
    partition.entries.push_back(
        {mailbox_of(mailbox), history.key_of(s), EntryId{}, false, s.hash});
    partition.vector.raise(WriterId{1}, partition.entries.size());
    partition.canonical += std::to_string(s.hash);
  }
  ClusterExport stores;
};

TEST_F(StoreCheckers, EveryOwnerMustHoldAnAckedMessageInBothMailboxes) {
  const auto m = acked(a[0], "@bob", "one", 1, "id1");
  for (std::size_t n : {0, 1}) store(n, "@bob", m);
  store(0, "@alice", m);
  const auto found = check_stored(history, stores);
  ASSERT_EQ(found.size(), 1u) << text(found);
  EXPECT_NE(found[0].text.find("n2 in @alice"), std::string::npos);
  store(1, "@alice", m);
  EXPECT_TRUE(check_stored(history, stores).empty());
}

// A device that was shown a copy which then was destroyed everywhere keeps its place; the others never heard of it.
TEST_F(Checkers, APositionOfWhichNothingIsLeftCountsNoMore) {
  const auto m = acked(a[0], "#ops", "one", 1, "id5");
  const auto other = acked(b[0], "#ops", "other", 1, "id3");
  deliver_all(other, 1, "id3");
  auto early = delivery(m, b[0], 1, "id1");
  history.delivered(early);
  for (const auto device : {a[0], a[1], b[1]}) deliver(m, device, 1, "id5");
  expect_only(check_clients(history), 4);
  history.written_off({PartitionId{0}, 1}, early.dot);
  EXPECT_TRUE(check_clients(history).empty()) << text(check_clients(history));
}

// Likewise what a weak grade acknowledged, and was lost with the node that had shown it to some.
TEST_F(Checkers, WhatAWeakGradeLostStandsNowhere) {
  const auto one = send(a[0], "#ops", "one");
  const auto two = history.invoke(a[0], "#ops", "two", now += 1ms, node::protocol::Grade::kLocal);
  history.acked(two, 2, position("id2"), 1, now += 1ms);
  const auto shown = delivery(two, b[0], 2, "id2");
  history.delivered(shown);
  history.acked(one, 1, position("id5"), 2, now += 1ms);
  deliver_all(one, 1, "id5");
  history.weak_grades_last(false, false);
  expect_only(check_clients(history), 3);
  history.written_off({PartitionId{0}, 1}, shown.dot);
  EXPECT_TRUE(check_clients(history).empty()) << text(check_clients(history));
}

// As many copies as its ack counted are gone: then, and only then, it may be lost.
TEST_F(StoreCheckers, AMessageMayBeLostWithAllCopiesThatItsAckCounted) {
  const auto m = acked(a[0], "#ops", "one", 1, "id1");
  ASSERT_EQ(history.sends()[m].copies, 2);
  const auto hash = history.sends()[m].hash;
  history.destroyed(hash, mailbox_of("#ops"), 0);
  history.destroyed(hash, mailbox_of("#ops"), 0);
  expect_only(check_stored(history, stores), 1);
  expect_only(check_clients(history), 1);
  history.destroyed(hash, mailbox_of("@bob"), 1);
  expect_only(check_stored(history, stores), 1);
  history.destroyed(hash, mailbox_of("#ops"), 1);
  EXPECT_TRUE(check_stored(history, stores).empty()) << text(check_stored(history, stores));
  EXPECT_TRUE(check_clients(history).empty()) << text(check_clients(history));
}

TEST_F(StoreCheckers, WhatIsWrittenOffWasDestroyedAndIsNowhere) {
  const Dot dot{WriterId{9}, 4};
  const Part here{partition_of(slot_of(mailbox_of("#ops")), 2), 2};
  const Part sibling{PartitionId{static_cast<std::uint16_t>(1 - here.partition.value)}, 2};
  stores.nodes[0].partition_count = 2;
  stores.nodes[0].partitions[here.partition].lost = {dot};
  expect_only(check_lost(stores, {}), 1);
  expect_only(check_lost(stores, {{0, sibling, dot, {}, 0}, {0, here, {WriterId{9}, 5}, {}, 0}}), 1);
  EXPECT_TRUE(check_lost(stores, {{0, here, dot, {}, 0}}).empty());
  const std::vector<Destroyed> hit{{1, {PartitionId{0}, 1}, dot, {}, 0}};  // Before the partitions were doubled.
  EXPECT_TRUE(check_lost(stores, hit).empty());
  store(1, "#ops", acked(a[0], "#ops", "one", 1, "id1"));
  stores.nodes[1].partitions[PartitionId{0}].entries.back().dot = dot;
  expect_only(check_lost(stores, hit), 1);
}

TEST_F(StoreCheckers, AnOwnerWithOtherPartitionsThanTheRingIsFound) {
  EXPECT_TRUE(check_counts(stores).empty());
  stores.nodes[1].partition_count = 2;
  expect_only(check_counts(stores), 5);
  stores.nodes[1].partition_count = 1;
  stores.nodes[1].settled = false;
  expect_only(check_counts(stores), 5);
}

TEST_F(StoreCheckers, PositionsOfALaneOutOfOrderAreFound) {
  for (const std::uint64_t seq : {1, 2}) {
    store(0, "#ops", acked(a[0], "#ops", std::to_string(seq), seq, ""));
  }
  auto& entries = stores.nodes[0].partitions[PartitionId{0}].entries;
  entries[0].id = {5, WriterId{1}};
  entries[1].id = {6, WriterId{1}};
  EXPECT_TRUE(check_stored_order(stores).empty());
  entries[1].id = {4, WriterId{1}};
  expect_only(check_stored_order(stores), 3);
  entries.push_back(entries[0]);  // A second copy of number 1 with a smaller id is its position.
  entries.back().id = {3, WriterId{2}};
  EXPECT_TRUE(check_stored_order(stores).empty());
}

TEST_F(StoreCheckers, OwnersWithDifferentVectorsAreFound) {
  const auto m = acked(a[0], "#ops", "one", 1, "id1");
  store(0, "#ops", m);
  expect_only(check_converged(stores), 5);
  store(1, "#ops", m);
  EXPECT_TRUE(check_converged(stores).empty());
}

TEST_F(StoreCheckers, EqualVectorsWithDifferentBytesAreFound) {
  const auto m = acked(a[0], "#ops", "one", 1, "id1");
  for (std::size_t n : {0, 1}) store(n, "#ops", m);
  stores.nodes[1].partitions[PartitionId{0}].canonical += "x";
  expect_only(check_converged(stores), 5);
}

}  // namespace
}  // namespace starling::sim
