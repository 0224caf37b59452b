// UserSession: what `send`, `tail` and `chat` share: the options that say who and where, the state
// file, a loop and one Client on it.
//
// Credentials, first that is there: --token, --password, --password-file, a token minted over the
// admin socket of --data (the operator's way), the token of the state file, a question on the
// terminal.
// Thread: the main thread; it runs the loop.
#pragma once

#include <memory>
#include <optional>

#include "node/cli/options.h"
#include "node/cli/state_file.h"
#include "node/client/client.h"
#include "overlay/uv_loop.h"
#include "overlay/uv_transport.h"

namespace starling::node::cli {

// --client, --data, --user, --password, --password-file, --token, --device, --state, --json.
void add_session_options(po::options_description& options);

class UserSession {
 public:
  static Result<std::unique_ptr<UserSession>> open(const Arguments& arguments,
                                                   ClientHandler& handler, bool follow);
  ~UserSession() = default;

  overlay::UvLoop& loop() { return loop_; }
  Client& client() { return *client_; }
  // To be called in the turn that changed the state, before its frames leave.
  void save();
  // Runs until stop(), Ctrl-C or SIGTERM.
  void run();
  void stop() { loop_.stop(); }

 private:
  UserSession(StateFile file) : file_(std::move(file)) {}

  StateFile file_;
  overlay::UvLoop loop_;
  overlay::UvTransport transport_{loop_};
  SystemRandom random_;
  std::unique_ptr<Client> client_;
  bool save_failed_ = false;
};

}  // namespace starling::node::cli
