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
// What was forgotten is not fetched again for a period. So who was away, or has damage in the run, hears from all
// other owners, again and again, that they hold nothing of it, and forgets it too (decision 0035).
// Invariant: a writer is forgotten no sooner than one period after it was closed, or where all other owners have
// forgotten it. A store that stood still for so long draws a new writer (storage/store.h), so no dot of a
// forgotten one is ever made again.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>

#include "node/replication/messages.h"
#include "node/replication/append/obligations.h"
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

  // Forgotten here in this period: another owner's vector may still name it.
  [[nodiscard]] bool is_forgotten(PartitionId partition, const Dot& dot) const;
  // From anti-entropy: of a partition in which the peer differs from us, what it holds.
  void compared(const NodeId& peer, const CompareReply::Item& theirs);

 private:
  struct Spent {
    std::uint64_t n = 0;      // How far it had come.
    std::uint64_t since = 0;  // Expiry time, in ms, when it was listed so.
    bool forgotten = false;
  };
  using List = std::map<WriterId, Spent>;  // Of one partition.
  using Run = std::pair<PartitionId, WriterId>;
  struct Lacks {  // An owner that holds nothing of a run that we hold.
    int times = 0;
    Instant last{};
  };

  void partitions_doubled();
  void tick();
  overlay::Task<Done> turn(std::uint64_t period, std::set<WriterId> open);
  [[nodiscard]] bool judges(PartitionId partition) const;
  // As the run is to be listed.
  [[nodiscard]] Spent listed(PartitionId partition, const Dot& dot, std::uint64_t now_ms) const;
  [[nodiscard]] bool is_due(const Spent& spent) const;
  void forget_with_the_others();
  [[nodiscard]] bool is_lacked_by_all(const Run& run, const std::map<NodeId, Lacks>& owners) const;
  // Nothing of the run is left but what is damaged and has expired: it counts as gone from now on.
  void give_up_damage(const Run& run);
  bool forget(const Run& run);
  void load();
  void persist(PartitionId partition);

  ClusterView& view_;
  Obligations& obligations_;
  const Writers open_writers_;
  std::uint64_t period_ = 0;  // Of the last turn.
  std::map<PartitionId, List> listed_;
  std::map<Run, std::map<NodeId, Lacks>> lacking_;
  bool turning_ = false;
  overlay::Timer tick_;
  overlay::Scope scope_;
};

}  // namespace starling::node
