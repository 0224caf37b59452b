// RingService: keeps the newest agreed ring version, makes changes to it, and admits joiners.
//
// Version number+1 is decided by Paxos among the voters of version number; gossip and notices only spread
// what was decided. A change takes two versions: the intent, during which the owners-to-be install what
// they will own, and its completion (or abort). Every voter drives an open change on, the first that is
// alive at once and the others later and later, so it needs neither the node that began it nor the one
// that it is about (movement.h has the rules).
// Without a majority an operator may force nodes out at one of those that are left: that is a version of a
// new lineage, decided by nobody but him. The others adopt it as the successor of the version that they are
// at, never as one of two (hazards F1). While a majority of the voters is alive it decides about that version, too.
// A node that missed versions fetches them one after the other: each has to be a step from the one before. Over
// those that nobody keeps any more it skips to one that the members it knows agree on (ring_behind.cc).
// Invariants: (1) a version is durable at a majority of its voters before anybody acts on it; a node that
// loses its own copy learns it again; (2) a node never goes back to an older
// version, nor to a lineage that its own does not end in, nor over a step that is none (decisions 0031, 0042);
// (3) one change at a time: the Paxos instance of the next number; (4) the store has the partitions of the version:
// where they are doubled, it is split in the batch that has the version, or the node stays where it is and tries again.
// Thread: one loop.   The rules of versions: overlay/ring/ring_version.h, ring_change.h.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "crypto/access/invite.h"
#include "crypto/access/keyring.h"
#include "node/config.h"
#include "node/replication/view.h"
#include "node/ring/messages.h"
#include "node/ring/paxos_service.h"
#include "overlay/loop/task.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

inline constexpr Duration kProposeDeadline = 10s;
inline constexpr Duration kRingAskDeadline = 3s;  // Of one member.
inline constexpr Duration kFindOthersFor = 10s;   // After a start; who is not found by then is not there.

class RingService {
 public:
  RingService(ClusterView& view, PaxosService& paxos, const Identity& identity, const Keyring& keyring);

  // The version on disk, if there is one. kCorrupt, kUnsupported.
  static Result<std::optional<overlay::RingVersion>> load(storage::Store& store);
  // Goes on with the version that load() found.
  Status resume(const overlay::RingVersion& version) { return set(version); }
  // Version 1, with this node alone. REQUIRES: none is on disk.
  Status found(const LineageId& lineage, const overlay::RingSettings& settings,
               const std::string& zone, std::uint32_t weight);
  // Takes the next version, decided elsewhere. Older ones are ignored. kStaleRing: others come before it;
  // kForeign: another lineage, which ours does not end in.
  Status adopt(const overlay::RingVersion& version);

  // Proposes what `build` makes of the newest version, and returns its number; tries again when a rival was first. The
  // operator's changes are such, and so is `abort`.
  using Build = std::function<Result<overlay::RingVersion>(const overlay::RingVersion&)>;
  overlay::Task<Result<RingNumber>> change(Build build);
  // What came of the change that version `intent` opened. kUnavailable: no member that answers knows the versions.
  enum class Outcome { kOpen, kDone, kTakenBack };
  overlay::Task<Result<Outcome>> outcome(RingNumber intent);

  // Under a new lineage, and without agreement where no majority of the voters is alive, those named left out. What only
  // `nodes` hold is given up. `revoke`: they are not believed any more. kUnavailable: a majority is alive and did not
  // decide in time (it may yet), or this node has just started.
  overlay::Task<Status> force_out(std::vector<NodeId> nodes, bool revoke);
  // Would it be refused?
  [[nodiscard]] Status may_force_out(const std::vector<NodeId>& nodes) const;

  // `peer` seems to know a newer version: asks it, or, when we do not know it as a member, one that we
  // do. Holding the cluster secret is not enough to tell us who is in the ring.
  void fetch(const NodeId& peer);

  // A version that was decided, from disk or from a member, `first` before others. kNotFound: all members answered, and none
  // knows it; kUnavailable: one of those who did not answer may.
  overlay::Task<Result<overlay::RingVersion>> recall(RingNumber number, std::optional<NodeId> first = {});
  // The first on disk behind that one.
  [[nodiscard]] std::optional<RingNumber> kept_after(RingNumber number) const;
  // Why the newest version that we heard of cannot be followed; empty when it can.
  [[nodiscard]] std::string stuck() const;
  // Those on disk from that number to the one before the present, one for each set of owners.
  [[nodiscard]] std::vector<RingPtr> since(RingNumber number) const;

