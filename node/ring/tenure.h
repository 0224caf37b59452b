// Tenures: since which ring version this node votes on the names of a partition, and how claims move from
// one set of owners to the next.
//
// Owners are here those at home (overlay/ring/sites.h): all, without a policy of sites.
// A term of a partition is a run of ring versions with the same owners, named by its first. Only its owners
// vote in it, and only those that hold all that earlier terms may have chosen. To get there an owner seals:
// it asks the owners of the term before to vote no more, and to hand over their acceptor states.
//   - Who knows a ring version votes under no older one, so to learn of it is to be sealed; the answer to
//     kSeal says so once that is durable, and until when the node could vote.
//   - So many of the term before sealed that every majority meets one, n - majority + 1 of n: what was chosen
//     then is held by one of them that could vote then, and the others can choose nothing more; the states of
//     all those that could are merged. If none of them could vote, nothing was chosen in
//     that term, nor will be: the term before it is asked, and so on, down to version 1.
//   - An owner that votes in the present term already has everything: its states alone will do.
//   - Over versions that nobody keeps any more we go as over one in which all owners changed; how the present term is
//     called we learn from whom votes in it. Who did so may have voted in a term whose end it did not see: the states
//     of every sealed owner that ever voted are merged, too. More states than needed do no harm, the highest ballot
//     wins (decision 0042).
//   - Owners that were forced out answer no more. Where too few are left without them, all that are left
//     must be sealed, and what only those forced out had chosen is lost (decision 0020). What one of them answers
//     all the same is of another lineage, whose numbers mean other versions, and counts for nothing.
//   - Of the terms before one that lost owners so, those who left are not waited for either, once they were told that
//     they may be switched off: a majority of a later term had what they had, and who is left of that term was asked
//     before. Nor is who was removed, or is so long gone that the ring forgot it (decision 0057). Who was not told asks
//     the others: one now and then, all once it waits for it.
// The merged states are stored before the row that says "may vote", and both before the first vote.
// Invariants: (1) votes of a term are given by owners of that term under a ring version of that term;
//             (2) whatever was chosen in an earlier term is held by each that votes; (3) a promise or an
//             accepted ballot of a majority is under the promise of each that votes later, so ballots go
//             on rising over a change of owners.
// Bounded and throttled: batches of partitions, pages of states, a rest after each page; what is done is
// durable by partition. Thread: one loop.
// Sources: Lamport, Malkhi, Zhou, Reconfiguring a State Machine (2010); Vertical Paxos (2009).
// docs/decisions/0011-names-move-by-sealing.md
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "node/layout.h"
#include "node/replication/view.h"
#include "node/ring/messages.h"
#include "overlay/loop/task.h"
#include "overlay/ring/paxos.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

inline constexpr std::size_t kSealPartitionsMax = 256;        // In one request.
inline constexpr std::size_t kHandOverBytesMax = 256 << 10;   // A page.
inline constexpr std::size_t kHandOverNamesMax = 512;
inline constexpr Duration kHandOverRest = 5ms;                // After a page: under 50 MB a second.

class Tenures {
 public:
  // A decided version: from disk, or from other members. kUnavailable: nobody who has it answers; kNotFound: no member has it.
  using Recall = std::function<overlay::Task<Result<overlay::RingVersion>>(RingNumber)>;
  // The first on our disk behind that one.
  using KeptAfter = std::function<std::optional<RingNumber>(RingNumber)>;

  Tenures(ClusterView& view, Recall recall, KeptAfter kept_after);

  // May this node vote on names of the partition under the ring version it is at? kNotOwner; kCatchingUp:
  // claims are still being handed over.
  [[nodiscard]] Status may_vote(PartitionId partition) const;
  // Does this node vote on everything that the version it is at gives it? kOverloaded says what that waits for.
  [[nodiscard]] Status settled() const;
  // Who is away, and without whom (or another one of them) it cannot.
  [[nodiscard]] std::vector<NodeId> needs() const;
  // Partitions that this node could vote on at some time.
  [[nodiscard]] std::vector<PartitionId> voted() const;
  // It left, and said that nobody needs it any more.
  [[nodiscard]] bool is_safe(const NodeId& node) const { return safe_.contains(node); }

