// Every service of a node with what it needs; its ports.
#include "node/node_impl.h"

#include <nlohmann/json.hpp>

#include "node/mailbox/write_register.h"

namespace starling::node {

using overlay::Endpoint;
using overlay::MemberEvent;

// Every service with what it needs, in dependency order.
void NodeImpl::wire() {
  overlay::LinksConfig links;
  links.listen = config_.link;
  links_ = std::make_unique<overlay::Links>(leaves_.loop, leaves_.transport, identity_, keyring_,
                                            leaves_.random, leaves_.log, links, link_hooks());
  if (leaves_.wrap_rpc) wrapped_links_ = leaves_.wrap_rpc(*links_);
  overlay::Rpc& rpc = wrapped_links_ ? *wrapped_links_ : *links_;
  view_ = std::make_unique<ClusterView>(identity_.node_id(), leaves_.loop, rpc, *store_, hlc_,
                                        leaves_.random, leaves_.log);
  view_->liveness.alive = [this](const NodeId& node) {
    return membership_ != nullptr && membership_->is_alive(node);
  };
  view_->liveness.reachable = [this](const NodeId& node) { return links_->reachable(node); };
  view_->liveness.queued = [this](const NodeId& node) { return links_->queued(node); };
  view_->liveness.runner = [this](WriterId writer) -> std::optional<NodeId> {
    const auto runner = runners_.find(writer);
    return runner == runners_.end() ? std::nullopt : std::optional(runner->second);
  };
  view_->liveness.catching_up = [this](const NodeId& node) {
    const auto member = membership_->find(node);
    return member && member->heartbeat.catching_up;
  };
  move_controls_ = std::make_unique<MoveControls>(*view_);
  catch_up_ = std::make_unique<CatchUp>(*view_, *move_controls_);
  if (leaves_.files_from != 0) catch_up_->files_from = leaves_.files_from;
  replicator_ = std::make_unique<Replicator>(
      *view_, [this](const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n) {
        catch_up_->fetch_gap(peer, partition, writer, n);
      });
  stand_in_ = std::make_unique<StandIn>(*view_);
  catch_up_->held_for_others = [this](PartitionId partition, WriterId writer, std::uint64_t from) {
    return stand_in_->read(partition, writer, from);
  };
  catch_up_->holds_for = [this](PartitionId partition, const NodeId& owner) {
    return stand_in_->holds_for(partition, owner);
  };
  forwarder_ = std::make_unique<Forwarder>(*view_);
  obligations_ = std::make_unique<Obligations>(
      *view_, *forwarder_, *replicator_,
      [this](WriterId writer) { return running_writers_.contains(writer); });
  coordinator_ = std::make_unique<Coordinator>(
      *view_, *replicator_, *catch_up_,
      Permissions{[this](const MailboxId& mailbox, View to, View from) { return may_send(*store_, mailbox, to, from); },
                  [this](const MailboxId& mailbox, View to, View from) { return might_send(*store_, mailbox, to, from); }},
      &Obligations::implies,
      [this](PartitionId partition, const Dot& dot, Shared change, std::function<void(Status)> done) {
        obligations_->drive(partition, dot, std::move(change), std::move(done));
      },
      config_.retention_ms);
  coordinator_->change_member = [this](const WriteRegisterRequest& request, std::function<void(Status)> done) {
    scope_->spawn(change_member_for(*view_, *forwarder_, request, std::move(done)));
  };
  publisher_ = std::make_unique<Publisher>(*view_);
  mender_ = std::make_unique<Mender>(*view_, *catch_up_, *coordinator_);
  hand_over_ = std::make_unique<HandOver>(*view_, *obligations_);
  hand_over_->on_missed = [this] { catch_up_->fall_behind(); };
  hand_over_->holds = [this] { return stand_in_->segments() > 0; };
  positions_ = std::make_unique<Positions>(*view_, *forwarder_);
  eraser_ = std::make_unique<Eraser>(*view_, [this](PartitionId partition, const storage::Superseded& pair) {
    return positions_->is_settled(partition, pair);
  });
  catch_up_->on_covered = [this](const NodeId& peer, PartitionId partition, const auto& has) {
    eraser_->covers(peer, partition, has);
  };
  pruner_ = std::make_unique<Pruner>(*view_, *obligations_, [this] { return open_writers(); });
  catch_up_->on_regained = [this](const Dot& dot, View change) {
    auto bytes = std::make_shared<const Bytes>(change);
    store_->when_durable([this, dot, bytes] { publisher_->regained(dot, bytes); });
  };
  catch_up_->on_compared = [this](const NodeId& peer, const CompareReply::Item& theirs) {
    pruner_->compared(peer, theirs);
    replicator_->compared(peer, theirs);
  };
  catch_up_->on_compared_all = [this](const NodeId& peer, Instant begun) { replicator_->compared_all(peer, begun); };
  catch_up_->is_forgotten = [this](PartitionId partition, const Dot& dot) {
    return pruner_->is_forgotten(partition, dot);
  };
  upkeep_ = std::make_unique<Upkeep>(*view_, [this] { return lowest_clock(); });
  settling_ = std::make_unique<Settling>(*view_);
  verifier_ = std::make_unique<Verifier>(*view_);
  heads_ = std::make_unique<Heads>(*view_);
  find_copy_ = std::make_unique<FindCopy>(*view_, *publisher_, *stand_in_);
  paxos_ = std::make_unique<PaxosService>(*view_);
  ring_ = std::make_unique<RingService>(*view_, *paxos_, identity_, keyring_);
  ring_->install = [this] { return catch_up_->install(); };
  ring_->seeds = [this] { return member_endpoints(); };
  keys_ = std::make_unique<KeyService>(*view_, keyring_);
  tenures_ = std::make_unique<Tenures>(
      *view_, [this](RingNumber number) { return ring_->recall(number); },
      [this](RingNumber number) { return ring_->kept_after(number); });
  catch_up_->is_safe = [this](const NodeId& node) { return tenures_->is_safe(node); };
  ring_->names_settled = [this] { return tenures_->settled(); };
  ring_->covered = [this] { return catch_up_->covered(); };
  ring_->who_is_needed = [this] {
    auto needed = catch_up_->cover_needs();
    for (const auto& node : tenures_->needs()) needed.push_back(node);
    return needed;
  };
  farewell_ = std::make_unique<Farewell>(*view_, *hand_over_, *stand_in_, *tenures_);
  names_ = std::make_unique<Names>(*view_, *paxos_, *tenures_, *forwarder_);
  accounts_ = std::make_unique<Accounts>(*view_, *names_, *forwarder_, identity_,
                                         config_.password_cost);
  groups_ = std::make_unique<Groups>(*view_, *names_, *forwarder_);
  feeds_ = std::make_unique<Feeds>(*view_);
  gateway_ = std::make_unique<TcpGateway>(
      SessionServices{*view_, *forwarder_, *feeds_, *accounts_, *groups_, ladder_}, leaves_.transport);
  admin_api_ = std::make_unique<AdminApi>(*this);

  // A start that failed may destroy us before the end of its turn.
  store_->on_dirty([this] {
    leaves_.loop.defer(overlay::Loop::Stage::kCommit, [this, here = std::weak_ptr<bool>(alive_)] {
      if (!here.expired()) store_->flush();
    });
  });
  store_->on_synced([this](std::span<const storage::SyncedChange> changes) {
    replicator_->on_synced(changes);
    publisher_->on_synced(changes);
  });
  store_->on_damage([this](const storage::Damage& damage) { on_damage(damage); });
  store_->on_fatal([this](const Error& error) {
    const bool disk = error.code != Errc::kExists;
    leaves_.log.error(disk ? "the disk can no longer be trusted; stopping" : "this node runs elsewhere; stopping",
                      {{"cause", error}});
    if (on_fatal_) return on_fatal_(error);
    fatal_ = error;
  });
  view_->on_ring([this] {
    heed_members();
    catch_up_->ring_changed(gained_partitions());
    leaves_.loop.defer([this, here = std::weak_ptr<bool>(alive_)] {
      if (here.expired()) return;
      mind_lineage();
      if (membership_ != nullptr) mind_sessions();
    });
  });
  links_->on_link([this](const NodeId& peer, const overlay::Hello* hello) {
    if (hello == nullptr) return publisher_->forget(peer);
    const auto* member = view_->in_ring() ? view_->ring().member(peer) : nullptr;
    // Whoever has the secret may come with any clock. A joiner knows no members yet, and its links stay when it does.
    if (!view_->in_ring() || (member != nullptr && !member->gone())) {
      (void)view_->observe(hlc_at(static_cast<std::uint64_t>(hello->wall_ms)));
    }
    view_->heard_of_ring(peer, hello->ring);
    if (membership_ != nullptr && member != nullptr) membership_->meet(peer);
    if (hello->has(overlay::Feature::kKeyExchange)) keys_->meet(peer);
    move_controls_->meet(peer);
  });
}

overlay::LinksHooks NodeImpl::link_hooks() {
  overlay::LinksHooks hooks;
  hooks.resolve = [this](const NodeId& node) -> std::optional<Endpoint> {
    if (membership_ == nullptr) return std::nullopt;
    auto endpoint = membership_->link_endpoint(node);
    if (!endpoint) return std::nullopt;
    return *endpoint;
  };
  hooks.hello = [this] {
    overlay::Hello hello;
    hello.lineage = lineage_;
    hello.ring = view_->in_ring() ? view_->ring().number() : RingNumber{};
    hello.writer = store_->writer();
    hello.wall_ms = leaves_.loop.wall_ms();
    hello.features = overlay::kFeatures;
    return hello;
  };
  hooks.standing = [this](const NodeId& node, const PublicKey& key) {
    // A joiner knows no ring yet; whoever holds the secret of its invite may speak to it.
    if (!view_->in_ring()) return overlay::Standing::kMember;
    const auto* member = view_->ring().version().find(node);
    if (member == nullptr || member->key != key) return overlay::Standing::kUnknown;
    if (view_->ring().version().is_revoked(node)) return overlay::Standing::kUnknown;
    // What the other side of a forced removal may have is asked for; it takes part in nothing here.
    const bool outside = member->gone() || other_lineage_.contains(node);
    return outside ? overlay::Standing::kGone : overlay::Standing::kMember;
  };
  hooks.is_member = [this](const NodeId& node) {
    const auto* member = view_->in_ring() ? view_->ring().member(node) : nullptr;
    return member != nullptr && !member->gone();
  };
  hooks.stranger = [this](const NodeId& node) { ring_->fetch(node); };
  hooks.accept = [this](const NodeId& node, const overlay::Hello& hello) -> Status {
    if (view_->in_ring() && view_->ring().version().is_revoked(node)) {
      return Error{Errc::kDenied, "node " + short_text(node) + " was revoked"};
    }
    const bool other = !hello.lineage.is_zero() && !lineage_.is_zero() && hello.lineage != lineage_;
    if (!other) {
      other_lineage_.erase(node);
      return ok_status();
    }
    const bool known = view_->in_ring() && view_->ring().member(node) != nullptr;
    if (!known) {
      return Error{Errc::kForeign, "the two nodes are of different clusters: to join this one takes a token of one of "
                                   "its members (starling invite) and an empty folder"};
    }
    other_lineage_.insert(node);
    return ok_status();
  };
  return hooks;
}

Status NodeImpl::bind_ports() {
  TRY(links_->listen());
  TRY(gateway_->listen(config_.client));
  AdminHooks hooks;
  hooks.metrics = [this] { return admin_api_->metrics(); };
  hooks.ready = [this] { return serving() && !gateway_->shedding(); };
  hooks.draining = [this] { return stopping_ || (serving() && gateway_->shedding()); };
  hooks.call = [this](const std::string& method, const Json& arguments, AdminDone done) {
    admin_api_->call(method, arguments, std::move(done));
  };
  TRY_ASSIGN(admin_door_, AdminDoor::open(leaves_.loop, leaves_.transport, config_.admin,
                                          {"unix:" + config_.data + "/admin.sock", 0},
                                          std::move(hooks)));
  return ok_status();
}

Status NodeImpl::open_membership() {
  overlay::MembershipOptions options;
  options.bind = {config_.link.host, links_->local().port};
  options.lineage = lineage_;
  const std::string host = config_.advertise.empty() ? config_.link.host : config_.advertise;
  auto& self = options.self;
  self.node = identity_.node_id();
  self.key = identity_.public_key();
  self.incarnation = static_cast<std::uint64_t>(leaves_.loop.wall_ms());
  self.link = Endpoint{host, links_->local().port}.text();
  self.gossip = self.link;
  self.client = Endpoint{config_.advertise.empty() ? config_.client.host : host,
                         gateway_->local().port}.text();
  if (!config_.client_advertise.empty()) self.client = config_.client_advertise;
  self.admin = admin_address().text();
  self.zone = config_.zone;
  self.weight = config_.weight;
  self.writer = store_->writer();
  self.version = std::string(kVersion);
  TRY_ASSIGN(membership_, overlay::Membership::open(leaves_.loop, leaves_.transport, *links_,
                                                    keyring_, identity_, leaves_.random, options));
  membership_->on_event([this](const MemberEvent& event) { on_member(event); });
  remember_run();
  if (view_->in_ring()) heed_members();
  return ok_status();
}

Endpoint NodeImpl::admin_address() const { return admin_door_->tcp_address(); }

}  // namespace starling::node
