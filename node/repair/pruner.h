// Pruner: forgets writers whose run is over and of which nothing is left, so that version vectors do not grow by
// an entry with every crash for ever (hazards F40; pruning of version vectors: Sarin, Lynch, Discarding Obsolete
// Information in a Replicated Database System, 1987).
//
// Once every member of the ring is known to run under another writer, a writer is closed. When all that it wrote
// is expired or erased, its entry says "seen, and gone", which is what an unknown writer means to a cursor
// anyway. Expiry time (repair/upkeep.h) is much the same on all owners; each time that it begins a new period
// they all look, list what is closed and spent, and forget what was listed, unchanged, a period ago.
// The runs listed last stay: whoever lacks something of an older one lacks something of those too, and
// fetching a run of which something is gone brings the lanes, which outlive every run (storage/store.h).
// Who was away at such a turn still names the writer: that is not fetched for a while; if the other
// does not turn in time it is learnt again, stays listed, and goes at the next turn, from both.
// Invariant: a writer is forgotten no sooner than one period after it was closed. A store that stood still for
// so long draws a new writer (storage/store.h), so no dot of a forgotten one is ever made again.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>

#include "node/replication/obligations.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::uint64_t kPrunePeriodMs = 30ull * 24 * 3600 * 1000;
static_assert(kPrunePeriodMs > 2 * storage::kKeptWriterIdleMaxMs);

class Pruner {
 public:
  // Those under which the members of the ring run, or last ran. Nothing: not known of every member.
  using Writers = std::function<std::optional<std::set<WriterId>>()>;

  Pruner(ClusterView& view, Obligations& obligations, Writers open_writers);

  // Forgotten so lately that another owner's vector may still name it.
  [[nodiscard]] bool is_forgotten(PartitionId partition, const Dot& dot) const;

 private:
  using Run = std::pair<PartitionId, WriterId>;
  struct Spent {
    std::uint64_t n = 0;      // How far it had come.
    std::uint64_t since = 0;  // Expiry time, in ms, when it was listed so.
  };
  using List = std::map<Run, Spent>;

  void tick();
  overlay::Task<Done> turn(std::uint64_t period, std::set<WriterId> open);
  [[nodiscard]] List spent_runs(PartitionId partition, const std::set<WriterId>& open) const;
  void forget_due(const List& spent);
  [[nodiscard]] bool is_due(const Spent& spent) const;
  void load();
  void persist();

  ClusterView& view_;
  Obligations& obligations_;
  const Writers open_writers_;
  std::uint64_t period_ = 0;  // Of the last turn.
  List listed_;
  List forgotten_;            // In the last turn.
  Instant forgotten_until_{};
  bool turning_ = false;
  overlay::Timer tick_;
  overlay::Scope scope_;
};

}  // namespace starling::node
