#include "tests/sim/faults/intruder.h"

namespace starling::sim {

void Intruder::start(std::vector<std::string> users) {
  users_ = std::move(users);
  running_ = true;
  knock();
}

void Intruder::knock() {
  look();
  if (device_) device_->close();
  device_.reset();
  if (!running_) return;
  const std::string& user = users_[turn_ % users_.size()];
  device_ = std::make_unique<SimDevice>(
      world_, cluster_.network(), history_,
      SimDevice::Identity{user, "intruder" + std::to_string(turn_), std::string(kWrongPassword),
                          "10.2.0.1"},
      [at = cluster_.client_address(turn_ % cluster_.size())] { return std::vector{at}; });
  ++turn_;
  device_->start(0);
  world_.after(kKnockEvery, [this, alive = alive_] {
    if (*alive) knock();
  });
}

void Intruder::look() {
  if (!device_ || (!device_->ready() && device_->shown() == 0)) return;
  const std::string& user = device_->identity().user;
  world_.note("intruder", "is " + user);
  if (!violations_.empty()) return;
  violations_.push_back({12, "somebody without the password of " + user + " was let in by n" +
                                 std::to_string((turn_ - 1) % cluster_.size()),
                         "is " + user});
}

}  // namespace starling::sim
