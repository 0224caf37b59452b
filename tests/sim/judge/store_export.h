// Reads what a node holds: the canonical export of its store (storage/export.h), and every entry of
// its logs for the checkers.
// Thread: the world's.
#pragma once

#include "crypto/result.h"
#include "storage/store.h"
#include "tests/sim/judge/history.h"
#include "tests/sim/world/sim_disk.h"

namespace starling::sim {

Result<NodeExport> export_store(storage::Store& store);
// Opens the store that a stopped node left on `disk` in its data folder. `partitions`: of a store that says no count.
Result<NodeExport> export_store(SimDisk& disk, const std::string& data, std::uint32_t partitions);

}  // namespace starling::sim
