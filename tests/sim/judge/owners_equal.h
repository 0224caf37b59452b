// Invariant 5 in detail: the owners of a partition hold the same rows, and if not, which differ. And
// invariant 8, in the logs of all nodes.
//
// The rows are those of the canonical export (storage/export.h): message keys, registers, lanes.
// Thread: any; pure.
#pragma once

#include <map>
#include <string>

#include "tests/sim/judge/checkers.h"
#include "tests/sim/judge/history.h"

namespace starling::sim {

// Names that a reader knows, for the ids in rows.
using MailboxNames = std::map<MailboxId, std::string>;
MailboxNames mailbox_names(const std::vector<std::string>& addresses);

// One violation per partition and pair of owners, with `rows` of the rows that differ. Its needle is
// the position, or the stamp, of the first such row.
Violations check_rows(const ClusterExport& stores, const MailboxNames& names,
                      std::size_t rows = 4);
// 8: a dot of a partition is one change at all nodes. Of nodes that count partitions differently, in the smaller
// ones: above a split a dot is one change in each child.
Violations check_stored_dots(const ClusterExport& stores);

}  // namespace starling::sim
