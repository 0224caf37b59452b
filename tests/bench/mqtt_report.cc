// What a run measured, of the server and of ourselves.
#include <algorithm>
#include <thread>

#include "tests/bench/mqtt_bench.h"

namespace starling::bench {
namespace {

using nlohmann::json;
using node::cli::Histogram;
using node::cli::Pacer;

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

json percentiles(const Histogram& h) {
  return {{"count", h.count()},      {"mean", h.mean()},        {"p50", h.percentile(50)},
          {"p90", h.percentile(90)}, {"p99", h.percentile(99)}, {"p999", h.percentile(99.9)},
          {"max", h.max()}};
}

}  // namespace

void MqttBench::begin_measuring() {
  measuring_ = true;
  from_ = Pacer::clock();
  pacer_->forget();
  own_before_ = own_after_ = node::cli::own_use();
  idle_before_ns_ = uv_metrics_idle_time(&loop_);
  machine_before_s_ = node::cli::machine_busy_s();
  nodes_.clear();
  for (const int pid : options_.pids) {
    if (const auto use = node::cli::use_of(pid)) nodes_.push_back({pid, *use, *use});
  }
}

void MqttBench::end_measuring() {
  if (!std::exchange(measuring_, false)) return;
  to_ = Pacer::clock();
  own_after_ = node::cli::own_use();
  idle_after_ns_ = uv_metrics_idle_time(&loop_);
  machine_after_s_ = node::cli::machine_busy_s();
  for (auto& node : nodes_) node.after = node::cli::use_of(node.pid).value_or(node.before);
}

json MqttBench::report() const {
  const double s = std::max(seconds_of(to_ - from_), 1e-9);
  const auto percent = [s](double seconds) { return seconds / s * 100; };
  std::uint64_t lost = 0, unacked = 0;
  for (const auto& device : devices_) {
    unacked += device->unacked.size();
    for (const auto& post : device->posts) lost += post.acked ? post.left : 0;
  }
  if (by_ack_ && acked_all_ > delivered_all_) lost = acked_all_ - delivered_all_;
  auto errors = errors_;
  if (unacked > 0) errors["not acknowledged"] = unacked;
  json nodes = json::array();
  double used = own_after_.cpu_s - own_before_.cpu_s;
  for (const auto& node : nodes_) {
    const auto wanted = node::cli::wanted_between(node.before, node.after);
    used += node.after.cpu_s - node.before.cpu_s;
    nodes.push_back({{"pid", node.pid},
                     {"cpu_percent", percent(node.after.cpu_s - node.before.cpu_s)},
                     {"busiest_thread_percent", percent(wanted.busiest_s)},
                     {"wanted_percent", percent(wanted.all_s)},
                     {"rss", node.after.rss},
                     {"rss_before", node.before.rss}});
  }
  const double slept = static_cast<double>(idle_after_ns_ - idle_before_ns_) / 1e9;
  json out{
      {"scenario", options_.scenario},
      {"users", options_.users},
      {"seconds", s},
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
      {"errors", errors},
      {"nodes", std::move(nodes)},
      {"cores", std::thread::hardware_concurrency()},
      {"own_cpu_percent", percent(own_after_.cpu_s - own_before_.cpu_s)},
      {"own_busy_percent", 100 - percent(slept)},
      {"others_cpu_percent", std::max(0.0, percent(machine_after_s_ - machine_before_s_ - used))}};
  out.update(extra_);
  if (!failed_.empty()) out["failed"] = failed_;
  return out;
}

}  // namespace starling::bench
