#include "node/repair/pruner.h"

#include <algorithm>

namespace starling::node {

using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kTickEvery = 30s;
constexpr Duration kForgottenFor = 10min;   // Longer than the owners' expiry times are apart.
constexpr std::size_t kListedMax = 1 << 20;
constexpr std::size_t kLookedAtOnceMax = 4;  // Partitions in one turn of the loop.
constexpr std::uint64_t kTurnSlackMs = 3600 * 1000;  // Between two turns there may be a little less than a period.
constexpr View kListKey = "spent";

struct ListRow {
  PartitionId partition;
  WriterId writer;
  std::uint64_t n = 0;
  std::uint64_t since = 0;
  FIELDS(partition, writer, n, since)
};
struct ListValue {
  std::uint64_t period = 0;
  std::vector<ListRow> rows;
  FIELDS(period, rows)
};

}  // namespace

Pruner::Pruner(ClusterView& view, Obligations& obligations, Writers open_writers)
    : view_(view), obligations_(obligations), open_writers_(std::move(open_writers)), scope_(view.loop) {
  load();
  tick_ = view_.loop.after(kTickEvery, [this] { tick(); });
}

bool Pruner::is_forgotten(PartitionId partition, const Dot& dot) const {
  const auto run = forgotten_.find({partition, dot.writer});
  return run != forgotten_.end() && dot.n <= run->second.n && view_.loop.now() < forgotten_until_;
}

void Pruner::tick() {
  tick_ = view_.loop.after(kTickEvery, [this] { tick(); });
  const std::uint64_t period = view_.store.expiry_time() / kPrunePeriodMs;
  if (period <= period_ || turning_ || !view_.in_ring() || view_.catching_up || view_.read_only) return;
  auto open = open_writers_();
  if (!open) return;
  turning_ = true;
  scope_.spawn(turn(period, std::move(*open)));
}

Task<Done> Pruner::turn(std::uint64_t period, std::set<WriterId> open) {
  overlay::Timer timer;
  List next;
  forgotten_.clear();
  forgotten_until_ = view_.loop.now() + kForgottenFor;
  std::size_t looked = 0;
  for (const auto partition : view_.store.touched()) {
    // What we give up, or shall fetch anew, is for its owners to judge.
    if (view_.is_owner(partition) && view_.answers_for(partition) && next.size() < kListedMax) {
      const List spent = spent_runs(partition, open);
      forget_due(spent);
      next.insert(spent.begin(), spent.end());
    }
    if (++looked % kLookedAtOnceMax == 0) co_await overlay::sleep(view_.loop, 1ms, timer);
  }
  if (!forgotten_.empty()) view_.log.info("closed writers forgotten", {{"runs", forgotten_.size()}});
  period_ = period;
  listed_ = std::move(next);
  persist();
  turning_ = false;
  co_return Done{};
}

Pruner::List Pruner::spent_runs(PartitionId partition, const std::set<WriterId>& open) const {
  List spent;
  const auto vector = view_.store.vector(partition);
  for (const auto& dot : vector.dots()) {
    if (open.contains(dot.writer) || !view_.store.is_spent(partition, dot.writer)) continue;
    const Run run{partition, dot.writer};
    const auto before = listed_.find(run);
    const bool unchanged = before != listed_.end() && before->second.n == dot.n;
    spent[run] = unchanged ? before->second : Spent{dot.n, view_.store.expiry_time()};
  }
  return spent;
}

// Of one partition.
void Pruner::forget_due(const List& spent) {
  std::uint64_t youngest = 0;
  for (const auto& [run, each] : spent) youngest = std::max(youngest, each.since);
  for (const auto& [run, each] : spent) {
    if (each.since == youngest || !is_due(each) || !view_.store.forget(run.first, run.second)) continue;
    obligations_.forget(run.first, run.second);
    forgotten_[run] = each;
  }
}

bool Pruner::is_due(const Spent& spent) const {
  return view_.store.expiry_time() - spent.since + kTurnSlackMs >= kPrunePeriodMs;
}

void Pruner::load() {
  const auto stored = view_.store.get(Store::Family::kNode, kListKey);
  if (!stored) return;
  // Unreadable: what was listed is listed anew.
  const auto value = unpack<ListValue>(*stored);
  if (!value) return;
  period_ = value->period;
  for (const auto& row : value->rows) listed_[{row.partition, row.writer}] = {row.n, row.since};
}

void Pruner::persist() {
  ListValue value{period_, {}};
  for (const auto& [run, spent] : listed_) {
    value.rows.push_back({run.first, run.second, spent.n, spent.since});
  }
  view_.store.put(Store::Family::kNode, kListKey, pack(value));
}

}  // namespace starling::node
