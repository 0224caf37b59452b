#include "node/cli/load/series.h"

#include <algorithm>
#include <utility>

#include "node/cli/load/latency.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kRowsMax = 2'000;  // The last one takes what comes after.

double in_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

// Nothing before the start: that was the warm-up.
Series::Row* Series::row_at(Instant at) {
  if (at < start_) return nullptr;
  const auto index = std::min(static_cast<std::size_t>((at - start_) / every_), kRowsMax - 1);
  if (index >= rows_.size()) rows_.resize(index + 1);
  return &rows_[index];
}

void Series::answered(Instant due, Instant now, bool good) {
  Row* row = row_at(due);
  if (row == nullptr) return;
  if (!good) {
    ++row->refused;
  } else {
    row->ack.record(static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - due).count()) / 1000));
  }
}

void Series::nodes(Instant now, std::uint64_t rss, std::uint64_t written) {
  const std::uint64_t before = std::exchange(written_, written);
  Row* row = row_at(now);
  if (row == nullptr) return;
  row->rss = std::max(row->rss, rss);
  if (before > 0 && written > before) row->written += written - before;
}

double Series::recovered_after(const Burst& burst) const {
  Histogram before;
  for (std::size_t i = 0; i < rows_.size() && every_ * static_cast<std::int64_t>(i + 1) <= burst.from; ++i) {
    before.merge(rows_[i].ack);
  }
  const double limit = kRecoveredFactor * static_cast<double>(before.percentile(99));
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Duration end = every_ * static_cast<std::int64_t>(i + 1);
    if (end - every_ < burst.until || rows_[i].ack.count() == 0 || rows_[i].refused > 0) continue;
    if (static_cast<double>(rows_[i].ack.percentile(99)) <= limit) return in_seconds(end - burst.until);
  }
  return -1;
}

nlohmann::json Series::to_json() const {
  nlohmann::json out = nlohmann::json::array();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    out.push_back({{"from_s", in_seconds(every_) * static_cast<double>(i)},
                   {"acked", row.ack.count()},
                   {"refused", row.refused},
                   {"ack_p50_us", row.ack.percentile(50)},
                   {"ack_p99_us", row.ack.percentile(99)},
                   {"ack_max_us", row.ack.max()},
                   {"rss", row.rss},
                   {"disk_bytes", row.written}});
  }
  return out;
}

void Series::print(std::ostream& out, bool colour) const {
  Table table({">second", ">acked", ">refused", ">p50, ms", ">p99, ms", ">max, ms", ">nodes, MiB", ">to disk, MiB"});
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    char from[32];
    std::snprintf(from, sizeof from, "%.0f", in_seconds(every_) * static_cast<double>(i));
    table.row({from, thousands(row.ack.count()), thousands(row.refused), ms(row.ack.percentile(50)),
               ms(row.ack.percentile(99)), ms(row.ack.max()), row.rss > 0 ? thousands(row.rss >> 20) : "-",
               row.written > 0 ? thousands(row.written >> 20) : "-"});
  }
  table.print(out, colour);
}

}  // namespace starling::node::cli
