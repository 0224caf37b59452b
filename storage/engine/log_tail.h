// LogTail: where a write-ahead log ends, and whether all that it lost is its end.
//
// Log files are filled with zeros ahead of what is written (log_files.h), so the end is not that of the file, and what
// the last write before a loss of power left there may be any of its pages. RocksDB takes that for damage in the middle
// and refuses to open. So before it opens, each log is looked through: a torn tail is cut, anything else is said.
// Format: RocksDB wiki, "Write Ahead Log File Format"; db/log_format.h.
//
// Why it is exact: each write is synced before the next one begins, so at most the last one is torn. Whatever *begins*
// behind a place that cannot be read was written after it had been synced: the place is damage. An older log was ended
// before a newer one got its first write: behind its end there are only zeros.
// Not seen, as with any log: damage of the very last write, which looks as if it had been torn.
// Thread: any.
#pragma once

#include <string>

#include <rocksdb/env.h>

#include "crypto/result.h"

namespace starling::storage {

// Of all logs in the folder `path`; a folder without logs is fine. kCorrupt: writes that were acknowledged cannot be
// read; nothing was cut there. kIo.
Status cut_torn_tails(rocksdb::Env& env, const std::string& path);

}  // namespace starling::storage
