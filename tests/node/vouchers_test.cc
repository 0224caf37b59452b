// Whose answers show that nothing acknowledged is missing after a change of the ring (parts.h).
#include "node/replication/catch_up/vouchers.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

// We follow the owners of before by one of them leaving.
class Vouching : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    vouchers = std::make_unique<Vouchers>(*view, [this](const NodeId& node) { return safe.contains(node); });
    vouchers->add(view->ring_ptr());
  }
  [[nodiscard]] std::string lacking(const std::set<NodeId>& answered) const {
    return vouchers->lacking({kPartition}, answered, /*patient=*/true);
  }
  std::set<NodeId> safe;  // To power off.
  std::unique_ptr<Vouchers> vouchers;
};

TEST_F(Vouching, ARefusalNamesWhoIsSilentAndEveryWayOut) {
  const auto why = lacking({});
  EXPECT_NE(why.find(short_text(owners[1])), std::string::npos) << why;
  EXPECT_NE(why.find(short_text(owners[2])), std::string::npos) << why;
  EXPECT_EQ(why.find(short_text(owners[0])), std::string::npos) << why;
  EXPECT_NE(why.find("start them again"), std::string::npos) << why;
  EXPECT_NE(why.find("starling remove --force"), std::string::npos) << why;
  EXPECT_EQ(lacking({owners[1]}), "") << "two of three are W";
}

// The way out that it names is one.
TEST_F(Vouching, WhoIsForcedOutIsWaitedForNoMore) {
  ASSERT_NE(lacking({}), "");
  const std::vector<NodeId> dead{owners[1], owners[2]};
  const auto forced = overlay::must(
      overlay::forced_remove(view->ring().version(), dead, overlay::test_lineage(9)));
  in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(forced))); });
  EXPECT_EQ(lacking({}), "");
}

}  // namespace
}  // namespace starling::node
