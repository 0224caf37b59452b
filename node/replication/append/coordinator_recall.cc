// Taking back a message that was stored: a void at its position, asked for by any device of the user who sent it.
//
// The key names the device that sent, not whose that is; the message says it. So it must be readable here, or be fetched
// from another owner. Where none has it and one of them did not answer the recall is refused, to be tried elsewhere.
#include "node/replication/append/coordinator.h"

#include <algorithm>

#include "storage/expiry.h"

namespace starling::node {

using overlay::Task;
using protocol::Grade;
using storage::ChangeKind;

namespace {

Error was_written_off() {
  return {Errc::kUnavailable, "this message was written off, and may come back; it can be taken back then"};
}
Error no_message() { return {Errc::kNotFound, "there is no such message: it was never stored, or it has expired"}; }

}  // namespace

Task<starling::Done> Coordinator::take_back(Pending recall) {
  Status done = may_store(view_.store.partition_of(recall.mailbox), recall.request.flags, true);
  if (done) {
    auto finding = find_message(recall.mailbox, recall.key);
    const auto found = co_await finding;
    const auto sent = found ? storage::parse(**found) : Result<storage::ChangeView>(found.error());
    done = sent ? store_recall(recall, *sent) : Status(sent.error());
  }
  --recalling_;
  if (!done) refuse(recall, done.error());
  co_return starling::Done{};
}

std::optional<Dot> Coordinator::written_off(const MailboxId& mailbox, const MessageKey& key) {
  const auto trace = view_.store.trace(mailbox, key);
  if (!trace || storage::is_expired(trace->expiry, view_.store.expiry_time())) return std::nullopt;
  const auto lost = view_.store.lost(view_.store.partition_of(mailbox));
  if (std::find(lost.begin(), lost.end(), trace->dot) == lost.end()) return std::nullopt;
  return trace->dot;
}

// The message, or what closed it: both say who sent it.
Task<Result<Shared>> Coordinator::find_message(MailboxId mailbox, MessageKey key) {
  if (!view_.store.find_key(mailbox, key)) {
    auto asking = ask_for_key(mailbox, key);
    const Asked asked = co_await asking;
    if (!asked.found && (asked.written_off || written_off(mailbox, key))) co_return was_written_off();
    if (!asked.found && asked.everybody) co_return no_message();
    if (!view_.store.find_key(mailbox, key)) {
      co_return Error{Errc::kUnavailable, "an owner that may hold this message did not answer; try again in a moment"};
    }
  }
  co_await view_.durable();
  const auto state = view_.store.find_key(mailbox, key);
  if (!state) co_return no_message();  // Expired meanwhile.
  auto stored = view_.store.read_change(view_.store.partition_of(mailbox), state->dot);
  if (stored) co_return std::move(stored->bytes);
  co_return Error{Errc::kUnavailable, "the message cannot be read here: " + stored.error().text};
}

// Takes `recall` unless it fails.
Status Coordinator::store_recall(Pending& recall, const storage::ChangeView& sent) {
  if (sent.entry.from != recall.request.from || sent.entry.to != recall.request.to) {
    return no_message();  // Who wrote to whom is nobody else's business.
  }
  // The look-up took a while.
  TRY(may_store(view_.store.partition_of(recall.mailbox), recall.request.flags, true));
  const auto state = view_.store.find_key(recall.mailbox, recall.key);
  if (!state) return no_message();
  if (auto it = in_flight_.find({recall.mailbox, recall.key}); it != in_flight_.end()) {
    if (!it->second.is_void) {
      return Error{Errc::kOverloaded, "the message is still in flight; take it back in a moment"};
    }
    it->second.waiters.push_back(std::move(recall.done));
    return ok_status();
  }
  if (state->is_void) {
    join(std::move(recall), *state);
    return ok_status();
  }
  storage::ChangeView change = sent;
  change.kind = ChangeKind::kVoid;
  auto& entry = change.entry;
  const bool direct = entry.to.starts_with('@') && entry.to != entry.from;
  entry.id = state->id;  // Of several copies, where the message stands.
  entry.body = {};
  entry.flags = storage::kEntryIsRecall;
  if (direct) entry.flags |= storage::kEntryImpliesCopy;
  entry.expires_ms = outliving(entry.expires_ms);
  store(std::move(recall), change);
  return ok_status();
}

// A retry of what was given up is refused, one of what was taken back is answered like any other.
Task<starling::Done> Coordinator::answer_closed(Pending send) {
  co_await view_.durable();
  const auto state = view_.store.find_key(send.mailbox, send.key);
  const Dot dot = state ? state->dot : Dot{};
  const auto stored = view_.store.read_change(view_.store.partition_of(send.mailbox), dot);
  const auto change = stored ? storage::decode(*stored->bytes, dot) : Result<storage::ChangeView>(stored.error());
  if (!change) {
    refuse(send, {Errc::kUnavailable, "what closed this number cannot be read here: " + change.error().text});
  } else if ((change->entry.flags & storage::kEntryIsRecall) == 0) {
    refuse(send, {Errc::kSequenceReused, "this number was closed by a void"});
  } else if (in_flight_.contains({send.mailbox, send.key})) {
    refuse(send, {Errc::kOverloaded, "this number is in flight; send it again in a moment"});
  } else {
    join(std::move(send), *state);
  }
  co_return starling::Done{};
}

bool Coordinator::is_closed_by_recall(const MailboxId& mailbox, const storage::KeyState& closed) const {
  const auto stored = view_.store.read_change(view_.store.partition_of(mailbox), closed.dot);
  if (!stored) return false;
  const auto change = storage::decode(*stored->bytes, closed.dot);
  return change && (change->entry.flags & storage::kEntryIsRecall) != 0;
}

// Longer than any copy of the message lives that a retry may make yet.
std::uint64_t Coordinator::outliving(std::uint64_t expires_ms) const {
  if (expires_ms == 0) return 0;
  const auto now = hlc_ms(view_.hlc.next(view_.loop.wall_ms()));
  return std::max(expires_ms, now) + 2 * retention_ms_;
}

}  // namespace starling::node
