// Names: user and group names are unique, because Paxos among the owners of the name's mailbox decides
// them.
//
// The chosen value is the creation record; whoever learns it writes the registers that follow from it,
// idempotent by their stamp. A decided name is never reused. An owner that holds the `created` register
// answers with the decision, so new owners know what earlier ones decided.
// Thread: one loop.
#pragma once

#include "node/mailbox/registers.h"
#include "node/replication/forward.h"
#include "node/ring/paxos_service.h"
#include "overlay/task.h"

namespace starling::node {

class Names {
 public:
  Names(ClusterView& view, PaxosService& paxos, Forwarder& forwarder);

  // Creates the mailbox of `record.address` (nonce and stamp are filled in). kExists: somebody else has
  // the name. kUnavailable, kTimeout: outcome unknown, try again.
  overlay::Task<Status> create(CreationRecord record);

 private:
  overlay::Task<Status> write_registers(CreationRecord record);
  overlay::Future<Status> write(const std::string& address, View key, storage::MergeKind merge,
                                const EntryId& stamp, Bytes value);

  ClusterView& view_;
  PaxosService& paxos_;
  Forwarder& forwarder_;
};

// The registers of a mailbox, from one of its owners.
overlay::Future<Result<ReadRegistersReply>> read_registers(ClusterView& view, Forwarder& forwarder,
                                                           const MailboxId& mailbox, View prefix,
                                                           View after, std::uint32_t limit);

}  // namespace starling::node
