// Names: user and group names are unique, because Paxos among the owners of the name's mailbox decides
// them.
//
// The chosen value is the creation record; whoever learns it writes the registers that follow from it,
// idempotent by their stamp. A decided name is never reused. An owner that holds the `created` register
// answers with the decision; what earlier owners accepted moves with the partition (ring/tenure.h).
// Thread: one loop.
#pragma once

#include "node/mailbox/read_registers.h"
#include "node/mailbox/registers.h"
#include "node/replication/append/forward.h"
#include "node/ring/paxos_service.h"
#include "node/ring/tenure.h"
#include "overlay/loop/task.h"

namespace starling::node {

class Names {
 public:
  Names(ClusterView& view, PaxosService& paxos, const Tenures& tenures, Forwarder& forwarder);

  // Creates the mailbox of `record.address` (the stamp is filled in). The nonce names the request: the
  // same one again, after a timeout, is answered alike. Zero: one is drawn. kExists: somebody else has
  // the name. kUnavailable, kTimeout: outcome unknown, try again.
  overlay::Task<Status> create(CreationRecord record);

 private:
  overlay::Task<Result<CreationRecord>> decide(CreationRecord record);
  overlay::Task<Status> write_registers(CreationRecord record);
  overlay::Future<Status> write(const std::string& address, View key, storage::MergeKind merge,
                                const EntryId& stamp, Bytes value);

  ClusterView& view_;
  PaxosService& paxos_;
  const Tenures& tenures_;
  Forwarder& forwarder_;
};

}  // namespace starling::node
