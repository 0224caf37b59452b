// The program: micro --smoke | --time [NAME] | --count | --names
#include "tests/bench/micro.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "crypto/init.h"

// callgrind counts inside of this and writes what it counted when it returns
// (scripts/bench instructions).
extern "C" [[gnu::noinline]] void starling_measured(
    const starling::bench::Micro::Operation& operation, std::size_t times) {
  operation(times);
}

namespace starling::bench {

void failed(const char* what) {
  std::fprintf(stderr, "micro: %s\n", what);
  std::exit(1);
}

namespace {

constexpr auto kTimed = std::chrono::milliseconds(300);

std::vector<Micro> all() {
  std::vector<Micro> out;
  for (auto list : {codec_micros(), state_micros(), store_micros(), link_micros()}) {
    out.insert(out.end(), list.begin(), list.end());
  }
  return out;
}

void time(const Micro& micro) {
  using Clock = std::chrono::steady_clock;
  const auto operation = micro.prepare();
  operation(micro.counted);
  std::size_t times = 0;
  const auto start = Clock::now();
  while (Clock::now() - start < kTimed) {
    operation(micro.counted);
    times += micro.counted;
  }
  const auto ns = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  std::printf("%-24s %12.0f ns\n", micro.name, ns / static_cast<double>(times));
}

int run(const char* what, const char* name) {
  for (const auto& micro : all()) {
    if (name != nullptr && std::strcmp(name, micro.name) != 0) continue;
    if (std::strcmp(what, "--names") == 0) {
      std::printf("%s %zu\n", micro.name, micro.counted);
    } else if (std::strcmp(what, "--time") == 0) {
      time(micro);
    } else if (std::strcmp(what, "--count") == 0) {
      const auto operation = micro.prepare();
      operation(micro.counted);  // What is made once is no part of it.
      starling_measured(operation, micro.counted);
    } else if (std::strcmp(what, "--smoke") == 0) {
      micro.prepare()(micro.counted);
    } else {
      failed("--smoke | --time [NAME] | --count | --names");
    }
  }
  return 0;
}

}  // namespace
}  // namespace starling::bench

int main(int argc, char** argv) {
  if (!starling::crypto_init()) starling::bench::failed("no randomness");
  return starling::bench::run(argc > 1 ? argv[1] : "--time", argc > 2 ? argv[2] : nullptr);
}
