#include "node/replication/catch_up/catch_up.h"

#include <algorithm>
#include <map>

#include "node/replication/children.h"
#include "node/replication/catch_up/digests.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr Duration kSettleAfterStart = 1500ms;  // Gossip has told us who is there by then.
constexpr Duration kRetryEvery = 200ms;
constexpr std::size_t kRoundsAtOnce = 4;  // Of a return.
// What no reachable peer can give, because it is damaged there, or those who have it left and are down, holds a
// return up for so long.
constexpr Duration kReturnPatience = kSilencePatience;

// "There is more", and nothing in front of it: to ask again would be to ask for ever.
Error does_not_advance() { return {Errc::kCorrupt, "the peer answers in pages that do not advance"}; }

// As after a change that was taken back.
bool same_owners(const overlay::Ring& a, const overlay::Ring& b) {
  if (a.partitions() != b.partitions()) return false;
  for (std::uint32_t i = 0; i < a.partitions(); ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    if (a.owners(partition).to_vector() != b.owners(partition).to_vector()) return false;
    if (a.home(partition).to_vector() != b.home(partition).to_vector()) return false;
  }
  return true;
}

}  // namespace

CatchUp::CatchUp(ClusterView& view, MoveControls& controls)
    : view_(view),
      controls_(controls),
      vouchers_(view, [this](const NodeId& node) { return is_safe && is_safe(node); }),
      turns_(view.loop),
      lane_debts_(view),
      scope_(view.loop) {
  serve();
  view_.on_doubled([this] { partitions_doubled(); });
  view_.on_ring([this] { lanes_merged_.clear(); });
}

void CatchUp::start() {
  view_.catching_up = true;
  scope_.spawn(run());
}

void CatchUp::fall_behind() {
  ++returns_;
  compared_.clear();
  lanes_merged_.clear();
  view_.catching_up = true;
  if (on_catching_up) on_catching_up(true);
}

// What is on its way ends with the numbers that it was asked by (ClusterView::same_count). A return that has met some
// owners meets them again: what they did not give was noted under those numbers, too.
void CatchUp::partitions_doubled() {
  gaps_.clear();
  wanted_.clear();
  offers_.clear();
  lacks_.clear();
  compared_.clear();
  if (view_.catching_up) ++returns_;
}

// Owners change by the version after an intent, unless that takes it back: then what is waited for is as before.
void CatchUp::ring_changed(bool gained) {
  const auto before = view_.previous_ring();
  if (!before) {
    if (!vouchers_.covered_at()) vouchers_.cover();
    return;
  }
  // Who owned in the versions that we never saw, if there are such, is not known: those that follow will do.
  const bool skipped = before->number().value + 1 != view_.ring().number().value;
  const bool moved = skipped || before->lineage() != view_.ring().lineage() ||
                     (before->changing() && !same_owners(*before, view_.ring()));
  if (moved && !skipped && (gained || view_.catching_up)) vouchers_.add(before);
  if (gained || skipped || (moved && view_.catching_up)) return fall_behind();
  if (!view_.catching_up) vouchers_.cover();
}

void CatchUp::owned_before(std::vector<RingPtr> rings) {
  for (auto& ring : rings) vouchers_.add(std::move(ring));
}

Status CatchUp::covered() const {
  if (!vouchers_.open()) return ok_status();
  return Error{Errc::kOverloaded, "node " + short_text(view_.self) + " does not cover yet what was acknowledged before "
                                  "the last change" + (waits_for_.empty() ? "" : ": " + waits_for_)};
}

std::vector<NodeId> CatchUp::cover_needs() const { return vouchers_.needs(counted()); }

std::vector<NodeId> CatchUp::peers() const {
  std::vector<NodeId> nodes;
  if (!view_.in_ring()) return nodes;
  for (const auto& member : view_.ring().version().members) {
    if (member.id != view_.self && view_.alive(member.id)) nodes.push_back(member.id);
  }
  return nodes;
}

// Whatever the peer is now: a former owner may hold what nobody else has.
bool CatchUp::is_ours(PartitionId partition) const {
  return (view_.is_owner(partition) || view_.is_owner_to_be(partition)) && !view_.awaits_refill(partition);
}

