// sim: runs seeds of the simulator from the command line.
//
//   sim --seed 7 --nodes 5 --both --trace
//   sim --seeds 1..200
//   sim --seed 7 --record seed7.history && starling check --closed seed7.history
#include <cstdio>
#include <string>
#include <vector>

#include "crypto/init.h"
#include "tests/sim/run_options.h"

using namespace starling;

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string seeds, record;
  bool echo = false;
  for (auto it = words.begin(); it != words.end();) {
    if (*it == "--help") {
      std::printf("sim: runs seeds of the simulator\n%s  --seeds A..B         from A to B\n"
                  "  --trace              print everything that happens\n"
                  "  --record FILE        what clients did and saw, for starling check; of several\n"
                  "                       seeds, each to FILE.SEED\n",
                  sim::run_usage().c_str());
      return 0;
    }
    if (*it == "--trace") {
      echo = true;
      it = words.erase(it);
    } else if ((*it == "--seeds" || *it == "--record") && it + 1 != words.end()) {
      (*it == "--seeds" ? seeds : record) = *(it + 1);
      it = words.erase(it, it + 2);
    } else {
      ++it;
    }
  }
  const auto options = sim::parse_run(words);
  if (const auto ready = crypto_init(); !ready || !options) {
    const auto& error = options ? ready.error() : options.error();
    std::fprintf(stderr, "%s; see sim --help\n", error.text.c_str());
    return 2;
  }
  std::uint64_t from = options->seed;
  std::uint64_t to = options->seed;
  if (std::sscanf(seeds.c_str(), "%lu..%lu", &from, &to) == 1) to = from;
  int failed = 0;
  sim::Totals totals;
  for (std::uint64_t seed = from; seed <= to; ++seed) {
    sim::RunOptions run = *options;
    run.seed = seed;
    run.echo = echo;
    if (!record.empty()) run.record = from == to ? record : record + "." + std::to_string(seed);
    const auto report = sim::run(run);
    std::fputs(report.text().c_str(), stdout);
    std::fflush(stdout);
    failed += !report.passed();
    totals.add(report);
  }
  if (totals.runs > 1) std::fputs(totals.text().c_str(), stdout);
  return failed == 0 ? 0 : 1;
}
