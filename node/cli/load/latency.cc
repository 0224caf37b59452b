#include "node/cli/load/latency.h"

#include <cstdio>

namespace starling::node::cli {

nlohmann::json percentiles(const Histogram& us) {
  return {{"count", us.count()},      {"mean", us.mean()},        {"p50", us.percentile(50)},
          {"p90", us.percentile(90)}, {"p99", us.percentile(99)}, {"p999", us.percentile(99.9)},
          {"max", us.max()}};
}

std::string ms(std::uint64_t us) {
  char out[32];
  std::snprintf(out, sizeof out, "%.2f", static_cast<double>(us) / 1000);
  return out;
}

}  // namespace starling::node::cli
