// What is sent again: to owners and stand-ins that somebody waits for, and to away owners that lag.
#include <algorithm>

#include "node/replication/copies/replicator.h"

namespace starling::node {

using overlay::Method;

namespace {

// One that is lost, and the next one, too, are made up for while the coordinator waits.
static_assert(3 * (kRetransmitMax + kRetransmitLook) < kAppendDeadline);
constexpr Duration kNudgeEvery = 1s;
constexpr std::uint64_t kGoneAtOnce = 4096;   // Numbers behind the first that is sent again.
constexpr std::size_t kNudgedAtOnce = 16;  // Away owners of a partition, in one tick.

}  // namespace

// What it fetched otherwise, or what got lost on the way with nobody waiting for it, shows by its answer.
void Replicator::nudge() {
  const WriterId own = view_.store.writer();
  for (const auto& [partition, owner] : away_.some(kNudgedAtOnce)) {
    const std::uint64_t synced = view_.store.synced(partition, own);
    if (synced == 0) continue;
    const auto last = view_.store.read_writer(partition, own, synced, 1);
    if (!last || last->live.empty()) continue;
    queue({owner}, partition, last->live[0].n, std::make_shared<const Bytes>(last->live[0].change.data));
  }
}

void Replicator::tick() {
  tick_ = view_.loop.after(kRetransmitLook, [this] { tick(); });
  if (!view_.in_ring()) return;
  const Instant now = view_.loop.now();
  if (now - nudged_at_ >= kNudgeEvery) {
    nudged_at_ = now;
    nudge();
  }
  std::vector<std::pair<Done, bool>> expired;  // True: nobody is left to wait for.
  const auto waiting = waiting_;  // Completing may change it.
  for (const auto partition : waiting) {
    auto& progress = progress_[partition];
    complete(partition, progress);  // The ring or its W may have changed.
    const bool no_quorum = view_.storing_nodes(partition) < view_.ring().w();
    for (auto* waiters : {&progress.quorum, &progress.all}) {
      const auto gone = std::remove_if(waiters->begin(), waiters->end(), [&](Waiter& waiter) {
        if (!no_quorum && now - waiter.since < kAppendDeadline) return false;
        expired.emplace_back(std::move(waiter.done), no_quorum);
        --waiters_;
        return true;
      });
      waiters->erase(gone, waiters->end());
    }
    if (progress.quorum.empty() && progress.all.empty()) {
      waiting_.erase(partition);
      continue;
    }
    const auto& oldest = progress.quorum.empty() ? progress.all.front() : progress.quorum.front();
    if (now - oldest.since >= kRetransmitMin) resend(partition, progress, now);
  }
  for (auto& [done, hopeless] : expired) {
    if (hopeless) {
      done(Error{Errc::kUnavailable, "too few of the nodes that must store it can be reached any more; retry with "
                                     "the same key"});
    } else {
      done(Error{Errc::kTimeout, "too few owners synced it in time; retry with the same key"});
    }
  }
}

// From the last acknowledged n of each owner that lags, out of the log (so: what we have synced).
void Replicator::resend(PartitionId partition, Progress& progress, Instant now) {
  for (const auto& owner : view_.ring().owners(partition)) {
    if (owner == view_.self || !view_.alive(owner)) continue;
    probe(owner);
    resend_to({owner}, partition, progress, progress.acked[owner] + 1, now);
  }
  const std::uint64_t next = covered_by(view_.ring().home(partition), progress, view_.ring().w()) + 1;
  for (const auto& node : view_.stand_ins(partition)) {
    if (view_.ring().is_owner(partition, node)) continue;
    const auto& segment = progress.hinted[node];
    const bool joins = segment.from != 0 && segment.from <= next && segment.to >= next;
    resend_to({node, true}, partition, progress, joins ? segment.to + 1 : next, now);
  }
}

// A link looks after silence while a call is out, and ours are all notices: so we ask for a sign of life, and
// its breaker opens within two seconds where none comes.
void Replicator::probe(const NodeId& owner) {
  if (!probed_.insert(owner).second) return;
  view_.rpc.call(owner, Method::kPing, {}, kAppendDeadline,
                 [this, owner](const Result<Bytes>&) { probed_.erase(owner); });
}

// What is waited for longer than this peer takes, and what was sent before it.
void Replicator::resend_to(const Peer& peer, PartitionId partition, Progress& progress, std::uint64_t from,
                           Instant now) {
  if (is_crowded(peer.node)) return;
  auto& retransmission = retransmissions_[peer.node];
  auto& resent = progress.resent[peer.node];
  // What it was not sent yet waits for no answer: it could not be reached then, or was not asked to stand in.
  auto& sent = progress.sent[peer.node];
  const Duration timeout = from > sent ? kRetransmitMin : retransmission.timeout();
  if (now - resent < timeout) return;
  std::uint64_t until = 0;
  for (const auto* waiters : {&progress.quorum, &progress.all}) {
    for (const auto& waiter : *waiters) {
      if (now - waiter.since >= timeout) until = std::max(until, waiter.n);
    }
  }
  const WriterId own = view_.store.writer();
  until = std::min(until, view_.store.synced(partition, own));
  if (from > until) return;
  const auto expired = peer.stand_in ? storage::Store::Expired::kShown : storage::Store::Expired::kGone;
  const auto range = view_.store.read_writer(partition, own, from, kReplicateBytesMax / 4, expired);
  if (!range) return;
  resent = now;
  if (from <= sent) retransmission.expired(partition, now);
  ++view_.counters.retransmits;
  // An owner fetches what is gone, with the lanes that it raised. To a stand-in, which has no lanes, it is said by a
  // change without bytes, or its segment would end there; and what expired goes as it is while there is any of it.
  const bool fills = peer.stand_in && view_.says_gaps() && range->lost.empty();
  static const auto nothing = std::make_shared<const Bytes>();
  std::uint64_t next = from;
  const std::uint64_t last_filled = fills ? from + kGoneAtOnce : from;
  // What is not reached by now is, with the next answer.
  const auto fill_to = [&](std::uint64_t end) {
    for (; next < std::min(end, last_filled); ++next) queue(peer, partition, next, nothing);
  };
  for (const auto& item : range->live) {
    if (item.n > until) break;
    if (fills) fill_to(item.n);
    if (fills && next < item.n) return;
    queue(peer, partition, item.n, std::make_shared<const Bytes>(item.change.data));
    sent = std::max(sent, item.n);
    next = item.n + 1;
  }
  if (fills && (range->live.empty() || range->live.back().n <= until)) fill_to(std::min(range->to, until) + 1);
}

}  // namespace starling::node
