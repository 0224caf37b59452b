#include "node/replication/stand_ins/stand_in.h"

#include <algorithm>

#include "storage/expiry.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr Duration kStandInEvery = 500ms;
constexpr Duration kHandHomeDeadline = 30s;  // An owner may have much to fetch.
constexpr std::size_t kEarlyOverhead = 64;   // Of each change that came early.
constexpr Duration kRunRest = 5s;               // Of a run that an owner could not take; with jitter.

}  // namespace

StandIn::StandIn(ClusterView& view) : view_(view), scope_(view.loop) {
  look();
  view_.on_doubled([this] {
    known_ = false;
    held_.clear();
    early_.clear();
    bytes_ = early_bytes_ = 0;
  });
  view_.on_notice<Replicate>(Method::kHint, [this](const NodeId& from, const Replicate& message) {
    receive(from, message);
  });
  tick_ = view_.loop.after(kStandInEvery, [this] { tick(); });
}

// The store shows nothing while a split moves it. That it shows nothing because there is nothing is known when it is
// settled, or takes something.
void StandIn::look() {
  if (known_) return;
  load();
  known_ = !held_.empty() || view_.store.is_split_settled();
}

void StandIn::load() {
  for (const auto& hint : view_.store.hints()) {
    Held& held = held_[{hint.partition, hint.dot.writer}];
    (void)extend(held, hint.dot.n);
    held.bytes += hint.size;
    bytes_ += hint.size;
  }
}

void StandIn::receive(const NodeId& from, const Replicate& message) {
  if (!view_.in_ring()) return;
  view_.heard_of_ring(from, message.ring);
  if (!view_.same_count(from, message.partitions)) return;
  // Who is gone may be switched off at any moment (decision 0020).
  if (view_.read_only || view_.is_holder()) return;
  for (const auto& run : message.runs) receive_run(from, message, run);
}

void StandIn::receive_run(const NodeId& from, const Replicate& message, const Replicate::Run& run) {
  // An owner keeps its log without holes and is counted as one: this is for another ring version.
  if (run.changes.empty() || run.first == 0 || !view_.exists(run.partition)) return;
  if (run.first > storage::kRunLengthMax - run.changes.size()) return;
  if (view_.is_owner(run.partition) || bytes_ > kHintBytesMax) return;
  look();
  const Run key{run.partition, message.writer};
  std::optional<std::pair<std::uint64_t, std::uint64_t>> segment;
  for (std::size_t i = 0; i < run.changes.size(); ++i) {
    const Dot dot{message.writer, run.first + i};
    const bool gone = view_.says_gaps() && run.changes[i].data.empty();
    const auto change = storage::decode(run.changes[i].data, dot);
    if (!gone && (!change || view_.store.partition_of(change->mailbox) != run.partition)) {
      view_.bad_notice("change", from, Method::kHint,
                       change ? Error{Errc::kInvalid, "a change of another partition"} : change.error());
      break;
    }
    if (!joins(key, dot.n, run.covered)) {
      keep_early(key, dot.n, run.changes[i].data);
    } else if (const auto reached = take(key, dot.n, run.changes[i].data)) {
      segment = reached;
    }
  }
  if (const auto reached = take_early(key, run.covered)) segment = reached;
  if (!segment) return;
  Hinted answer{view_.ring().number(), message.writer, {{run.partition, segment->first, segment->second}},
                view_.partitions()};
  view_.store.when_durable([this, from, answer = std::move(answer)] {
    view_.rpc.notify(from, Method::kHinted, pack(answer));
  });
}

