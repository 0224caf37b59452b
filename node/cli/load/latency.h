// How latencies are told: the same fields in every --json, the same digits in every table. Values are microseconds.
// Thread: any; pure.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "node/cli/load/histogram.h"

namespace starling::node::cli {

// {count, mean, p50, p90, p99, p999, max}
nlohmann::json percentiles(const Histogram& us);
// "12.34" milliseconds.
std::string ms(std::uint64_t us);

}  // namespace starling::node::cli
