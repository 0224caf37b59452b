// Pages of a session's mailboxes: from whom the next is read, how many at once, and what a full door does to them.
#include <algorithm>

#include "node/session/session.h"

namespace starling::node {

using overlay::Task;

namespace {
constexpr std::uint8_t kAskedAnewMax = 3;
constexpr Duration kRetryReadAfter = 500ms;
constexpr Duration kRereadAfter = 50ms;  // The followed owner had less than it pushed before.
}  // namespace

// Reads what other owners have, then what the followed one has, then joins the stream.
void Session::go_on(const MailboxId& mailbox) {
  Tail& tail = tails_.at(mailbox);
  if (door_full()) {
    tail.state = TailState::kBehind;
    return;
  }
  // What the owner that was left has and was to be read there, the one followed now may lack. A few times:
  // owners that come and go would keep the device waiting.
  if (tail.again && tail.asked_anew < kAskedAnewMax) {
    ++tail.asked_anew;
    tail.checked = false;
    tail.found.reset();
    return on_feed_ready(mailbox);
  }
  if (tail.reads_others()) return read_other(mailbox);
  tail.found.reset();
  const bool current = std::exchange(tail.current, false) && !tail.again;
  if (!current || !services_.feeds.join(mailbox, *this, tail.vector)) return read(mailbox);
  tail.state = TailState::kLive;
  if (!tail.announced) announce_synced(tail);
}

// The pages of a session's mailboxes come together, so it is the number of reads that bounds what they may be. Whoever
// has had its turn waits behind those in line: a mailbox of many pages, or at a slow owner, holds up no others.
bool Session::begin_read(const MailboxId& mailbox) {
  Tail& tail = tails_.at(mailbox);
  const bool others_wait = !line_moves_ && in_hand_ && !in_hand_->in_line.empty();
  if (reads_ >= kReadsPerSessionMax || others_wait) {
    tail.state = TailState::kInLine;
    in_hand().in_line.push_back(mailbox);
    return false;
  }
  ++reads_;
  tail.state = TailState::kReading;
  return true;
}

// Whoever is next goes on. A read that fails at once comes back to here, and finds the line moving already.
void Session::end_read() {
  if (std::exchange(line_moves_, true)) return;
  while (!closed_ && reads_ < kReadsPerSessionMax && in_hand_ && !in_hand_->in_line.empty()) {
    const MailboxId mailbox = in_hand_->in_line.front();
    in_hand_->in_line.pop_front();
    const auto it = tails_.find(mailbox);
    if (it == tails_.end() || it->second.state != TailState::kInLine) continue;
    it->second.state = TailState::kWaiting;
    go_on(mailbox);
  }
  line_moves_ = false;
}

void Session::read_other(const MailboxId& mailbox) {
  if (!begin_read(mailbox)) return;
  const Tail& tail = tails_.at(mailbox);
  const NodeId owner = tail.found->others.back();
  services_.feeds.read_at(owner, mailbox, tail.vector,
                          [this, alive = alive(), mailbox, owner](Result<ReadReply> reply) {
                            if (!*alive || closed_) return;
                            --reads_;
                            have_read_other(mailbox, owner, std::move(reply));
                            end_read();
                          });
}

// A spare takes its place.
void Session::Tail::pass_over(const NodeId& owner) {
  if (!found) return;
  std::erase(found->spare, owner);
  if (std::erase(found->others, owner) == 0 || found->spare.empty()) return;
  found->others.push_back(found->spare.back());
  found->spare.pop_back();
}

void Session::Tail::have_read(const NodeId& owner) {
  if (found) std::erase(found->others, owner);
}

void Session::have_read_other(const MailboxId& mailbox, const NodeId& owner, Result<ReadReply> reply) {
  // Each mailbox that waited for it by itself would hold a place for as long.
  if (!reply && reply.code() == Errc::kTimeout) {
    for (auto& [other, tail] : tails_) tail.pass_over(owner);
  }
  const auto it = tails_.find(mailbox);
  if (it == tails_.end()) return;
  Tail& tail = it->second;
  if (reply && door_full()) {
    tail.state = TailState::kBehind;  // The page is read again.
    return;
  }
  tail.state = TailState::kWaiting;
  if (!reply) {
    tail.pass_over(owner);
  } else if (!take(mailbox, *reply)) {
    return;
  } else if (!reply->more) {
    tail.have_read(owner);
  }
  go_on(mailbox);
}

// Messages of the page that were written off, of one writer, up to there: in the order of their numbers with the others,
// because the device's cursor passes all below.
void Session::tell_lost(const MailboxId& mailbox, const ReadReply& page, const Dot& before) {
  if (page.lost.empty()) return;
  Tail& tail = tails_.at(mailbox);
  const Dot first{before.writer, tail.vector.get(before.writer) + 1};
  auto at = std::lower_bound(page.lost.begin(), page.lost.end(), first,
                             [](const storage::Trace& trace, const Dot& dot) { return trace.dot < dot; });
  for (; at != page.lost.end() && at->dot < before; ++at) {
    tail.vector.raise(at->dot.writer, at->dot.n);
    ++services_.view.counters.lost_told;
    answer(lost_message(tail.address, *at));
  }
}

// False when the session ended over it.
bool Session::take(const MailboxId& mailbox, const ReadReply& page) {
  doubt(mailbox, page.ahead);
  for (const auto& item : page.changes) {
    const auto change = storage::decode(item.change.data, item.dot);
    const auto it = tails_.find(mailbox);
    if (it == tails_.end()) return false;
    if (!change) continue;
    tell_lost(mailbox, page, item.dot);
    const std::string address = it->second.address;
    const Delivery delivery(address, item.dot, *change);
    deliver(it->second, delivery);
    if (closed_) return false;
  }
  for (const auto& trace : page.lost) tell_lost(mailbox, page, {trace.dot.writer, trace.dot.n + 1});
  Tail& tail = tails_.at(mailbox);
  tail.passed = tail.passed || !tail.vector.covers(page.cursor);
  tail.vector.merge(page.cursor);
  return true;
}

void Session::read(const MailboxId& mailbox) {
  if (!begin_read(mailbox)) return;
  Tail& tail = tails_.at(mailbox);
  tail.again = false;
  services_.feeds.read(mailbox, tail.vector,
                       [this, alive = alive(), mailbox](Result<ReadReply> reply) {
                         if (!*alive || closed_) return;
                         --reads_;
                         have_read(mailbox, std::move(reply));
                         end_read();
                       });
}

void Session::have_read(const MailboxId& mailbox, Result<ReadReply> reply) {
  auto it = tails_.find(mailbox);
  if (it == tails_.end()) return;
  it->second.state = TailState::kWaiting;
  if (!reply) {
    // The feed is ready again when another owner is followed; if it became so meanwhile, go on now.
    if (it->second.again) return go_on(mailbox);
    return read_later(mailbox, kRetryReadAfter);
  }
  if (door_full()) {
    it->second.state = TailState::kBehind;  // The page is read again.
    return;
  }
  if (!take(mailbox, *reply)) return;
  Tail& tail = it->second;
  if (door_full()) {
    tail.state = TailState::kBehind;
    return;
  }
  if (tail.again) return go_on(mailbox);
  if (reply->more) return read(mailbox);
  if (services_.feeds.join(mailbox, *this, tail.vector)) {
    tail.state = TailState::kLive;
    if (!tail.announced) announce_synced(tail);
    return;
  }
  read_later(mailbox, kRereadAfter);  // Not covered yet.
}

void Session::read_later(const MailboxId& mailbox, Duration delay) {
  tails_.at(mailbox).state = TailState::kReading;
  in_hand().scope.spawn(read_after(mailbox, delay));
}

Task<Done> Session::read_after(MailboxId mailbox, Duration delay) {
  overlay::Timer timer;
  co_await overlay::sleep(services_.view.loop, delay, timer);
  const auto it = tails_.find(mailbox);
  if (it == tails_.end() || closed_) co_return Done{};
  if (!it->second.again) {
    read(mailbox);
  } else {
    it->second.state = TailState::kWaiting;
    go_on(mailbox);
  }
  co_return Done{};
}

}  // namespace starling::node
