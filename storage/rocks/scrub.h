// Scrub: a walk over everything stored, in small steps, that finds what no reader happens to touch.
//
// Of each log record the checksum and the rows that it implies; of each index row the log record it
// names. What differs while the log record is good is written again from the log; a record that is
// damaged or missing goes into the damage list (damage.h). Every block that is read is verified.
// Thread: the store's loop. A step reads at most about the bytes that it is given.
#pragma once

#include <cstdint>

#include "crypto/bytes.h"

namespace starling::storage {

struct ScrubStep {
  Bytes cursor;               // For the next step; empty: the walk is complete.
  double share = 1;           // Of the walk that is done, roughly: by the slots, the log as one half.
  std::uint64_t rows = 0;     // Looked at.
  std::uint64_t bytes = 0;    // Of those rows.
  std::uint64_t mended = 0;   // Changes whose rows were written again from the log.
  std::uint64_t damaged = 0;  // Found in this step: dots, or partitions to refill.
};

}  // namespace starling::storage
