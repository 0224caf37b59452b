#include "node/replication/copies/replicator.h"

#include <algorithm>
#include <cassert>

#include "node/replication/children.h"

namespace starling::node {

namespace {

constexpr std::size_t kEarlyAckItemsMax = 256;  // Of one that is kept.

}  // namespace

using overlay::Loop;
using overlay::Method;

Replicator::Replicator(ClusterView& view, Gap on_gap) : view_(view), on_gap_(std::move(on_gap)), away_(view) {
  view_.on_notice<Replicate>(Method::kReplicate, [this](const NodeId& from, const Replicate& message) {
    receive(from, message);
  });
  view_.on_notice<Replicated>(Method::kReplicated, [this](const NodeId& from, const Replicated& message) {
    received_ack(from, message);
  });
  view_.on_notice<Hinted>(Method::kHinted, [this](const NodeId& from, const Hinted& message) {
    received_hint(from, message);
  });
  // What was on W owners then may be with those that were forced out.
  view_.on_ring([this] {
    const auto before = view_.previous_ring();
    if (before && before->lineage() != view_.ring().lineage()) told_.clear();
    for (const auto& [from, message] : std::exchange(early_acks_, {})) received_ack(from, message);
  });
  view_.on_doubled([this] { partitions_doubled(); });
  tick();
}

// Who has 1..n of a parent has it of both children. What left under the old numbers, and what is said of it, may be
// passed over: it is sent once more as soon as somebody waits for it, and fetched where there is a hole before it.
void Replicator::partitions_doubled() {
  auto before = std::exchange(progress_, {});
  waiting_.clear();
  for (auto& [parent, progress] : before) {
    for (const auto child : children_of(parent)) {
      auto& now = progress_[child];
      now.acked = progress.acked;
      now.hinted = progress.hinted;
      now.settled = progress.settled;
    }
    for (const auto waiters : {&Progress::quorum, &Progress::all}) {
      for (auto& waiter : progress.*waiters) {
        const PartitionId child = view_.store.partition_of(waiter.mailbox);
        waiting_.insert(child);
        (progress_[child].*waiters).push_back(std::move(waiter));
      }
    }
  }
  for (auto& [peer, changes] : outgoing_) {
    std::erase_if(changes, [](const Outgoing& change) { return change.bytes->empty(); });
    for (auto& change : changes) {
      const auto parsed = storage::parse(*change.bytes);
      assert(parsed.ok());
      change.partition = view_.store.partition_of(parsed->mailbox);
    }
  }
  for (auto& [home, items] : acks_) split_keys(items);
  for (auto& [node, told] : told_) split_keys(told.covered);
  retransmissions_.clear();
}

void Replicator::send(const storage::Appended& appended) {
  const Instant now = view_.loop.now();
  auto& progress = progress_[appended.partition];
  const auto send_to = [&](const Peer& peer) {
    if (is_crowded(peer.node)) return;
    queue(peer, appended.partition, appended.dot.n, appended.bytes);
    retransmissions_[peer.node].sent(appended.partition, appended.dot.n, now);
    progress.sent[peer.node] = appended.dot.n;
  };
  for (const auto& owner : view_.ring().owners(appended.partition)) {
    if (owner != view_.self && view_.alive(owner)) send_to({owner});
  }
  if (view_.ring().by_site()) {
    const auto& acked = progress_[appended.partition].acked;
    for (const auto& owner : view_.ring().owners(appended.partition)) {
      if (view_.ring().is_home(appended.partition, owner)) continue;
      const auto has = acked.find(owner);
      away_.note(appended.partition, owner, has == acked.end() ? 0 : has->second, appended.dot.n);
    }
  }
  for (const auto& node : view_.stand_ins(appended.partition)) {
    if (view_.ring().is_owner(appended.partition, node)) continue;  // It got it as one.
    send_to({node, true});
  }
}

void Replicator::when_replicated(const MailboxId& mailbox, std::uint64_t n, bool all, Done done) {
  const PartitionId partition = view_.store.partition_of(mailbox);
  auto& progress = progress_[partition];
  auto& waiters = all ? progress.all : progress.quorum;
  // A retry may wait for an n below those already waiting; order of n is what completes them.
  auto at = std::upper_bound(waiters.begin(), waiters.end(), n,
                             [](std::uint64_t value, const Waiter& w) { return value < w.n; });
  waiters.insert(at, Waiter{mailbox, n, view_.loop.now(), std::move(done)});
  ++waiters_;
  waiting_.insert(partition);
  progress.acked[view_.self] = view_.store.synced(partition, view_.store.writer());
  complete(partition, progress);
}

void Replicator::set_settled(PartitionId partition, std::uint64_t n) {
  progress_[partition].settled = n;
}

void Replicator::queue(const Peer& peer, PartitionId partition, std::uint64_t n, Shared bytes) {
  outgoing_bytes_[peer.node] += bytes->size();
  outgoing_[peer].push_back({partition, n, std::move(bytes)});
  if (std::exchange(flush_queued_, true)) return;
  view_.loop.defer(Loop::Stage::kCommit, [this] { flush(); });
}

// One frame per peer and turn: the runs of all partitions together, each change by reference.
void Replicator::flush() {
  flush_queued_ = false;
  for (auto& [peer, changes] : outgoing_) {
    std::size_t at = 0;
    while (at < changes.size()) {
      std::map<PartitionId, Replicate::Run> runs;
      std::vector<Replicate::Run> finished;
      std::size_t bytes = 0;
      for (; at < changes.size() && bytes < kReplicateBytesMax; ++at) {
        const auto& change = changes[at];
        auto& run = runs[change.partition];
        if (!run.changes.empty() && change.n != run.first + run.changes.size()) {
          finished.push_back(std::exchange(run, {}));
        }
        if (run.changes.empty()) {
          run.partition = change.partition;
          run.first = change.n;
          const auto& progress = progress_[change.partition];
          run.settled = progress.settled;
          run.covered = covered_by(view_.ring().home(change.partition), progress, view_.ring().w());
        }
        run.changes.push_back({*change.bytes});
        bytes += change.bytes->size();
        ++view_.counters.replicated_out;
      }
      for (auto& [partition, run] : runs) finished.push_back(std::move(run));
      view_.rpc.notify(peer.node, peer.stand_in ? Method::kHint : Method::kReplicate,
                       pack(Replicate{view_.ring().number(), view_.store.writer(), std::move(finished),
                                      view_.partitions()}));
    }
  }
  outgoing_.clear();
  outgoing_bytes_.clear();
  for (auto& [home, items] : acks_) {
    Replicated message{view_.ring().number(), home.second, {}, view_.partitions()};
    for (const auto& [partition, n] : items) message.items.push_back({partition, n});
    view_.rpc.notify(home.first, Method::kReplicated, pack(message));
  }
  acks_.clear();
}

void Replicator::acknowledge(const NodeId& peer, PartitionId partition, WriterId writer,
                             std::uint64_t n) {
  auto& highest = acks_[{peer, writer}][partition];
  highest = std::max(highest, n);
  if (std::exchange(flush_queued_, true)) return;
  view_.loop.defer(Loop::Stage::kCommit, [this] { flush(); });
}

void Replicator::receive(const NodeId& from, const Replicate& message) {
  if (!view_.in_ring()) return;
  view_.heard_of_ring(from, message.ring);
  if (!view_.same_count(from, message.partitions)) return;
  if (!is_of(message.writer, from)) return;
  auto& told = told_[from];
  if (told.writer != message.writer) told = {message.writer, {}};
  if (view_.read_only) return;  // Not acknowledged, so it does not count; fetched later.
  for (const auto& run : message.runs) receive_run(from, message, run);
}

bool Replicator::is_of(WriterId writer, const NodeId& from) {
  if (!view_.may_run(from, writer)) {
    if (view_.counters.forged++ == 0) view_.log.warn("changes under the writer of another member", {{"from", from}});
    return false;
  }
  if (homes_.size() >= kHomesMax && !homes_.contains(writer)) {
    std::erase_if(homes_, [this](const auto& home) {
      const auto runner = view_.liveness.runner ? view_.liveness.runner(home.first) : std::nullopt;
      return runner != home.second;
    });
  }
  homes_[writer] = from;
  return true;
}

void Replicator::receive_run(const NodeId& from, const Replicate& message,
                             const Replicate::Run& run) {
  if (!view_.is_owner(run.partition) || view_.awaits_refill(run.partition)) return;
  if (run.covered > 0) {
    auto& covered = told_[from].covered[run.partition];
    covered = std::max(covered, run.covered);
  }
  if (on_settled && run.settled > 0) on_settled(run.partition, message.writer, run.settled);
  for (std::size_t i = 0; i < run.changes.size(); ++i) {
    const Dot dot{message.writer, run.first + i};
    const auto decoded = storage::decode(run.changes[i].data, dot);
    if (!decoded) {
      return view_.bad_notice("change", from, Method::kReplicate, decoded.error());
    }
    const Hlc time = decoded->kind == storage::ChangeKind::kRegister ? decoded->reg.stamp.time
                                                                     : decoded->entry.id.time;
    if (!view_.observe(time).ok()) {
      ++view_.counters.clock_refused;
      return;
    }
    const auto applied = view_.store.apply(run.partition, dot, run.changes[i].data);
    if (!applied) return;
    if (*applied == storage::Applied::kGap) {
      return on_gap_(from, run.partition, message.writer, run.first + run.changes.size() - 1);
    }
    ++view_.counters.replicated_in;
    auto& newest = newest_[from];
    newest = std::max(newest, time);
    if (*applied == storage::Applied::kAlready) {
      const auto synced = view_.store.synced(run.partition, message.writer);
      if (synced >= dot.n) acknowledge(from, run.partition, message.writer, synced);
    }
  }
}

std::uint64_t Replicator::newest_from(const NodeId& node) const {
  const auto it = newest_.find(node);
  return it == newest_.end() ? 0 : hlc_ms(it->second);
}

std::uint64_t Replicator::covered(PartitionId partition, WriterId writer) const {
  const auto home = homes_.find(writer);
  const auto told = home == homes_.end() ? told_.end() : told_.find(home->second);
  if (told == told_.end() || told->second.writer != writer) return 0;
  const auto covered = told->second.covered.find(partition);
  return covered == told->second.covered.end() ? 0 : covered->second;
}

void Replicator::compared(const NodeId& peer, const CompareReply::Item& theirs) {
  if (!view_.is_home(theirs.partition)) return;
  const WriterId own = view_.store.writer();
  // What it acknowledged since it was asked.
  std::uint64_t has = theirs.vector.get(own);
  if (const auto progress = progress_.find(theirs.partition); progress != progress_.end()) {
    if (const auto acked = progress->second.acked.find(peer); acked != progress->second.acked.end()) {
      has = std::max(has, acked->second);
    }
  }
  away_.note(theirs.partition, peer, has, view_.store.held(theirs.partition, own));
}

void Replicator::received_ack(const NodeId& from, const Replicated& message) {
  if (!view_.in_ring() || message.writer != view_.store.writer()) return;
  view_.heard_of_ring(from, message.ring);
  if (message.ring > view_.ring().number()) {
    const bool short_one = message.items.size() <= kEarlyAckItemsMax;
    if (short_one && early_acks_.size() < kEarlyAcksMax) early_acks_.emplace_back(from, message);
    return;
  }
  if (!view_.same_count(from, message.partitions)) return;
  for (const auto& item : message.items) {
    // Nobody can have synced what was never made: a larger number is a lie or a reused writer.
    if (!view_.is_owner(item.partition)) continue;
    if (item.n > view_.store.held(item.partition, message.writer)) continue;
    auto& progress = progress_[item.partition];
    auto& acked = progress.acked[from];
    if (item.n <= acked) continue;
    acked = item.n;
    retransmissions_[from].acknowledged(item.partition, item.n, view_.loop.now());
    away_.note(item.partition, from, acked, view_.store.held(item.partition, message.writer));
    complete(item.partition, progress);
  }
}

void Replicator::on_synced(std::span<const storage::SyncedChange> changes) {
  const WriterId own = view_.store.writer();
  std::set<PartitionId> ours;
  for (const auto& change : changes) {
    if (change.dot.writer == own) {
      ours.insert(change.partition);
    } else if (auto home = homes_.find(change.dot.writer); home != homes_.end()) {
      acknowledge(home->second, change.partition, change.dot.writer, change.dot.n);
    }
  }
  for (const auto partition : ours) {
    auto& progress = progress_[partition];
    progress.acked[view_.self] = view_.store.synced(partition, own);
    complete(partition, progress);
  }
}

void Replicator::received_hint(const NodeId& from, const Hinted& message) {
  const WriterId own = view_.store.writer();
  if (!view_.in_ring()) return;
  view_.heard_of_ring(from, message.ring);
  // Under the version that it is at, it may be no member any more: counted when we are there, too.
  if (message.ring > view_.ring().number() || !view_.same_count(from, message.partitions)) return;
  const auto* member = view_.ring().member(from);
  if (member == nullptr || member->gone()) return;
  if (message.writer != own) {
    if (on_held) on_held(from, message);
    return;
  }
  for (const auto& item : message.items) {
    // Nobody can have synced what was never made.
    if (!view_.exists(item.partition) || item.from == 0 || item.from > item.to) continue;
    if (item.to > view_.store.held(item.partition, own)) continue;
    auto& progress = progress_[item.partition];
    auto& segment = progress.hinted[from];
    // It may hold several that are apart: what counts is the one at the end of what W owners have.
    const std::uint64_t next = covered_by(view_.ring().home(item.partition), progress, view_.ring().w()) + 1;
    const bool useful = item.from <= next;
    if (useful || segment.from > next) segment = {item.from, item.to};
    retransmissions_[from].acknowledged(item.partition, item.to, view_.loop.now());
    progress.acked[view_.self] = view_.store.synced(item.partition, own);
    complete(item.partition, progress);
  }
}

}  // namespace starling::node
