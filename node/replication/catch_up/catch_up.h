// CatchUp: finds out what this node is missing and asks for it, always as "send me writer w from n".
//
// One mechanism serves an owner that was away, a gap in live traffic, anti-entropy between owners and
// a joiner that installs what it will own. Two nodes compare a digest per span of partitions; where they
// differ, one per partition, then vectors; for every writer that the peer has further, we fetch runs until we
// cover it. What was written off here as lost, and not there, is asked for again (decision 0027).
// A node is `catching up` from its start (or from hearing that it was declared dead) until it covers the
// vectors that its reachable fellow owners had at that moment, enough of those before a change of the ring
// among them (vouchers.h). A peer that is there and cannot answer is waited for for a while (silence.h). Nodes
// that catch up answer these requests too, so a whole cluster that restarts gets going by itself.
// What a returning owner lacks comes as fast as that leaves the live traffic alone: reading and applying yield to it
// (turns.h), and in all it is no more than a rate (decision 0068).
// What a change of the ring gives us is copied as the operator says: not while that is paused, and no faster than
// the bandwidth for it (catch_up_controls.h). Where we have nothing of it and it is much, it is stored by files
// (decision 0050); the rest, and what is written meanwhile, run by run.
// What a run leaves out because it expired there was counted by its lane once, so lanes are fetched
// before a run that has such gaps.
// Invariant: only the prefix rule of the store decides what is accepted, so a fetch may be late,
// repeated or reordered.
// Thread: one loop.   Sources: Bayou (SOSP 1995), DottedDB (SRDS 2017).
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "node/replication/catch_up/catch_up_controls.h"
#include "node/replication/catch_up/catch_up_pace.h"
#include "node/replication/catch_up/lane_debts.h"
#include "node/replication/messages.h"
#include "node/replication/copies/silence.h"
#include "node/replication/catch_up/turns.h"
#include "node/replication/view.h"
#include "node/replication/catch_up/vouchers.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kFetchesInFlightMax = 64;
inline constexpr Duration kFetchDeadline = 5s;
inline constexpr std::uint64_t kFilesFrom = 1024;

class CatchUp {
 public:
  CatchUp(ClusterView& view, MoveControls& controls);

  // Begins anti-entropy with each peer in turn. Sets view.catching_up until covered.
  void start();
  // We were away: do as after a start.
  void fall_behind();
  // There is another ring version. `gained`: by which we own more than we know of.
  void ring_changed(bool gained);
  // Versions since we last covered what was acknowledged; before start().
  void owned_before(std::vector<RingPtr> rings);
  [[nodiscard]] std::optional<RingNumber> covered_at() const { return vouchers_.covered_at(); }
  // Do we cover what was acknowledged before the present version? kOverloaded says what that waits for.
  [[nodiscard]] Status covered() const;
  // Who is away, and has to answer for that.
  [[nodiscard]] std::vector<NodeId> cover_needs() const;
  std::function<void(bool)> on_catching_up;  // Tells the others.
  // It left, and everybody has what it held.
  std::function<bool(const NodeId&)> is_safe;
  // Of a partition with superseded changes: `peer` has synced at least this.
  std::function<void(const NodeId& peer, PartitionId, const storage::VersionVector& has)> on_covered;
  // Of a partition in which the peer differs from us: what it holds.
  std::function<void(const NodeId& peer, const CompareReply::Item&)> on_compared;
  // A comparison of all that we own, begun then, is through: the rest was equal.
  std::function<void(const NodeId& peer, Instant begun)> on_compared_all;
  // A change that was written off is back.
  std::function<void(const Dot&, View change)> on_regained;
  // Of another owner's vector: not to be fetched (repair/pruner.h).
  std::function<bool(PartitionId, const Dot&)> is_forgotten;
  // Runs that we hold without being an owner (stand_in.h). REQUIRED.
  std::function<storage::RangeStatement(PartitionId, WriterId, std::uint64_t from)> held_for_others;
  // Do we hold something of it that this owner has not taken yet, for all that we know? REQUIRED.
  std::function<bool(PartitionId, const NodeId& owner)> holds_for;

