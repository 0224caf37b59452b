#include "storage/rows.h"

namespace starling::storage {

MailboxDotRow mailbox_dot_row(const ChangeView& change) {
  if (change.kind == ChangeKind::kRegister) return {change.kind, change.reg.stamp, 0};
  return {change.kind, change.entry.id, expiry_seconds(change.entry.expires_ms)};
}

KeyRow key_row(const Dot& dot, const ChangeView& change) {
  const EntryView& entry = change.entry;
  return {dot,
          entry.id,
          entry.conversation,
          change.kind == ChangeKind::kVoid,
          content_hash(entry, change.kind),
          expiry_seconds(entry.expires_ms)};
}

bool takes_key(const KeyRow& candidate, const KeyRow& current) {
  if (candidate.is_void != current.is_void) return candidate.is_void;
  if (candidate.id != current.id) return candidate.id < current.id;
  return candidate.dot < current.dot;
}

bool takes_register(const Dot& dot, const RegisterView& candidate, const RegisterRow& current) {
  const RegisterView held{current.merge, current.stamp, candidate.key, current.value};
  if (wins(held, candidate)) return false;
  return wins(candidate, held) || dot < current.dot;
}

}  // namespace starling::storage
