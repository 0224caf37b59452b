// AdminDoor: the two ways in for operators.
//
// The TCP port answers GET /metrics, /healthz and /readyz, to whoever asks. The unix socket (mode 0600:
// who may open it is the operator) answers these too, and POST /v1/<method>: node/admin/api.h.
//   /healthz   200 while the loop turns
//   /readyz    for balancers: 200 while the node is in the ring and caught up; 404 while it asks its sessions to go,
//              which HAProxy's `http-check disable-on-404` takes as "nobody new, leave the others"; else 503
// Thread: one loop.
#pragma once

#include "node/admin/http.h"
#include "node/node.h"

namespace starling::node {

struct AdminHooks {
  std::function<std::string()> metrics;  // The exposition text.
  std::function<bool()> ready;
  std::function<bool()> draining = [] { return false; };  // Not ready, but the sessions that are here go on.
  std::function<void(const std::string& method, const Json& arguments, AdminDone done)> call;
};

class AdminDoor {
 public:
  // `socket` is unix:<data>/admin.sock. kAddressInUse, kIo, kInvalid (a socket path over 107 bytes).
  static Result<std::unique_ptr<AdminDoor>> open(overlay::Loop& loop, overlay::Transport& transport,
                                                 const overlay::Endpoint& tcp,
                                                 const overlay::Endpoint& socket, AdminHooks hooks);
  [[nodiscard]] overlay::Endpoint tcp_address() const { return tcp_.local(); }

 private:
  AdminDoor(overlay::Loop& loop, overlay::Transport& transport, const AdminHooks& hooks);

  HttpServer tcp_;
  HttpServer unix_;
};

}  // namespace starling::node
