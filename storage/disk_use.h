// DiskUse: what the database does to the disk behind the writes that it was given.
#pragma once

#include <cstdint>

namespace starling::storage {

struct DiskUse {
  std::uint64_t file_bytes = 0;   // Of its table files now.
  std::uint64_t table_bytes = 0;  // Written to such files since the start, by flushes and compactions; to the nearest kB.
  std::uint64_t debt_bytes = 0;   // That compactions still have to rewrite; an estimate.
  std::uint64_t stalls = 0;       // Times that it slowed writes down or stopped them because of that.
};

}  // namespace starling::storage
