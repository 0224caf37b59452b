// Forwarder: brings one request to an owner that can do it, trying the owners in turn.
//
// Order: reachable and caught-up owners first, in preference order, so that all gateways find the same
// coordinator; then those catching up; when every answer was "catching up", the first is told to do
// it all the same. After a try whose outcome is unknown the request is marked as a retry, so the next
// owner asks around before it mints.
// Thread: one loop.
#pragma once

#include <functional>

#include "node/replication/append/append_messages.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

// The request that has the other mailbox of a direct message take it under the same key and id.
AppendRequest copy_request(const storage::ChangeView& message);

class Forwarder {
 public:
  explicit Forwarder(ClusterView& view) : view_(view) {}

  // `done` comes once, by `deadline` at the latest.
  void append(AppendRequest request, Bytes body, Duration deadline,
              std::function<void(Result<AppendReply>)> done);
  void write_register(WriteRegisterRequest request, Duration deadline,
                      std::function<void(Status)> done);
  // Reads go the same way; the answer comes from one owner, of those away when no other can be reached.
  void read(PartitionId partition, overlay::Method method, Bytes body, Duration deadline,
            std::function<void(Result<Bytes>)> done);

 private:
  // Makes the body of one try: `flags` are kAppendRetry and kAppendForce as they apply.
  using MakeBody = std::function<Bytes(std::uint8_t flags)>;
  struct Request;
  void route(std::vector<NodeId> candidates, overlay::Method method, MakeBody make, Duration deadline,
             std::function<void(Result<Bytes>)> done, bool idempotent = false);
  [[nodiscard]] Status takes_part() const;
  void attempt(std::shared_ptr<Request> request);
  static void end(Request& request, const Error& error);

  ClusterView& view_;
};

}  // namespace starling::node
