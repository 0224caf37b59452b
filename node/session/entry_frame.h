// The client frame of an entry: protocol::EntryMessage, packed straight from the stored change. And of one that was
// written off.
//
// Thread: any; pure.
#pragma once

#include <string>

#include "node/session/protocol.h"
#include "storage/change.h"
#include "storage/trace.h"

namespace starling::node {

// REQUIRES: the change is an entry or a void.
Bytes entry_frame(const std::string& mailbox, const Dot& dot, const storage::ChangeView& change);
protocol::EntryMessage entry_message(const std::string& mailbox, const Dot& dot,
                                     const storage::ChangeView& change);
protocol::LostMessage lost_message(const std::string& mailbox, const storage::Trace& trace);

}  // namespace starling::node