  // What a change of the ring gives us comes by files where so many changes, or more, make one (catch_up_files.cc).
  std::uint64_t files_from = kFilesFrom;

  // Changes that the comparisons under way found missing and that did not come yet. That is at least so many of what
  // is missing until everybody who is there was compared with, since we returned.
  [[nodiscard]] std::uint64_t missing() const;
  [[nodiscard]] bool is_missing_known() const;
  // Of what we own: changes and bytes that came, of late, in a second.
  [[nodiscard]] std::uint64_t return_rate() const { return return_rate_.per_second(view_.loop.now()); }
  [[nodiscard]] std::uint64_t return_bytes_rate() const { return return_bytes_.per_second(view_.loop.now()); }

  // `peer` said (writer, n), and we do not hold what comes before: fetches up to there in the background, once at a time.
  void fetch_gap(const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n);
  // The same, awaited, until we hold 1..n. kUnavailable, kTimeout, kCorrupt.
  overlay::Task<Status> fetch_until(NodeId peer, PartitionId partition, WriterId writer,
                                    std::uint64_t n, bool in_bulk = false);

  using Runs = std::vector<std::pair<PartitionId, Dot>>;  // Of a writer, up to there.
  struct Compared {
    std::size_t missing = 0;  // Runs that we lacked,
    Runs failed;              // and those that the peer did not give after all.
  };
  // One comparison with a peer over all partitions that we own and, with `gained`, shall own, and the fetching
  // that follows. What is gained waits for the operator's word; what is owned does not.
  // `share`, 0 to 1: where in what is missing it begins, for several at once.
  overlay::Task<Result<Compared>> round(NodeId peer, bool gained, double share = 0);

  // The same over one partition.
  overlay::Task<Status> compare_partition(NodeId peer, PartitionId partition, Duration deadline);
  // May a member hold something of the partition that has not come home to us? True also where one that is no home owner is
  // away, or does not answer. Home owners that are away are the asker's concern.
  overlay::Task<bool> may_be_held(PartitionId partition, Duration deadline);

  // Who gains: rounds with every current owner until it follows all of them closely.
  overlay::Task<Status> install();
  // Why that does not get on; empty when it does.
  [[nodiscard]] std::string install_waits_for() const;

  // How far that is. Of the bytes only those that came are known: the rest is estimated from them.
  struct Progress {
    std::uint32_t partitions = 0;       // That we gain,
    std::uint32_t partitions_done = 0;  // and have in full, as far as the owners told.
    std::uint64_t changes = 0;
    std::uint64_t changes_done = 0;
    std::uint64_t bytes = 0;            // In this run of the node.
    std::uint64_t bytes_left = 0;
    std::uint64_t rate = 0;             // Bytes a second, of late.
  };
  [[nodiscard]] const Progress& progress() const;
  // Of all changes of the ring, in this run of the node.
  [[nodiscard]] std::uint64_t moved_bytes() const { return moved_bytes_; }
  // Why a return does not get on; empty when it does.
  [[nodiscard]] const std::string& waits_for() const { return waits_for_; }

  // "Of writer, from..to": as one node answers, its run or what it holds for others. kCorrupt, kNotFound
  // (it has not come so far), and what a call may end with.
  overlay::Task<Result<storage::RangeStatement>> ask_run(NodeId peer, PartitionId partition, Dot from,
                                                         std::uint64_t to);
  [[nodiscard]] std::size_t fetching() const { return gaps_.size(); }  // Gaps.

