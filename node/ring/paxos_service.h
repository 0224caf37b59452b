// PaxosService: the acceptor of every Paxos instance this node votes in, and the driver of proposals.
//
// Two kinds of instances use it: ring versions (ring_service.h) and names (mailbox/names.h). A Kind says
// who may vote, checks a value before it is accepted, and learns decisions.
// Invariant: an acceptor's state is synced before its answer leaves.
// Thread: one loop.   The machine itself: overlay/ring/paxos.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "node/replication/view.h"
#include "overlay/loop/task.h"
#include "overlay/ring/paxos_wire.h"

namespace starling::node {

class PaxosService {
 public:
  struct Kind {
    // Ok when this node may answer for the instance under that ring version. kStaleRing, kNotOwner;
    // kCatchingUp: not yet, earlier voters still hand over.
    std::function<Status(const NodeId& from, const overlay::PaxosRequest& request)> may_vote;
    // A decision that this node knows from elsewhere (its registers, its ring).
    std::function<std::optional<Blob>(View instance)> known;
    std::function<void(View instance, const Blob& value)> decided;
    // A majority that votes under another ring version, or not yet, ends a proposal at once.
    bool fails_when_stale = false;
  };

  explicit PaxosService(ClusterView& view);
  // Instances whose name begins with `prefix`.
  void add_kind(std::string prefix, Kind kind) { kinds_[std::move(prefix)] = std::move(kind); }

  // Proposes `value` to `voters`; the decision may be a rival's value. kUnavailable: outcome unknown.
  // kStaleRing: others vote by now; ask those of the newest ring version, a moment later.
  overlay::Task<Result<Blob>> propose(Bytes instance, RingNumber ring, std::vector<NodeId> voters,
                                      Blob value, Duration deadline);

 private:
  struct Proposal;
  void answer(const NodeId& from, View body, overlay::Reply reply);
  void drive(const std::shared_ptr<Proposal>& proposal, const overlay::Proposer::Input& input);
  void refused(const std::shared_ptr<Proposal>& proposal, const NodeId& voter,
               overlay::PaxosKind request, const overlay::Ballot& ballot, Errc code);
  [[nodiscard]] const Kind* kind_of(View instance) const;

  ClusterView& view_;
  std::map<std::string, Kind, std::less<>> kinds_;
};

}  // namespace starling::node
