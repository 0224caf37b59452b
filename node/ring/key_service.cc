#include "node/ring/key_service.h"

#include "crypto/text.h"
#include "node/layout.h"
#include "node/ring/messages.h"

namespace starling::node {

namespace {

constexpr int kTellTurnsMax = 5;  // A ring that changes meanwhile has members that were not told.

}  // namespace

using overlay::Access;
using overlay::Method;
using overlay::Reply;
using overlay::Task;
using storage::Store;

KeyService::KeyService(ClusterView& view, Keyring& keyring)
    : view_(view), keyring_(keyring), scope_(view.loop) {
  serve();
  timer_ = view_.loop.after(kKeysEvery, [this] { look_around(); });
}

void KeyService::serve() {
  view_.rpc.serve(Method::kKeys, Access::kMembers, [this](const NodeId&, View body, Reply reply) {
    const auto theirs = unpack<KeysExchange>(body);
    if (!theirs) return reply(theirs.error());
    if (!view_.in_ring()) return reply(Error{Errc::kUnavailable, "this node is still joining itself"});
    if (auto taken = take(theirs->keyring.data); !taken) return reply(taken.error());
    scope_.spawn(answer(std::move(reply)));
  });
}

Task<Done> KeyService::answer(Reply reply) {
  co_await view_.durable();
  reply(pack(KeysExchange{{keyring_.serialise()}}));
  co_return Done{};
}

Status KeyService::take(View keyring) {
  TRY_ASSIGN(const Keyring theirs, Keyring::parse(keyring));
  const KeyId before = key_id(keyring_.primary());
  if (!keyring_.merge(theirs)) return ok_status();
  save();
  tell_joiners();
  const KeyId now = key_id(keyring_.primary());
  if (now != before) view_.log.info("another cluster key is in use", {{"key", hex(now.view())}});
  return ok_status();
}

// One may have been admitted behind the back of the node that rotates.
void KeyService::tell_joiners() {
  if (!view_.in_ring()) return;
  for (const auto& member : view_.ring().members()) {
    const bool joining = member.state == overlay::RingMemberState::kJoining && member.id != view_.self;
    if (joining && view_.rpc.linked(member.id)) scope_.spawn(exchange(member.id));
  }
}

void KeyService::save() {
  view_.store.put(Store::Family::kNode, kKeyringKey, keyring_.serialise());
}

bool KeyService::is_member(const NodeId& node) const {
  if (!view_.in_ring() || node == view_.self) return false;
  const auto& version = view_.ring().version();
  const auto* member = version.find(node);
  return member != nullptr && !member->gone() && !version.is_revoked(node);
}

// Of the two, the one with the smaller id asks.
void KeyService::meet(const NodeId& peer) {
  if (view_.self < peer && is_member(peer)) scope_.spawn(exchange(peer));
}

void KeyService::look_around() {
  timer_ = view_.loop.after(kKeysEvery, [this] { look_around(); });
  if (!view_.in_ring()) return;
  std::vector<NodeId> alive;
  for (const auto& member : view_.ring().members()) {
    if (is_member(member.id) && view_.alive(member.id)) alive.push_back(member.id);
  }
  if (!alive.empty()) scope_.spawn(exchange(alive[view_.random.below(alive.size())]));
}

Task<Done> KeyService::exchange(NodeId peer) {
  auto exchanging = exchange_with(peer);
  (void)co_await exchanging;  // It is tried again.
  co_return Done{};
}

Task<Status> KeyService::exchange_with(NodeId peer) {
  auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kKeys,
                              pack(KeysExchange{{keyring_.serialise()}}), kKeysDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(const auto theirs, unpack<KeysExchange>(body));
  co_return take(theirs.keyring.data);
}

void KeyService::retire() {
  if (keyring_.retire(view_.loop.wall_ms()) == 0) return;
  save();
  view_.log.info("old cluster keys are retired", {{"left", keyring_.infos().size()}});
}

Task<KeyService::Told> KeyService::tell_members() {
  Told out;
  out.taken.push_back(view_.self);
  const RingPtr ring = view_.ring_ptr();  // It may be replaced meanwhile.
  for (const auto& member : ring->members()) {
    if (!is_member(member.id)) continue;
    if (!view_.alive(member.id) && !view_.rpc.linked(member.id)) {
      out.away.push_back(member.id);
      continue;
    }
    auto exchanging = exchange_with(member.id);
    const auto told = co_await exchanging;
    (told ? out.taken : out.silent).push_back(member.id);
    if (!told) out.why = told.error().text;
  }
  co_return out;
}

Task<Result<KeyService::Rotation>> KeyService::rotate(std::int64_t live_ms) {
  if (rotating_) co_return Error{Errc::kOverloaded, "a rotation is under way here; wait for it"};
  rotating_ = true;
  auto rotating = rotate_checked(live_ms);
  auto rotated = co_await rotating;
  rotating_ = false;
  co_return rotated;
}

// Of a full ring the oldest goes where all are about to, also when the new one is not taken by all then.
Status KeyService::make_room(std::int64_t live_ms) {
  const auto keys = keyring_.infos();
  if (keys.size() < kKeyringKeysMax) return ok_status();
  if (live_ms == 0) return keyring_.remove(keys.back().id);
  return Error{Errc::kOverloaded, std::to_string(kKeyringKeysMax) + " keys open what is sent, the most there may be: wait until "
                                  "one retires (`starling key list`), or retire all others now with --retire-after 0"};
}

Task<Result<KeyService::Rotation>> KeyService::rotate_checked(std::int64_t live_ms) {
  auto fresh = keyring_.unused();
  if (!fresh) {
    CO_TRY(make_room(live_ms));
    const SecretKey key = SecretKey::random(view_.random);
    CO_TRY(keyring_.add(key));
    fresh = key_id(key);
    save();
  }
  co_await view_.durable();
  Told told;
  for (int turn = 0; turn < kTellTurnsMax; ++turn) {
    const RingNumber seen = view_.ring().number();
    auto telling = tell_members();
    told = co_await telling;
    if (view_.ring().number() == seen) break;
  }
  if (!told.silent.empty()) {
    co_return Error{Errc::kUnavailable, "node " + short_text(told.silent.front()) +
                                            " did not take the new key (" + told.why +
                                            "); nothing uses it yet: try again"};
  }
  if (told.taken.size() * 2 <= told.taken.size() + told.away.size()) {
    co_return Error{Errc::kUnavailable, "no majority of the members can be reached; nothing uses the "
                                        "new key yet: try again"};
  }
  const std::int64_t retire_at = view_.loop.wall_ms() + live_ms;
  CO_TRY(keyring_.promote(*fresh, retire_at));
  // At once is at once: no clock is asked, which whoever has the old secret could have led astray. The others hear of it.
  if (live_ms == 0) keyring_.retire(retire_at);
  save();
  co_await view_.durable();
  view_.log.info("the cluster key was rotated", {{"key", hex(fresh->view())}});
  auto spreading = tell_members();
  const Told used = co_await spreading;  // Who misses this has the key and hears of its use later.
  if (keyring_.retire_others(retire_at)) {
    if (live_ms == 0) keyring_.retire(retire_at);
    save();
  }
  Rotation out{keyring_.infos().front().id, retire_at, told.taken, used.away, {}};
  for (const auto& member : view_.ring().members()) {
    if (member.gone() && view_.alive(member.id)) out.going.push_back(member.id);
  }
  co_return out;
}

}  // namespace starling::node
