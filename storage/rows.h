// Rows: what a change means in each family, and which of two changes a row shows.
//
// The rules are total orders, so the row does not depend on the order in which changes came.
// Thread: any; pure.
#pragma once

#include "storage/layout.h"

namespace starling::storage {

MailboxDotRow mailbox_dot_row(const ChangeView& change);
// Of an entry or a void.
KeyRow key_row(const Dot& dot, const ChangeView& change);

// Of two copies of one key: a void beats a content, then the smaller id, then the smaller dot.
bool takes_key(const KeyRow& candidate, const KeyRow& current);
// Of two writes of one register: wins() of change.h; of one write under two dots, the smaller dot.
bool takes_register(const Dot& dot, const RegisterView& candidate, const RegisterRow& current);

}  // namespace starling::storage
