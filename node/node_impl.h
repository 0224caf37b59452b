// NodeImpl: the wiring of a node. Members are declared in dependency order; what comes later uses what
// comes before, and destruction runs backwards.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "crypto/access/invite.h"
#include "crypto/access/keyring.h"
#include "node/admin/admin_api.h"
#include "node/admin/admin_door.h"
#include "node/gateway/tcp_gateway.h"
#include "node/mailbox/accounts.h"
#include "node/mailbox/groups.h"
#include "node/mailbox/names.h"
#include "node/node.h"
#include "node/repair/eraser.h"
#include "node/repair/farewell.h"
#include "node/repair/hand_over.h"
#include "node/repair/mender.h"
#include "node/repair/positions.h"
#include "node/repair/pruner.h"
#include "node/repair/settling.h"
#include "node/repair/upkeep.h"
#include "node/repair/verifier.h"
#include "node/replication/catch_up/catch_up.h"
#include "node/replication/append/coordinator.h"
#include "node/replication/append/find_copy.h"
#include "node/replication/append/forward.h"
#include "node/replication/follow/heads.h"
#include "node/replication/append/obligations.h"
#include "node/replication/follow/publisher.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/stand_ins/stand_in.h"
#include "node/ring/key_service.h"
#include "node/ring/paxos_service.h"
#include "node/ring/ring_service.h"
#include "node/session/feeds.h"
#include "node/version.h"
#include "overlay/gossip/membership.h"
#include "overlay/links/links.h"

namespace starling::node {

inline constexpr std::size_t kRunsKeptMax = 1024;  // Of an older one the others may remind us: then a new writer is drawn.

class NodeImpl final : public Node {
 public:
  NodeImpl(Config config, Leaves leaves, std::unique_ptr<storage::Store> store, Identity identity,
           Keyring keyring);
  ~NodeImpl() override;

  // Second half of open(): ring, ports, membership.
  Status begin();

  void start(std::function<void(const Error&)> on_fatal) override;
  void stop(std::function<void()> done) override;
  [[nodiscard]] NodeId id() const override { return view_->self; }
  [[nodiscard]] overlay::Endpoint client_address() const override { return gateway_->local(); }
  [[nodiscard]] overlay::Endpoint link_address() const override { return links_->local(); }
  [[nodiscard]] overlay::Endpoint admin_address() const override;
  [[nodiscard]] bool founded() const override { return founded_; }
  [[nodiscard]] bool serving() const override;
  [[nodiscard]] bool departed() const override { return farewell_->safe(); }
  void admin(const std::string& method, const Json& arguments, AdminDone done) override;

 private:
  friend class AdminApi;
  friend class NodeParts;  // The simulator (tests/sim/world/node_parts.h).

  // node_wire.cc
  void wire();
  [[nodiscard]] overlay::LinksHooks link_hooks();
  Status bind_ports();
  Status open_membership();

  // node_join.cc
  Status load_ring();
  Status found();
  overlay::Task<Done> enter();
  overlay::Task<Status> join();
  overlay::Task<Result<NodeId>> dial_seed(overlay::Endpoint seed);
  overlay::Task<Status> ask_seed(overlay::Endpoint seed, NodeId peer);
  [[nodiscard]] std::vector<overlay::Endpoint> known_peers() const;

  // node_watch.cc
  void on_member(const overlay::MemberEvent& event);
  void heed_members();
  void mind_lineage();
  void mind_returns();
  void mind_sessions();
  [[nodiscard]] std::vector<Suggestions::Node> other_gateways() const;
  void tell_draining();
  void close_store();
  void look_at_load();
  [[nodiscard]] bool gained_partitions() const;
  void tick();
  void draw_again(const NodeId& other);
  void check_disk();
  [[nodiscard]] bool has_fellows() const;  // In the ring, alive or not.
  void check_clock();
  void clock_is_known();
  void on_damage(const storage::Damage& damage);
  [[nodiscard]] std::optional<std::uint64_t> lowest_clock() const;
  [[nodiscard]] std::optional<std::set<WriterId>> open_writers() const;
  void remember_peers();
  void remember_run();
  [[nodiscard]] std::vector<std::string> member_endpoints() const;

  // Set at construction.
  const Config config_;
  const Leaves leaves_;
  std::unique_ptr<storage::Store> store_;
  const Identity identity_;
  Keyring keyring_;
  const Instant born_;
  const Hlc stored_time_;  // The highest in the store when it was opened.

  // Loop state.
  overlay::HlcClock hlc_;
  bool founded_ = false;
  bool stopping_ = false;
  bool closed_doors_ = false;  // To clients, for good.
  bool draining_ = false;  // The operator empties this node of sessions.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // For callbacks on their way.
  std::optional<Invite> invite_;
  LineageId lineage_;
  std::set<NodeId> other_lineage_;  // Members whose ring is of another lineage, as of their last link.
  std::set<WriterId> running_writers_;      // Of members that live.
  std::set<NodeId> knowing_;                // Members that are there and not behind.
  std::map<WriterId, NodeId> runners_;      // Of all members, dead ones too: who says that it runs under it.
  Instant writer_shared_since_{};
  std::function<void(const Error&)> on_fatal_;
  std::optional<Error> fatal_;  // To be told when it starts.
  std::function<void()> stopped_;  // Of a stop under way.

  // Services.
  std::unique_ptr<overlay::Links> links_;
  std::unique_ptr<overlay::Rpc> wrapped_links_;  // Set when the leaves wrap them.
  std::unique_ptr<ClusterView> view_;
  std::unique_ptr<overlay::Membership> membership_;
  std::unique_ptr<MoveControls> move_controls_;
  std::unique_ptr<CatchUp> catch_up_;
  std::unique_ptr<Replicator> replicator_;
  std::unique_ptr<StandIn> stand_in_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<Obligations> obligations_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<Mender> mender_;
  std::unique_ptr<HandOver> hand_over_;
  std::unique_ptr<Positions> positions_;
  std::unique_ptr<Eraser> eraser_;
  std::unique_ptr<Pruner> pruner_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Settling> settling_;
  std::unique_ptr<Verifier> verifier_;
  std::unique_ptr<Heads> heads_;
  std::unique_ptr<FindCopy> find_copy_;
  std::unique_ptr<PaxosService> paxos_;
  std::unique_ptr<RingService> ring_;
  std::unique_ptr<KeyService> keys_;
  std::unique_ptr<Tenures> tenures_;
  std::unique_ptr<Farewell> farewell_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<Accounts> accounts_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Feeds> feeds_;
  Ladder ladder_;
  std::unique_ptr<TcpGateway> gateway_;
  std::unique_ptr<AdminApi> admin_api_;
  std::unique_ptr<AdminDoor> admin_door_;
  overlay::Timer tick_;
  overlay::Timer load_;
  Instant load_due_{};      // The next look,
  double loop_late_ = 0;    // and how late the last ones were, smoothed; 1 is kLoopLateMax.
  overlay::Timer stop_timer_;
  std::optional<overlay::Scope> scope_;  // Last.
};

}  // namespace starling::node
