// Recorder: turns what clients do and see into the events of a History, for a Checker that judges at
// once, for a file, or for both.
//
// It numbers sends as the client library does: the i-th accepted send of a device to an address is
// number i of its lane. So each device is recorded from its first send on.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "node/check/history.h"
#include "node/client/lane.h"
#include "node/session/protocol.h"
#include "overlay/loop/clock.h"

namespace starling::node::check {

class Recorder {
 public:
  using Device = std::uint32_t;
  using Sink = std::function<void(const Event&)>;

  // Times are counted from the first event. `wall_ms`: the clock on the wall at that moment.
  Recorder(std::string cluster, std::string recorder, std::int64_t wall_ms, Sink sink);

  Device device(const std::string& user, const std::string& name, bool must_show = true);
  void group(const std::string& group, std::vector<std::string> users);
  // After the client accepted it. The number in the lane.
  std::uint64_t sent(Device device, const std::string& to, View body, Instant now);
  // kRefused when the cluster will never take it, kUnknown when it may have.
  void answered(Device device, const std::string& to, std::uint64_t number,
                const Result<Sent>& result, protocol::Grade grade, Instant now);
  void shown(Device device, const protocol::EntryMessage& entry, Instant now);
  void moved(Device device, const protocol::EntryMessage& entry, Instant now);
  void taken_back(Device device, const protocol::EntryMessage& entry, Instant now);
  // `key` names a message of this user to `to`; `done`: it was acknowledged.
  void recall(Device device, const std::string& user, const std::string& to, const MessageKey& key, bool done,
              Instant now);
  // Nothing is waited for any more, or only what can be called lost.
  void end(Instant now);

 private:
  Event event(EventKind kind, Device device, Instant now);
  void entry(EventKind kind, Device device, const protocol::EntryMessage& entry, Instant now);

  const Sink sink_;
  Device devices_ = 0;
  Instant start_ = kNever;
  std::map<std::pair<Device, std::string>, std::uint64_t> lanes_;  // Highest number.
};

// "quorum"
std::string_view name(protocol::Grade grade);

}  // namespace starling::node::check
