#include "node/cli/chat/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace starling::node::cli {
namespace {

Error io(const std::string& what, const std::string& path) {
  return {Errc::kIo, "cannot " + what + " " + path + ": " + std::strerror(errno) +
                         "; give another file with --state"};
}

bool write_all(int fd, View bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return ::fsync(fd) == 0;
}

// The lock of `path`; -1 when it cannot be opened. A lock file that its last owner removed while we
// waited for it locks nothing: then the next one is taken.
int open_lock(const std::string& path, bool& taken) {
  for (;;) {
    const int lock = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (lock < 0) return lock;
    taken = ::flock(lock, LOCK_EX | LOCK_NB) != 0;
    struct stat held {}, there {};
    const bool same = ::fstat(lock, &held) == 0 && ::stat(path.c_str(), &there) == 0 &&
                      held.st_ino == there.st_ino;
    if (taken || same) return lock;
    ::close(lock);
  }
}

}  // namespace

std::string default_state_path(const std::string& user, unsigned slot) {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder = state != nullptr && *state != '\0'
                           ? state
                           : std::string(home != nullptr ? home : ".") + "/.local/state";
  const std::string name = user.starts_with('@') ? user.substr(1) : user;
  return folder + "/starling/" + name + (slot > 0 ? "-" + std::to_string(slot + 1) : "") +
         ".msgpack";
}

Result<StateFile> StateFile::open(const std::string& path) {
  std::error_code ignored;
  const auto parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, ignored);
  const std::string lock_path = path + ".lock";
  bool taken = false;
  const int lock = open_lock(lock_path, taken);
  if (lock < 0) return io("open", lock_path);
  if (taken) {
    ::close(lock);
    return Error{Errc::kOverloaded, "another run uses the device in " + path +
                                        "; stop it, or give another file with --state"};
  }
  return StateFile(path, lock);
}

StateFile::StateFile(StateFile&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

StateFile::~StateFile() {
  if (lock_ < 0) return;
  if (!std::filesystem::exists(path_)) ::unlink((path_ + ".lock").c_str());
  ::close(lock_);
}

Result<ClientState> StateFile::load() const {
  std::ifstream in(path_, std::ios::binary);
  if (!in) return Error{Errc::kNotFound, "no state in " + path_};
  std::ostringstream bytes;
  bytes << in.rdbuf();
  auto state = unpack<ClientState>(bytes.view());
  if (!state || state->format != kClientStateFormat) {
    return Error{Errc::kCorrupt, path_ + " is not a device state of this version; move it away to start "
                                         "as a new device"};
  }
  return state;
}

Status StateFile::save(const ClientState& state) const {
  const std::string next = path_ + ".next";
  const int fd = ::open(next.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return io("write", next);
  const bool written = write_all(fd, pack(state));
  ::close(fd);
  if (!written) return io("write", next);
  if (::rename(next.c_str(), path_.c_str()) != 0) return io("replace", path_);
  return ok_status();
}

}  // namespace starling::node::cli
