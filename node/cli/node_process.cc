#include "node/cli/node_process.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/movement_step.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

std::string addresses_path(const Config& config) { return config.data + "/addresses.json"; }

std::uint64_t free_space(const std::string& folder) {
  struct statvfs fs {};
  if (statvfs(folder.c_str(), &fs) != 0) return 0;
  return std::uint64_t{fs.f_bavail} * fs.f_frsize;
}

// The next step, where the cause alone does not tell which option to turn.
std::string next_step(Errc code) {
  switch (code) {
    case Errc::kAddressInUse:
      return "\n  Addresses are chosen with --client, --link and --admin; port 0 takes a free one.";
    case Errc::kForeign:
      return "\n  Point --data at the folder of this node, or at an empty one to start a new node.";
    case Errc::kUnsupported: return "\n  Run the version of starling that wrote the folder, or a newer one.";
    case Errc::kFull: return "\n  Make room on the disk, or lower --free-space-min.";
    case Errc::kClock: return "\n  Set the clock of this machine right (NTP), then start again.";
    default: return "";
  }
}

// Likewise, of a joiner that was refused by a member, whose words tell most.
std::string next_step_of_joiner(Errc code) {
  switch (code) {
    case Errc::kUnsupported: return "\n  Run the version of starling that the members run.";
    case Errc::kInvalid:
    case Errc::kUnauthenticated: return "\n  A member gives a new token with: starling invite";
    default: return "";
  }
}

std::string with_data(const Config& config, const std::string& command) {
  return "starling " + command + (config.data == "./starling-data" ? "" : " --data " + config.data);
}

}  // namespace

NodeProcess::NodeProcess(Config config, overlay::Log log, unsigned number, NodeProcessHooks hooks)
    : config_(std::move(config)), number_(number), hooks_(std::move(hooks)), log_(std::move(log)), transport_(loop_) {}

int NodeProcess::run() {
  if (auto opened = open(); !opened) {
    if (opened.code() == Errc::kForeign) drop_join_token(config_);  // The node that is there goes on without it.
    return cannot_start(opened.error());
  }
  started_ = loop_.clock_now();
  if (number_ == 1) {
    loop_.on_signal(SIGINT, [this] { on_signal(); });
    loop_.on_signal(SIGTERM, [this] { on_signal(); });
  }
  announce();
  node_->start([this](const Error& error) { on_fatal(error); });
  if (hooks_.opened) hooks_.opened();
  watch();
  loop_.run();
  remove_addresses();
  return exit_code_;
}

int NodeProcess::cannot_start(const Error& error) {
  outcome_ = error.code == Errc::kDenied ? Outcome::kLeft : error.code == Errc::kNotFound ? Outcome::kNoMember : Outcome::kFailed;
  if (number_ == 1) return complain(kExitFailed, "cannot start: " + error.text + next_step(error.code));
  if (outcome_ != Outcome::kFailed) return kExitOk;  // The other loops see to it.
  return complain(kExitFailed, "loop " + std::to_string(number_) + " cannot start: " + error.text + next_step(error.code));
}

Status NodeProcess::open() {
  TRY_ASSIGN(node_, Node::open(config_, {
                                            .loop = loop_,
                                            .transport = transport_,
                                            .random = random_,
                                            .log = log_,
                                            .committer = storage::thread_committer(
                                                [this](auto fn) { loop_.post(std::move(fn)); }),
                                            .free_space = [this] { return free_space(config_.data); },
                                        }));
  return write_addresses();
}

Status NodeProcess::write_addresses() {
  const Json addresses = {{"client", node_->client_address().text()},
                          {"link", node_->link_address().text()},
                          {"admin", node_->admin_address().text()},
                          {"pid", getpid()}};
  return write_file(addresses_path(config_), addresses.dump(2) + "\n", 0644);
}

void NodeProcess::remove_addresses() {
  std::ifstream file(addresses_path(config_));
  const Json addresses = Json::parse(file, nullptr, false);
  const auto own = static_cast<std::uint64_t>(getpid());
  if (number_of(addresses, "pid") == own) ::unlink(addresses_path(config_).c_str());
}

void NodeProcess::say(const std::string& line) const {
  std::cout << (number_ == 1 ? "" : "loop " + std::to_string(number_) + ": ") + line + "\n" << std::flush;
}

void NodeProcess::announce() const {
  if (number_ != 1) {
    return say("clients " + node_->client_address().text() + ", nodes " + node_->link_address().text() + ", admin " +
               node_->admin_address().text() + ", data in " + config_.data);
  }
  std::cout << "Node in " << config_.data << "\n  clients  " << node_->client_address().text()
            << "\n  nodes    " << node_->link_address().text() << "\n  admin    http://"
            << node_->admin_address().text() << "/metrics and " << config_.data << "/admin.sock\n";
  if (node_->founded()) {
    std::cout << "A new cluster of one, with " << unsigned{config_.copies}
              << " copies of everything as nodes join. In another terminal:\n  "
              << with_data(config_, "user add alice bob") << "\n  "
              << with_data(config_, "chat @bob --user @alice") << "\n  " << with_data(config_, "invite")
              << "    prints a token; on another machine: starling join TOKEN\n";
  }
  std::cout << "Ctrl-C stops the node." << std::endl;
}

