// The canonical export of a store: what two replicas with equal vectors must have in common.
//
// It is built from the live changes of all writers: entries as they are, registers merged to the
// value that a reader gets, so a superseded change that one replica still keeps does not count.
// Thread: the world's.
#pragma once

#include "crypto/result.h"
#include "storage/store.h"
#include "tests/sim/history.h"
#include "tests/sim/sim_disk.h"

namespace starling::sim {

Result<NodeExport> export_store(storage::Store& store);
// Opens the store that a stopped node left on `disk` in its data folder.
Result<NodeExport> export_store(SimDisk& disk, const std::string& data, std::uint32_t partitions);

}  // namespace starling::sim