bool StandIn::joins(const Run& run, std::uint64_t n, std::uint64_t covered) const {
  if (n <= covered + 1) return true;
  const auto held = held_.find(run);
  if (held == held_.end()) return false;
  const auto after = held->second.segments.upper_bound(n);
  return after != held->second.segments.begin() && std::prev(after)->second + 1 >= n;
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> StandIn::take(const Run& run, std::uint64_t n, View data) {
  const Dot dot{run.second, n};
  const bool is_new = !holds(run.first, dot);
  if (is_new && !view_.store.hold(run.first, dot, data)) return std::nullopt;
  known_ = true;
  Held& held = held_[run];
  if (is_new) {
    held.bytes += data.size();
    bytes_ += data.size();
    ++view_.counters.hints_held;
  }
  return extend(held, n);
}

void StandIn::keep_early(const Run& run, std::uint64_t n, View data) {
  if (early_bytes_ + data.size() + kEarlyOverhead > kEarlyBytesMax) return;
  Early& early = early_[run];
  early.until = view_.loop.now() + kEarlyFor;
  if (early.changes.emplace(n, Bytes(data)).second) early_bytes_ += data.size() + kEarlyOverhead;
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> StandIn::take_early(const Run& run, std::uint64_t covered) {
  const auto early = early_.find(run);
  if (early == early_.end()) return {};
  std::optional<std::pair<std::uint64_t, std::uint64_t>> segment;
  auto& changes = early->second.changes;
  while (!changes.empty() && joins(run, changes.begin()->first, covered)) {
    const auto change = changes.extract(changes.begin());
    early_bytes_ -= change.mapped().size() + kEarlyOverhead;
    const auto reached = take(run, change.key(), change.mapped());
    if (!reached) break;
    segment = reached;
  }
  if (changes.empty()) early_.erase(early);
  return segment;
}

std::vector<WriterId> StandIn::runs(PartitionId partition) const {
  std::vector<WriterId> out;
  for (auto at = held_.lower_bound({partition, WriterId{}}); at != held_.end() && at->first.first == partition; ++at) {
    out.push_back(at->first.second);
  }
  return out;
}

std::vector<NodeId> StandIn::waits_for(PartitionId partition, WriterId writer) const {
  std::vector<NodeId> out;
  const auto held = held_.find({partition, writer});
  if (held == held_.end()) return out;
  const bool current = held->second.home_to == held->second.segments.rbegin()->second;
  for (const auto& owner : view_.ring().home(partition)) {
    if (!current || !held->second.home.contains(owner)) out.push_back(owner);
  }
  return out;
}

bool StandIn::holds_for(PartitionId partition, const NodeId& owner) const {
  if (!is_known()) return true;
  const auto writers = runs(partition);
  return std::any_of(writers.begin(), writers.end(), [&](WriterId writer) {
    const auto waiting = waits_for(partition, writer);
    return std::find(waiting.begin(), waiting.end(), owner) != waiting.end();
  });
}

void StandIn::drop_early(std::map<Run, Early>::iterator run) {
  for (const auto& [n, data] : run->second.changes) early_bytes_ -= data.size() + kEarlyOverhead;
  early_.erase(run);
}

std::pair<std::uint64_t, std::uint64_t> StandIn::extend(Held& held, std::uint64_t n) {
  auto& segments = held.segments;
  auto at = segments.upper_bound(n);
  if (at != segments.begin() && std::prev(at)->second + 1 >= n) {
    at = std::prev(at);
    at->second = std::max(at->second, n);
  } else {
    at = segments.emplace(n, n).first;
  }
  if (auto next = std::next(at); next != segments.end() && next->first == at->second + 1) {
    at->second = next->second;
    segments.erase(next);
  }
  return {at->first, at->second};
}

bool StandIn::holds(PartitionId partition, const Dot& dot) const {
  const auto held = held_.find({partition, dot.writer});
  if (held == held_.end()) return false;
  const auto behind = held->second.segments.upper_bound(dot.n);
  return behind != held->second.segments.begin() && std::prev(behind)->second >= dot.n;
}

storage::RangeStatement StandIn::read(PartitionId partition, WriterId writer,
                                      std::uint64_t from) const {
  storage::RangeStatement range;
  range.writer = writer;
  range.from = from;
  range.to = from - 1;
  const auto held = held_.find({partition, writer});
  if (held == held_.end()) return range;
  const auto after = held->second.segments.upper_bound(from);
  if (after == held->second.segments.begin()) return range;
  const auto [first, last] = *std::prev(after);
  if (from > last) return range;
  for (auto& change : view_.store.read_held(partition, Dot{writer, from}, kFetchBytesMax)) {
    if (change.dot.n != range.to + 1 || change.dot.n > last) break;
    range.to = change.dot.n;
    if (change.bytes->empty()) continue;  // The sibling's: gone of this one.
    range.live.push_back({change.dot.n, {Bytes(*change.bytes)}});
  }
  return range;
}

bool StandIn::all_home(const Run& run, const Held& held) const {
  const std::uint64_t end = held.segments.rbegin()->second;
  if (held.home_to < end) return false;
  // Away owners get it from those at home.
  const auto owners = view_.ring().home(run.first);
  return std::all_of(owners.begin(), owners.end(),
                     [&](const NodeId& owner) {
                       // We may have become one: then our own log counts, as theirs does.
                       if (owner == view_.self) return view_.store.synced(run.first, run.second) >= end;
                       return held.home.contains(owner);
                     });
}

// One run at a time to each owner, a bounded number of owners at once.
void StandIn::tick() {
  tick_ = view_.loop.after(kStandInEvery, [this] { tick(); });
  if (!view_.in_ring()) return;
  look();
  for (auto it = early_.begin(); it != early_.end();) {
    const auto run = it++;
    if (view_.loop.now() > run->second.until) drop_early(run);
  }
  for (auto it = held_.begin(); it != held_.end();) {
    const auto run = it++;
    if (all_home(run->first, run->second)) let_go(run);
  }
  auto run = held_.upper_bound(offered_);
  for (std::size_t left = held_.size(); left > 0 && handing_.size() < kHandHomeAtOnceMax; --left, ++run) {
    if (run == held_.end()) run = held_.begin();
    offer(run->first, run->second);
  }
}

void StandIn::let_go(std::map<Run, Held>::iterator run) {
  view_.store.release(run->first.first, run->first.second);
  bytes_ -= run->second.bytes;
  held_.erase(run);
}

void StandIn::offer(const Run& run, Held& held) {
  const std::uint64_t end = held.segments.rbegin()->second;
  if (held.home_to < end) {
    held.home_to = end;
    held.home.clear();
    held.rests_until = {};
  }
  if (view_.loop.now() < held.rests_until) return;
  for (const auto& owner : view_.ring().home(run.first)) {
    if (handing_.size() >= kHandHomeAtOnceMax) return;
    if (owner == view_.self || held.home.contains(owner) || !view_.alive(owner)) continue;
    if (!handing_.insert(owner).second) continue;
    offered_ = run;
    scope_.spawn(hand_home(owner, run, end));
  }
}

Task<Done> StandIn::hand_home(NodeId owner, Run run, std::uint64_t to) {
  const std::uint32_t count = view_.partitions();
  auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kHold,
                              pack(HoldRequest{run.first, run.second, to, count}), kHandHomeDeadline);
  const auto answer = co_await asking;
  handing_.erase(owner);
  if (!view_.same_count(count)) co_return Done{};
  auto held = held_.find(run);
  if (held == held_.end()) co_return Done{};
  if (answer) {
    const auto reply = unpack<HoldReply>(*answer);
    if (reply && reply->synced >= to && held->second.home_to == to) {
      held->second.home.insert(owner);
      ++view_.counters.hints_home;
    }
    co_return Done{};
  }
  held->second.rests_until = view_.loop.now() + kRunRest / 2 + Duration(view_.random.below(kRunRest.count()));
  // It lacks what lies before our segment, and we do not have that.
  if (answer.code() != Errc::kNotFound) co_return Done{};
  const std::uint64_t bytes = held->second.bytes;
  auto looking = is_spent(run);
  const bool spent = co_await looking;
  if (!view_.same_count(count)) co_return Done{};
  held = held_.find(run);
  if (!spent || held == held_.end() || held->second.bytes != bytes) co_return Done{};
  view_.log.info("what was held for others expired before it could go home", {{"partition", run.first.value}});
  let_go(held);
  co_return Done{};
}

// All that is held of the run expired: nobody shows it, or asks for it, any more.
Task<bool> StandIn::is_spent(Run run) {
  overlay::Timer timer;
  for (std::uint64_t from = 1;;) {
    const auto page = view_.store.read_held(run.first, Dot{run.second, from}, kFetchBytesMax);
    const auto held = held_.find(run);
    if (held == held_.end()) co_return false;
    if (page.empty()) co_return from > held->second.segments.rbegin()->second;
    for (const auto& change : page) {
      if (change.bytes->empty()) continue;  // The sibling's.
      const auto decoded = storage::decode(*change.bytes, change.dot);
      if (!decoded || decoded->kind == storage::ChangeKind::kRegister) co_return false;
      const auto expiry = storage::expiry_seconds(decoded->entry.expires_ms);
      if (!storage::is_expired(expiry, view_.store.expiry_time())) co_return false;
    }
    from = page.back().dot.n + 1;
    co_await overlay::sleep(view_.loop, 1ms, timer);
  }
}

}  // namespace starling::node
