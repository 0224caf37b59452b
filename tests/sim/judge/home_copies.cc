#include "tests/sim/judge/home_copies.h"

#include <algorithm>

namespace starling::sim {

using overlay::Method;

void HomeCopies::start() {
  for (const auto& [partition, owners] : cluster_.owner_table(0)) {
    std::map<std::string, std::vector<std::size_t>> by_zone;
    for (const auto owner : owners) by_zone[cluster_.zone(owner)].push_back(owner);
    const auto larger = [](const auto& x, const auto& y) { return x.second.size() < y.second.size(); };
    home_[partition] = std::max_element(by_zone.begin(), by_zone.end(), larger)->second;
  }
  tap_.on_arrive = [this, before = tap_.on_arrive](const TapMessage& m) {
    if (before) before(m);
    heard(m);
  };
  tap_.on_answer = [this, before = tap_.on_answer](const TapMessage& m, const Result<Bytes>& answer) {
    if (answer && m.method == Method::kAppend) acknowledged(m);
    return before ? before(m, answer) : Fate::kPass;
  };
}

void HomeCopies::heard(const TapMessage& m) {
  if (m.method == Method::kReplicate) {
    for (const auto& change : carried(m)) dots_[{change.hash, change.partition}].insert(change.dot);
  }
  if (m.method != Method::kReplicated) return;
  const auto told = unpack<node::Replicated>(m.body);
  if (!told) return;
  for (const auto& item : told->items) {
    auto& synced = synced_[{m.from, told->writer, item.partition}];
    synced = std::max(synced, item.n);
  }
}

bool HomeCopies::has(std::size_t node, PartitionId partition, const Dot& dot) const {
  const auto told = synced_.find({node, dot.writer, partition});
  return told != synced_.end() && told->second >= dot.n;
}

// By the one that minted it: of another's change nothing was heard here.
void HomeCopies::acknowledged(const TapMessage& request) {
  const auto send = unpack<node::AppendRequest>(request.body);
  if (!send) return;
  const bool copy = (send->flags & (node::kAppendCopy | node::kAppendPosition)) == node::kAppendCopy;
  const PartitionId partition =
      starling::partition_of(slot_of(mailbox_of(copy ? send->from : send->to)), partitions_);
  const auto dots = dots_.find({body_hash(send->body.data), partition});
  if (dots == dots_.end()) return;
  for (const auto& dot : dots->second) {
    if (dot.writer != cluster_.writer(request.to)) continue;
    ++judged_;
    std::size_t copies = 0;
    for (const auto owner : home_[partition]) {
      copies += owner == request.to || has(owner, partition, dot) ? 1 : 0;
    }
    if (copies >= 2) return;
    // The latest first: the trace does not go back for ever.
    violations_.insert(violations_.begin(), {1, "n" + std::to_string(request.to) + " acknowledged #" + std::to_string(send->seq) + " to " +
                                  send->to + " with " + std::to_string(copies) + " copy on disk at home",
                           hash_text(dots->first.first)});
    return;
  }
}

}  // namespace starling::sim
