// For each invariant a cluster that breaks it on purpose (sabotage.h): a handful of seeds must find
// it, and find nothing while nothing is broken. So the explorer is known to see what it looks for.
#include <gtest/gtest.h>

#include <algorithm>

#include "crypto/init.h"
#include "tests/sim/judge/sabotage.h"
#include "tests/sim/run_options.h"

namespace starling::sim {
namespace {

constexpr std::uint64_t kSeeds = 16;  // At most, until it is found.

class Sabotage : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  static bool breaks(const RunReport& report, int invariant) {
    return std::any_of(report.violations.begin(), report.violations.end(),
                       [=](const Violation& v) { return v.invariant == invariant; });
  }
  // Some seed of 1..kSeeds finds it and tells its story; no seed up to there fails by itself.
  static void expect_found(int invariant, const RunOptions& options) {
    expect_found(invariant, invariant, options);
  }
  // What is broken may show as a broken promise of another number.
  static void expect_found(int invariant, int shows_as, RunOptions options) {
    options.length = 20s;
    for (options.seed = 1; options.seed <= kSeeds; ++options.seed) {
      options.sabotage = 0;
      const auto sound = run(options);
      EXPECT_TRUE(shows_as == invariant ? sound.passed() : !breaks(sound, shows_as))
          << sound.text();
      options.sabotage = invariant;
      const auto broken = run(options);
      if (!breaks(broken, shows_as)) continue;
      EXPECT_FALSE(broken.trace.empty()) << broken.text();
      EXPECT_NE(broken.command.find("--sabotage " + std::to_string(invariant)), std::string::npos);
      return;
    }
    ADD_FAILURE() << "not found in " << kSeeds << " seeds: " << sabotage_text(invariant);
  }
};

TEST_F(Sabotage, OfInvariant1AcknowledgedBeforeItIsOnDiskIsFound) {
  auto options = default_run();
  options.faults.hard = true;  // All nodes lose their power at once.
  expect_found(1, options);
}

TEST_F(Sabotage, OfInvariant2ADeviceThatForgetsWhatItHasIsFound) {
  expect_found(2, default_run());
}

TEST_F(Sabotage, OfInvariant3NumbersTakenInAnyOrderAreFound) {
  auto options = default_run();
  options.cluster.nodes = 5;  // More coordinators to change between.
  options.faults.both = true;
  expect_found(3, options);
}

TEST_F(Sabotage, OfInvariant4CopiesAtPositionsOfTheirOwnAreFound) {
  expect_found(4, default_run());
}

TEST_F(Sabotage, OfInvariant5AChangeThatIsSaidToBeGoneIsFound) { expect_found(5, default_run()); }

TEST_F(Sabotage, OfInvariant6ACopyDroppedBeforeOthersHaveItIsFound) {
  auto options = default_run();
  options.joins = 3;
  expect_found(6, options);
}

TEST_F(Sabotage, OfInvariant7AnAlteredBodyIsFound) { expect_found(7, default_run()); }

TEST_F(Sabotage, OfInvariant8AWriterThatOutlivesACrashIsFound) {
  auto options = default_run();
  options.faults.both = true;
  options.faults.partitions = options.faults.pauses = false;
  options.faults.gap_max = 2s;
  expect_found(8, options);
}

TEST_F(Sabotage, OfInvariant9ASlowDeviceThatIsSentEverythingIsFound) {
  auto options = default_run();
  options.workload.slow = true;
  expect_found(9, options);
}

TEST_F(Sabotage, OfStandInsWhatIsHeldForOthersForEverIsFound) {
  auto options = default_run();
  options.cluster.nodes = 5;
  options.faults.hard = options.faults.both = true;
  expect_found(15, 9, options);
}

TEST_F(Sabotage, OfRecallsThatAreOnlyAcknowledgedIsFound) {
  auto options = default_run();
  options.workload.recalls = true;
  expect_found(16, 7, options);
}

TEST_F(Sabotage, OfInvariant10AcceptorsThatForgetNamesAreFound) {
  expect_found(10, default_run());
}

TEST_F(Sabotage, OfInvariant11AcceptorsThatForgetTheRingAreFound) {
  auto options = default_run();
  options.cluster.nodes = 4;
  options.cluster.network.latency_max = 30ms;  // Two proposals cross.
  options.joins = 3;
  expect_found(11, options);
}

TEST_F(Sabotage, OfInvariant12ADoorOpenToAWrongPasswordIsFound) {
  expect_found(12, default_run());
}

// The promise of a policy of sites, by a judge of its own (judge/home_copies.h).
TEST_F(Sabotage, OfSitesCopiesThatAreCountedFromAwayAreFound) {
  auto options = default_run();
  options.sites = true;
  options.faults.crashes = options.faults.partitions = options.faults.pauses = false;
  expect_found(13, 1, options);
}

// A partition of another count is taken for the one with its number (decision 0025).
TEST_F(Sabotage, OfDoublingsNumbersWithoutTheirCountAreFound) {
  auto options = default_run();
  options.doubles.count = 3;
  options.faults.more = true;
  expect_found(14, 1, options);  // What is taken for gone of a stranger with its number is lost.
}

TEST_F(Sabotage, NamesWhatItBreaks) {
  for (int invariant = 1; invariant <= kSabotageMax; ++invariant) {
    EXPECT_FALSE(sabotage_text(invariant).empty()) << invariant;
  }
  EXPECT_TRUE(sabotage_text(kSabotageMax + 1).empty());
}

}  // namespace
}  // namespace starling::sim