 private:
  void partitions_doubled();
  overlay::Task<Done> run();
  overlay::Task<Result<std::vector<PartitionId>>> differing(NodeId peer);
  overlay::Task<Result<CompareReply>> ask_vectors(NodeId peer, std::vector<PartitionId> partitions, Duration deadline);
  struct Fetches;
  struct Differences {  // Of a peer.
    std::shared_ptr<Fetches> fetches;
    std::vector<CompareReply::Item> lost;  // Of which we wrote something off.
  };
  // Adds to them. What is said is where the answer ends, if it is cut.
  overlay::Task<Result<std::optional<PartitionId>>> compare(NodeId peer, std::vector<PartitionId> partitions,
                                                            Duration deadline, Differences& differences);
  overlay::Task<Status> take(Differences& differences);
  struct Pass {  // Over all peers, in a return.
    std::vector<NodeId> peers;
    std::size_t next = 0;
    std::size_t running = 0;
    std::set<NodeId> answered;
    Runs failed;
    bool covered = true;
    overlay::Completer<bool> finished;
  };
  overlay::Task<std::shared_ptr<Pass>> meet_all();
  overlay::Task<Done> meet_next(std::shared_ptr<Pass> pass);
  [[nodiscard]] Status same_count(const CompareRequest& asked, const CompareReply& answer) const;
  // What we tell `on_covered` of if the peer turns out to be equal.
  [[nodiscard]] std::map<PartitionId, storage::VersionVector> replaced() const;

  // catch_up_fetch.cc: runs of one peer, and its lanes.
  struct Fetches {  // What one comparison found missing.
    NodeId peer;
    Runs runs;
    Runs failed;
    std::uint32_t partitions = 0;  // The count that they are of.
    std::size_t next = 0;
    std::size_t running = 0;
    std::optional<Error> error;
    overlay::Completer<bool> finished;
  };
  overlay::Task<Status> fetch_all(std::shared_ptr<Fetches> fetches);
  void note_missing(Fetches& fetches);
  void forget_missing(const Fetches& fetches);
  overlay::Task<Done> fetch_next(std::shared_ptr<Fetches> fetches);
  overlay::Task<Done> gap(NodeId peer, PartitionId partition, WriterId writer);
  // How many the peer has.
  overlay::Task<Result<std::size_t>> merge_lanes(NodeId peer, PartitionId partition);
  // Of what the peer says is gone. A stand-in has no lanes: there all other owners are asked, now or when they are back.
  overlay::Task<Status> merge_lanes_behind(NodeId peer, PartitionId partition);
  overlay::Task<Done> merge_lanes_owed(NodeId peer);
  using TakeLanes = std::function<Status(const std::vector<storage::LaneRow>&)>;
  overlay::Task<Status> read_lanes(NodeId peer, PartitionId partition, TakeLanes take);

  // catch_up_install.cc: what changes of the ring give us.
  [[nodiscard]] bool gains(PartitionId partition) const {
    return !view_.is_owner(partition) && view_.is_owner_to_be(partition);
  }
  // What the fetch is charged. kOverloaded: later; what only follows a change does not hold up the rest of a round.
  overlay::Task<Result<std::uint64_t>> heed_controls(PartitionId partition);
  // The same of what a returning owner lacks: that is never paused.
  overlay::Task<std::uint64_t> heed_return_rate();
  void came_back(const storage::RangeStatement& range);
  void moved(PartitionId partition, const storage::RangeStatement& range);
  void begin_install();
  overlay::Task<Done> ask_controls();
  overlay::Task<Done> survey_all();
  overlay::Task<bool> survey(NodeId peer);
  void note_wanted(const std::vector<CompareReply::Item>& items);
  overlay::Task<Done> while_paused();
  overlay::Task<Done> answer_fetch(NodeId from, FetchRequest request, overlay::Reply reply);

  // catch_up_files.cc: what we gain and have nothing of.
  struct Offer {
    NodeId peer;
    storage::VersionVector vector;
  };
  struct Filing {  // Partitions that are filled together.
    std::shared_ptr<storage::Install> install;
    std::vector<PartitionId> partitions;
    std::size_t next = 0;
    std::size_t running = 0;
    std::set<NodeId> silent;  // Asked no more.
    overlay::Completer<bool> gathered;
    overlay::Future<bool> finished{nullptr};
  };
  void note_offers(const NodeId& peer, const std::vector<CompareReply::Item>& items);
  [[nodiscard]] std::uint64_t offered(PartitionId partition) const;  // Changes.
  [[nodiscard]] std::vector<PartitionId> worth_files() const;
  std::shared_ptr<Filing> begin_filing(std::vector<PartitionId>& left);
  overlay::Task<Done> install_files();
  void finish_filing(const std::shared_ptr<Filing>& filing);
  overlay::Task<Done> fill_next(std::shared_ptr<Filing> filing);
  overlay::Task<Done> fill(std::shared_ptr<Filing> filing, PartitionId partition);
  overlay::Task<Status> take_offer(std::shared_ptr<Filing> filing, PartitionId partition, Offer offer);
  overlay::Task<Status> take_lanes(std::shared_ptr<Filing> filing, NodeId peer, PartitionId partition);
  overlay::Task<Done> make_room(std::shared_ptr<Filing> filing);
  [[nodiscard]] std::uint64_t came(PartitionId partition, WriterId writer) const;

