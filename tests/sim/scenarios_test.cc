// Whole clusters under random faults, one seed after the other.
//
// STARLING_SEEDS=from..to chooses the seeds (default 1..6, of each mix kMixSeeds); a failing one says how to run it
// again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "crypto/init.h"
#include "tests/sim/run_options.h"

namespace starling::sim {
namespace {

struct Seeds {
  std::uint64_t from = 1;
  std::uint64_t to = 6;
};

Seeds seeds() {
  Seeds out;
  const char* text = std::getenv("STARLING_SEEDS");
  if (text == nullptr) return out;
  const std::string range = text;
  const auto dots = range.find("..");
  out.from = std::stoull(range);
  out.to = dots == std::string::npos ? out.from : std::stoull(range.substr(dots + 2));
  return out;
}

RunOptions base(std::uint64_t seed) {
  RunOptions options = default_run();
  options.seed = seed;
  options.length = 20s;
  return options;
}

class Scenarios : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  static void TearDownTestSuite() { std::fputs(totals.text().c_str(), stdout); }
  // Runs `options` for each seed; for so many of the usual ones at most.
  static void for_seeds(RunOptions (*make)(std::uint64_t seed), std::uint64_t usually = ~std::uint64_t{0}) {
    double virtual_seconds = 0;
    double cpu_seconds = 0;
    auto range = seeds();
    if (std::getenv("STARLING_SEEDS") == nullptr) range.to = std::min(range.to, range.from + usually - 1);
    for (auto seed = range.from; seed <= range.to; ++seed) {
      const auto report = run(make(seed));
      EXPECT_TRUE(report.passed()) << report.text();
      EXPECT_GT(report.acked, 0u) << report.text();
      totals.add(report);
      virtual_seconds += report.virtual_seconds;
      cpu_seconds += report.cpu_seconds;
    }
    std::printf("%.0f virtual cluster-seconds in %.1f s: %.0f per second\n", virtual_seconds,
                cpu_seconds, virtual_seconds / cpu_seconds);
  }

  static inline Totals totals;  // Of all scenarios.
};

TEST_F(Scenarios, CalmClusterKeepsItsPromises) {
  auto options = base(1);
  options.cluster.network = NetworkOptions{};
  options.faults.crashes = options.faults.partitions = options.faults.pauses = false;
  options.faults.slow_disks = options.faults.clocks = false;
  options.workload.reconnect = 0;
  options.workload.restart = 0;
  const auto report = run(options);
  EXPECT_TRUE(report.passed()) << report.text();
  EXPECT_EQ(report.acked, report.sends) << report.text();
}

TEST_F(Scenarios, SameSeedGivesTheSameRun) {
  auto options = base(3);
  options.length = 8s;
  const auto first = run(options);
  const auto second = run(options);
  EXPECT_EQ(first.digest, second.digest) << first.text() << second.text();
  EXPECT_EQ(first.events, second.events);
  options.seed = 4;
  EXPECT_NE(run(options).digest, first.digest);
}

TEST_F(Scenarios, LossyDatagramsChangeNothing) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.cluster.network.loss = 0.15;
    options.faults.crashes = options.faults.partitions = options.faults.pauses = false;
    return options;
  });
}

TEST_F(Scenarios, CrashesAndPowerLossLoseNothingAcknowledged) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.faults.partitions = false;
    return options;
  });
}

TEST_F(Scenarios, PartitionsHealIntoOneOrder) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.faults.crashes = false;
    return options;
  });
}

TEST_F(Scenarios, EverythingAtOnceOnFiveNodes) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.cluster.nodes = 5;
    options.faults.both = true;
    return options;
  });
}

TEST_F(Scenarios, PowerLossOfAllAndFullDisksLoseNothing) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.cluster.nodes = 5;
    options.faults.both = options.faults.hard = true;
    return options;
  });
}

TEST_F(Scenarios, FlippedBitsAreMendedFromTheOtherCopies) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.faults.rot = true;
    return options;
  });
}

TEST_F(Scenarios, NodesJoinWhileThingsBreak) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.joins = 2;
    options.faults.hard = true;
    return options;
  });
}

TEST_F(Scenarios, NodesComeAndGoWhileThingsBreak) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.cluster.nodes = 4;
    options.length = 60s;
    options.moves.count = 8;
    options.moves.agreed_min = 4;
    return options;
  });
}

TEST_F(Scenarios, PartitionsAreDoubledWhileThingsBreak) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.doubles.count = 2;
    options.faults.more = true;
    return options;
  });
}

// Of everything that an operator may ask for: a hundred that were agreed, in one run.
TEST_F(Scenarios, AHundredMovementsLoseNothing) {
  for_seeds(
      [](std::uint64_t seed) {
        auto options = base(seed);
        options.cluster.nodes = 5;
        options.length = 1000s;
        options.moves.count = 130;
        options.moves.agreed_min = 100;
        options.faults.gap_min = 4s;
        options.faults.gap_max = 16s;
        options.workload.pause_min = 1s;
        options.workload.pause_max = 4s;
        options.workload.devices_max = 1;
        return options;
      },
      3);
}

TEST_F(Scenarios, NodesAreRevokedWhileThingsBreak) {
  const auto before = totals.faults;
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.cluster.nodes = 5;
    options.length = 60s;
    options.moves.count = 10;
    options.moves.revokes = true;
    return options;
  });
  for (const std::string kind : {"revocation agreed", "revocation of a live one agreed"}) {
    const auto was = before.find(kind);
    EXPECT_GT(totals.faults[kind], was == before.end() ? 0 : was->second) << "no " << kind;
  }
}

// Every mix that scripts/seeds takes through the night, over many seeds, each for seconds.
TEST_F(Scenarios, EveryMixInShort) {
  constexpr Seeds kMixSeeds{1, 13};
  constexpr Duration kShort = 12s;
  constexpr std::size_t kMovesMost = 6;  // That fit.
  const char* path = std::getenv("STARLING_SIM_MIXES");
  std::ifstream file(path != nullptr ? path : "tests/sim/mixes.txt");
  ASSERT_TRUE(file) << "STARLING_SIM_MIXES names no file";
  std::size_t mixes = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::istringstream in(line);
    std::string name;
    in >> name;
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    const auto mix = parse_run(words);
    ASSERT_TRUE(mix) << line << ": " << mix.error().text;
    ++mixes;
    const auto range = std::getenv("STARLING_SEEDS") == nullptr ? kMixSeeds : seeds();
    for (auto seed = range.from; seed <= range.to; ++seed) {
      RunOptions options = *mix;
      options.seed = 100 * mixes + seed;  // Other runs for each mix.
      options.length = std::min(options.length, kShort);
      options.moves.count = std::min(options.moves.count, kMovesMost);
      options.moves.agreed_min = 0;
      const auto report = run(options);
      EXPECT_TRUE(report.passed()) << name << "\n" << report.text();
      EXPECT_GT(report.acked, 0u) << report.text();
      totals.add(report);
    }
  }
  EXPECT_GE(mixes, 20u);
}

TEST_F(Scenarios, RareFaultsToo) {
  for_seeds([](std::uint64_t seed) {
    auto options = base(seed);
    options.faults.more = true;
    return options;
  });
}

}  // namespace
}  // namespace starling::sim
