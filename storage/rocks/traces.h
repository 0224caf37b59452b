// TraceTable: the traces of messages that were written off (trace.h), in the two orders in which readers ask for them:
// by dot, for who goes on from a cursor, and by position, for who reads a page of a conversation. So a reader pays for
// what is new to it, and not for all that was ever lost.
//
// Invariants: (1) at most kTracesMax; (2) a trace goes when its message would have expired, so many in one call. Those
// that wait for the next are hidden by whoever reads.
// On disk: layout.h, kNodeLost. Compaction erases those rows like every row that expires (expiry.h).
// Thread: the store's loop.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>

#include "storage/expiry.h"
#include "storage/ids.h"
#include "storage/trace.h"

namespace starling::storage {

inline constexpr std::size_t kTracesExpiredMax = 10'000;  // In one call: some milliseconds.

class TraceTable {
 public:
  using Place = std::tuple<MailboxId, EntryId, Dot>;  // Of a conversation.
  struct Mailbox {
    std::map<Dot, Trace> by_dot;
    std::set<Place> by_place;
  };
  using Mailboxes = std::map<MailboxId, Mailbox>;

  // In place of what there was of the same dot. False: there is no room.
  bool add(const Trace& trace);
  void erase(const MailboxId& mailbox, const Dot& dot);
  void expire(std::uint64_t time_ms);

  [[nodiscard]] const Mailbox* find(const MailboxId& mailbox) const;
  [[nodiscard]] const Mailboxes& mailboxes() const { return mailboxes_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  Mailboxes mailboxes_;
  std::set<std::tuple<ExpirySeconds, MailboxId, Dot>> expiring_;
  std::size_t size_ = 0;
};

}  // namespace starling::storage
