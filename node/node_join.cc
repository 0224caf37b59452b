// From a data folder, or an invite, to a serving member.
#include <algorithm>

#include "node/node_impl.h"

namespace starling::node {

using overlay::Endpoint;
using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kJoinRetry = 1s;
constexpr Duration kDialDeadline = 5s;

constexpr Errc kOwnAddress = Errc::kInvalid;      // Of a dial: it leads to ourselves.
constexpr Errc kExpired = Errc::kUnauthenticated;  // Of a member: the token is over, or its secret is.

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

Status NodeImpl::load_ring() {
  if (!config_.join_token.empty()) {
    TRY_ASSIGN(invite_, parse_invite(config_.join_token));
  }
  TRY_ASSIGN(const auto version, RingService::load(*store_));
  if (version) {
    lineage_ = version->lineage;
    TRY(ring_->resume(*version));
    if (!invite_ || invite_->lineage == lineage_) return ok_status();
    // Nodes may have been forced out since we joined by it, before we ever served.
    const auto rings = ring_->since(ring_->kept_after({}).value_or(version->number));
    const auto of_invite = [this](const RingPtr& ring) { return ring->lineage() == invite_->lineage; };
    if (std::any_of(rings.begin(), rings.end(), of_invite)) return ok_status();
    return Error{Errc::kForeign, config_.data + " holds a node of another cluster; join with an "
                                                "empty --data folder"};
  }
  if (invite_) {
    lineage_ = invite_->lineage;
    return check_time(*invite_, leaves_.loop.wall_ms());
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
  settings.sites = config_.sites;
  return ring_->found(lineage_, settings, config_.zone, config_.weight);
}

// From the first packet to serving: a joiner is admitted and installs (ring_drive.cc); then everybody catches up.
Task<Done> NodeImpl::enter() {
  co_await view_->durable();  // Who we are, and a ring that we founded, before anybody hears of it.
  if (view_->in_ring()) {
    membership_->start(known_peers());
  } else {
    auto joining = join();
    if (auto joined = co_await joining; !joined) {
      leaves_.log.error("joining failed", {{"cause", joined.error()}});
      if (on_fatal_) on_fatal_(joined.error());
      co_return Done{};
    }
  }
  const auto* self = view_->ring().version().find(view_->self);
  if (self != nullptr && self->state == overlay::RingMemberState::kJoining) {
    auto waiting = ring_->await_completion();
    if (auto completed = co_await waiting; !completed) {
      leaves_.log.error("joining failed", {{"cause", completed.error()}});
      if (on_fatal_) on_fatal_(completed.error());
      co_return Done{};
    }
  }
  const auto covered = catch_up_->covered_at();
  if (covered && *covered < view_->ring().number()) catch_up_->owned_before(ring_->since(*covered));
  catch_up_->start();
  tick();
  co_return Done{};
}

// A refusal is final but in these cases. Another member says "later", and the address that refuses may be another
// cluster's by now, or a member was not there when the token was good yet. All that answers is our own address, which
// a dead node had before, and the others are silent.
Task<Status> NodeImpl::join() {
  overlay::Timer timer;
  for (;;) {
    std::optional<Error> refused;
    bool later = false, silent = false;
    for (const auto& text : invite_->seeds) {
      const auto seed = Endpoint::parse(text);
      if (!seed) co_return seed.error();
      auto dialling = dial_seed(*seed);
      const auto peer = co_await dialling;
      Status asked = peer ? ok_status() : Status(peer.error());
      if (peer) {
        auto asking = ask_seed(*seed, *peer);
        asked = co_await asking;
        if (asked) co_return ok_status();
      }
      leaves_.log.warn("not admitted yet", {{"seed", text}, {"cause", asked.error()}});
      const bool final = final_refusal(asked.code());
      if (peer && final && asked.code() != kExpired) co_return asked.error();
      if (final && (!refused || refused->code == kOwnAddress)) refused = asked.error();
      later |= peer && !final;
      silent |= !peer && !final;
    }
    const bool only_ours = refused && refused->code == kOwnAddress;
    if (refused && !later && !(only_ours && silent)) co_return *refused;
    co_await overlay::sleep(leaves_.loop, kJoinRetry, timer);
  }
}

Task<Result<NodeId>> NodeImpl::dial_seed(Endpoint seed) {
  auto [dialled, dialling] = overlay::Completer<Result<NodeId>>::make(leaves_.loop);
  links_->dial(seed, kDialDeadline, [dialled = dialled](Result<NodeId> peer) mutable {
    dialled.set(std::move(peer));
  });
  co_return co_await dialling;
}

Task<Status> NodeImpl::ask_seed(Endpoint seed, NodeId peer) {
  JoinRequest request;
  request.key = identity_.public_key();
  request.invite = config_.join_token;
  request.zone = config_.zone;
  request.weight = config_.weight;
  request.link = membership_->self().link;
  request.wall_ms = leaves_.loop.wall_ms();
  request.replaces = config_.replaces;
  auto asking = ring_->ask_to_join(peer, std::move(request));
  CO_TRY_ASSIGN(const JoinReply answer, co_await asking);
  CO_TRY_ASSIGN(const auto version, overlay::decode_ring_version(answer.ring.data));
  if (!answer.keyring.data.empty()) {  // A rotation may have crossed our admission.
    CO_TRY_ASSIGN(const Keyring theirs, Keyring::parse(answer.keyring.data));
    (void)keyring_.merge(theirs);
  }
  store_->put(Store::Family::kNode, kKeyringKey, keyring_.serialise());
  std::vector<Endpoint> seeds{seed};
  std::vector<std::string> peers{seed.text()};
  for (const auto& text : answer.seeds) {
    if (auto endpoint = Endpoint::parse(text)) seeds.push_back(*endpoint);
    peers.push_back(text);
  }
  // With the ring: whoever comes back as a member has to know where the others are.
  store_->put(Store::Family::kNode, kPeersKey, pack(peers));
  CO_TRY(ring_->adopt(version));
  membership_->start(std::move(seeds));
  // The members' addresses come by gossip; until then nobody can be asked for data.
  overlay::Timer timer;
  for (int i = 0; i < 100 && view_->reachable_home(PartitionId{0}) == 0; ++i) {
    co_await overlay::sleep(leaves_.loop, 100ms, timer);
  }
  co_return ok_status();
}

std::vector<Endpoint> NodeImpl::known_peers() const {
  std::vector<Endpoint> peers;
  const auto stored = store_->get(Store::Family::kNode, kPeersKey);
  if (!stored) return peers;
  const auto texts = unpack<PeersRow>(*stored);
  if (!texts) return peers;
  for (const auto& text : *texts) {
    if (auto endpoint = Endpoint::parse(text); endpoint && text != membership_->self().link) {
      peers.push_back(*endpoint);
    }
  }
  return peers;
}

}  // namespace starling::node
