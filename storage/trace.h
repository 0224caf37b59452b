// Trace: what the rows of a message say of it, without its record: of one that cannot be read, expired or was written
// off, too.
//
// An owner that writes a message off keeps its trace until the message would have expired, so that readers can be told
// what is missing, and tells it to owners that take the loss over from it.
// Pure.   On disk: layout.h, kNodeLost.
#pragma once

#include <cstdint>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::storage {

struct Trace {
  MailboxId mailbox;
  MailboxId conversation;
  MessageKey key;
  EntryId id;
  Dot dot;
  bool is_void = false;
  std::uint64_t content = 0;  // content_hash.
  std::uint32_t expiry = 0;   // ExpirySeconds; 0: never.
  friend bool operator==(const Trace&, const Trace&) = default;
  FIELDS(mailbox, conversation, key, id, dot, is_void, content, expiry)
};

}  // namespace starling::storage