std::vector<PartitionId> CatchUp::ours() const {
  std::vector<PartitionId> ours;
  for (std::uint32_t i = 0; i < view_.ring().partitions(); ++i) {
    const PartitionId p{static_cast<std::uint16_t>(i)};
    if (is_ours(p)) ours.push_back(p);
  }
  return ours;
}

// Away copies are not counted and may lag: a return does not wait for the site that is their home.
bool CatchUp::counts(PartitionId partition) const {
  return view_.is_home(partition) || !view_.is_owner(partition) ||
         view_.ring().is_owner_to_be(partition, view_.self);
}

std::vector<PartitionId> CatchUp::counted() const {
  std::vector<PartitionId> counted = ours();
  std::erase_if(counted, [this](PartitionId partition) { return !counts(partition); });
  return counted;
}

// What one peer could not give may have come from another.
bool CatchUp::all_fetched(const Runs& failed) const {
  return std::all_of(failed.begin(), failed.end(), [this](const auto& run) {
    return !is_ours(run.first) || !counts(run.first) ||
           view_.store.held(run.first, run.second.writer) >= run.second.n;
  });
}

std::string CatchUp::why_not_enough(const std::set<NodeId>& answered, bool patient) const {
  const auto& ring = view_.ring();
  const std::size_t least = ring.enough_to_know();
  const auto partitions = counted();
  for (const auto partition : partitions) {
    std::size_t owners = 0;
    std::string silent;
    for (const auto& owner : ring.home(partition)) {
      const bool there = owner == view_.self || answered.contains(owner);
      owners += there ? 1 : 0;
      if (!there) silent += " " + short_text(owner);
    }
    if (owners >= least) continue;
    return "too few owners of partition " + std::to_string(partition.value) + " answer, no answer from" + silent +
           ": start them again, or take the change back with `starling abort`";
  }
  return vouchers_.lacking(partitions, answered, patient);
}

// Anti-entropy for as long as we live; while catching up without a rest.
Task<Done> CatchUp::run() {
  overlay::Timer timer;
  auto pause = [this, &timer](Duration delay) { return overlay::sleep(view_.loop, delay, timer); };
  if (!peers().empty() || view_.ring().version().members.size() > 1) co_await pause(kSettleAfterStart);
  std::size_t turn = 0;
  std::uint64_t seen_returns = returns_;
  std::uint64_t seen_away = ~std::uint64_t{0};
  Instant away_since{};
  std::optional<Instant> stuck_since;  // All peers answered, but not every run came.
  for (;;) {
    if (view_.catching_up) {
      seen_returns = returns_;
      if (std::exchange(seen_away, returns_) != returns_) {
        away_since = view_.loop.now();
        stuck_since.reset();
        silence_.clear();
      }
      // What is only gained so far holds up no return.
      bool covered = std::none_of(filing_.begin(), filing_.end(), [this](const auto& filing) {
        return is_ours(filing.first) && !gains(filing.first);
      });
      auto meeting = meet_all();
      const auto pass = co_await meeting;
      covered &= pass->covered;
      const bool patient = view_.loop.now() - away_since <= kReturnPatience;
      // What failed in one round may come in the next: the patience counts from when nothing else was in the way.
      if (!covered || all_fetched(pass->failed)) {
        stuck_since.reset();
      } else if (!stuck_since) {
        stuck_since = view_.loop.now();
      }
      covered = covered && (!stuck_since || view_.loop.now() - *stuck_since > kReturnPatience);
      const std::string few = why_not_enough(pass->answered, patient);
      waits_for_ = !few.empty() ? few : covered ? "" : silence_.text();
      if (covered && few.empty() && seen_returns == returns_) {
        view_.catching_up = false;
        vouchers_.cover();
        if (on_catching_up) on_catching_up(false);
        view_.log.info("caught up", {{"peers", peers().size()}});
      } else {
        co_await pause(kRetryEvery);
      }
      continue;
    }
    const Duration rest = kCompareEvery / 2 + Duration(view_.random.below(kCompareEvery.count()));
    for (Duration waited{}; waited < rest && !view_.catching_up; waited += kRetryEvery) {
      co_await pause(kRetryEvery);
    }
    const auto nodes = peers();
    if (nodes.empty() || view_.catching_up) continue;
    auto comparing = round(nodes[turn++ % nodes.size()], installed_ && !controls_.paused());
    (void)co_await comparing;
  }
}

