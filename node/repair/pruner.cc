#include "node/repair/pruner.h"

#include <algorithm>

#include "node/layout.h"
#include "node/replication/children.h"

namespace starling::node {

using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kPruneEvery = 30s;                 // With jitter: owners do not all look at once.
constexpr std::size_t kListedMax = 1 << 16;          // In all partitions: some 7 MB in memory,
constexpr std::size_t kListedOfOneMax = 1 << 12;     // and of one: 100 KB, written at once. Those behind come later.
constexpr std::size_t kLackingMax = 1 << 12;
constexpr std::size_t kRunsAtOnce = 16;              // Looked at in one turn of the loop: each reads some KiB.
constexpr std::uint64_t kTurnSlackMs = 3600 * 1000;  // Between two turns there may be a little less than a period.
// An owner that says so often that it holds nothing of a run did not just lag behind: it would have fetched it.
constexpr int kLackedTimes = 5;
constexpr Duration kLackedLately = 10min;
constexpr std::size_t kLookBytes = 4 << 10;

Bytes list_key(PartitionId partition) { return row_key(kSpentPrefix, partition); }

}  // namespace

Pruner::Pruner(ClusterView& view, Obligations& obligations, Writers open_writers)
    : view_(view), obligations_(obligations), open_writers_(std::move(open_writers)), scope_(view.loop) {
  load();
  view_.on_doubled([this] { partitions_doubled(); });
  tick_ = view_.loop.after(kPruneEvery, [this] { tick(); });
}

bool Pruner::is_forgotten(PartitionId partition, const Dot& dot) const {
  const auto list = listed_.find(partition);
  if (list == listed_.end()) return false;
  const auto run = list->second.find(dot.writer);
  return run != list->second.end() && run->second.forgotten && dot.n <= run->second.n;
}

// What was spent of a parent is spent of both children.
void Pruner::partitions_doubled() {
  for (const auto& [partition, list] : listed_) view_.store.put(Store::Family::kNode, list_key(partition), {});
  split_keys(listed_);
  for (const auto& [partition, list] : listed_) persist(partition);
  lacking_.clear();
}

void Pruner::tick() {
  tick_ = view_.loop.after(kPruneEvery / 2 + Duration(view_.random.below(kPruneEvery.count())), [this] { tick(); });
  if (turning_ || !view_.in_ring() || view_.catching_up || view_.read_only) return;
  forget_with_the_others();
  const std::uint64_t period = view_.store.expiry_time() / kPrunePeriodMs;
  if (period <= period_) return;
  auto open = open_writers_();
  if (!open) return;
  turning_ = true;
  scope_.spawn(turn(period, std::move(*open)));
}

// What we give up, or shall fetch anew, is for its owners to judge.
bool Pruner::judges(PartitionId partition) const {
  return view_.in_ring() && view_.is_owner(partition) && view_.answers_for(partition).ok();
}

// A writer that is closed stays so, however long this takes. When the partitions are doubled meanwhile, it begins anew.
Task<Done> Pruner::turn(std::uint64_t period, std::set<WriterId> open) {
  overlay::Timer timer;
  const std::uint32_t count = view_.partitions();
  const auto is_over = [&] { return view_.partitions() != count; };
  const std::uint64_t now_ms = view_.store.expiry_time();
  std::size_t looked = 0, room = kListedMax, forgotten = 0;
  auto partitions = view_.store.touched();
  for (const auto& [partition, list] : listed_) partitions.push_back(partition);
  std::sort(partitions.begin(), partitions.end());
  partitions.erase(std::unique(partitions.begin(), partitions.end()), partitions.end());
  for (const auto partition : partitions) {
    if (!view_.is_owner(partition) && listed_.erase(partition) > 0) persist(partition);
    List spent;
    const auto vector = view_.store.vector(partition);
    for (const auto& dot : vector.dots()) {
      if (++looked % kRunsAtOnce == 0) co_await overlay::sleep(view_.loop, 1ms, timer);
      if (is_over() || !judges(partition) || spent.size() >= std::min(room, kListedOfOneMax)) break;
      if (open.contains(dot.writer) || !view_.store.is_spent(partition, dot.writer)) continue;
      spent[dot.writer] = listed(partition, dot, now_ms);
    }
    if (is_over()) break;
    if (!judges(partition)) continue;  // What was listed stays so.
    room -= spent.size();
    std::uint64_t youngest = 0;
    for (const auto& [writer, each] : spent) youngest = std::max(youngest, each.since);
    for (auto& [writer, each] : spent) {
      if (each.since == youngest || !is_due(each)) continue;
      if (++looked % kRunsAtOnce == 0) co_await overlay::sleep(view_.loop, 1ms, timer);
      if (is_over()) break;
      each.forgotten = judges(partition) && forget({partition, writer});
      forgotten += each.forgotten ? 1 : 0;
    }
    if (is_over()) break;
    const bool had = listed_.contains(partition);
    if (spent.empty()) {
      listed_.erase(partition);
    } else {
      listed_[partition] = std::move(spent);
    }
    if (had || listed_.contains(partition)) persist(partition);
  }
  if (forgotten > 0) view_.log.info("closed writers forgotten", {{"runs", forgotten}});
  turning_ = false;
  if (is_over()) co_return Done{};
  period_ = period;
  view_.store.put(Store::Family::kNode, kSpentPeriodKey, row_number(period_));
  co_return Done{};
}

