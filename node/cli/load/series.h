// Series: how a long run went, interval by interval: did latency and memory stay flat, and how did a burst pass?
//
// A message counts in the interval in which it was due, whenever it was answered, so a queue that builds up shows
// where it began. Memory is the largest seen of all nodes together, what they wrote to disks the sum.
// Thread: value type.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/cli/load/histogram.h"
#include "overlay/loop/clock.h"

namespace starling::node::cli {

// A burst is over when the 99th percentile of an interval is no more than so many times that before it.
inline constexpr double kRecoveredFactor = 2;

struct Burst {
  double factor = 0;  // Of the rate. 0: none.
  Duration from{};    // Since the start of measuring.
  Duration until{};
};

class Series {
 public:
  // REQUIRES: every > 0.
  Series(Instant start, Duration every) : start_(start), every_(every) {}

  void answered(Instant due, Instant now, bool good);
  // Of all nodes together: resident memory, and what they have written since their start.
  void nodes(Instant now, std::uint64_t rss, std::uint64_t written);

  struct Row {
    Histogram ack;  // Microseconds.
    std::uint64_t refused = 0;
    std::uint64_t rss = 0;
    std::uint64_t written = 0;
  };
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  // Seconds from the end of the burst to that of the first interval that is as before; negative: none was.
  [[nodiscard]] double recovered_after(const Burst& burst) const;

  [[nodiscard]] nlohmann::json to_json() const;
  void print(std::ostream& out, bool colour) const;

 private:
  Row* row_at(Instant at);

  Instant start_;
  Duration every_;
  std::vector<Row> rows_;
  std::uint64_t written_ = 0;  // At the last look.
};

}  // namespace starling::node::cli
