#include "node/replication/catch_up/vouchers.h"

#include <algorithm>

#include "node/layout.h"

namespace starling::node {

using storage::Store;

std::optional<RingNumber> Vouchers::covered_at() const {
  const auto stored = view_.store.get(Store::Family::kNode, kCoveredKey);
  if (!stored) return std::nullopt;
  return RingNumber{parse_row_number(*stored).value_or(0)};
}

void Vouchers::add(RingPtr ring) {
  const auto same = [&](const RingPtr& known) { return known->number() == ring->number(); };
  if (std::any_of(rings_.begin(), rings_.end(), same)) return;
  rings_.push_back(std::move(ring));
  if (rings_.size() > kVouchersMax) rings_.erase(rings_.begin());
}

void Vouchers::cover() {
  rings_.clear();
  view_.store.put(Store::Family::kNode, kCoveredKey, row_number(view_.ring().number().value));
}

std::string Vouchers::lacking(const std::vector<PartitionId>& partitions, const std::set<NodeId>& answered,
                              bool patient) const {
  for (const auto& then : rings_) {
    if (then->partitions() > view_.ring().partitions()) continue;
    for (const auto partition : partitions) {
      if (auto why = lacking(*then, partition, answered, patient); !why.empty()) return why;
    }
  }
  return "";
}

std::vector<NodeId> Vouchers::needs(const std::vector<PartitionId>& partitions) const {
  std::set<NodeId> needed;
  for (const auto& then : rings_) {
    if (then->partitions() > view_.ring().partitions()) continue;
    for (const auto partition : partitions) {
      const auto asked = ask(*then, partition, [this](const NodeId& node) { return view_.alive(node); }, false);
      if (asked.there < asked.least) needed.insert(asked.silent.begin(), asked.silent.end());
    }
  }
  return {needed.begin(), needed.end()};
}

Vouchers::Asked Vouchers::ask(const overlay::Ring& then, PartitionId partition,
                              const std::function<bool(const NodeId&)>& answers, bool patient) const {
  Asked out;
  std::size_t asked = 0;
  const auto is_removed = [this](const NodeId& owner) {
    const auto* member = view_.ring().member(owner);
    return member == nullptr || member->state == overlay::RingMemberState::kRemoved;
  };
  const PartitionId of_then = then.covering(partition, view_.ring().partitions());
  const auto home = then.home(of_then);
  const bool site_lost = std::all_of(home.begin(), home.end(), is_removed);
  for (const auto& owner : site_lost ? then.owners(of_then) : home) {
    const bool there = owner == view_.self || answers(owner);
    const bool removed = is_removed(owner);
    const bool left = !removed && view_.ring().member(owner)->gone() && !view_.alive(owner);
    out.there += there ? 1 : 0;
    const bool waited_for = !removed && !(left && (!patient || is_safe_(owner)));
    asked += there || waited_for ? 1 : 0;
    if (!there && !removed) out.silent.push_back(owner);
  }
  out.least = site_lost ? asked : std::min(asked, then.enough_to_know());
  return out;
}

std::string Vouchers::lacking(const overlay::Ring& then, PartitionId partition,
                              const std::set<NodeId>& answered, bool patient) const {
  const auto asked =
      ask(then, partition, [&](const NodeId& node) { return answered.contains(node); }, patient);
  if (asked.there >= asked.least) return "";
  std::string silent;
  for (const auto& owner : asked.silent) silent += " " + short_text(owner);
  return "too few of those who owned partition " + std::to_string(partition.value) +
         " before the ring changed answer, no answer from" + silent +
         ": start them again, or, when they are gone for good with what only they held, `starling remove --force`";
}

}  // namespace starling::node
