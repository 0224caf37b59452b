// Hazard F24: what a change implies elsewhere is driven until it is acknowledged, and adds nothing twice.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Registers : public Hazards {
 protected:
  // Numbers given out by all writers, as owner i has them.
  std::uint64_t changes(std::size_t i, PartitionId of) {
    std::uint64_t sum = 0;
    auto vectors = cluster.vectors(i);
    for (const auto& [writer, n] : vectors[of]) sum += n;
    return sum;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Registers, ::testing::Range<std::uint64_t>(1, 6));

// The answers to the register that a new member implies are lost, many times over.
TEST_P(Registers, F24_AnObligationDrivenAgainAddsNoChange) {
  ASSERT_TRUE(work.add_user("@carol"));
  const auto list = mailbox_of("@carol");
  const PartitionId of = partition_of(slot_of(list), options.partitions);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const std::uint64_t before = changes(a, of);
  std::size_t tries = 0;
  bool lose = true;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method != Method::kWriteRegister || !answer) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    if (!request || request->mailbox != list || request->key != "group/#g") return Fate::kPass;
    ++tries;
    return lose ? Fate::kHold : Fate::kPass;
  };
  const auto added = cluster.admin(b, "group.add", {{"group", "#g"}, {"members", {"@carol"}}});
  EXPECT_TRUE(until([&] { return tries >= 5; }, 120s)) << tries;
  lose = false;
  tap.release();
  const auto settled = [&] {
    const auto status = cluster.admin(a, "status", Json::object());
    return status && status->at("rates").at("obligations") == 0;
  };
  for (int turn = 0; turn < 100 && !settled(); ++turn) world.run_for(100ms);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  // The group itself may share the partition: its member register is one more.
  const std::uint64_t own = of == partition ? 1 : 0;
  EXPECT_EQ(changes(a, of), before + 1 + own);
  finish();
}

}  // namespace
}  // namespace starling::sim
