// Obligations: a change that implies one in another mailbox, carried out until it is acknowledged.
//
// An entry of a direct message implies the sender's own copy (same key, same id); a member register of
// a group implies the same register in the user's own list. The change itself is the record of the
// duty; progress is one number per writer and partition: `settled`, below which all is met. It travels
// with replication, so that when a writer's run is over, whoever coordinates the partition takes up
// what is left (hazards F24). Everything implied is idempotent: by key, or by stamp.
// A copy is made behind that of the number before (decision 0074): an owner that lacks that one says so, and is asked
// for it first. So no copy outlives one before it that was still on its way.
// Bounded: what does not fit in memory, and what a clean restart left open, is found again in our log.
// Thread: one loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "node/replication/append/forward.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kRedriveAtOnceMax = 256;  // Duties tried again, under way at once.
inline constexpr std::size_t kDutiesMax = 100'000;     // In memory; the rest is read from the log later.
inline constexpr std::size_t kCopiesBeforeMax = 64;    // Of a lane: the library has no more unanswered, if not told otherwise.

// No retry will change this answer: the duty is void.
bool pointless(Errc code);

class Obligations {
 public:
  // `running`: does some live node run this writer now?
  Obligations(ClusterView& view, Forwarder& forwarder, Replicator& replicator,
              std::function<bool(WriterId)> running);

  // True when the change implies another.
  static bool implies(const storage::ChangeView& change);
  // REQUIRES: implies(change). `done` hears of the first outcome; after an error the duty goes on.
  void drive(PartitionId partition, const Dot& dot, Shared change,
             std::function<void(Status)> done);
  // Nothing is left of the run (repair/pruner.h).
  void forget(PartitionId partition, WriterId writer);
  // Of our own or of writers whose run is over, as far as they were taken up.
  [[nodiscard]] bool open(PartitionId partition) const;
  [[nodiscard]] std::size_t outstanding() const { return duties_.size(); }
  [[nodiscard]] std::size_t redriving() const { return redriving_; }

 private:
  using At = std::pair<PartitionId, Dot>;
  struct Duty {
    Shared change;
    std::vector<std::function<void(Status)>> waiters;
    bool under_way = false;
    bool redriven = false;  // Counts in redriving_.
  };

  void add(const At& at, Shared change);
  // Where the duty of this change is by now.
  [[nodiscard]] At at_of(const MailboxId& mailbox, const Dot& dot) const {
    return {view_.store.partition_of(mailbox), dot};
  }
  void partitions_doubled();
  void attempt(const At& at);
  // Asks for the copy of a message; where that of the number before is missing, for that one first, and so on.
  using Placed = std::function<void(Result<AppendReply>)>;
  void place(const MailboxId& mailbox, Shared message, std::size_t before_max, Instant until, Placed done);
  // The message of the number before. Null: there is none to wait for. kUnavailable: not on disk yet.
  [[nodiscard]] Result<Shared> before(const MailboxId& mailbox, const Shared& message) const;
  void move_to(const At& at, const EntryId& id);
  void redrive();
  void redrive_later();
  void finished(const At& at, Status done);
  void settle(PartitionId partition, WriterId writer);
  void heard(PartitionId partition, WriterId writer, std::uint64_t n);
  void tick();
  void take_up_logs();
  void give_over();
  void leave_to_log(const At& at);
  void persist();
  void load();

  ClusterView& view_;
  Forwarder& forwarder_;
  Replicator& replicator_;
  std::function<bool(WriterId)> running_;
  std::map<At, Duty> duties_;
  std::deque<std::pair<Instant, At>> retries_;  // From then on.
  std::size_t redriving_ = 0;
  std::map<std::pair<PartitionId, WriterId>, std::uint64_t> settled_;
  std::map<std::pair<PartitionId, WriterId>, std::uint64_t> scanned_;  // Of logs to take up: duties found.
  std::map<PartitionId, std::uint64_t> in_log_;  // Of our own writer: duties up to here are only in the log.
  std::set<std::pair<PartitionId, WriterId>> dirty_;  // Settled numbers to write down.
  overlay::Timer tick_;
  overlay::Timer redrive_timer_;
  bool redrive_armed_ = false;
};

}  // namespace starling::node