// Says how far the node is, until it serves. One that is not the first ends by itself when it has left.
void NodeProcess::watch() {
  if (stopping_) return;
  if (number_ != 1 && node_->departed()) {
    outcome_ = Outcome::kLeft;
    say("safe to power off: it has left the ring");
    watch_ = loop_.after(kLeftRest, [this] { stop(); });
    return;
  }
  if (!served_ && node_->serving()) {
    served_ = true;
    drop_join_token(config_);
    progress_.finish();
    say("serving");
    if (hooks_.serving) hooks_.serving(node_->id());
  }
  if (served_) {
    if (number_ != 1) watch_ = loop_.after(kReportEvery, [this] { watch(); });
    return;
  }
  watch_ = loop_.after(kWatchEvery, [this] { watch(); });
  if (asking_) return;
  asking_ = true;
  node_->admin("status", Json::object(), [this](Result<Json> status) {
    asking_ = false;
    if (status) report(*status);
  });
}

void NodeProcess::report(const Json& status) {
  const auto node = status.find("node");
  const std::string state = node == status.end() ? "" : text_of(*node, "state");
  if (state.empty() || state == "serving") return;
  const Instant now = loop_.clock_now();
  const MoveStep step = own_move_step(node->value("movement", Json::object()));
  if (state == last_state_ && step.open) {
    if (!step.waits_for.empty() && step.waits_for != waits_for_) progress_.say("waiting: " + step.waits_for);
    waits_for_ = step.waits_for;
    return progress_.show(step.share, step.text, now, step.seconds_left);
  }
  progress_.finish();
  if (state == last_state_ && (now - reported_ < kReportEvery || number_of(*node, "missing") == 0)) return;
  last_state_ = state;
  reported_ = now;
  const std::uint64_t missing = number_of(*node, "missing");
  const bool all = node->value("missing_known", true);
  say(state + (missing == 0 ? "" : (all ? ", " : ", at least ") + thousands(missing) + " changes to fetch") + " ...");
}

void NodeProcess::on_signal() {
  if (stopping_) {
    remove_addresses();
    std::cout << "stopped at once" << std::endl;
    std::_Exit(128 + SIGINT);
  }
  std::cout << "stopping (again to stop at once)" << std::endl;
  stop();
  if (hooks_.stopping) hooks_.stopping();
}

void NodeProcess::stop() {
  if (stopping_) return;
  stopping_ = true;
  watch_.cancel();
  progress_.finish();
  stop_timer_ = loop_.after(kStopTimeout, [this] {
    exit_code_ = complain(kExitFailed, "the node did not stop in time; nothing acknowledged is lost");
    loop_.stop();
  });
  node_->stop([this] {
    stop_timer_.cancel();
    say("stopped");
    hooks_.stopped ? hooks_.stopped() : finish();
  });
}

// Nothing more may be written, so nothing is destroyed in order either.
void NodeProcess::on_fatal(const Error& error) {
  remove_addresses();
  if (!served_ && !config_.join_token.empty()) {
    const bool refused = error.code != Errc::kIo && error.code != Errc::kCorrupt && error.code != Errc::kFull &&
                         error.code != Errc::kCatchingUp;
    if (number_ != 1 && refused) {  // Nobody counts on it yet, and the others go on.
      outcome_ = Outcome::kNoMember;
      exit_code_ = complain(kExitFailed, "loop " + std::to_string(number_) + " cannot join: " + error.text + next_step_of_joiner(error.code));
      return stop();
    }
    complain(kExitFailed, "cannot join: " + error.text + next_step_of_joiner(error.code));
    std::_Exit(kExitFailed);
  }
  if (error.code == Errc::kExists) {  // Started again it would meet the other once more.
    complain(kExitFatal, error.text + ".");
    std::_Exit(kExitFatal);
  }
  // The next run empties what could not be read: that goes on from run to run, and ends.
  const bool mends = error.code == Errc::kCatchingUp;
  if (mends || loop_.clock_now() - started_ >= kRunToRestart) {
    complain(kExitFatal, error.text + "\n  The node stopped so that nothing is acknowledged that may be lost, "
                                      "and starts again under a new writer.");
    start_again();
  }
  complain(kExitFatal, error.text + "\n  The node stopped so that nothing is acknowledged that may be lost. "
                                    "Check the disk, then start it again.");
  std::_Exit(kExitFatal);
}

// The same process anew, with nothing of this run: its files and sockets are closed by exec.
void NodeProcess::start_again() const {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  words = words_to_go_on(std::move(words));
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (!words.empty()) ::execv("/proc/self/exe", argv.data());
  std::_Exit(kExitFatal);
}

}  // namespace starling::node::cli
