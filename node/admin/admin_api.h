// AdminApi: the operator's methods (api.h lists them), answered from the node's services.
//
// Thread: one loop.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/node.h"
#include "node/replication/catch_up/catch_up_controls.h"
#include "node/replication/messages.h"
#include "node/ring/ring_service.h"
#include "overlay/loop/task.h"

namespace starling::node {

class NodeImpl;
class MetricSink;

class AdminApi {
 public:
  explicit AdminApi(NodeImpl& node);
  void call(const std::string& method, const Json& arguments, AdminDone done);
  // All counters of the node, for /metrics.
  [[nodiscard]] std::string metrics() const;

 private:
  using Method = overlay::Task<Result<Json>> (AdminApi::*)(Json);
  overlay::Task<Done> run(Method method, Json arguments, AdminDone done);

  // admin_api.cc: the cluster.
  overlay::Task<Result<Json>> status(Json arguments);
  overlay::Task<Result<Json>> ring(Json arguments);
  overlay::Task<Result<Json>> invite(Json arguments);
  // admin_ring.cc: changes of the ring, and sessions.
  overlay::Task<Result<Json>> leave(Json arguments);
  overlay::Task<Result<Json>> remove(Json arguments);
  [[nodiscard]] Status none_alive(const std::vector<NodeId>& nodes) const;
  [[nodiscard]] Status none_ahead(const std::vector<NodeId>& nodes) const;
  overlay::Task<Result<Json>> weight(Json arguments);
  overlay::Task<Result<Json>> rebalance(Json arguments);
  overlay::Task<Result<Json>> abort(Json arguments);
  overlay::Task<Result<Json>> movement(Json arguments);
  overlay::Task<Result<Json>> drain(Json arguments);
  overlay::Task<Result<Json>> undrain(Json arguments);
  // admin_sites.cc
  overlay::Task<Result<Json>> sites(Json arguments);
  [[nodiscard]] Json sites_json() const;
  overlay::Task<Json> site_lags();
  void collect_sites(MetricSink& sink) const;
  overlay::Task<Json> site_loss(std::vector<NodeId> nodes);
  using Build = RingService::Build;
  overlay::Task<Result<Json>> change(Build build, bool dry_run);
  overlay::Task<std::string> outcome(RingNumber of);
  overlay::Task<Json> movement_of(NodeId node);
  [[nodiscard]] MovementReply own_movement() const;
  [[nodiscard]] Json own_movement_json() const;
  [[nodiscard]] Result<NodeId> find_node(const std::string& text) const;
  [[nodiscard]] Result<std::vector<NodeId>> nodes_of(const Json& arguments) const;
  [[nodiscard]] std::set<NodeId> live_members() const;
  void tell_draining();
  void serve_movement();
  // What members say of themselves.
  static constexpr Duration kMovementDeadline = std::chrono::seconds(2);
  using Answers = std::map<NodeId, Result<MovementReply>>;
  overlay::Task<Answers> ask_movement(std::vector<NodeId> nodes);
  static Status reads(const NodeId& node, const MovementReply& reply, std::uint32_t format, const std::string& what);
  // admin_double.cc: twice the partitions.
  overlay::Task<Result<Json>> double_partitions(Json arguments);
  [[nodiscard]] Status may_follow(const Answers& answers) const;
  [[nodiscard]] Status may_follow(const overlay::RingMember& member, const MovementReply& reply) const;
  [[nodiscard]] Json plan_json(const Answers& answers, std::uint32_t to) const;
  overlay::Task<Json> doubling_json();
  void add_split(MovementReply& reply) const;
  void collect_split(MetricSink& sink) const;
  // admin_movement.cc: the copying that they cause.
  overlay::Task<Result<Json>> pause(Json arguments);
  overlay::Task<Result<Json>> resume(Json arguments);
  overlay::Task<Result<Json>> throttle(Json arguments);
  [[nodiscard]] Json controls_json() const;
  [[nodiscard]] Json told_json(const MoveControls::Told& told) const;
  void add_progress(MovementReply& reply) const;
  void collect_movement(MetricSink& sink) const;
  // admin_where.cc: mailboxes and messages.
  using Copies = std::vector<std::pair<NodeId, FindCopyReply>>;
  overlay::Task<Result<Json>> where(Json arguments);
  overlay::Task<Result<Json>> locate(Json out, MailboxId mailbox, std::string text);
  overlay::Task<Copies> ask_all(FindCopyRequest request);
  [[nodiscard]] std::string liveness_of(const NodeId& node) const;
  // admin_queues.cc
  overlay::Task<Result<Json>> queues(Json arguments);
  // admin_people.cc: users and groups.
  struct NewUser {
    std::string address;
    std::string password;
    std::uint64_t nonce = 0;
  };
  overlay::Task<Result<Json>> user_add(Json arguments);
  overlay::Task<Done> add_one(const NewUser& user, Json& result);  // Both outlive it.
  overlay::Task<Result<Json>> user_list(Json arguments);
  overlay::Task<Result<Json>> user_passwd(Json arguments);
  overlay::Task<Result<Json>> user_disable(Json arguments);
  overlay::Task<Result<Json>> user_logout(Json arguments);
  overlay::Task<Result<Json>> token(Json arguments);
  overlay::Task<Result<Json>> group_create(Json arguments);
  overlay::Task<Result<Json>> group_add(Json arguments);
  overlay::Task<Done> set_one(const std::string& group, const std::string& user, std::uint8_t role,
                              Status& status);  // All outlive it.
  overlay::Task<Result<Json>> group_list(Json arguments);
  overlay::Task<Result<Json>> group_members(Json arguments);
  overlay::Task<Result<Json>> list(char sigil, Json arguments);
  // admin_keys.cc: who may speak.
  overlay::Task<Result<Json>> key_list(Json arguments);
  overlay::Task<Result<Json>> key_rotate(Json arguments);
  overlay::Task<Result<Json>> revoke(Json arguments);
  // admin_repair.cc: what is stored.
  overlay::Task<Result<Json>> verify(Json arguments);
  overlay::Task<Result<Json>> repair(Json arguments);
  void serve();

  void collect(MetricSink& sink) const;
  // What waits in this node, and how much of it may.
  struct Queue {
    const char* name;
    const char* help;
    std::uint64_t size;
    std::uint64_t limit;  // Above, new ones are refused or left for later.
    bool transient;       // Empty in a cluster at rest.
  };
  [[nodiscard]] std::vector<Queue> queue_list() const;
  void collect_queues(MetricSink& sink) const;
  void collect_refused(MetricSink& sink) const;
  [[nodiscard]] Json member_json(const NodeId& id) const;
  [[nodiscard]] Json rates() const;
  [[nodiscard]] std::string state() const;

  NodeImpl& node_;
  std::map<std::string, Method> methods_;
  overlay::Scope scope_;
};

}  // namespace starling::node