// Some at once: one that does not answer holds up no other.
Task<std::shared_ptr<CatchUp::Pass>> CatchUp::meet_all() {
  auto pass = std::make_shared<Pass>();
  pass->peers = peers();
  silence_.keep_only(pass->peers);
  pass->running = std::min(pass->peers.size(), kRoundsAtOnce);
  if (pass->running == 0) co_return pass;
  auto [finished, future] = overlay::Completer<bool>::make(view_.loop);
  pass->finished = finished;
  for (std::size_t i = pass->running; i > 0; --i) scope_.spawn(meet_next(pass));
  co_await future;
  co_return pass;
}

Task<Done> CatchUp::meet_next(std::shared_ptr<Pass> pass) {
  while (pass->next < pass->peers.size()) {
    const double share = static_cast<double>(pass->next) / static_cast<double>(pass->peers.size());
    const NodeId peer = pass->peers[pass->next++];
    auto comparing = round(peer, false, share);
    const auto compared = co_await comparing;
    if (compared) {
      pass->answered.insert(peer);
      pass->failed.insert(pass->failed.end(), compared->failed.begin(), compared->failed.end());
    }
    if (compared || !view_.alive(peer)) {
      silence_.answers(peer);
    } else if (silence_.is_silent(peer, view_.loop.now(), compared.error())) {
      pass->covered = false;
    }
  }
  if (--pass->running == 0) pass->finished.set(true);
  co_return Done{};
}

std::map<PartitionId, storage::VersionVector> CatchUp::replaced() const {
  std::map<PartitionId, storage::VersionVector> vectors;
  for (const auto partition : view_.store.with_superseded()) {
    vectors[partition] = view_.store.vector(partition);
  }
  return vectors;
}

// Those of our partitions that lie in a span which differs. All, when the peer cannot tell: it is of an
// older version, or at another ring version.
Task<Result<std::vector<PartitionId>>> CatchUp::differing(NodeId peer) {
  const RingPtr ring = view_.ring_ptr();
  std::vector<PartitionId> partitions = ours();
  CompareRequest request;
  request.ring = ring->number();
  request.by_span = true;
  request.spans = spans_with(view_, peer);
  request.partitions = view_.partitions();
  const auto vectors = replaced();
  auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kCompare, pack(request), kFetchDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(const CompareReply answer, unpack<CompareReply>(body));
  view_.heard_of_ring(peer, answer.ring);
  CO_TRY(same_count(request, answer));
  if (!answer.by_span || answer.ring != request.ring) co_return partitions;
  std::erase_if(partitions, [&](PartitionId partition) {
    if (std::binary_search(answer.spans.begin(), answer.spans.end(), span_of(partition))) return false;
    const auto equal = vectors.find(partition);
    const bool shared = ring->is_owner(partition, view_.self) && ring->is_owner(partition, peer);
    if (shared && equal != vectors.end() && on_covered) on_covered(peer, partition, equal->second);
    return true;
  });
  co_return partitions;
}

Task<Result<CatchUp::Compared>> CatchUp::round(NodeId peer, bool gained, double share) {
  Compared all;
  if (!view_.in_ring()) co_return all;
  const Instant begun = view_.loop.now();
  const std::uint64_t returns = returns_;
  Differences differences;
  differences.fetches = std::make_shared<Fetches>();
  differences.fetches->peer = peer;
  const std::uint32_t count = view_.partitions();
  auto narrowing = differing(peer);
  CO_TRY_ASSIGN(auto shared, co_await narrowing);
  if (!gained) std::erase_if(shared, [this](PartitionId partition) { return gains(partition); });
  for (std::size_t at = 0; at < shared.size(); at += kComparePartitionsMax) {
    const auto end = std::min(at + kComparePartitionsMax, shared.size());
    std::vector<PartitionId> chunk(shared.begin() + static_cast<std::ptrdiff_t>(at),
                                   shared.begin() + static_cast<std::ptrdiff_t>(end));
    while (!chunk.empty()) {
      auto comparing = compare(peer, chunk, kFetchDeadline, differences);
      CO_TRY_ASSIGN(const auto cut, co_await comparing);
      CO_TRY(view_.same_count(count));
      const auto done = std::erase_if(chunk, [&](PartitionId p) { return !cut || p <= *cut; });
      if (done == 0) co_return does_not_advance();
    }
  }
  if (returns == returns_) compared_.insert(peer);
  auto& runs = differences.fetches->runs;
  const auto first = static_cast<std::ptrdiff_t>(share * static_cast<double>(runs.size()));
  std::rotate(runs.begin(), runs.begin() + first, runs.end());
  auto taking = take(differences);
  CO_TRY(co_await taking);
  all = {runs.size(), std::move(differences.fetches->failed)};
  auto owed = merge_lanes_owed(peer);
  co_await owed;
  if (on_compared_all) on_compared_all(peer, begun);
  co_return all;
}

