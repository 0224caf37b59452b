#include "node/cli/movement_step.h"

#include <algorithm>

#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

// What those who gain have to fetch, added up.
struct Fetching {
  std::uint64_t partitions = 0, partitions_done = 0;
  std::uint64_t changes = 0, changes_done = 0;
  std::uint64_t bytes = 0, bytes_left = 0, rate = 0;
  std::uint64_t slowest_s = 0;

  void add(const Json& node) {
    const auto gains = number_of(node, "gains");
    partitions += gains;
    const bool done = flag_of(node, "installed");
    partitions_done += done ? gains : number_of(node, "partitions_done");
    changes += number_of(node, "changes");
    changes_done += done ? number_of(node, "changes") : number_of(node, "changes_done");
    bytes += number_of(node, "bytes");
    if (done) return;
    const auto left = number_of(node, "bytes_left"), speed = number_of(node, "rate");
    bytes_left += left;
    rate += speed;
    if (speed > 0) slowest_s = std::max(slowest_s, (left + speed - 1) / speed);
  }
  [[nodiscard]] double share() const {
    if (changes > 0) return static_cast<double>(changes_done) / static_cast<double>(changes);
    return partitions == 0 ? 1 : static_cast<double>(partitions_done) / static_cast<double>(partitions);
  }
  [[nodiscard]] std::string text() const {
    std::string out = "fetching: " + thousands(partitions_done) + " of " + thousands(partitions) + " partitions";
    if (bytes + bytes_left > 0) {
      out += ", " + bytes_text(bytes) + " of " + (bytes_left > 0 ? "about " : "") + bytes_text(bytes + bytes_left);
    }
    if (rate > 0) out += ", " + bytes_text(rate) + "/s";
    return out;
  }
};

// The command that began took it out of the ring.
bool lets_go(const Json& begun, const Json& node) {
  const Json& nodes = list_of(begun, "nodes");
  return std::any_of(nodes.begin(), nodes.end(), [&](const Json& item) {
    return number_of(item, "next") == 0 && text_of(item, "short") == text_of(node, "short");
  });
}

}  // namespace

MoveStep move_step(const Json& movement, const Json& begun) {
  MoveStep step;
  Fetching fetching;
  std::uint64_t leaving = 0, names = 0;
  for (const Json& node : list_of(movement, "nodes")) {
    const std::string state = text_of(node, "state");
    const bool gone = state == "left" || state == "removed";
    const bool ours = gone && lets_go(begun, node);
    if (gone && flag_of(node, "answered") && !flag_of(node, "safe")) {
      leaving += number_of(node, "leaving");
      names += number_of(node, "names");
      step.open = true;
      step.handing_over |= ours;
      if (step.waits_for.empty()) step.waits_for = text_of(node, "waits_for");
    }
    // One that is safe, and down, is not told of.
    if (ours && state == "left" && !flag_of(node, "answered")) {
      step.open = step.handing_over = true;
      step.waits_for = "node " + text_of(node, "short") + " left and does not answer: start it, it hands over what it has";
    }
    if (number_of(node, "gains") > 0) fetching.add(node);
  }
  if (!text_of(movement, "change").empty()) {
    step.open = true;
    step.waits_for = text_of(movement, "waits_for");
    step.share = 0.5 * fetching.share();
    step.text = fetching.text();
    if (fetching.slowest_s > 0) step.seconds_left = fetching.slowest_s;
    return step;
  }
  const auto total = static_cast<double>(std::max<std::uint64_t>(1, number_of(begun, "copies")));
  step.share = step.open ? 1 - 0.5 * std::min(1.0, static_cast<double>(leaving) / total) : 1;
  step.text = "handing over: " + thousands(leaving) + " partitions" +
              (names == 0 ? "" : ", names of " + thousands(names)) + " to go";
  return step;
}

MoveStep own_move_step(const Json& node) {
  MoveStep step;
  Fetching fetching;
  Json own = node.is_object() ? node : Json::object();
  own["gains"] = number_of(node, "partitions");
  fetching.add(own);
  step.open = number_of(node, "partitions") > 0;
  step.share = fetching.share();
  step.text = fetching.text();
  step.waits_for = text_of(node, "waits_for");
  if (fetching.slowest_s > 0) step.seconds_left = fetching.slowest_s;
  return step;
}

MoveStep settle_step(const Json& doubling) {
  MoveStep step;
  const auto partitions = number_of(doubling, "partitions");
  const Json& settling = list_of(doubling, "settling");
  const std::uint64_t open = settling.size(), nodes = std::max(open, number_of(doubling, "nodes"));
  step.open = open > 0;
  double done = static_cast<double>(nodes - open);
  for (const Json& node : settling) {
    done += real_of(node, "share");
    if (!step.waits_for.empty()) continue;
    const std::string name = "node " + text_of(node, "short"), waits = text_of(node, "waits_for");
    const bool followed = number_of(node, "partitions") == partitions;
    if (!flag_of(node, "answered")) {
      step.waits_for = name + " does not answer; it goes on by itself when it is back";
    } else if (!waits.empty()) {
      step.waits_for = name + (followed ? ": " : " has not followed yet: ") + waits;
    }
  }
  step.share = nodes == 0 ? 1 : done / static_cast<double>(nodes);
  step.text = "settling: " + thousands(nodes - open) + " of " + counted(nodes, "node") + " done";
  return step;
}

}  // namespace starling::node::cli
