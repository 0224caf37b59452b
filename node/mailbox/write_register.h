// write_register, change_member: registers written by whoever is asked for the change, with what follows from the value
// that stands.
//
// A change has one stamp, for all attempts (decision 0073): a coordinator that stood still with the request, which went
// through another meanwhile, writes it once more, below what was acknowledged since.
// Thread: one loop.
#pragma once

#include <string>

#include "node/replication/append/append_messages.h"
#include "node/replication/append/forward.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"
#include "storage/change.h"

namespace starling::node {

// Of a change of what stands with stamp `present` (zero: nothing stands): above it, unless that was written by a clock
// further ahead of ours than any pulls it. Where this node's clock is not trusted it is zero, and the coordinator mints
// it: a wrong clock would push the others' into the future.
EntryId stamp_after(ClusterView& view, const EntryId& present);
inline Error written_ahead() {
  return {Errc::kOverloaded, "what stands was written by a clock ahead of this node's; try again in some seconds"};
}

overlay::Task<Status> write_register(ClusterView& view, Forwarder& forwarder, WriteRegisterRequest request);

// `wanted`, but for the generation, which follows from what stands (invariant 5): to add under a removal raises it. A role
// ends with the membership only: to add a member again does not take it away, nor do two who ask at once. What stands is
// read from so many owners that one of them has what was acknowledged (decision 0069). kUnavailable where they do not
// answer; kOverloaded as above.
overlay::Task<Status> change_member(ClusterView& view, Forwarder& forwarder, MailboxId mailbox, std::string key,
                                    storage::MemberValue wanted);
// The same for a gateway of an earlier program (WriteRegisterRequest::derive).
overlay::Task<Done> change_member_for(ClusterView& view, Forwarder& forwarder, WriteRegisterRequest request,
                                      std::function<void(Status)> done);

}  // namespace starling::node
