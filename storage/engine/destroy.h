// Ends a store for good: a node that left its cluster and may begin anew.
// Thread: any; blocks.
#pragma once

#include <string>

#include "crypto/result.h"

namespace rocksdb {
class Env;
}

namespace starling::storage {

// Removes everything of the store at `path`. REQUIRES: nobody has it open. `env`: nullptr is the operating
// system's. kIo.
Status destroy_store(const std::string& path, rocksdb::Env* env);

}  // namespace starling::storage
