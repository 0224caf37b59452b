// StateFile: the ClientState of one device on disk, owned by one process at a time.
//
// A lock file beside it keeps a second run off: two runs with one device would use its numbers
// twice. A save replaces the file whole (write, sync, rename), so a crash leaves the old one or the
// new one. The lock file goes with its owner as long as nothing was ever saved.
// Thread: one.
#pragma once

#include <string>

#include "node/client/state.h"

namespace starling::node::cli {

class StateFile {
 public:
  // Takes the lock; folders are created. kOverloaded: another process has it. kIo.
  static Result<StateFile> open(const std::string& path);
  StateFile(StateFile&& other) noexcept;
  StateFile& operator=(StateFile&&) = delete;
  ~StateFile();

  // kNotFound: there is none yet. kCorrupt says which file to move away.
  [[nodiscard]] Result<ClientState> load() const;
  Status save(const ClientState& state) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  StateFile(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  std::string path_;
  int lock_ = -1;
};

// ~/.local/state/starling/<user>[-slot].msgpack, by the XDG rules.
std::string default_state_path(const std::string& user, unsigned slot);

}  // namespace starling::node::cli
