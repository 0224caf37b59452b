// Mender: brings damaged changes back from the other owners, while the node serves.
//
// The store lists the changes that it cannot read (storage/rocks/damage.h). Each run of them is asked from one
// owner after the other, then from the other members, who may stand in; the first good answer mends it, also the
// answer that a change is gone. A change which every other member answered not to have stays listed and is
// told as hopeless: an operator may write it off, `give_up()`, and then it counts as gone (hazards F30).
// Of a partition that waits to be fetched anew nothing is mended: it is only asked whether anybody has the change.
// A copy of the message that had lost to it is the message again. Who had all of them erased that copy, so it is made
// anew, where the lost one stood, and every owner gets it (docs/decisions/0058-what-is-written-off-leaves-one-message.md).
// Invariants: (1) what is mended was checked by the store; (2) nothing is written off while a member
// of the ring has not answered; (3) while one is written off, nothing is mended.
// Thread: one loop.
#pragma once

#include <optional>
#include <set>
#include <vector>

#include "node/replication/catch_up/catch_up.h"
#include "node/replication/append/coordinator.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

class Mender {
 public:
  using Change = std::pair<PartitionId, Dot>;

  Mender(ClusterView& view, CatchUp& catch_up, Coordinator& coordinator);

  // Something was found damaged: look soon. Cheap; from the store's damage hook.
  void look() { due_ = true; }
  // Looks at all that is listed now; returns when every change was tried.
  overlay::Task<Done> mend_all();
  [[nodiscard]] bool busy() const { return due_ || busy_; }
  // Damaged, and no other owner has it: as of the last try of each.
  [[nodiscard]] const std::set<Change>& hopeless() const { return hopeless_; }
  // Writes those off, after asking for each of them once more. The value: how many; those that could not be written
  // off stay listed. An error: none could.
  overlay::Task<Result<std::size_t>> give_up();

 private:
  enum class Answer { kMended, kNobodyHasIt, kOpen };

  overlay::Task<Done> run();
  overlay::Task<Done> try_all();  // REQUIRES: busy_ is the caller's.
  overlay::Task<Done> mend_partition(PartitionId partition);
  // As Store::mend, to the end.
  overlay::Task<Status> mend(PartitionId partition, const storage::RangeStatement& range);
  overlay::Task<Status> write_off(PartitionId partition, Dot dot);
  struct Copy {
    Shared bytes;
    storage::ChangeView change;  // Borrows from bytes.
  };
  // What takes the place of a lost change, if anything does and it is not there already.
  [[nodiscard]] std::optional<Copy> next_best(PartitionId partition, const Dot& lost) const;
  overlay::Task<Answer> mend_run(PartitionId partition, WriterId writer, std::uint64_t from,
                                 std::uint64_t to);

  ClusterView& view_;
  CatchUp& catch_up_;
  Coordinator& coordinator_;
  bool due_ = true;   // Damage of an earlier run may be listed.
  bool busy_ = false;
  std::set<Change> hopeless_;
  overlay::Scope scope_;
};

}  // namespace starling::node