Pruner::Spent Pruner::listed(PartitionId partition, const Dot& dot, std::uint64_t now_ms) const {
  const Spent fresh{dot.n, now_ms, false};
  const auto list = listed_.find(partition);
  if (list == listed_.end()) return fresh;
  const auto before = list->second.find(dot.writer);
  if (before == list->second.end() || before->second.n != dot.n) return fresh;
  return {dot.n, before->second.since, false};
}

bool Pruner::is_due(const Spent& spent) const {
  return view_.store.expiry_time() - spent.since + kTurnSlackMs >= kPrunePeriodMs;
}

bool Pruner::forget(const Run& run) {
  if (!view_.store.forget(run.first, run.second)) return false;
  obligations_.forget(run.first, run.second);
  return true;
}

void Pruner::compared(const NodeId& peer, const CompareReply::Item& theirs) {
  const PartitionId partition = theirs.partition;
  if (view_.catching_up || !view_.is_owner(partition) || !view_.ring().is_owner(partition, peer)) return;
  const bool says_all = theirs.whole && !view_.behind(peer);
  const auto vector = view_.store.vector(partition);
  for (const auto& dot : vector.dots()) {
    const Run run{partition, dot.writer};
    const auto known = lacking_.find(run);
    if (!says_all || theirs.vector.get(dot.writer) > 0) {
      if (known != lacking_.end()) known->second.erase(peer);
      continue;
    }
    if (known == lacking_.end() && lacking_.size() >= kLackingMax) continue;
    auto& lacks = lacking_[run][peer];
    if (view_.loop.now() - lacks.last > kLackedLately) lacks.times = 0;
    ++lacks.times;
    lacks.last = view_.loop.now();
  }
}

bool Pruner::is_lacked_by_all(const Run& run, const std::map<NodeId, Lacks>& owners) const {
  const auto all = view_.ring().owners(run.first);
  return all.size() > 1 && std::all_of(all.begin(), all.end(), [&](const NodeId& owner) {
    if (owner == view_.self) return true;
    const auto lacks = owners.find(owner);
    return lacks != owners.end() && lacks->second.times >= kLackedTimes &&
           view_.loop.now() - lacks->second.last <= kLackedLately;
  });
}

// The others have forgotten it. We were away when they listed it, or something of it is damaged here, which
// nobody can give us any more.
void Pruner::forget_with_the_others() {
  const auto open = open_writers_();
  if (!open) return;
  for (const auto& [run, owners] : lacking_) {
    if (open->contains(run.second) || !view_.is_owner(run.first) || !is_lacked_by_all(run, owners)) continue;
    const std::uint64_t n = view_.store.held(run.first, run.second);
    give_up_damage(run);
    if (!forget(run)) continue;
    listed_[run.first][run.second] = {n, view_.store.expiry_time(), true};
    persist(run.first);
    view_.log.info("a closed writer that all other owners forgot is forgotten", {{"partition", run.first.value}});
  }
  std::erase_if(lacking_, [this](const auto& each) {
    const auto& [run, owners] = each;
    return view_.store.held(run.first, run.second) == 0 ||
           std::all_of(owners.begin(), owners.end(), [this](const auto& owner) {
             return view_.loop.now() - owner.second.last > kLackedLately;
           });
  });
}

void Pruner::give_up_damage(const Run& run) {
  const auto& [partition, writer] = run;
  if (view_.awaits_refill(partition)) return;
  auto damaged = view_.store.damaged(partition);
  std::erase_if(damaged, [&](const Dot& dot) { return dot.writer != run.second; });
  if (damaged.empty()) return;
  // That the others hold nothing of the run does not say that they ever had it.
  const auto is_past = [&](const Dot& dot) { return view_.store.is_past(partition, dot); };
  if (!std::all_of(damaged.begin(), damaged.end(), is_past)) return;
  std::uint64_t from = 1;
  const std::uint64_t end = view_.store.held(partition, writer) + 1;
  auto holes = damaged;
  holes.push_back({writer, end});
  for (const auto& hole : holes) {
    if (from < hole.n) {
      const auto left = view_.store.read_writer(partition, writer, from, kLookBytes);
      if (!left || left->to + 1 < hole.n || !left->live.empty() || !left->lost.empty()) return;
    }
    from = hole.n + 1;
  }
  for (const auto& dot : damaged) {
    const auto gone = view_.store.mend(partition, storage::RangeStatement{writer, dot.n, dot.n, {}, {}});
    if (!gone && gone.code() == Errc::kOverloaded) return;  // At the next look.
    view_.log.warn("damage in a run that all other owners forgot counts as gone",
                   {{"partition", partition.value}, {"dot", to_text(dot)}, {"done", gone.ok()}});
  }
}

void Pruner::load() {
  if (const auto stored = view_.store.get(Store::Family::kNode, kSpentPeriodKey)) {
    period_ = parse_row_number(*stored).value_or(0);
  }
  for (const auto& [key, value] : view_.store.scan(Store::Family::kNode, kSpentPrefix, "", kListedMax)) {
    // Unreadable: what was listed is listed anew.
    const auto rows = unpack<SpentRows>(value);
    const auto partition = parse_partition_of(key, kSpentPrefix);
    if (!rows || !partition) continue;
    List& list = listed_[*partition];
    for (const auto& row : rows->rows) list[row.writer] = {row.n, row.since, row.forgotten};
  }
}

void Pruner::persist(PartitionId partition) {
  SpentRows value;
  if (const auto list = listed_.find(partition); list != listed_.end()) {
    for (const auto& [writer, spent] : list->second) {
      value.rows.push_back({writer, spent.n, spent.since, spent.forgotten});
    }
  }
  view_.store.put(Store::Family::kNode, list_key(partition), value.rows.empty() ? Bytes() : pack(value));
}

}  // namespace starling::node
