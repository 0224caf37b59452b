#include "node/cli/load/use_meter.h"

#include <algorithm>
#include <thread>

#include "node/cli/load/pacer.h"

namespace starling::node::cli {

UseMeter::Look UseMeter::look() const {
  return {Pacer::clock(), own_use(), uv_metrics_idle_time(loop_), machine_busy_s()};
}

void UseMeter::begin(std::vector<Node> nodes) {
  nodes_.clear();
  before_ = look();
  after_ = before_;
  for (auto& node : nodes) {
    const auto use = use_of(node.pid);
    if (use) nodes_.push_back({std::move(node.name), node.pid, *use, *use});
  }
}

void UseMeter::end() {
  after_ = look();
  for (auto& node : nodes_) node.after = use_of(node.pid).value_or(node.before);
}

double UseMeter::seconds() const { return std::chrono::duration<double>(after_.at - before_.at).count(); }

nlohmann::json UseMeter::report() const {
  const double s = std::max(seconds(), 1e-9);
  const auto percent = [s](double part) { return part / s * 100; };
  const double own = after_.own.cpu_s - before_.own.cpu_s;
  double used = own;
  std::uint64_t to_disk = 0;
  nlohmann::json nodes = nlohmann::json::array();
  for (const auto& node : nodes_) {
    const auto wanted = wanted_between(node.before, node.after);
    const double cpu = node.after.cpu_s - node.before.cpu_s;
    used += cpu;
    const std::uint64_t written = node.after.written - std::min(node.after.written, node.before.written);
    to_disk += written;
    nodes.push_back({{"pid", node.pid},
                     {"cpu_percent", percent(cpu)},
                     {"busiest_thread_percent", percent(wanted.busiest_s)},
                     {"wanted_percent", percent(wanted.all_s)},
                     {"rss", node.after.rss},
                     {"rss_before", node.before.rss},
                     {"disk_bytes", written}});
    if (!node.name.empty()) nodes.back()["node"] = node.name;
  }
  const double slept = static_cast<double>(after_.slept_ns - before_.slept_ns) / 1e9;
  return {{"seconds", seconds()},
          {"nodes", std::move(nodes)},
          {"disk_bytes", to_disk},
          {"cores", std::thread::hardware_concurrency()},
          {"own_cpu_percent", percent(own)},
          {"own_busy_percent", 100 - percent(slept)},
          {"others_cpu_percent", std::max(0.0, percent(after_.machine_s - before_.machine_s - used))}};
}

}  // namespace starling::node::cli
