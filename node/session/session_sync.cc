#include <algorithm>
#include <cassert>

#include "node/session/frame_head.h"
#include "node/session/session.h"
#include "storage/expiry.h"

namespace starling::node {

using overlay::Task;
using protocol::Type;
using storage::ChangeKind;

namespace {
constexpr int kRefreshTries = 5;
constexpr Duration kRefreshEvery = 200ms;
constexpr Duration kUnsureEvery = 2s;  // A list that may lack something is read again, when an owner comes back, or after
constexpr Duration kUnsureMax = 16s;   // so long, and more and more rarely.
constexpr Duration kHeadsGatherFor = 20ms;  // Mailboxes that become ready meanwhile share the heads requests.
}  // namespace

void Session::sync(std::uint64_t number, View body) {
  if (protocol::count_mailboxes(body) > kSyncMailboxesMax) {
    return refuse(number, {Errc::kTooLarge, "a Sync names at most " + std::to_string(kSyncMailboxesMax) +
                                                " mailboxes: leave out those you are not in"});
  }
  auto request = unpack<protocol::Sync>(body);
  if (!request) return refuse_frame(number, request.error());
  if (syncing_ || !tails_.empty()) {
    return refuse(number, {Errc::kInvalid, "this connection syncs already"});
  }
  if (const auto why = bent(*request)) return refuse(number, *why);
  if (!begin_request(number)) return;
  syncing_ = true;
  sync_request_ = number;
  in_hand().scope.spawn(start_sync(std::move(*request)));
}

// Our own mailbox names the groups; each is then a tail of its own.
Task<Done> Session::start_sync(protocol::Sync request) {
  std::map<std::string, storage::VersionVector> cursors;
  for (auto& item : request.mailboxes) cursors[item.address] = std::move(item.cursor);
  auto checking = services_.accounts.has_ended(user_, epoch_);
  const auto ended = co_await checking;
  auto listing = services_.groups.of_user(user_);
  const auto listed = co_await listing;
  --in_flight_;
  if (closed_) co_return Done{};
  if (!ended || !listed) {
    syncing_ = false;
    refuse(request.request, ended ? listed.error() : ended.error());
    co_return Done{};
  }
  if (*ended) {
    revoke();
    co_return Done{};
  }
  std::vector<std::string> addresses{user_};
  addresses.insert(addresses.end(), listed->groups.begin(), listed->groups.end());
  tails_to_sync_ = addresses.size();
  for (const auto& address : addresses) {
    add_tail(address, std::move(cursors[address]), true);
    cursors.erase(address);
  }
  InHand& hand = in_hand();
  for (const auto& [address, cursor] : cursors) {
    if (address.starts_with('#') && !listed->names(address)) hand.doubted.insert(address);
  }
  if (listed->sure && hand.doubted.empty()) co_return Done{};
  // A group that the list lacks may lie under the cursor, and then is told of no more.
  hand.brought = std::move(cursors);
  if (!std::exchange(hand.refreshing, true)) hand.scope.spawn(refresh_groups());
  co_return Done{};
}

void Session::add_tail(const std::string& address, storage::VersionVector cursor, bool initial) {
  const MailboxId mailbox = mailbox_of(address);
  auto [it, fresh] = tails_.try_emplace(mailbox);
  if (!fresh) {
    if (initial) synced_one();
    return;
  }
  it->second.initial = initial;
  it->second.address = address;
  it->second.vector = std::move(cursor);
  services_.feeds.subscribe(mailbox, address, *this);
}

void Session::remove_tail(const std::string& address) {
  const MailboxId mailbox = mailbox_of(address);
  auto it = tails_.find(mailbox);
  if (it == tails_.end()) return;
  if (it->second.initial && !it->second.announced) synced_one();
  services_.feeds.unsubscribe(mailbox, *this);
  if (in_hand_) {
    std::erase(in_hand_->in_line, mailbox);
    std::erase(in_hand_->to_check, mailbox);
  }
  tails_.erase(mailbox);
}

void Session::on_feed_ready(const MailboxId& mailbox) {
  auto it = tails_.find(mailbox);
  if (it == tails_.end() || closed_) return;
  if (it->second.state == TailState::kReading || it->second.state == TailState::kInLine) {
    it->second.again = true;  // The answer may come from the owner that was left.
    return;
  }
  if (it->second.state == TailState::kLive) return;
  if (!std::exchange(it->second.checked, true)) {
    it->second.state = TailState::kReading;
    auto& to_check = in_hand().to_check;
    to_check.push_back(mailbox);
    const bool all = to_check.size() >= tails_to_sync_;
    if (to_check.size() == 1 || all) {
      in_hand().check_timer = services_.view.loop.after(all ? 0ms : kHeadsGatherFor, [this] { check_heads(); });
    }
    return;
  }
  go_on(mailbox);
}

// One request an owner node for all that became ready (hazards F27).
void Session::check_heads() {
  std::vector<HeadCheck::Item> items;
  for (const auto& mailbox : std::exchange(in_hand().to_check, {})) {
    const auto it = tails_.find(mailbox);
    if (it == tails_.end() || closed_) continue;
    if (const auto owner = services_.feeds.followed(mailbox)) {
      it->second.again = false;
      items.push_back({mailbox, it->second.vector.digest(), *owner});
    } else {
      it->second.state = TailState::kWaiting;  // Ready anew, later.
      it->second.checked = false;
    }
  }
  if (items.empty()) return;
  HeadCheck::ask(services_.view, items,
                 [this, alive = alive()](const MailboxId& mailbox, HeadCheck::Found found) {
                   if (*alive && !closed_) checked(mailbox, std::move(found));
                 });
}

void Session::checked(const MailboxId& mailbox, HeadCheck::Found found) {
  const auto it = tails_.find(mailbox);
  if (it == tails_.end()) return;
  Tail& tail = it->second;
  tail.state = TailState::kWaiting;
  tail.current = !found.followed_has_more;
  tail.found = found.others.empty() ? nullptr : std::make_unique<HeadCheck::Found>(std::move(found));
  go_on(mailbox);
}

void Session::on_feed_lost(const MailboxId& mailbox) {
  auto it = tails_.find(mailbox);
  if (it == tails_.end() || it->second.state != TailState::kLive) return;
  ++services_.view.counters.fell_behind;
  it->second.state = TailState::kWaiting;
}

void Session::tell_cursor(Tail& tail) {
  tail.passed = false;
  protocol::Synced message;
  message.mailbox = tail.address;
  message.cursor = tail.vector;
  answer(message);
}

void Session::announce_synced(Tail& tail) {
  tail.announced = true;
  tell_cursor(tail);
  if (tail.initial) synced_one();
}

// A device raises its cursor by what it is sent. What only the session passed (registers, what expired) it would read
// past again at each login, and ever more of it.
void Session::tell_cursors() {
  const Instant now = services_.view.loop.now();
  if (now - cursors_told_ < kCursorsEvery) return;
  for (auto& [mailbox, tail] : tails_) {
    if (door_full()) return;  // The others at the next look.
    if (tail.passed && tail.announced) tell_cursor(tail);
  }
  cursors_told_ = now;
}

void Session::synced_one() {
  assert(tails_to_sync_ > 0);
  if (--tails_to_sync_ == 0) finish_sync();
}

void Session::finish_sync() {
  // check_claims() comes back to it then.
  if (in_hand_ && (in_hand_->gathering_claims || in_hand_->asking_claims > 0)) return;
  sync_done_ = true;
  answer(protocol::Head{static_cast<std::uint8_t>(Type::kSyncDone), sync_request_});
}

void Session::on_change(const MailboxId& mailbox, const Delivery& delivery) {
  auto it = tails_.find(mailbox);
  if (it == tails_.end() || it->second.state != TailState::kLive || closed_) return;
  Tail& tail = it->second;
  const bool gap = delivery.change.prev > tail.vector.get(delivery.dot.writer);
  if (gap || door_full()) {
    // Behind: fall back to reading from our own vector, at nobody else's cost.
    ++services_.view.counters.fell_behind;
    services_.feeds.part(mailbox, *this);
    tail.state = TailState::kBehind;
    if (gap && !door_full()) read(mailbox);
    return;
  }
  deliver(tail, delivery);
}

// The device knows its messages by key, so one that it has is not shown again. Whose door is full finds it in the
// history, like all who are not online now.
void Session::on_regained(const MailboxId& mailbox, const Delivery& delivery) {
  const auto it = tails_.find(mailbox);
  if (it == tails_.end() || it->second.state != TailState::kLive || closed_ || door_full()) return;
  const bool is_register = delivery.change.kind == ChangeKind::kRegister;
  if (is_register || is_expired(delivery.change) || !it->second.vector.covers(delivery.dot)) return;
  ++services_.view.counters.deliveries;
  door_.write(delivery.frame());
}

// Raises the vector and sends what is for the device.
void Session::deliver(Tail& tail, const Delivery& delivery) {
  // Even when the cursor covers it: a forged one must not hide that the account was disabled.
  const bool is_register = delivery.change.kind == ChangeKind::kRegister;
  if (is_register && delivery.change.mailbox == mailbox_) apply_register(delivery.change.reg);
  if (closed_ || tail.vector.covers(delivery.dot)) return;
  tail.vector.raise(delivery.dot.writer, delivery.dot.n);
  if (is_register || is_expired(delivery.change)) {
    tail.passed = true;
    return;
  }
  ++services_.view.counters.deliveries;
  door_.write(delivery.frame());
}

// Who was away for long brings home what nobody may see any more (hazards F13).
bool Session::is_expired(const storage::ChangeView& change) const {
  const auto expiry = storage::expiry_seconds(change.entry.expires_ms);
  return storage::is_expired(expiry, services_.view.store.expiry_time());
}

void Session::apply_register(const storage::RegisterView& reg) {
  if (reg.key == kAccountKey) {
    // Disabling raises the epoch too. What is met while catching up may be older, or have lost to another since.
    const auto account = unpack<AccountValue>(reg.value);
    if (!account || account->epoch <= epoch_) return;
  }
  if (reg.key == kAccountKey || reg.key == kDisabledKey) {
    return in_hand().scope.spawn(check_epoch());
  }
  if (!reg.key.starts_with(kGroupPrefix)) return;
  // An older change may have lost to a newer one: the list as it is now decides.
  const auto member = unpack<storage::MemberValue>(reg.value);
  if (!member) return;
  in_hand().expected_groups[std::string(reg.key.substr(kGroupPrefix.size()))] = !member->removed;
  if (std::exchange(in_hand().refreshing, true)) return;
  in_hand().scope.spawn(refresh_groups());
}

// Brings the tails in line with the user's list of groups. The owners that are asked may be behind the one that pushed
// the change, or never have been told of it. So what they say otherwise is asked of all owners, until all have answered;
// and a list that is not sure is read again when an owner of it comes back.
Task<Done> Session::refresh_groups() {
  InHand& hand = in_hand();
  bool settled = hand.doubted.empty();  // Else it goes on until it is.
  Duration unsure_pause = kUnsureEvery / 2;
  for (int attempt = 0; (attempt < kRefreshTries || !settled) && !closed_; ++attempt) {
    const bool soon = attempt < kRefreshTries && !hand.expected_groups.empty();
    if (!soon) unsure_pause = std::min(2 * unsure_pause, kUnsureMax);
    const Duration jitter(services_.view.random.below(static_cast<std::uint64_t>(unsure_pause.count() / 2)));
    const Duration pause = soon ? kRefreshEvery : unsure_pause / 2 + jitter;
    auto waiting = services_.groups.wait(user_, attempt == 0 ? 1ms : pause);
    co_await waiting;
    const auto expected = hand.expected_groups;
    auto asking = services_.groups.of_user(user_);
    auto listing = co_await asking;
    settled = false;
    if (!listing) continue;
    bool by_all = false;
    if (listing->sure && !hand.doubted.empty()) {
      auto asking_all = services_.groups.of_user(user_, /*of_all=*/true);
      auto of_all = co_await asking_all;
      by_all = of_all && of_all->sure;
      if (by_all) {
        hand.doubted.clear();
        listing = std::move(of_all);
      } else if (of_all) {
        follow_groups(*of_all);  // It adds, and takes nothing away.
      }
    }
    if (!by_all) doubt_what_is_not_named(*listing);
    follow_groups(*listing);
    std::erase_if(hand.doubted, [&](const auto& group) { return !expected.contains(group) && listing->names(group); });
    for (const auto& [group, in] : expected) {
      const auto& now = listing->in_all;
      if (std::binary_search(now.begin(), now.end(), group) == in) {
        hand.doubted.erase(group);
      } else if (!by_all) {
        hand.doubted.insert(group);
      }
    }
    settled = listing->sure && hand.doubted.empty() && expected == hand.expected_groups;  // Else more came meanwhile.
    if (settled) break;
  }
  hand.refreshing = false;
  hand.brought.clear();
  hand.expected_groups.clear();
  hand.doubted.clear();
  co_return Done{};
}

// Who is out is named as left for long. A group that the list does not know was acknowledged by an owner and a stand-in,
// perhaps, and this one has not heard of it yet.
void Session::doubt_what_is_not_named(const Groups::Listing& listing) {
  for (const auto& [mailbox, tail] : tails_) {
    if (tail.address.front() != '#' || listing.names(tail.address)) continue;
    if (listing.is_out_of(tail.address)) in_hand().doubted.insert(tail.address);
  }
}

// What the list leaves out because it is long is not left for that.
void Session::follow_groups(const Groups::Listing& listing) {
  if (closed_) return;
  InHand& hand = in_hand();
  const auto& now = listing.groups;
  std::vector<std::string> gone;
  for (const auto& [mailbox, tail] : tails_) {
    if (tail.address.front() != '#' || !listing.is_out_of(tail.address)) continue;
    if (hand.doubted.contains(tail.address) && !listing.names(tail.address)) continue;
    gone.push_back(tail.address);
  }
  protocol::JoinedOrLeft event;
  for (const auto& group : gone) {
    event.type = static_cast<std::uint8_t>(Type::kLeft);
    event.group = group;
    answer(event);
    remove_tail(group);
  }
  for (const auto& group : now) {
    if (tails_.size() >= kSyncMailboxesMax) break;
    if (tails_.contains(mailbox_of(group))) continue;
    event.type = static_cast<std::uint8_t>(Type::kJoined);
    event.group = group;
    answer(event);
    auto brought = hand.brought.extract(group);
    add_tail(group, brought ? std::move(brought.mapped()) : storage::VersionVector{}, false);
  }
  if (listing.sure && hand.doubted.empty()) hand.brought.clear();
}

void Session::on_drained() {
  if (closed_) return;
  std::vector<MailboxId> behind;
  for (const auto& [mailbox, tail] : tails_) {
    if (tail.state == TailState::kBehind) behind.push_back(mailbox);
  }
  for (const auto& mailbox : behind) {
    auto it = tails_.find(mailbox);
    if (it != tails_.end() && it->second.state == TailState::kBehind && !door_full()) go_on(mailbox);
  }
}

}  // namespace starling::node
