#include "node/node.h"

#include <nlohmann/json.hpp>

#include "crypto/init.h"
#include "node/node_impl.h"
#include "storage/engine/destroy.h"

namespace starling::node {

using storage::Store;

namespace {

constexpr Duration kStopDeadline = 5s;

}  // namespace

namespace {

// What left its cluster, and was told that it may go, begins anew or not at all (hazards F34).
Result<std::unique_ptr<Store>> open_store(const Config& config, const Leaves& leaves) {
  storage::StoreOptions options;
  options.path = config.data + "/store";
  options.env = leaves.env;
  options.committer = leaves.committer;
  options.random = &leaves.random;
  options.partitions = config.partitions;
  options.background_work = leaves.background_work;
  options.wall_ms = leaves.loop.wall_ms();
  TRY_ASSIGN(auto store, Store::open(options));
  if (!Farewell::was_safe(*store)) return store;
  if (config.join_token.empty()) {
    return Error{Errc::kDenied, "the node in " + config.data + " has left its cluster, which has everything that it "
                                "held. `starling join TOKEN` empties the folder and joins as a new node"};
  }
  TRY_ASSIGN(const Invite invite, parse_invite(config.join_token));
  TRY(check_time(invite, leaves.loop.wall_ms()));
  store.reset();
  TRY(storage::destroy_store(options.path, leaves.env));
  return Store::open(std::move(options));
}

}  // namespace

Result<std::unique_ptr<Node>> Node::open(Config config, Leaves leaves) {
  TRY(crypto_init());
  if (leaves.free_space && leaves.free_space() < config.free_space_min) {
    return Error{Errc::kFull, "less than " + std::to_string(config.free_space_min >> 20) +
                                  " MiB of disk space left for " + config.data +
                                  "; make room or choose another --data folder"};
  }
  TRY_ASSIGN(auto store, open_store(config, leaves));
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
      stored_time_(store_->highest_time()) {}

NodeImpl::~NodeImpl() = default;

Status NodeImpl::begin() {
  wire();
  TRY(load_ring());
  TRY(bind_ports());
  TRY(open_membership());
  // Last, so that a start that failed founds nothing.
  if (view_->in_ring() || invite_) return ok_status();
  if (!config_.may_found) return Error{Errc::kNotFound, "the node in " + config_.data + " is in no cluster, and has no token for one"};
  founded_ = true;
  return found();
}

void NodeImpl::start(std::function<void(const Error&)> on_fatal) {
  on_fatal_ = std::move(on_fatal);
  catch_up_->on_catching_up = [this](bool) { tick(); };
  scope_.emplace(leaves_.loop);
  view_->catching_up = true;  // Until compared: also while we join, and when the ring makes us an owner.
  tick();
  load_due_ = leaves_.loop.now();
  look_at_load();
  scope_->spawn(enter());
  if (!fatal_) return;
  leaves_.loop.defer([this, here = std::weak_ptr<bool>(alive_)] {
    if (!here.expired()) on_fatal_(*fatal_);
  });
}

bool NodeImpl::serving() const {
  if (!view_->in_ring() || view_->catching_up || stopping_) return false;
  const auto* self = view_->ring().version().find(view_->self);
  return self != nullptr && self->owns();
}

void NodeImpl::stop(std::function<void()> done) {
  if (std::exchange(stopping_, true)) return;
  tell_draining();
  stopped_ = std::move(done);
  gateway_->drain("this node is stopping", [this] { return other_gateways(); }, [this] {
    membership_->leave();
    // A moment for the goodbye and for what is under way.
    constexpr Duration kLinger = 300ms;
    stop_timer_ = leaves_.loop.after(kLinger, [this] {
      view_->read_only = true;  // Nothing may follow the marker,
      view_->giving_up = false;  // and nobody takes that back.
      stop_timer_ = leaves_.loop.after(kStopDeadline, [this] {
        if (!stopped_) return;
        leaves_.log.warn("not closed cleanly: the disk does not answer");
        std::exchange(stopped_, nullptr)();
      });
      close_store();
    });
  });
}

// Once nothing is on its way to the disk. What was under way, a move say, may write once more.
void NodeImpl::close_store() {
  store_->flush();
  store_->when_durable([this] {
    if (!stopped_) return;
    const auto closed = store_->close_cleanly();
    if (!closed && closed.code() == Errc::kInvalid) return close_store();
    if (!closed) leaves_.log.warn("not closed cleanly", {{"cause", closed.error()}});
    std::exchange(stopped_, nullptr)();
  });
}

void NodeImpl::admin(const std::string& method, const Json& arguments, AdminDone done) {
  admin_api_->call(method, arguments, std::move(done));
}

}  // namespace starling::node
