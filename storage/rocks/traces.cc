#include "storage/rocks/traces.h"

#include "storage/store.h"

namespace starling::storage {

bool TraceTable::add(const Trace& trace) {
  erase(trace.mailbox, trace.dot);
  if (size_ >= kTracesMax) return false;
  Mailbox& mailbox = mailboxes_[trace.mailbox];
  mailbox.by_dot.emplace(trace.dot, trace);
  mailbox.by_place.emplace(trace.conversation, trace.id, trace.dot);
  if (trace.expiry != 0) expiring_.emplace(trace.expiry, trace.mailbox, trace.dot);
  ++size_;
  return true;
}

void TraceTable::erase(const MailboxId& mailbox, const Dot& dot) {
  const auto of = mailboxes_.find(mailbox);
  if (of == mailboxes_.end()) return;
  const auto at = of->second.by_dot.find(dot);
  if (at == of->second.by_dot.end()) return;
  const Trace& trace = at->second;
  of->second.by_place.erase({trace.conversation, trace.id, dot});
  expiring_.erase({trace.expiry, mailbox, dot});
  of->second.by_dot.erase(at);
  if (of->second.by_dot.empty()) mailboxes_.erase(of);
  --size_;
}

void TraceTable::expire(std::uint64_t time_ms) {
  for (std::size_t left = kTracesExpiredMax; left > 0 && !expiring_.empty(); --left) {
    const auto [expiry, mailbox, dot] = *expiring_.begin();
    if (!is_expired(expiry, time_ms)) return;
    erase(mailbox, dot);
  }
}

const TraceTable::Mailbox* TraceTable::find(const MailboxId& mailbox) const {
  const auto of = mailboxes_.find(mailbox);
  return of == mailboxes_.end() ? nullptr : &of->second;
}

}  // namespace starling::storage
