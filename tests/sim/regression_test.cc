// The runs of seeds.txt: each once lost a promise.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "crypto/init.h"
#include "tests/sim/run_options.h"

namespace starling::sim {
namespace {

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

TEST(Seeds, ThatFailedOnceKeepTheirPromises) {
  ASSERT_TRUE(crypto_init());
  const char* path = std::getenv("STARLING_SIM_SEEDS");
  std::ifstream file(path != nullptr ? path : "tests/sim/seeds.txt");
  ASSERT_TRUE(file) << "STARLING_SIM_SEEDS names no file";
  Totals totals;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    const auto options = parse_run(words_of(line));
    ASSERT_TRUE(options) << line << ": " << options.error().text;
    EXPECT_EQ(words_of(text_of(*options)).size(), words_of(line).size()) << line;
    const auto report = run(*options);
    EXPECT_TRUE(report.passed()) << report.text();
    EXPECT_GT(report.acked, 0u) << report.text();
    totals.add(report);
  }
  std::fputs(totals.text().c_str(), stdout);
  EXPECT_GE(totals.runs, 17u);
}

TEST(RunOptionsText, GivesTheSameRunBack) {
  RunOptions run = default_run();
  run.seed = 9;
  run.cluster.nodes = 5;
  run.cluster.network.loss = 0.15;
  run.length = 12500ms;
  run.faults.both = true;
  run.faults.crashes = false;
  run.workload.restart = 0;
  const auto text = text_of(run);
  EXPECT_EQ(text, "--seed 9 --nodes 5 --seconds 12.5 --loss 0.15 --restart 0 --both --no-crashes");
  const auto again = parse_run(words_of(text));
  ASSERT_TRUE(again);
  EXPECT_EQ(text_of(*again), text);
}

TEST(RunOptionsText, NamesWhatItDoesNotKnow) {
  EXPECT_FALSE(parse_run({"--sead", "7"}));
  EXPECT_FALSE(parse_run({"--seed"}));
  EXPECT_FALSE(parse_run({"--nodes", "three"}));
}

}  // namespace
}  // namespace starling::sim
