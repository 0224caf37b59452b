#include "storage/engine/destroy.h"

#include <rocksdb/db.h>

namespace starling::storage {

Status destroy_store(const std::string& path, rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  const auto status = rocksdb::DestroyDB(path, options);
  if (!status.ok()) return Error{Errc::kIo, "emptying " + path + ": " + status.ToString()};
  return ok_status();
}

}  // namespace starling::storage
