// The interleavings of hazards.md, each driven step by step with a Tap, and seen to have happened.
//
// A case cuts, holds and crashes at exact points: when a change leaves its writer, when an answer
// comes back. It asserts on what the tap saw, so a run that took another course fails instead of
// proving nothing. Every case runs over several seeds: they move who owns what, every latency and
// every disk.
// Thread: one.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "crypto/init.h"
#include "tests/sim/judge/checkers.h"
#include "tests/sim/people/workload.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

using overlay::Method;

// Nodes of which three own #g: a, b and c in preference order, a coordinates. alice and bob, with
// two devices each, are its members.
class Hazards : public ::testing::TestWithParam<std::uint64_t> {
 public:
  explicit Hazards(std::size_t nodes = 3, std::uint32_t partitions = 16, std::uint8_t synced = 0)
      : options{.nodes = nodes, .synced = synced, .partitions = partitions, .tap = &tap} {}
  // The tap is ours.
  explicit Hazards(ClusterOptions with) : options((with.tap = &tap, std::move(with))) {}

 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override;

  // A device begins at the node given; waits until it is ready.
  void start(SimDevice& device, std::size_t at);
  SendIndex send(SimDevice& device, const std::string& to = "#g") {
    return device.send(to, work.body(device));
  }
  [[nodiscard]] const SendRecord& record(SendIndex i) { return work.history().sends()[i]; }
  [[nodiscard]] bool is_acked(SendIndex i) { return record(i).outcome == Outcome::kAcked; }
  bool acked(SendIndex i, Duration limit = 60s) {
    return world.run_until([&] { return is_acked(i); }, limit);
  }
  [[nodiscard]] EntryId acked_id(SendIndex i) { return parse_entry_id(record(i).id).value(); }
  bool until(const std::function<bool()>& done, Duration limit = 10s) {
    return world.run_until(done, limit);
  }

  // A device that was closed meanwhile has no open send any more: what it had sent is acknowledged.
  bool caught_up(SimDevice& device) {
    return until([&] { return device.ready() && device.open_sends() == 0; }, 60s);
  }

  // What the tap saw. Nothing is kUnsent.
  static constexpr SendIndex kUnsent = ~SendIndex{0};
  [[nodiscard]] std::optional<Carried> find(const std::vector<Carried>& changes, SendIndex i);
  [[nodiscard]] std::optional<Carried> find(const TapMessage& message, SendIndex i) {
    return find(carried(message), i);
  }
  // The send that a kAppend carries.
  [[nodiscard]] bool appends(const TapMessage& message, SendIndex i);
  // How far node i has synced the writer of `dot`, in the partition of #g.
  std::uint64_t synced(std::size_t i, const Dot& dot) {
    return cluster.vectors(i)[partition][dot.writer];
  }

  // Positions of this send in the history that a node gives to a device there.
  std::vector<std::string> history_of(SimDevice& device, SendIndex i);
  // How often a device was handed this send, and that in a second position.
  [[nodiscard]] std::size_t shown(const SimDevice& device, SendIndex i, bool again = false);
  // Devices that got this send and were not told of its void.
  [[nodiscard]] std::size_t still_shown_on(SendIndex i);

  // Node i sees all owners of #g alive and caught up.
  bool sees_all_owners(std::size_t i);
  void isolate(std::size_t i);
  // The same, until the node knows that it is alone.
  void leave_alone(std::size_t i);
  void crash_soon(std::size_t i, Crash kind) {
    world.after(Duration(0), [this, i, kind] { cluster.crash(i, kind); });
  }
  // A question of a client, repeated while the cluster is busy finding out who is gone.
  bool manage(const std::function<void(std::function<void(Result<Done>)>)>& ask);
  // Ends the faults, waits until the owners are equal, and judges.
  void finish();

  World world{GetParam()};
  Tap tap;
  const ClusterOptions options;
  SimCluster cluster{world, options};
  Workload work{world, cluster, WorkloadOptions{}};
  SimDevice *alice = nullptr, *alice2 = nullptr, *bob = nullptr, *bob2 = nullptr;
  std::size_t a = 0, b = 0, c = 0;
  PartitionId partition;  // Of #g.
};

}  // namespace starling::sim
