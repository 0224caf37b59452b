#include "node/repair/positions.h"

#include <algorithm>

namespace starling::node {

using storage::ChangeKind;

namespace {

constexpr Duration kTickEvery = 1s;
constexpr std::size_t kLooksMax = 500;      // In one turn of the loop,
constexpr std::size_t kPassedMax = 20'000;  // and so many pairs, or one partition's.

// No retry will change these answers.
bool pointless(Errc code) {
  return code == Errc::kInvalid || code == Errc::kNotFound || code == Errc::kTooLarge ||
         code == Errc::kSequenceReused;
}

// The sender's own copy of a message to somebody else. What a void closed has no position.
bool is_own_copy(const storage::ChangeView& change) {
  return change.kind == ChangeKind::kEntry && (change.entry.flags & storage::kEntryIsCopy) != 0 &&
         change.entry.from != change.entry.to && change.mailbox == mailbox_of(change.entry.from);
}

}  // namespace

Positions::Positions(ClusterView& view, Forwarder& forwarder) : view_(view), forwarder_(forwarder) {
  tick_ = view_.loop.after(kTickEvery, [this] { tick(); });
}

bool Positions::is_settled(PartitionId partition, const storage::Superseded& pair) const {
  const auto settled = settled_.find(partition);
  return settled != settled_.end() && settled->second.contains(pair);
}

void Positions::tick() {
  tick_ = view_.loop.after(kTickEvery, [this] { tick(); });
  if (!view_.in_ring() || view_.is_holder()) return;
  const auto partitions = view_.store.with_superseded();
  std::erase_if(settled_, [&](const auto& settled) {
    return !std::binary_search(partitions.begin(), partitions.end(), settled.first);
  });
  std::size_t looks = kLooksMax, passed = 0;
  auto next = std::upper_bound(partitions.begin(), partitions.end(), last_);
  for (std::size_t left = partitions.size(); left > 0 && looks > 0 && passed < kPassedMax; --left) {
    if (next == partitions.end()) next = partitions.begin();
    last_ = *next++;
    if (view_.answers_for(last_)) passed += pass(last_, looks);
  }
}

std::size_t Positions::pass(PartitionId partition, std::size_t& looks) {
  const auto pairs = view_.store.superseded(partition);
  auto& settled = settled_[partition];
  std::erase_if(settled, [&](const auto& pair) { return !std::binary_search(pairs.begin(), pairs.end(), pair); });
  for (const auto& pair : pairs) {
    if (looks == 0) break;
    if (settled.contains(pair) || asking_.contains({partition, pair})) continue;
    --looks;
    if (!look({partition, pair})) break;
  }
  return pairs.size();
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
    if (asking_.size() < kPositionsAtOnceMax) ask(at, *change);
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
                    [this, alive = alive_, at](const Result<AppendReply>& answer) {
                      if (!*alive) return;
                      asking_.erase(at);
                      if (answer || pointless(answer.code())) settled_[at.first].insert(at.second);
                    });
}

}  // namespace starling::node
