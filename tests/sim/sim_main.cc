// sim: runs seeds of the simulator from the command line.
//
//   sim --seed 7 --nodes 3 --seconds 60 --trace
//   sim --seeds 1..200
#include <cstdio>
#include <iostream>
#include <string>

#include <boost/program_options.hpp>

#include "crypto/init.h"
#include "tests/sim/run.h"

namespace options = boost::program_options;
using namespace starling;

int main(int argc, char** argv) {
  std::uint64_t seed = 1;
  std::size_t nodes = 3;
  double seconds = 30;
  double quiet = 30;
  std::string seeds;
  options::options_description all("sim");
  all.add_options()("help", "this text")(
      "seed", options::value(&seed), "the seed to run")(
      "seeds", options::value(&seeds), "a range of seeds, from..to")(
      "nodes", options::value(&nodes), "nodes of the cluster (3)")(
      "seconds", options::value(&seconds), "virtual seconds with faults (30)")(
      "quiet", options::value(&quiet), "virtual seconds of peace at the end (30)")(
      "no-faults", "a calm run")("both", "let two nodes be down at once")(
      "trace", "print everything that happens");
  options::variables_map given;
  try {
    options::store(options::parse_command_line(argc, argv, all), given);
    options::notify(given);
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n" << all;
    return 2;
  }
  if (given.contains("help")) {
    std::cout << all;
    return 0;
  }
  if (const auto ready = crypto_init(); !ready) {
    std::cerr << ready.error().text << "\n";
    return 1;
  }
  std::uint64_t from = seed;
  std::uint64_t to = seed;
  if (const auto dots = seeds.find(".."); dots != std::string::npos) {
    from = std::stoull(seeds.substr(0, dots));
    to = std::stoull(seeds.substr(dots + 2));
  }
  int failed = 0;
  for (std::uint64_t s = from; s <= to; ++s) {
    sim::RunOptions run;
    run.seed = s;
    run.cluster.nodes = nodes;
    run.cluster.network = sim::rough_network();
    run.length = Duration(static_cast<Duration::rep>(seconds * 1e9));
    run.quiet = Duration(static_cast<Duration::rep>(quiet * 1e9));
    run.echo = given.contains("trace");
    run.faults.both = given.contains("both");
    if (given.contains("no-faults")) {
      run.cluster.network = sim::NetworkOptions{};
      run.faults = {false, false, false, false, false, false, 1s, 6s, 500ms, 8s};
    }
    const auto report = sim::run(run);
    std::fputs(report.text().c_str(), stdout);
    std::fflush(stdout);
    failed += !report.passed();
  }
  return failed == 0 ? 0 : 1;
}
