// InstallPart: changes of partitions that are filled by files, and how they become files: the rows that
// Store::apply would write for them, family by family, sorted, and taken in together.
//
// Of the rows that several changes share (a key in two copies, a register, a lane) the winner is found here, among
// the changes of the part and, where an earlier part of the partition is on disk, its rows.
// Thread: any one; nobody else writes to these partitions meanwhile. REQUIRES: the engine outlives it.
#pragma once

#include <set>
#include <vector>

#include "storage/engine/engine.h"
#include "storage/store.h"

namespace starling::storage {

struct InstallPart {
  std::uint32_t partitions = 0;       // Of the store.
  std::vector<SyncedChange> changes;  // Each once, in any order.
  std::vector<LaneRow> lanes;
  std::set<Slot> begun;     // Partitions of which a part is here.
  std::vector<Slot> cuts;   // Ascending: other partitions have rows between the slots before each and those after.
  // Told by store_part.
  std::size_t stored = 0;   // Changes.
  std::size_t files = 0;
};

// All or nothing, durably. Empties the part: there is much to free. kFull, kIo, kCorrupt.
Status store_part(Engine& engine, InstallPart& part);

}  // namespace starling::storage
