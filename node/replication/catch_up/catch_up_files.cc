// What we gain and have nothing of: its runs are stored by files, partition by partition (storage/install.h).
//
// They are the runs that any owner gives to who lacks something, up to where it had come when it was asked first;
// so an owner that dies on the way is followed by another one, and what neither gave is fetched run by run, as the
// tail is. Partitions are taken in their order, some at once, so that each group's files lie behind those before.
#include <algorithm>

#include "node/replication/catch_up/catch_up.h"
#include "storage/install.h"

namespace starling::node {

using overlay::Completer;
using overlay::Task;

namespace {

constexpr std::uint64_t kGroupBytesMax = 32 << 20;  // One ingestion, as far as can be told before.
constexpr std::uint64_t kGroupBytesMin = 1 << 20;
constexpr std::uint64_t kGroupSeconds = 10;        // At the operator's rate: a crash costs what was gathered.
constexpr std::size_t kGatheredMax = 64 << 20;     // More than that in memory is written first.
constexpr std::size_t kGroupPartitionsMax = 512;
constexpr std::size_t kFilledAtOnce = 16;
constexpr std::uint64_t kChangeBytesGuess = 1024;  // Until some have come.
constexpr std::uint64_t kChangeRowsBytes = 320;    // What a change takes in memory beside its bytes.
constexpr Duration kWriteWait = 10ms;

}  // namespace

void CatchUp::note_offers(const NodeId& peer, const std::vector<CompareReply::Item>& items) {
  for (const auto& item : items) {
    if (!item.whole || !gains(item.partition)) continue;
    auto& offers = offers_[item.partition];
    std::erase_if(offers, [&](const Offer& offer) { return offer.peer == peer; });
    offers.push_back({peer, item.vector});
  }
}

std::uint64_t CatchUp::offered(PartitionId partition) const {
  const auto wanted = wanted_.find(partition);
  std::uint64_t changes = 0;
  if (wanted == wanted_.end() || !offers_.contains(partition)) return 0;
  for (const auto& dot : wanted->second.dots()) changes += dot.n;
  return changes;
}

// A stretch of them without another partition's rows in between makes one file a family, at most one a group: it
// has to be worth those.
std::vector<PartitionId> CatchUp::worth_files() const {
  const auto touched = view_.store.touched();
  std::vector<PartitionId> out, stretch;
  std::uint64_t changes = 0;
  const auto close = [&] {
    if (changes >= files_from) out.insert(out.end(), stretch.begin(), stretch.end());
    stretch.clear();
    changes = 0;
  };
  for (const auto partition : view_.ring().partitions_to_be_of(view_.self)) {
    const auto next = std::lower_bound(touched.begin(), touched.end(), partition);
    const bool here = next != touched.end() && *next == partition;
    if (here || !gains(partition) || offered(partition) == 0) continue;
    if (!stretch.empty() && std::upper_bound(touched.begin(), touched.end(), stretch.back()) != next) close();
    stretch.push_back(partition);
    changes += offered(partition);
  }
  close();
  return out;
}

// The next ones; those of which the store has something after all come run by run. Null: that is all of them.
std::shared_ptr<CatchUp::Filing> CatchUp::begin_filing(std::vector<PartitionId>& left) {
  const std::uint64_t came = moved_bytes_ - bytes_before_;
  const std::uint64_t each = kChangeRowsBytes + (changes_came_ == 0 ? kChangeBytesGuess : came / changes_came_);
  auto filing = std::make_shared<Filing>();
  const std::uint64_t rate = controls_.rate();
  std::uint64_t full = kGroupBytesMax;
  if (rate != 0) {
    full = kGroupSeconds * std::clamp(rate, kGroupBytesMin / kGroupSeconds, kGroupBytesMax / kGroupSeconds);
  }
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  for (; count < std::min(left.size(), kGroupPartitionsMax) && (count == 0 || bytes < full); ++count) {
    bytes += offered(left[count]) * each;
  }
  const auto end = left.begin() + static_cast<std::ptrdiff_t>(count);
  filing->partitions.assign(left.begin(), end);
  left.erase(left.begin(), end);
  auto install = view_.store.install(filing->partitions);
  if (!install) return nullptr;
  filing->install = std::move(*install);
  std::erase_if(filing->partitions, [this](PartitionId partition) {
    return filing_.contains(partition) || !view_.store.is_installing(partition);
  });
  for (const auto partition : filing->partitions) filing_[partition] = filing->install;
  return filing;
}

Task<Done> CatchUp::install_files() {
  auto left = worth_files();
  std::shared_ptr<Filing> before;
  while (!left.empty() && installing_ == view_.ring().number()) {
    auto filing = begin_filing(left);
    if (!filing) continue;
    auto [gathered, all] = Completer<bool>::make(view_.loop);
    filing->gathered = gathered;
    filing->running = std::min(filing->partitions.size(), kFilledAtOnce);
    for (std::size_t i = filing->running; i > 0; --i) scope_.spawn(fill_next(filing));
    co_await all;
    // One group is written while the next one gathers.
    if (before) co_await before->finished;
    finish_filing(filing);
    before = filing;
  }
  if (before) co_await before->finished;
  co_return Done{};
}

void CatchUp::finish_filing(const std::shared_ptr<Filing>& filing) {
  auto [finished, future] = Completer<bool>::make(view_.loop);
  filing->finished = std::move(future);
  filing->install->finish([this, filing, finished = std::move(finished)](const Status& status) mutable {
    for (const auto partition : filing->partitions) filing_.erase(partition);
    view_.observe_repair(view_.store.highest_time());
    if (!status) {
      view_.log.warn("files with what this node gains could not be stored; it is fetched run by run",
                     {{"partitions", filing->partitions.size()}, {"cause", status.error()}});
    }
    finished.set(true);
  });
}

Task<Done> CatchUp::fill_next(std::shared_ptr<Filing> filing) {
  while (filing->next < filing->partitions.size()) {
    auto filling = fill(filing, filing->partitions[filing->next++]);
    co_await filling;
  }
  if (--filing->running == 0) filing->gathered.set(true);
  co_return Done{};
}

// From one owner, or what it does not give from the next.
Task<Done> CatchUp::fill(std::shared_ptr<Filing> filing, PartitionId partition) {
  auto offers = offers_[partition];
  if (offers.empty()) co_return Done{};
  // All of them have something to do.
  const auto first = offers.begin() + static_cast<std::ptrdiff_t>(partition.value % offers.size());
  std::rotate(offers.begin(), first, offers.end());
  for (const auto& offer : offers) {
    if (!gains(partition) || !view_.alive(offer.peer) || filing->silent.contains(offer.peer)) continue;
    auto taking = take_offer(filing, partition, offer);
    const auto taken = co_await taking;
    if (taken) co_return Done{};
    view_.log.warn("an owner does not give all of what this node gains",
                   {{"peer", offer.peer}, {"partition", partition.value}, {"cause", taken.error()}});
    const Errc code = taken.code();
    if (code == Errc::kUnavailable || code == Errc::kTimeout) filing->silent.insert(offer.peer);
  }
  co_return Done{};
}

Task<Status> CatchUp::take_offer(std::shared_ptr<Filing> filing, PartitionId partition, Offer offer) {
  bool lanes = false;
  for (const auto& dot : offer.vector.dots()) {
    if (is_forgotten && is_forgotten(partition, dot)) continue;
    if (dot.writer == view_.store.writer() && !view_.own_dots_hold(partition, dot.n)) continue;
    while (filing->install->held(partition, dot.writer) < dot.n) {
      auto heeding = heed_controls(partition);
      CO_TRY_ASSIGN(const std::uint64_t charged, co_await heeding);
      if (!gains(partition)) co_return ok_status();  // What came is whole in itself.
      if (view_.read_only) co_return Error{Errc::kFull, "no disk space here: nothing is stored"};
      ++view_.counters.fetches;
      const Dot from{dot.writer, filing->install->held(partition, dot.writer) + 1};
      auto asking = ask_run(offer.peer, partition, from, dot.n);
      const auto range = co_await asking;
      pace_.give_back(charged);
      if (!range) co_return range.error();
      // The lanes of who has come so far know of all that is gone of it.
      if (range->live.size() < range->to - range->from + 1 && !std::exchange(lanes, true)) {
        auto merging = take_lanes(filing, offer.peer, partition);
        CO_TRY(co_await merging);
      }
      auto making = make_room(filing);
      co_await making;
      auto waiting = turns_.take(view_.self, kNever);
      if (!co_await waiting) co_return Error{Errc::kOverloaded, "too many runs wait to be applied"};
      turns_.did(cost_of(*range));
      view_.counters.fetched_changes += range->live.size();
      moved(partition, *range);
      CO_TRY_ASSIGN(const auto applied, filing->install->apply(partition, *range));
      if (applied == storage::Applied::kGap) {
        co_return Error{Errc::kCorrupt, "the peer answered with another run than asked for"};
      }
    }
  }
  co_return ok_status();
}

Task<Status> CatchUp::take_lanes(std::shared_ptr<Filing> filing, NodeId peer, PartitionId partition) {
  auto take = [filing, partition](const std::vector<storage::LaneRow>& lanes) {
    return filing->install->merge_lanes(partition, lanes);
  };
  auto reading = read_lanes(peer, partition, std::move(take));
  co_return co_await reading;
}

// A partition may be larger than what fits in memory, and a group larger than it was thought to be.
Task<Done> CatchUp::make_room(std::shared_ptr<Filing> filing) {
  overlay::Timer timer;
  while (filing->install->gathered() >= kGatheredMax) {
    if (!filing->install->writing()) {
      filing->install->write();
    } else {
      co_await overlay::sleep(view_.loop, kWriteWait, timer);
    }
  }
  co_return Done{};
}

}  // namespace starling::node