  // catch_up_lost.cc: what was written off.
  overlay::Task<Done> regain_some(NodeId peer, CompareReply::Item theirs);
  overlay::Task<Status> regain(NodeId peer, PartitionId partition, std::vector<Dot> dots);

  overlay::Task<Done> is_held_at(NodeId peer, Bytes request, Duration deadline, bool& held);
  [[nodiscard]] CompareReply vectors_for(const NodeId& from, const CompareRequest& request) const;
  [[nodiscard]] CompareReply spans_for(const NodeId& from, const CompareRequest& request) const;
  overlay::Task<Done> answer_hold(NodeId from, HoldRequest request, overlay::Reply reply);
  void serve();
  [[nodiscard]] bool all_fetched(const Runs& failed) const;
  [[nodiscard]] bool holds(const HoldRequest& request) const;
  [[nodiscard]] bool is_ours(PartitionId partition) const;  // Owned, or to be.
  // Behind a wait: the partition of that count is there, and ours, and we store.
  [[nodiscard]] Status may_store(PartitionId partition, std::uint32_t count) const;
  [[nodiscard]] std::vector<PartitionId> ours() const;
  [[nodiscard]] bool counts(PartitionId partition) const;  // Of ours: not only an away copy.
  [[nodiscard]] std::vector<PartitionId> counted() const;
  [[nodiscard]] std::vector<NodeId> peers() const;
  // Of each partition that counts, did N-W+1 home owners answer, so that every acknowledged change was met (hazards F32)?
  [[nodiscard]] std::string why_not_enough(const std::set<NodeId>& answered, bool patient) const;

  ClusterView& view_;
  MoveControls& controls_;
  Vouchers vouchers_;
  std::map<std::pair<PartitionId, WriterId>, std::uint64_t> gaps_;  // Being fetched, up to there.
  Turns turns_;  // Runs are long work for a loop, to read or to apply: one at a time.
  struct Lack {
    std::uint64_t n = 0;         // The highest that somebody has.
    std::size_t rounds = 0;      // That fetch it.
  };
  std::map<std::pair<PartitionId, WriterId>, Lack> lacks_;
  std::set<NodeId> compared_;  // Since we returned.
  Pace return_pace_;
  RateMeter return_rate_, return_bytes_;
  std::string waits_for_;
  std::string install_waits_for_;
  Silence silence_;  // In the return under way.
  RingNumber installing_;  // The change that the following is of.
  std::map<PartitionId, storage::VersionVector> wanted_;  // What we gain: as far as owners had come when asked.
  bool surveyed_ = false;   // Everybody was asked.
  bool filed_ = false;      // What comes by files is here.
  std::map<PartitionId, std::vector<Offer>> offers_;  // What we gain: who has how much of it.
  std::map<PartitionId, std::shared_ptr<storage::Install>> filing_;  // On their way into files.
  bool installed_ = false;  // From now on we follow it, with what we own.
  Pace pace_;
  RateMeter rate_;
  std::uint64_t moved_bytes_ = 0;
  std::uint64_t bytes_before_ = 0;   // Moved before the change,
  std::uint64_t changes_came_ = 0;   // and changes by it.
  mutable Progress progress_;
  mutable Instant looked_at_{};      // The progress: not more often than somebody can see.
  std::uint64_t returns_ = 0;     // How often we fell behind.
  // Since then: the lanes of a peer were merged when it had come so far.
  std::map<std::tuple<NodeId, PartitionId, WriterId>, std::uint64_t> lanes_merged_;
  LaneDebts lane_debts_;
  overlay::Scope scope_;          // Last: its tasks use everything above.
};

}  // namespace starling::node
