#include "node/repair/positions.h"

#include <algorithm>

namespace starling::node {

using storage::ChangeKind;

namespace {

constexpr Duration kPositionsEvery = 1s;
constexpr std::size_t kLooksMax = 500;      // In one turn of the loop,
constexpr std::size_t kPassedMax = 20'000;  // and so many pairs, or one partition's.

// The sender's own copy of a message to somebody else, or of the void that closed it.
bool is_own_copy(const storage::ChangeView& change) {
  return change.kind != ChangeKind::kRegister && (change.entry.flags & storage::kEntryIsCopy) != 0 &&
         change.entry.from != change.entry.to && change.mailbox == mailbox_of(change.entry.from);
}

}  // namespace

Positions::Positions(ClusterView& view, Forwarder& forwarder) : view_(view), forwarder_(forwarder) {
  view_.on_doubled([this] {
    settled_.clear();
    asking_.clear();
  });
  tick_ = view_.loop.after(kPositionsEvery, [this] { tick(); });
}

bool Positions::is_settled(PartitionId partition, const storage::Superseded& pair) const {
  const auto settled = settled_.find(partition);
  return settled != settled_.end() && settled->second.contains(pair);
}

void Positions::tick() {
  tick_ = view_.loop.after(kPositionsEvery, [this] { tick(); });
  if (!view_.in_ring() || view_.is_holder()) return;
  const auto partitions = view_.store.with_superseded();
  std::erase_if(settled_, [&](const auto& settled) {
    return !std::binary_search(partitions.begin(), partitions.end(), settled.first);
  });
  Budget budget{kLooksMax, kPassedMax};
  auto at = std::lower_bound(partitions.begin(), partitions.end(), next_.first);
  // One more than there are: of the first only what lies behind next_ was passed.
  for (std::size_t left = partitions.empty() ? 0 : partitions.size() + 1; left > 0 && budget.passed > 0; --left) {
    if (at == partitions.end()) at = partitions.begin();
    if (*at != next_.first) next_ = {*at, {}};
    if (view_.answers_for(*at) && !pass(*at, budget)) return;
    ++at;
    next_ = {at == partitions.end() ? partitions.front() : *at, {}};
  }
}

bool Positions::pass(PartitionId partition, Budget& budget) {
  const auto pairs = view_.store.superseded(partition);
  auto& settled = settled_[partition];
  std::erase_if(settled, [&](const auto& pair) { return !std::binary_search(pairs.begin(), pairs.end(), pair); });
  budget.passed -= std::min(budget.passed, pairs.size());
  auto pair = std::lower_bound(pairs.begin(), pairs.end(), next_.second);
  for (; pair != pairs.end(); ++pair) {
    if (settled.contains(*pair) || asking_.contains({partition, *pair})) continue;
    next_.second = *pair;
    if (budget.looks == 0 || asking_.size() >= kPositionsAtOnceMax) return false;
    --budget.looks;
    if (!look({partition, *pair})) break;
  }
  return true;
}

bool Positions::look(const At& at) {
  const auto& [partition, pair] = at;
  // On its way to the disk; or all of the winner's run is gone and forgotten.
  const bool held = view_.store.held(partition, pair.by.writer) > 0;
  if (held && view_.store.synced(partition, pair.by.writer) < pair.by.n) return true;
  const auto stored = view_.store.read_change(partition, pair.by);
  if (!stored && stored.code() != Errc::kNotFound) return false;
  const auto change = stored ? storage::decode(*stored->bytes, pair.by)
                             : Result<storage::ChangeView>(stored.error());
  if (change && is_own_copy(*change)) {
    ask(at, *change);
  } else {
    settled_[partition].insert(pair);
  }
  return true;
}

void Positions::ask(const At& at, const storage::ChangeView& copy) {
  AppendRequest request = copy_request(copy);
  request.flags |= kAppendPosition;
  asking_.insert(at);
  forwarder_.append(std::move(request), Bytes(copy.entry.body), kAppendDeadline,
                    [this, alive = alive_, at, count = view_.partitions()](const Result<AppendReply>& answer) {
                      if (!*alive || view_.partitions() != count) return;  // Doubled: it is asked anew.
                      asking_.erase(at);
                      if (answer || pointless(answer.code())) settled_[at.first].insert(at.second);
                    });
}

}  // namespace starling::node
