// Drives a fuzz target without libFuzzer: mutates a corpus, from a fixed seed.
//
//   fuzz_TARGET [--seconds N] [--seed N] FILE_OR_FOLDER...
//
// Files that end in .hex are hex, others raw. An input that crashes is left in crash-TARGET, and is run
// alone when given as the only file with --seconds 0. Knows no coverage: with clang, scripts/fuzz uses
// libFuzzer instead.
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "crypto/random.h"
#include "crypto/text.h"
#include "tests/fuzz/fuzz.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_set_death_callback(void (*callback)());
#endif

namespace {

using namespace starling;

constexpr std::size_t kSizeMax = 64 << 10;
constexpr time_t kHangSeconds = 20;  // Of the processor: others may need it, too.

Bytes current;
std::string crash_file = "crash";

void keep_current() {
  std::ofstream(crash_file, std::ios::binary) << current;
  std::fprintf(stderr, "the input is in %s\n", crash_file.c_str());
}

void on_signal(int number) {
  keep_current();
  std::fprintf(stderr, "%s\n", number == SIGPROF ? "it hangs" : "it ended itself");
  _exit(1);
}

void watch(time_t seconds) {
  const itimerval limit{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_PROF, &limit, nullptr);
}

void run(Bytes input) {
  current = std::move(input);
  watch(kHangSeconds);
  (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(current.data()), current.size());
  watch(0);
}

void load(const std::filesystem::path& path, std::vector<Bytes>& corpus) {
  if (std::filesystem::is_directory(path)) {
    std::vector<std::filesystem::path> inside{std::filesystem::directory_iterator(path), {}};
    std::sort(inside.begin(), inside.end());
    for (const auto& each : inside) load(each, corpus);
    return;
  }
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  if (path.extension() == ".hex") {
    std::erase_if(bytes, [](unsigned char c) { return c == '=' || std::isspace(c) != 0; });
    const auto raw = parse_hex(bytes);
    if (!raw) return;
    bytes = *raw;
  }
  if (bytes.size() <= kSizeMax) corpus.push_back(std::move(bytes));
}

Bytes mutate(const std::vector<Bytes>& corpus, Random& random) {
  Bytes out = corpus[random.below(corpus.size())];
  const auto place = [&](std::size_t extra) { return random.below(out.size() + extra); };
  static constexpr std::uint8_t kOdd[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xc4, 0xd9, 0xdd, 0xdf, 0x9f};
  for (std::uint64_t n = 1 + random.below(4); n > 0; --n) {
    switch (random.below(8)) {
      case 0: if (!out.empty()) out[place(0)] ^= static_cast<char>(1 << random.below(8)); break;
      case 1: if (!out.empty()) out[place(0)] = static_cast<char>(kOdd[random.below(sizeof kOdd)]); break;
      case 2: out.resize(place(1)); break;
      case 3: out.insert(place(1), 1 + random.below(8), static_cast<char>(random.below(256))); break;
      case 4: if (!out.empty()) out.erase(place(0), 1 + random.below(8)); break;
      case 5: {  // The end of another input behind the start of this one.
        const Bytes& other = corpus[random.below(corpus.size())];
        out.resize(place(1));
        out += other.substr(random.below(other.size() + 1));
        break;
      }
      case 6: {  // A piece of it again.
        const Bytes piece = out.substr(place(1), random.below(64));
        out.insert(place(1), piece);
        break;
      }
      default:   // A number that is too large.
        if (out.size() >= 4) out.replace(random.below(out.size() - 3), 4, Bytes(4, '\xff'));
    }
    if (out.size() > kSizeMax) out.resize(kSizeMax);
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 3;
  std::uint64_t seed = 1;
  std::vector<Bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--seconds" && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (word == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      load(word, corpus);
    }
  }
  crash_file += "-" + std::filesystem::path(argv[0]).filename().string();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(keep_current);
#endif
  for (const int number : {SIGABRT, SIGPROF}) signal(number, on_signal);
  corpus.emplace_back();
  for (const auto& input : corpus) run(input);
  SeededRandom random(seed);
  const auto began = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  std::uint64_t runs = 0;
  for (; elapsed() < seconds; ++runs) run(mutate(corpus, random));
  std::printf("%zu inputs, %lu mutations in %.1f s, seed %lu\n", corpus.size(),
              static_cast<unsigned long>(runs), elapsed(), static_cast<unsigned long>(seed));
  return 0;
}
