// The conversation that `replay --generate` makes up (declared in script.h).
#include <algorithm>
#include <cmath>
#include <numbers>

#include "node/cli/load/script.h"
#include "node/cli/load/zipf.h"

namespace starling::node::cli {
namespace {

constexpr double kSizeMedian = 47;
constexpr double kSizeSigma = 0.808;  // exp(2.326 * 0.808) * 47 = 308 at 99 %.
constexpr std::size_t kSizeMax = 4096;
constexpr double kZipfExponent = 1.1;
constexpr double kBurstShare = 0.6;   // Lines that answer the one before, in its room.
constexpr double kDirectShare = 0.3;  // Lines that name somebody.

constexpr const char* kWords[] = {
    "the",  "node",  "is",     "up",    "again", "and",   "we",     "saw",     "no",    "loss",
    "try",  "it",    "with",   "a",     "fresh", "disk",  "maybe",  "tonight", "ok",    "thanks",
    "ring", "moved", "after",  "you",   "did",   "that",  "please", "look",    "at",    "log",
    "why",  "would", "anyone", "merge", "this",  "works", "for",    "me",      "lunch", "soon"};
constexpr const char* kOtherWords[] = {"你好",   "消息", "已经",  "送达", "こんにちは", "テスト",
                                       "привет", "да",   "naïve", "süß",  "안녕",       "🎉",
                                       "👍🏽",     "🚀",   "👩‍👩‍👧",   "مرحبا"};

double normal(Random& random) {
  const double u = 1.0 - random.unit();
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * random.unit());
}

template <std::size_t N>
const char* pick(const char* const (&words)[N], Random& random) {
  return words[random.below(N)];
}

std::string make_text(Random& random) {
  const double drawn = kSizeMedian * std::exp(kSizeSigma * normal(random));
  const auto size = static_cast<std::size_t>(std::clamp(drawn, 1.0, double{kSizeMax}));
  const bool foreign = random.unit() < 0.08;
  std::string text;
  while (text.size() < size) {
    if (!text.empty()) text += ' ';
    const bool other = random.unit() < (foreign ? 0.7 : 0.01);
    text += other ? pick(kOtherWords, random) : pick(kWords, random);
  }
  return text;
}

}  // namespace

Script generate_script(const GeneratorOptions& options) {
  SeededRandom random(options.seed);
  Script script;
  for (std::size_t i = 0; i < options.rooms; ++i) script.rooms.push_back("#room-" + std::to_string(i));
  for (std::size_t i = 0; i < options.speakers; ++i) {
    script.speakers.push_back("@user-" + std::to_string(i));
  }
  const Zipf rooms(options.rooms, kZipfExponent);
  const Zipf speakers(options.speakers, kZipfExponent);
  std::vector<std::vector<std::uint32_t>> spoke(options.rooms);
  const double gap = options.seconds / static_cast<double>(std::max<std::size_t>(1, options.lines));
  double t = 0;
  Line last;
  for (std::size_t i = 0; i < options.lines; ++i) {
    Line line;
    const bool burst = i > 0 && random.unit() < kBurstShare;
    // Waits are exponential; inside a burst they are short.
    t += -std::log(1.0 - random.unit()) * gap * (burst ? 0.2 : 2.2);
    line.t = t;
    line.room = burst ? last.room : static_cast<std::uint32_t>(rooms.draw(random));
    // Every room has its own regulars.
    line.from = static_cast<std::uint32_t>((speakers.draw(random) + line.room * 17) %
                                           options.speakers);
    line.text = make_text(random);
    auto& regulars = spoke[line.room];
    if (!regulars.empty() && random.unit() < kDirectShare) {
      const auto other = regulars[random.below(regulars.size())];
      if (other != line.from) {
        line.direct = other;
        line.text = script.speakers[other].substr(1) + ": " + line.text;
      }
    }
    if (std::find(regulars.begin(), regulars.end(), line.from) == regulars.end()) {
      regulars.push_back(line.from);
    }
    last = line;
    script.lines.push_back(std::move(line));
  }
  return script;
}

}  // namespace starling::node::cli
