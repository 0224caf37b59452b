// RingService: keeps the newest agreed ring version, makes changes to it, and admits joiners.
//
// Version number+1 is decided by Paxos among the voters of version number; gossip and notices only spread
// what was decided. A change takes two versions: the intent, during which the owners-to-be install what
// they will own, and its completion (or abort).
// Invariants: (1) a version is durable at a majority of its voters before anybody acts on it; a node that
// loses its own copy learns it again; (2) a node never goes back to an older
// version or to another lineage; (3) one change at a time: the Paxos instance of the next number.
// Thread: one loop.   The rules of versions: overlay/ring/ring_version.h.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "crypto/access/invite.h"
#include "node/config.h"
#include "node/replication/view.h"
#include "node/ring/messages.h"
#include "node/ring/paxos_service.h"
#include "overlay/loop/task.h"
#include "overlay/ring/ring_version.h"

namespace starling::node {

inline constexpr Duration kProposeDeadline = 10s;
// Older versions are forgotten. A partition whose owners could not hand over its names for that many
// changes of the ring decides no more names.
inline constexpr std::uint64_t kRingHistoryMax = 256;

class RingService {
 public:
  RingService(ClusterView& view, PaxosService& paxos, const Identity& identity);

  // The version on disk, if there is one. kCorrupt, kUnsupported.
  static Result<std::optional<overlay::RingVersion>> load(storage::Store& store);
  // Goes on with the version that load() found.
  Status resume(const overlay::RingVersion& version) { return set(version); }
  // Version 1, with this node alone. REQUIRES: none is on disk.
  Status found(const LineageId& lineage, const overlay::RingSettings& settings,
               const std::string& zone, std::uint32_t weight);
  // Takes a version decided elsewhere. Older ones are ignored. kForeign for another lineage.
  Status adopt(const overlay::RingVersion& version);

  // Proposes what `build` makes of the newest version; tries again when a rival was first.
  using Build = std::function<Result<overlay::RingVersion>(const overlay::RingVersion&)>;
  overlay::Task<Status> change(Build build);

  // `peer` seems to know a newer version: asks it, or, when we do not know it as a member, one that we
  // do. Holding the cluster secret is not enough to tell us who is in the ring.
  void fetch(const NodeId& peer);

  // A version that was decided, from disk or from a member. kUnavailable.
  overlay::Task<Result<overlay::RingVersion>> recall(RingNumber number);

  // The joiner's side: asks `seed` (a member already dialled) for admission, then adopts the answer.
  overlay::Task<Result<JoinReply>> ask_to_join(NodeId seed, JoinRequest request);
  // Tells members that we cover what we shall own, until the change is complete.
  overlay::Task<Status> report_installed();

  // Rounds with the owners until we cover what we shall own (catch_up.h). REQUIRED.
  std::function<overlay::Task<Status>()> install;

  // Link endpoints of members, for the answer to a joiner.
  std::function<std::vector<std::string>()> seeds;

 private:
  void serve();
  overlay::Task<Done> admit(NodeId from, JoinRequest request, overlay::Reply reply);
  overlay::Task<Result<Bytes>> admit_checked(NodeId from, JoinRequest request);
  overlay::Task<Done> complete(overlay::Reply reply);
  // All who shall own more, and can be reached, cover it.
  overlay::Task<Status> all_installed(RingNumber number);
  void prepare();
  overlay::Task<Done> install_what_we_gain();
  [[nodiscard]] Status installed(RingNumber number) const;
  void announce();
  [[nodiscard]] std::optional<Bytes> remembered(RingNumber number);
  [[nodiscard]] std::optional<NodeId> trusted(const NodeId& peer);
  Status set(const overlay::RingVersion& version);

  ClusterView& view_;
  PaxosService& paxos_;
  const Identity& identity_;
  std::set<NodeId> fetching_;
  RingNumber installed_;     // The change of this version is installed here.
  bool installing_ = false;
  overlay::Scope scope_;
};

}  // namespace starling::node
