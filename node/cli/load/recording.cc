#include "node/cli/load/recording.h"

#include <chrono>

namespace starling::node::cli {

Status Recording::open(const std::string& cluster, const std::string& by, const std::string& path) {
  using namespace std::chrono;
  if (!path.empty()) TRY(writer_.open(path));
  const auto wall = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  recorder_.emplace(cluster, by, wall, [this](const check::Event& event) {
    writer_.write(event);
    if (state_) state_ = checker_.feed(event);
  });
  return ok_status();
}

Status Recording::close() {
  TRY(writer_.close());
  return state_;
}

}  // namespace starling::node::cli
