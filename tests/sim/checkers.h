// Checkers: the invariants of docs/architecture.md, judged from a History and an export of the
// stores.
//
// Each is a pure function that returns what it found wrong; an empty list is a pass. All of them
// are meant for the end of a run: after the faults were healed and the cluster had time to be
// quiet. A device's view is what its application shows: the messages that came, less those a void
// closed, plus its own acknowledged sends.
// Thread: any; pure.
#pragma once

#include <string>
#include <vector>

#include "tests/sim/history.h"

namespace starling::sim {

struct Violation {
  int invariant = 0;   // Number in section 3 of the architecture.
  std::string text;
  std::string needle;  // Finds its notes in the trace.
};
using Violations = std::vector<Violation>;

// 1: every acknowledged message is in the view of every device of every reader; and what one device
// of a conversation shows, all show.
Violations check_delivered(const History& history);
// 1: ... and in the store of every owner of its mailboxes.
Violations check_stored(const History& history, const ClusterExport& stores);
// 2: one event per key and device; one key per send.
Violations check_once(const History& history);
// 3: on each device, what one device sent to one address is in the order of its numbers.
Violations check_sender_order(const History& history);
// 3: ... and so it is in every store, where the smallest id of a key is its position.
Violations check_stored_order(const ClusterExport& stores);
// 4: two devices of a conversation show what both have in the same order.
Violations check_total_order(const History& history);
// 5: the owners of a partition hold equal vectors, and equal vectors mean equal bytes.
Violations check_converged(const ClusterExport& stores);
// 7: what came is what was sent, by whom and to whom; an acked send keeps its key; nothing refused
// is shown.
Violations check_genuine(const History& history);
// 8: a dot of a mailbox is one change, for all devices and for ever.
Violations check_dots(const History& history);

// All of the above. Without an export the checks of stores are left out.
Violations check_all(const History& history, const ClusterExport* stores);
// One line each, `limit` at most.
std::string text(const Violations& violations, std::size_t limit = 20);

}  // namespace starling::sim
