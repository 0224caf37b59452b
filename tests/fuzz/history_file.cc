// Histories: lines that `starling check` reads.
#include "node/check/checker.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::node::check;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  Checker checker({.closed = size % 2 == 0, .partial = size % 3 == 0});
  View rest = in;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const View line = rest.substr(0, end);
    if (const auto event = fuzz::bounded(line, [](View text) { return decode(text); })) {
      const auto again = decode(encode(*event));
      fuzz::require(again && encode(*again) == encode(*event), "an event does not survive encoding");
    }
    if (!checker.feed_line(line)) return 0;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const Report report = checker.report();
  fuzz::require(report.delivered <= report.expected, "more delivered than expected");
  return 0;
}
