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
    for (const auto& change : carried(m)) dots_[{change.hash, change.mailbox}].insert(change.dot);
  }
  if (m.method != Method::kReplicated) return;
  const auto told = unpack<node::Replicated>(m.body);
  if (!told) return;
  for (const auto& item : told->items) {
    auto& synced = synced_[{m.from, told->writer}][told->partitions][item.partition];
    synced = std::max(synced, item.n);
  }
}

// What was said of a parent is true of its children.
bool HomeCopies::has(std::size_t node, const MailboxId& mailbox, const Dot& dot) const {
  const auto told = synced_.find({node, dot.writer});
  return told != synced_.end() && std::any_of(told->second.begin(), told->second.end(), [&](const auto& of) {
    const auto synced = of.second.find(starling::partition_of(slot_of(mailbox), of.first));
    return synced != of.second.end() && synced->second >= dot.n;
  });
}

// By the one that minted it: of another's change nothing was heard here.
void HomeCopies::acknowledged(const TapMessage& request) {
  const auto send = unpack<node::AppendRequest>(request.body);
  if (!send) return;
  const bool copy = (send->flags & (node::kAppendCopy | node::kAppendPosition)) == node::kAppendCopy;
  const MailboxId mailbox = mailbox_of(copy ? send->from : send->to);
  const auto& home = home_.at(starling::partition_of(slot_of(mailbox), static_cast<std::uint32_t>(home_.size())));
  const auto dots = dots_.find({body_hash(send->body.data), mailbox});
  if (dots == dots_.end()) return;
  for (const auto& dot : dots->second) {
    if (dot.writer != cluster_.writer(request.to)) continue;
    ++judged_;
    std::size_t copies = 0;
    for (const auto owner : home) {
      copies += owner == request.to || has(owner, mailbox, dot) ? 1 : 0;
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
