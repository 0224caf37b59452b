#include "node/cli/chat/session.h"

#include <csignal>
#include <filesystem>

#include "crypto/init.h"
#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/terminal/prompt.h"
#include "node/cli/terminal/table.h"
#include "node/cli/terminal/terminal.h"
#include "node/version.h"

namespace starling::node::cli {
namespace {

constexpr unsigned kSlotsMax = 16;  // Runs of one user at a time, each a device of its own.
constexpr Duration kMintTimeout = 10s;

Result<StateFile> open_state(const Arguments& arguments, const std::string& user) {
  if (arguments.given("state")) return StateFile::open(arguments.text("state"));
  for (unsigned slot = 0;; ++slot) {
    auto file = StateFile::open(default_state_path(user, slot));
    if (file || file.code() != Errc::kOverloaded || slot + 1 == kSlotsMax) return file;
  }
}

Result<ClientState> load_state(const Arguments& arguments, const StateFile& file,
                               const std::string& user) {
  auto loaded = file.load();
  if (!loaded && loaded.code() != Errc::kNotFound) return loaded;
  const std::string device = arguments.text("device");
  if (loaded && loaded->user == user && (device.empty() || device == loaded->device)) return loaded;
  if (loaded) {
    return Error{Errc::kInvalid, file.path() + " belongs to " + loaded->user + " on device '" +
                                     loaded->device + "'; give another file with --state"};
  }
  ClientState fresh;
  fresh.user = user;
  fresh.device = device;
  if (device.empty()) {
    SystemRandom random;
    std::array<std::uint8_t, 5> bytes;
    random.fill(bytes);
    fresh.device = "cli-" + base32({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } else {
    fresh.lanes_known = false;  // A named device may have been used before, from another file.
  }
  return fresh;
}

// A token by the operator's right, when the admin socket of --data is ours to use.
std::string mint(const Arguments& arguments, const ClientState& state) {
  const std::string path = arguments.text("data") + "/admin.sock";
  if (!std::filesystem::exists(path)) return "";
  bool reached = false;
  const auto answer = admin_call("unix:" + path, "token",
                                 {{"user", state.user}, {"device", state.device}}, kMintTimeout,
                                 reached);
  return answer ? text_of(*answer, "token") : "";
}

Status find_credentials(const Arguments& arguments, ClientState& state, std::string& password) {
  if (arguments.given("token")) {
    state.token = arguments.text("token");
    return ok_status();
  }
  const std::string what = "password of " + state.user;
  if (arguments.given("password") || arguments.given("password-file")) {
    TRY_ASSIGN(password, read_password(arguments, what, false));
    return ok_status();
  }
  if (const std::string token = mint(arguments, state); !token.empty()) {
    state.token = token;
    return ok_status();
  }
  if (!state.token.empty()) return ok_status();
  TRY_ASSIGN(password, read_password(arguments, what, false));
  return ok_status();
}

std::int64_t wall_ms_of(const protocol::LostMessage& lost) {
  const auto id = parse_entry_id(lost.id);
  return id ? static_cast<std::int64_t>(hlc_ms(id->time)) : 0;
}

}  // namespace

// Of a conversation with a user only the id is known.
std::string lost_text(const protocol::LostMessage& lost, const std::string& to) {
  std::string where = "one of your conversations";
  if (lost.mailbox.starts_with('#')) {
    where = printable(lost.mailbox, false);
  } else if (!to.empty() && lost.conversation == mailbox_of(to)) {
    where = "the conversation with " + printable(to, false);
  }
  return "a message of " + wall_text(wall_ms_of(lost)) + " in " + where + " is lost: no node has a copy of it any more";
}

Json lost_json(const protocol::LostMessage& lost) {
  return {{"lost", hex(lost.device.view())}, {"seq", lost.seq},  {"mailbox", lost.mailbox},
          {"conversation", hex(lost.conversation.view())}, {"id", lost.id}, {"wall_ms", wall_ms_of(lost)}};
}

void add_session_options(po::options_description& options) {
  add_client_options(options);
  const auto text = [](const char* what) { return po::value<std::string>()->value_name(what); };
  options.add_options()("user", text("@NAME"), "who you are; required")(
      "token", text("TOKEN"), "log in with this instead of a password")(
      "device", text("NAME"), "name of this device; default: one of its own per state file")(
      "state", text("FILE"), "where this device remembers what it has seen; default: "
                             "~/.local/state/starling/<user>.msgpack");
  add_password_options(options);
  add_json_option(options);
}

Result<std::string> session_user(const Arguments& arguments) {
  if (!arguments.given("user")) {
    return Error{Errc::kInvalid, "who are you? give --user @NAME or set STARLING_USER"};
  }
  std::string user = arguments.text("user");
  if (!user.starts_with('@')) user = "@" + user;
  TRY_ASSIGN(const AddressKind kind, check_address(user));
  (void)kind;
  return user;
}

int complain_of_opening(const Error& error) {
  if (error.code == Errc::kInvalid) return complain(kExitUsage, error.text);
  if (error.code == Errc::kNotFound) return complain(kExitUnreachable, error.text);
  return complain(error);
}

Result<std::unique_ptr<UserSession>> UserSession::open(const Arguments& arguments,
                                                       ClientHandler& handler, bool follow) {
  TRY_ASSIGN(const std::string user, session_user(arguments));
  ClientOptions options;
  TRY_ASSIGN(options.endpoints, client_endpoints(arguments));
  TRY_ASSIGN(auto file, open_state(arguments, user));
  TRY_ASSIGN(auto state, load_state(arguments, file, user));
  TRY(find_credentials(arguments, state, options.password));
  options.software = std::string("starling/") + kVersion;
  options.follow = follow;
  const bool known = std::filesystem::exists(file.path());
  std::unique_ptr<UserSession> session(new UserSession(std::move(file), known));
  options.first_endpoint = session->random_.below(options.endpoints.size());
  session->client_ = std::make_unique<Client>(session->loop_, session->transport_, session->random_,
                                              std::move(options), std::move(state), handler);
  return session;
}

void UserSession::save() {
  if (!keeps()) return;
  const auto saved = file_.save(client_->state());
  if (!saved && !save_failed_) complain(saved.error());
  save_failed_ = !saved;
}

void UserSession::run() {
  loop_.on_signal(SIGINT, [this] { loop_.stop(); });
  loop_.on_signal(SIGTERM, [this] { loop_.stop(); });
  loop_.run();
  save();
}

}  // namespace starling::node::cli