 private:
  using Row = TenureRow;
  using Answers = std::map<NodeId, SealReply::Item>;
  struct Source {
    NodeId node;
    bool empty = false;
    RingNumber votes;  // In this term, which is the present one; zero: it voted in earlier ones.
  };

  void serve();
  void load();
  void partitions_doubled();
  void wake();
  overlay::Task<Done> run();
  overlay::Task<Status> follow_ring();
  [[nodiscard]] Result<RingNumber> begin() const;
  overlay::Task<Result<RingPtr>> next_kept(RingNumber at);
  // From version `last`, zero for none; `before` is that one, if it is known and `after` is the next.
  void step(RingNumber last, const overlay::Ring* before, const overlay::Ring& after);
  [[nodiscard]] bool is_forgotten(RingNumber number) const;
  void put(PartitionId partition, const Row& row);
  // tenure_take_over.cc
  struct Batch {  // Partitions that are taken over together; the terms are the present ones.
    std::vector<SealRequest::Item> items;
    std::map<PartitionId, Answers> answers;
    std::set<NodeId> asked;  // About all of them.
    std::map<RingNumber, std::map<PartitionId, std::vector<NodeId>>> homes;  // Owners of older versions.
  };
  using Questions = std::map<NodeId, std::vector<SealRequest::Item>>;
  overlay::Task<Status> take_over_some();
  overlay::Task<std::map<NodeId, SealReply>> ask(Questions asked);
  overlay::Task<Done> seal(Questions asked, Batch& batch);
  overlay::Task<Done> seal_older(const std::vector<NodeId>& owners, PartitionId partition, Batch& batch);
  overlay::Task<Result<std::vector<NodeId>>> home_at(RingNumber number, PartitionId partition, Batch& batch);
  overlay::Task<Result<std::vector<Source>>> find_sources(SealRequest::Item item, Batch& batch);
  Error too_few(PartitionId partition, std::vector<NodeId> away, bool forced);
  overlay::Task<Status> take_over(PartitionId partition, RingNumber term, std::vector<Source> from);
  Status merge(PartitionId partition, const HandOverReply& page);
  overlay::Task<Result<RingPtr>> ring_at(RingNumber number);
  // Sorted: who was at home in that version in what a partition of now lay in.
  [[nodiscard]] std::vector<NodeId> home_in(const overlay::Ring& ring, PartitionId partition) const;
  overlay::Task<bool> forced_out(NodeId node);
  [[nodiscard]] bool given_up(const NodeId& node, RingNumber term) const;
  [[nodiscard]] bool given_up(const Error& unknown, RingNumber term) const;
  void note_safe(const NodeId& node, RingNumber ring);
  void look_around();
  [[nodiscard]] std::vector<NodeId> others_there() const;
  overlay::Task<Done> ask_who_is_safe(std::vector<NodeId> nodes);
  [[nodiscard]] bool has_names(PartitionId partition) const;
  [[nodiscard]] Result<HandOverReply> page(PartitionId partition, View after, std::size_t limit) const;
  [[nodiscard]] bool still(PartitionId partition, RingNumber term) const;

  ClusterView& view_;
  const Recall recall_;
  const KeptAfter kept_after_;
  RingPtr at_;                               // The version that the rows are as of.
  std::map<PartitionId, Row> rows_;          // By the partitions of now, however old that version is.
  std::set<PartitionId> unreadable_;  // Their row on disk.
  std::map<PartitionId, RingNumber> pending_;  // Present terms that we cannot vote in yet.
  std::map<PartitionId, std::vector<NodeId>> silent_;  // Of those pending: who has to answer and does not.
  std::string waits_for_;
  std::map<NodeId, RingNumber> safe_;  // Who left, and under which version it was needed no more.
  bool left_silent_ = false;           // Somebody who left is waited for.
  Instant asked_who_is_safe_{};
  PartitionId last_tried_;
  std::map<RingNumber, RingPtr> rings_;      // Lately needed; a few.
  bool running_ = false;
  overlay::Timer look_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  overlay::Scope scope_;                     // Last.
};

}  // namespace starling::node