Task<Result<CompareReply>> CatchUp::ask_vectors(NodeId peer, std::vector<PartitionId> partitions,
                                                Duration deadline) {
  CompareRequest request;
  request.ring = view_.ring().number();
  for (const auto partition : partitions) {
    request.items.push_back({partition, digest_of(view_.store, partition)});
  }
  request.partitions = view_.partitions();
  auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kCompare, pack(request), deadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(CompareReply answer, unpack<CompareReply>(body));
  view_.heard_of_ring(peer, answer.ring);
  CO_TRY(same_count(request, answer));
  // Who owned what we own now accepts changes until it hears of it: what it says before is not all. And who knows a
  // newer version does not tell us of what we own by that.
  if (view_.catching_up && answer.ring.value != 0 && answer.ring != request.ring) {
    co_return Error{Errc::kStaleRing, "it is at ring version " + std::to_string(answer.ring.value) +
                                          ", this node at " + std::to_string(request.ring.value)};
  }
  note_wanted(answer.items);
  co_return answer;
}

// Ours may have doubled while the answer was on its way.
Status CatchUp::same_count(const CompareRequest& asked, const CompareReply& answer) const {
  TRY(view_.same_count(asked.partitions));
  return answer.ring.value == 0 ? ok_status() : view_.same_count(answer.partitions);
}

Task<Result<std::optional<PartitionId>>> CatchUp::compare(NodeId peer, std::vector<PartitionId> partitions,
                                                          Duration deadline, Differences& differences) {
  auto told = replaced();
  auto asking = ask_vectors(peer, partitions, deadline);
  CO_TRY_ASSIGN(const CompareReply answer, co_await asking);
  std::optional<PartitionId> cut;
  if (answer.more && !answer.items.empty()) cut = answer.items.back().partition;
  for (const auto& item : answer.items) {
    told.insert_or_assign(item.partition, item.vector);
    if (on_compared) on_compared(peer, item);
  }
  for (const auto partition : partitions) {
    // What is not in the answer is equal there.
    const auto has = told.find(partition);
    if (has != told.end() && on_covered && (!cut || partition <= *cut)) on_covered(peer, partition, has->second);
  }
  for (const auto& item : answer.items) {
    if (!std::binary_search(partitions.begin(), partitions.end(), item.partition)) continue;
    if (!view_.store.lost(item.partition).empty()) differences.lost.push_back(item);
    for (const auto& dot : item.vector.dots()) {
      if (view_.store.held(item.partition, dot.writer) >= dot.n) continue;
      if (is_forgotten && is_forgotten(item.partition, dot)) continue;
      // Our own run comes back only where we gave the partition up and got it again.
      if (dot.writer == view_.store.writer() && !view_.own_dots_hold(item.partition, dot.n)) continue;
      differences.fetches->runs.push_back({item.partition, dot});
    }
  }
  co_return cut;
}

// What they are, in runs, and what was written off here and not there.
Task<Status> CatchUp::take(Differences& differences) {
  const std::uint32_t count = view_.partitions();
  auto fetching = fetch_all(differences.fetches);
  CO_TRY(co_await fetching);
  for (const auto& item : differences.lost) {
    CO_TRY(view_.same_count(count));
    auto regaining = regain_some(differences.fetches->peer, item);
    co_await regaining;
  }
  co_return ok_status();
}

}  // namespace starling::node
