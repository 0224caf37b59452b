// swim_study [MEMBERS ...]: the tables of docs/benchmarks.md about membership, from seed 1.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/overlay/swim_study.h"

namespace starling::overlay {
namespace {

double seconds(Duration d) { return static_cast<double>(to_ms(d)) / 1000; }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void detection(int members) {
  std::vector<double> suspected, first, all;
  for (std::uint64_t seed = 1; seed <= (members <= 100 ? 10u : 1u); ++seed) {
    const int crashes = members <= 3 ? 1 : 5;
    for (const auto& found : study_detection(members, crashes, seed)) {
      suspected.push_back(seconds(found.suspected));
      first.push_back(seconds(found.first));
      all.push_back(seconds(found.all));
    }
  }
  std::printf("%5d members: %zu crashes, seconds, median/worst: suspected %.2f/%.2f  "
              "first dead %.2f/%.2f  dead to all %.2f/%.2f\n",
              members, first.size(), median(suspected), *std::max_element(suspected.begin(), suspected.end()),
              median(first), *std::max_element(first.begin(), first.end()), median(all),
              *std::max_element(all.begin(), all.end()));
}

void print(const char* what, int members, const Errors& errors) {
  std::printf("%5d members, %s: %llu suspicions, healthy declared dead %llu, troubled %llu, healed %s\n",
              members, what, static_cast<unsigned long long>(errors.suspicions),
              static_cast<unsigned long long>(errors.healthy_dead),
              static_cast<unsigned long long>(errors.troubled_dead), errors.healed ? "yes" : "no");
  std::fflush(stdout);
}

void study(int members) {
  detection(members);
  const Cost cost = study_cost(members, 120s, 1);
  std::printf("%5d members: per node and second %.1f packets, %.0f bytes of them, %.0f of push-pulls\n",
              members, cost.packets, cost.packet_bytes, cost.push_pull_bytes);
  std::fflush(stdout);
  const int troubled = std::max(1, std::min(members / 10, 16));
  print("5 % loss, 60 s", members, study_loss(members, 0.05, 60s, 1));
  print("some paused 10 s of 15, 60 s", members, study_pauses(members, troubled, 10s, 5s, 60s, 1));
  if (members > 200) return;  // The rest takes hours there.
  print("20 % loss, 60 s", members, study_loss(members, 0.2, 60s, 1));
  print("some paused 1 s of 1.25, 60 s", members, study_pauses(members, troubled, 1s, 250ms, 60s, 1));
}

}  // namespace
}  // namespace starling::overlay

int main(int argc, char** argv) {
  std::vector<int> sizes{3, 100, 1000};
  if (argc > 1) sizes.clear();
  for (int i = 1; i < argc; ++i) sizes.push_back(std::max(3, std::atoi(argv[i])));
  for (const int members : sizes) starling::overlay::study(members);
}
