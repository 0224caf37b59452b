// What a run measured, of the server and of ourselves.
#include <algorithm>

#include "node/cli/load/latency.h"
#include "tests/bench/mqtt_bench.h"

namespace starling::bench {
namespace {

using nlohmann::json;
using node::cli::Pacer;
using node::cli::UseMeter;
using node::cli::percentiles;

}  // namespace

void MqttBench::begin_measuring() {
  measuring_ = true;
  from_ = Pacer::clock();
  pacer_->forget();
  std::vector<UseMeter::Node> nodes;
  for (const int pid : options_.pids) nodes.push_back({"", pid});
  meter_->begin(std::move(nodes));
}

void MqttBench::end_measuring() {
  if (!std::exchange(measuring_, false)) return;
  meter_->end();
}

json MqttBench::report() const {
  const double s = std::max(meter_->seconds(), 1e-9);
  std::uint64_t lost = 0, unacked = 0;
  for (const auto& device : devices_) {
    unacked += device->unacked.size();
    for (const auto& post : device->posts) lost += post.acked ? post.left : 0;
  }
  if (by_ack_ && acked_all_ > delivered_all_) lost = acked_all_ - delivered_all_;
  auto errors = errors_;
  if (unacked > 0) errors["not acknowledged"] = unacked;
  json out{
      {"scenario", options_.scenario},
      {"users", options_.users},
      {"rate", options_.rate},
      {"in_flight", options_.in_flight},
      {"payload", options_.payload},
      {"sends_per_s", static_cast<double>(acked_) / s},
      {"deliveries_per_s", static_cast<double>(delivered_) / s},
      {"logins_per_s", static_cast<double>(login_.count()) / s},
      {"ack_us", percentiles(ack_)},
      {"end_to_end_us", percentiles(end_to_end_)},
      {"login_us", percentiles(login_)},
      {"lag_us", percentiles(pacer_->lateness())},
      {"acked", acked_all_},
      {"delivered", delivered_all_},
      {"lost", lost},
      {"altered", altered_},
      {"duplicates_dropped", doubles_},
      {"errors", errors}};
  out.update(meter_->report());
  out.update(extra_);
  if (!failed_.empty()) out["failed"] = failed_;
  return out;
}

}  // namespace starling::bench