  // The joiner's side: asks `seed` (a member already dialled) for admission, then adopts the answer.
  overlay::Task<Result<JoinReply>> ask_to_join(NodeId seed, JoinRequest request);
  // The joiner's side, too: ends when the change is complete. kDenied: it was taken back.
  overlay::Task<Status> await_completion();

  // A change under way: has this node installed what it gains?
  [[nodiscard]] Status installed(RingNumber number) const;
  // Why a change that this node drives is not complete; empty when it does not drive one.
  [[nodiscard]] const std::string& waits_for() const { return waits_for_; }

  // Rounds with the owners until we cover what we shall own (catch_up.h). REQUIRED.
  std::function<overlay::Task<Status>()> install;

  // Does this node vote on all names that the present version gives it? REQUIRED.
  std::function<Status()> names_settled;

  // Does it cover what was acknowledged before the present version? REQUIRED.
  std::function<Status()> covered;

  // Who is away, and has to answer for one of these two. REQUIRED.
  std::function<std::vector<NodeId>()> who_is_needed;

  // Can all members that answer do without these? kDenied names who cannot.
  overlay::Task<Status> may_do_without(std::vector<NodeId> nodes);

  // Link endpoints of members, for the answer to a joiner.
  std::function<std::vector<std::string>()> seeds;

 private:
  void serve();
  // ring_join.cc
  void serve_joiners();
  overlay::Task<Done> admit(NodeId from, JoinRequest request, overlay::Reply reply);
  overlay::Task<Result<Bytes>> admit_checked(NodeId from, JoinRequest request);
  Status in_time(const Invite& invite, const NodeId& from);
  overlay::Task<Status> tell_installed();
  overlay::Task<Status> still_joining();
  // ring_drive.cc
  void serve_progress();
  void prepare();
  overlay::Task<Done> install_what_we_gain();
  overlay::Task<Done> drive();
  [[nodiscard]] std::size_t live_voters_before_us() const;
  overlay::Task<Done> answer_progress(NodeId from, overlay::Reply reply);
  overlay::Task<Status> complete(RingNumber number);
  overlay::Task<Status> all_installed(RingNumber number);

  [[nodiscard]] bool has_live_majority_without(const std::vector<NodeId>& nodes) const;
  [[nodiscard]] std::optional<overlay::RingVersion> accepted_after(const overlay::RingVersion& now) const;
  void learn(const NodeId& from, const overlay::RingVersion& version);
  overlay::Task<Done> walk(NodeId peer, RingNumber until);
  // ring_behind.cc
  overlay::Task<Status> skip(RingNumber until);
  [[nodiscard]] Status may_skip_to(const overlay::RingVersion& version, const std::set<NodeId>& vouch) const;
  [[nodiscard]] bool is_alone() const;
  void note_stranger(const NodeId& peer);
  [[nodiscard]] std::string lonely() const;
  void announce();
  [[nodiscard]] std::optional<Bytes> remembered(RingNumber number) const;
  [[nodiscard]] std::optional<overlay::RingVersion> known(RingNumber number) const;
  Status keep_if_it_fits(const overlay::RingVersion& version);
  [[nodiscard]] std::optional<NodeId> trusted(const NodeId& peer);
  Status take_partitions(const overlay::RingVersion& version);
  void note_stuck(const Error& why);
  [[nodiscard]] Status may_lead_to(const overlay::RingVersion& version) const;
  Status set(const overlay::RingVersion& version);

  ClusterView& view_;
  PaxosService& paxos_;
  const Identity& identity_;
  const Keyring& keyring_;
  const Instant born_ = view_.loop.now();
  std::set<NodeId> fetching_;
  bool walking_ = false;
  std::string stuck_;
  // Is at a newer version and no member that we know, while none that we know is there.
  struct Stranger {
    NodeId id;
    Instant since;
    bool told = false;
  };
  std::optional<Stranger> stranger_;
  struct Waiter {
    NodeId node;
    Instant asked;  // Last.
  };
  std::map<InviteId, Waiter> waiters_;  // Joiners that asked in time.
  RingNumber installed_;     // The change of this version is installed here.
  bool installing_ = false;
  bool driving_ = false;
  std::map<NodeId, Instant> said_installed_;  // Joiners that told us so, and when, of the change of version
  RingNumber said_of_;                        // this.
  std::string waits_for_;
  overlay::Scope scope_;
};

}  // namespace starling::node
