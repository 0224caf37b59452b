// UserSession: what `send`, `tail` and `chat` share: the options that say who and where, the state
// file, a loop and one Client on it.
//
// Credentials, first that is there: --token; --password or --password-file (the token of the state
// file saves the node the check of it, as long as it is good); a token minted over the admin socket
// of --data (the operator's way); the token of the state file; a question on the terminal.
// Nothing is written for a user who never logged in.
// Thread: the main thread; it runs the loop.
#pragma once

#include <memory>
#include <optional>

#include "node/cli/admin_client.h"
#include "node/cli/chat/state_file.h"
#include "node/cli/options.h"
#include "node/client/client.h"
#include "overlay/loop/uv_loop.h"
#include "overlay/loop/uv_transport.h"

namespace starling::node::cli {

// --client, --data, --user, --password, --password-file, --token, --device, --state, --json.
void add_session_options(po::options_description& options);

// Who --user is, with the @. kInvalid: a usage error.
Result<std::string> session_user(const Arguments& arguments);

// Complains about an open() that failed; the exit code.
int complain_of_opening(const Error& error);

// Of a message that nobody has any more: for people, who talk to `to` now, and for scripts.
std::string lost_text(const protocol::LostMessage& lost, const std::string& to);
Json lost_json(const protocol::LostMessage& lost);

class UserSession {
 public:
  // kInvalid: a usage error. kNotFound: no node to connect to.
  static Result<std::unique_ptr<UserSession>> open(const Arguments& arguments,
                                                   ClientHandler& handler, bool follow);
  ~UserSession() = default;

  overlay::UvLoop& loop() { return loop_; }
  Client& client() { return *client_; }
  // To be called in the turn that changed the state, before its frames leave. A user who never
  // logged in leaves no file.
  void save();
  // Whether what is not acknowledged outlives this run.
  [[nodiscard]] bool keeps() const { return known_ || client_->stats().connects > 0; }
  // Runs until stop(), Ctrl-C or SIGTERM.
  void run();
  void stop() { loop_.stop(); }

 private:
  UserSession(StateFile file, bool known) : file_(std::move(file)), known_(known) {}

  StateFile file_;
  const bool known_;  // The file is there: this device has logged in before.
  overlay::UvLoop loop_;
  overlay::UvTransport transport_{loop_};
  SystemRandom random_;
  std::unique_ptr<Client> client_;
  bool save_failed_ = false;
};

}  // namespace starling::node::cli
