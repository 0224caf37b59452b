#include "node/node.h"

#include <algorithm>

#include "crypto/init.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::Endpoint;
using overlay::MemberEvent;
using overlay::Task;
using storage::Store;

namespace {

constexpr View kIdentityKey = "identity";
constexpr View kKeyringKey = "keyring";
constexpr View kPeersKey = "peers";
constexpr Duration kTickEvery = 500ms;
constexpr Duration kJoinRetry = 1s;
constexpr Duration kDialDeadline = 5s;
constexpr Duration kStopDeadline = 5s;
constexpr std::int64_t kClockOffsetMaxMs = 5000;  // As overlay::kHlcAheadMax.

// A refusal that no retry will change.
bool final_refusal(Errc code) {
  switch (code) {
    case Errc::kUnauthenticated:
    case Errc::kForeign:
    case Errc::kClock:
    case Errc::kDenied:
    case Errc::kExists:
    case Errc::kInvalid:
    case Errc::kUnsupported:
    case Errc::kCorrupt:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<std::unique_ptr<Node>> Node::open(Config config, Leaves leaves) {
  TRY(crypto_init());
  if (leaves.free_space && leaves.free_space() < config.free_space_min) {
    return Error{Errc::kFull, "less than " + std::to_string(config.free_space_min >> 20) +
                                  " MiB of disk space left for " + config.data +
                                  "; make room or choose another --data folder"};
  }
  storage::StoreOptions options;
  options.path = config.data + "/store";
  options.env = leaves.env;
  options.committer = leaves.committer;
  options.random = &leaves.random;
  options.partitions = config.partitions;
  options.background_work = leaves.background_work;
  TRY_ASSIGN(auto store, Store::open(std::move(options)));

  auto seed = store->get(Store::Family::kNode, kIdentityKey);
  std::optional<Identity> identity;
  if (seed) {
    TRY_ASSIGN(identity, Identity::from_seed(*seed));
  } else {
    identity = Identity::generate(leaves.random);
    store->put(Store::Family::kNode, kIdentityKey, identity->seed().view());
  }
  std::optional<Invite> invite;
  if (!config.join_token.empty()) {
    TRY_ASSIGN(invite, parse_invite(config.join_token));
  }
  std::optional<Keyring> keyring;
  if (auto stored = store->get(Store::Family::kNode, kKeyringKey)) {
    TRY_ASSIGN(keyring, Keyring::parse(*stored));
  } else {
    // Written down once we are in a cluster: a join that failed leaves nothing behind.
    keyring.emplace(invite ? invite->secret : SecretKey::random(leaves.random));
  }
  auto node = std::make_unique<NodeImpl>(std::move(config), leaves, std::move(store),
                                         std::move(*identity), std::move(*keyring));
  TRY(node->begin());
  return std::unique_ptr<Node>(std::move(node));
}

NodeImpl::NodeImpl(Config config, Leaves leaves, std::unique_ptr<Store> store, Identity identity,
                   Keyring keyring)
    : config_(std::move(config)),
      leaves_(leaves),
      store_(std::move(store)),
      identity_(std::move(identity)),
      keyring_(std::move(keyring)),
      born_(leaves.loop.now()),
      hlc_(store_->highest_time()) {}

NodeImpl::~NodeImpl() = default;

Status NodeImpl::begin() {
  wire();
  TRY(load_ring());
  TRY(bind_ports());
  TRY(open_membership());
  // Last, so that a start that failed founds nothing.
  if (view_->in_ring() || invite_) return ok_status();
  founded_ = true;
  return found();
}

// Every service with what it needs, in dependency order.
void NodeImpl::wire() {
  overlay::LinksConfig links;
  links.listen = config_.link;
  links_ = std::make_unique<overlay::Links>(leaves_.loop, leaves_.transport, identity_, keyring_,
                                            leaves_.random, leaves_.log, links, link_hooks());
  view_ = std::make_unique<ClusterView>(identity_.node_id(), leaves_.loop, *links_, *store_, hlc_,
                                        leaves_.random, leaves_.log);
  view_->liveness.alive = [this](const NodeId& node) {
    return membership_ != nullptr && membership_->is_alive(node);
  };
  view_->liveness.catching_up = [this](const NodeId& node) {
    const auto member = membership_->find(node);
    return member && member->heartbeat.catching_up;
  };
  catch_up_ = std::make_unique<CatchUp>(*view_);
  replicator_ = std::make_unique<Replicator>(
      *view_, [this](const NodeId& peer, PartitionId partition, WriterId writer) {
        catch_up_->fetch_gap(peer, partition, writer);
      });
  forwarder_ = std::make_unique<Forwarder>(*view_);
  obligations_ = std::make_unique<Obligations>(
      *view_, *forwarder_, *replicator_,
      [this](WriterId writer) { return running_writers_.contains(writer); });
  coordinator_ = std::make_unique<Coordinator>(
      *view_, *replicator_, *catch_up_,
      [this](const MailboxId& mailbox, View to, View from) {
        return may_send(*store_, mailbox, to, from);
      },
      &Obligations::implies,
      [this](PartitionId partition, const Dot& dot, Shared change, std::function<void(Status)> done) {
        obligations_->drive(partition, dot, std::move(change), std::move(done));
      });
  publisher_ = std::make_unique<Publisher>(*view_);
  paxos_ = std::make_unique<PaxosService>(*view_);
  ring_ = std::make_unique<RingService>(*view_, *paxos_, identity_);
  ring_->seeds = [this] { return member_endpoints(); };
  names_ = std::make_unique<Names>(*view_, *paxos_, *forwarder_);
  accounts_ = std::make_unique<Accounts>(*view_, *names_, *forwarder_, identity_,
                                         config_.password_cost);
  groups_ = std::make_unique<Groups>(*view_, *names_, *forwarder_);
  feeds_ = std::make_unique<Feeds>(*view_);
  gateway_ = std::make_unique<TcpGateway>(
      SessionServices{*view_, *forwarder_, *feeds_, *accounts_, *groups_}, leaves_.transport);
  admin_api_ = std::make_unique<AdminApi>(*this);

  // The store owns the token: a start that failed may destroy us before the end of its turn.
  store_->on_dirty([this, alive = std::make_shared<bool>(true)] {
    leaves_.loop.defer([this, here = std::weak_ptr<bool>(alive)] {
      if (!here.expired()) store_->flush();
    });
  });
  store_->on_synced([this](std::span<const storage::SyncedChange> changes) {
    replicator_->on_synced(changes);
    publisher_->on_synced(changes);
  });
  store_->on_fatal([this](const Error& error) {
    leaves_.log.error("the disk can no longer be trusted; stopping", {{"cause", error}});
    if (on_fatal_) on_fatal_(error);
  });
  view_->on_ring([this] {
    cut_off_the_gone();
    if (gained_partitions()) catch_up_->fall_behind();
  });
  links_->on_link([this](const NodeId& peer, const overlay::Hello* hello) {
    if (hello == nullptr) return publisher_->forget(peer);
    (void)hlc_.observe(hlc_at(static_cast<std::uint64_t>(hello->wall_ms)), leaves_.loop.wall_ms());
    view_->heard_of_ring(peer, hello->ring);
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
    return hello;
  };
  hooks.is_member = [this](const NodeId& node, const PublicKey& key) {
    // A joiner knows no ring yet; whoever holds the secret of its invite may speak to it.
    if (!view_->in_ring()) return true;
    const auto* member = view_->ring().version().find(node);
    return member != nullptr && !member->gone() && member->key == key;
  };
  hooks.accept = [this](const NodeId&, const overlay::Hello& hello) -> Status {
    if (!hello.lineage.is_zero() && !lineage_.is_zero() && hello.lineage != lineage_) {
      return Error{Errc::kForeign, "the peer belongs to another cluster"};
    }
    return ok_status();
  };
  return hooks;
}

Status NodeImpl::load_ring() {
  if (!config_.join_token.empty()) {
    TRY_ASSIGN(invite_, parse_invite(config_.join_token));
  }
  TRY_ASSIGN(const auto version, RingService::load(*store_));
  if (version) {
    lineage_ = version->lineage;
    if (invite_ && invite_->lineage != lineage_) {
      return Error{Errc::kForeign, config_.data + " holds a node of another cluster; join with an "
                                                  "empty --data folder"};
    }
    return ring_->resume(*version);
  }
  if (invite_) {
    lineage_ = invite_->lineage;
    return check_not_expired(*invite_, leaves_.loop.wall_ms());
  }
  leaves_.random.fill(lineage_.raw);
  return ok_status();
}

Status NodeImpl::found() {
  store_->put(Store::Family::kNode, kKeyringKey, keyring_.serialise());
  overlay::RingSettings settings;
  settings.copies = config_.copies;
  settings.synced = config_.synced;
  settings.partitions = config_.partitions;
  return ring_->found(lineage_, settings, config_.zone, config_.weight);
}

Status NodeImpl::bind_ports() {
  TRY(links_->listen());
  TRY(gateway_->listen(config_.client));
  AdminHooks hooks;
  hooks.metrics = [this] { return admin_api_->metrics(); };
  hooks.ready = [this] { return serving(); };
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
  self.admin = admin_address().text();
  self.zone = config_.zone;
  self.weight = config_.weight;
  self.writer = store_->writer();
  self.version = std::string(kVersion);
  TRY_ASSIGN(membership_, overlay::Membership::open(leaves_.loop, leaves_.transport, *links_,
                                                    keyring_, identity_, leaves_.random, options));
  membership_->on_event([this](const MemberEvent& event) { on_member(event); });
  return ok_status();
}

// A new owner serves only after it has compared with the others.
bool NodeImpl::gained_partitions() const {
  const auto& ring = view_->ring();
  const auto previous = view_->previous_ring();
  if (previous == nullptr) return false;
  for (std::uint32_t i = 0; i < ring.partitions(); ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    if (!ring.is_owner(partition, view_->self)) continue;
    if (i >= previous->partitions() || !previous->is_owner(partition, view_->self)) return true;
  }
  return false;
}

// Who is no member any more is not heard, and its link ends at once (invariant 12).
void NodeImpl::cut_off_the_gone() {
  std::set<NodeId> gone;
  for (const auto& member : view_->ring().version().members) {
    if (member.gone() && member.id != view_->self) gone.insert(member.id);
  }
  for (const auto& node : gone) links_->drop(node);
  if (membership_ != nullptr) membership_->set_blocked(std::move(gone));
}

void NodeImpl::start(std::function<void(const Error&)> on_fatal) {
  on_fatal_ = std::move(on_fatal);
  catch_up_->on_catching_up = [this](bool) { tick(); };
  scope_.emplace(leaves_.loop);
  view_->catching_up = true;  // Until compared: also while we join, and when the ring makes us an owner.
  tick();
  scope_->spawn(enter());
}

// From the first packet to serving: a joiner is admitted and installs; then everybody catches up.
Task<Done> NodeImpl::enter() {
  auto [durable, synced] = overlay::Completer<bool>::make(leaves_.loop);
  store_->when_durable([durable = durable]() mutable { durable.set(true); });
  co_await synced;  // Who we are, and a ring that we founded, before anybody hears of it.
  if (view_->in_ring()) {
    membership_->start(known_peers());
  } else {
    auto joining = join();
    if (auto joined = co_await joining; !joined) {
      join_error_ = joined.error();
      leaves_.log.error("joining failed", {{"cause", joined.error()}});
      if (on_fatal_) on_fatal_(joined.error());
      co_return Done{};
    }
  }
  const auto* self = view_->ring().version().find(view_->self);
  if (self != nullptr && self->state == overlay::RingMemberState::kJoining) {
    for (;;) {
      auto installing = catch_up_->install();
      if (auto installed = co_await installing) break;
    }
    auto reporting = ring_->report_installed();
    if (auto reported = co_await reporting; !reported) {
      if (on_fatal_) on_fatal_(reported.error());
      co_return Done{};
    }
  }
  catch_up_->start();
  tick();
  co_return Done{};
}

Task<Status> NodeImpl::join() {
  overlay::Timer timer;
  for (;;) {
    for (const auto& text : invite_->seeds) {
      const auto seed = Endpoint::parse(text);
      if (!seed) co_return seed.error();
      auto asking = ask_seed(*seed);
      const auto asked = co_await asking;
      if (asked) co_return ok_status();
      leaves_.log.warn("not admitted yet", {{"seed", text}, {"cause", asked.error()}});
      if (final_refusal(asked.code())) co_return asked.error();
    }
    co_await overlay::sleep(leaves_.loop, kJoinRetry, timer);
  }
}

Task<Status> NodeImpl::ask_seed(Endpoint seed) {
  auto [dialled, dialling] = overlay::Completer<Result<NodeId>>::make(leaves_.loop);
  links_->dial(seed, kDialDeadline, [dialled = dialled](Result<NodeId> peer) mutable {
    dialled.set(std::move(peer));
  });
  CO_TRY_ASSIGN(const NodeId peer, co_await dialling);
  JoinRequest request;
  request.key = identity_.public_key();
  request.invite = config_.join_token;
  request.zone = config_.zone;
  request.weight = config_.weight;
  request.link = membership_->self().link;
  request.wall_ms = leaves_.loop.wall_ms();
  auto asking = ring_->ask_to_join(peer, std::move(request));
  CO_TRY_ASSIGN(const JoinReply answer, co_await asking);
  CO_TRY_ASSIGN(const auto version, overlay::decode_ring_version(answer.ring.data));
  store_->put(Store::Family::kNode, kKeyringKey, keyring_.serialise());
  CO_TRY(ring_->adopt(version));
  std::vector<Endpoint> seeds{seed};
  for (const auto& text : answer.seeds) {
    if (auto endpoint = Endpoint::parse(text)) seeds.push_back(*endpoint);
  }
  membership_->start(std::move(seeds));
  // The members' addresses come by gossip; until then nobody can be asked for data.
  overlay::Timer timer;
  for (int i = 0; i < 100 && view_->reachable_owners(PartitionId{0}) == 0; ++i) {
    co_await overlay::sleep(leaves_.loop, 100ms, timer);
  }
  co_return ok_status();
}

void NodeImpl::on_member(const MemberEvent& event) {
  switch (event.kind) {
    case MemberEvent::Kind::kNewerRing: ring_->fetch(event.node); break;
    case MemberEvent::Kind::kSelfDeclaredDead:
      leaves_.log.warn("others took us for dead; catching up");
      catch_up_->fall_behind();
      break;
    case MemberEvent::Kind::kDied:
      leaves_.log.warn("a member died", {{"node", event.node}});
      break;
    case MemberEvent::Kind::kJoined:
    case MemberEvent::Kind::kAliveAgain:
      leaves_.log.info("a member is alive", {{"node", event.node}});
      remember_peers();
      break;
    default: break;
  }
}

void NodeImpl::tick() {
  tick_ = leaves_.loop.after(kTickEvery, [this] { tick(); });
  overlay::Heartbeat heartbeat;
  heartbeat.wall_ms = leaves_.loop.wall_ms();
  heartbeat.ring = view_->in_ring() ? view_->ring().number() : RingNumber{};
  heartbeat.catching_up = view_->catching_up || view_->read_only;
  heartbeat.sessions = static_cast<std::uint32_t>(view_->counters.sessions);
  membership_->set_heartbeat(heartbeat);
  running_writers_.clear();
  running_writers_.insert(store_->writer());
  for (const auto& member : membership_->members()) {
    if (membership_->is_alive(member.id)) running_writers_.insert(member.record.writer);
  }
  check_disk();
  check_clock();
}

void NodeImpl::check_disk() {
  if (!leaves_.free_space || stopping_) return;
  const std::uint64_t left = leaves_.free_space();
  if (!view_->read_only && left < config_.free_space_min) {
    view_->read_only = true;
    leaves_.log.error("no disk space: read-only", {{"bytes_left", left}});
  } else if (view_->read_only && left > config_.free_space_min + config_.free_space_min / 10) {
    view_->read_only = false;
    catch_up_->fall_behind();
    leaves_.log.info("disk space is back", {{"bytes_left", left}});
  }
}

void NodeImpl::check_clock() {
  const auto offset = membership_->median_clock_offset();
  // Values come from peers: compared, not subtracted.
  const bool off = offset && (*offset > kClockOffsetMaxMs || *offset < -kClockOffsetMaxMs);
  if (!off) view_->good_clock_ms = view_->wall_minus_steady_ms();
  if (off != view_->clock_off) {
    view_->clock_off = off;
    if (off) {
      leaves_.log.error("our clock is off: not coordinating; set it right (NTP)",
                        {{"others_ahead_ms", *offset}});
    } else {
      leaves_.log.info("our clock agrees with the others again");
    }
  }
}

void NodeImpl::remember_peers() {
  store_->put(Store::Family::kNode, kPeersKey, pack(member_endpoints()));
}

std::vector<std::string> NodeImpl::member_endpoints() const {
  std::vector<std::string> endpoints;
  for (const auto& member : membership_->members()) endpoints.push_back(member.record.link);
  return endpoints;
}

std::vector<Endpoint> NodeImpl::known_peers() const {
  std::vector<Endpoint> peers;
  const auto stored = store_->get(Store::Family::kNode, kPeersKey);
  if (!stored) return peers;
  const auto texts = unpack<std::vector<std::string>>(*stored);
  if (!texts) return peers;
  for (const auto& text : *texts) {
    if (auto endpoint = Endpoint::parse(text); endpoint && text != membership_->self().link) {
      peers.push_back(*endpoint);
    }
  }
  return peers;
}

Endpoint NodeImpl::admin_address() const { return admin_door_->tcp_address(); }

bool NodeImpl::serving() const {
  if (!view_->in_ring() || view_->catching_up || stopping_) return false;
  const auto* self = view_->ring().version().find(view_->self);
  return self != nullptr && self->owns();
}

void NodeImpl::stop(std::function<void()> done) {
  if (std::exchange(stopping_, true)) return;
  gateway_->drain("this node is stopping", {});
  membership_->leave();
  auto finish = std::make_shared<std::function<void()>>(std::move(done));
  auto once = [this, finish] {
    if (!*finish) return;
    view_->read_only = true;  // Nothing may follow the marker.
    if (auto closed = store_->close_cleanly(); !closed) {
      leaves_.log.warn("not closed cleanly", {{"cause", closed.error()}});
    }
    std::exchange(*finish, nullptr)();
  };
  // A moment for the goodbye and for what is under way.
  constexpr Duration kLinger = 300ms;
  stop_timer_ = leaves_.loop.after(kLinger, [this, once] {
    store_->flush();
    store_->when_durable(once);
    stop_timer_ = leaves_.loop.after(kStopDeadline, once);
  });
}

void NodeImpl::admin(const std::string& method, const Json& arguments, AdminDone done) {
  admin_api_->call(method, arguments, std::move(done));
}

}  // namespace starling::node
