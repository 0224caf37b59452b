#include "node/cli/loops.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <set>
#include <thread>

#include "crypto/init.h"
#include "node/cli/admin_client.h"
#include "storage/engine/engine.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kInviteSeconds = 24 * 3600;  // For a join that others, or a restart, hold up.
constexpr int kInvitesMax = 2;                       // For one of them in a run: the token that it had may have been old.
constexpr Duration kAgainMin = 5s;                   // Until a member whose run failed runs again; doubled each time.
constexpr Duration kAgainMax = 5min;
constexpr unsigned kUvThreads = 4;                   // libuv's own, for all loops of a process.

// Each client is a descriptor, so take as many as the system gives.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// What the nodes of a process share, made large enough for so many. Before the first of them.
void make_room_for(unsigned nodes) {
  storage::make_threads_for(static_cast<int>(nodes));
  overlay::UvTransport::keep_files_for(nodes);
  if (nodes > kUvThreads) ::setenv("UV_THREADPOOL_SIZE", std::to_string(nodes).c_str(), 0);
}

// Files of logs rotate, so each loop has its own: node.log, node-loop2.log.
overlay::LogConfig log_of(overlay::LogConfig log, unsigned number) {
  log.loop = number;
  const std::filesystem::path file(log.file);
  if (log.file.empty()) return log;
  log.file = (file.parent_path() / (file.stem().string() + "-loop" + std::to_string(number) + file.extension().string())).string();
  return log;
}

std::string loop_text(unsigned number) { return "loop " + std::to_string(number); }

}  // namespace

// One that is not the first, with its thread.
class Loops::Other {
 public:
  Other(unsigned number, Config config) : number(number), config(std::move(config)) {}
  ~Other() { join(); }

  [[nodiscard]] bool is_there() const {
    std::error_code error;
    return std::filesystem::exists(config.data + "/store", error);
  }
  [[nodiscard]] bool running() const { return thread_.joinable(); }
  [[nodiscard]] bool is_no_member() const {
    return !is_there() || outcome == Outcome::kNoMember || outcome == Outcome::kLeft;
  }

  // `serving` and then `ended` come on the other's own thread. REQUIRES: !running().
  void begin(const overlay::LogConfig& log, std::function<void(const NodeId&)> serving, std::function<void()> ended) {
    outcome = result_ = Outcome::kFailed;
    exit_code = result_code_ = kExitFailed;
    thread_ = std::thread([this, log, serving = std::move(serving), ended = std::move(ended)] {
      run(log, serving);
      ended();
    });
  }
  // From any thread, as often as one likes.
  void stop() {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (process_ != nullptr) process_->post([process = process_] { process->stop(); });
  }
  void join() {
    if (!thread_.joinable()) return;
    thread_.join();
    outcome = result_;
    exit_code = result_code_;
  }

  const unsigned number;
  Config config;
  std::optional<NodeId> id;              // Once it serves.
  int invites = 0;
  Duration again = kAgainMin;
  overlay::Timer timer;                  // Until it runs again.
  // Of its last run, once that was joined.
  Outcome outcome = Outcome::kStopped;
  int exit_code = kExitOk;

 private:
  void run(const overlay::LogConfig& log_config, const std::function<void(const NodeId&)>& serving) {
    auto log = overlay::Log::open(log_config);
    if (!log) {
      result_code_ = complain(kExitFailed, log.error().text);
      return;
    }
    NodeProcess process(config, std::move(*log), number, {.opened = {}, .serving = serving, .stopping = {}, .stopped = {}});
    show(&process);
    result_code_ = process.run();
    show(nullptr);
    result_ = process.outcome();
  }
  void show(NodeProcess* process) {
    const std::lock_guard lock(mutex_);
    process_ = process;
    if (process != nullptr && stop_) process->post([process] { process->stop(); });
  }

  std::thread thread_;
  // The thread's, until it is joined.
  Outcome result_ = Outcome::kStopped;
  int result_code_ = kExitOk;

  // Guarded by mutex_.
  std::mutex mutex_;
  NodeProcess* process_ = nullptr;
  bool stop_ = false;
};

Loops::Loops(Config config, overlay::LogConfig log) : config_(std::move(config)), log_config_(std::move(log)) {
  for (unsigned number = 2; number <= kLoopsMax; ++number) {
    auto other = std::make_unique<Other>(number, config_of_loop(config_, number));
    if (number <= config_.loops || other->is_there()) others_.push_back(std::move(other));
  }
}

Loops::~Loops() = default;

int Loops::run() {
  if (!others_.empty()) {
    if (auto fit = check_loops(config_, others_.back()->number); !fit) return complain(kExitUsage, fit.error().text);
    make_room_for(static_cast<unsigned>(others_.size()) + 1);
  }
  overlay::LogConfig log_config = log_config_;
  log_config.loop = others_.empty() ? 0 : 1;
  auto log = overlay::Log::open(log_config);
  if (!log) return complain(kExitFailed, log.error().text);
  NodeProcess first(config_, std::move(*log), 1,
                    {
                        .opened = [this] { begin(); },
                        .serving = [this](const NodeId&) { serving_ = true; invite_next(); },
                        .stopping = [this] { stop_others(); },
                        .stopped = [this] { stopped_ = true; finish_when_all_stopped(); },
                    });
  first_ = &first;
  int code = first.run();
  if (first.outcome() == Outcome::kLeft && !others_.empty()) {
    complain(code, "its other loops may be members still: starling run --data " + others_.front()->config.data);
  }
  stop_others();
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);  // Nobody listens any more.
  for (const auto& other : others_) {
    other->join();
    if (other->outcome == Outcome::kFailed) code = std::max(code, other->exit_code);
  }
  deadline_.cancel();
  return code;
}

void Loops::begin() {
  for (const auto& other : others_) {
    if (other->is_there()) begin(*other);
  }
}

// The first that is no member: its folder is new, or it could not join with the token that it has, or it has left.
void Loops::invite_next() {
  if (!serving_ || joining_ != nullptr || refused_ || stopping_) return;
  for (const auto& other : others_) {
    if (!other->is_no_member() && !other->id) return;  // Until we know who is of this process.
  }
  for (const auto& other : others_) {
    if (other->running() || !other->is_no_member() || other->invites >= kInvitesMax || other->number > config_.loops) continue;
    joining_ = other.get();
    ++other->invites;
    first_->node().admin("status", Json::object(), [this, &other = *other](Result<Json> status) {
      std::string zone;
      const auto reason = status ? reason_against(*status, zone) : status.error().text;
      if (!reason) return invite(other, zone);
      refused_ = true;
      joining_ = nullptr;
      complain(kExitFailed, loop_text(other.number) + " does not join: " + *reason);
    });
    return;
  }
}

std::optional<std::string> Loops::reason_against(const Json& status, std::string& zone) const {
  if (number_of(object_of(object_of(object_of(status, "cluster"), "sites"), "policy"), "home") != 0) {
    return "zones are sites in this cluster, and two copies of one site would lie on this machine (starling sites)";
  }
  std::set<std::string> ours;
  for (const auto& other : others_) {
    if (other->id) ours.insert(to_text(*other->id));
  }
  const Json& members = list_of(status, "members");
  for (const Json& member : members) {
    if (flag_of(member, "self")) zone = text_of(member, "zone");
  }
  const std::string next = ". A node gets its zone when it joins: let this one leave, and join again with a --zone of its own";
  if (zone.empty() || zone == Config().zone) {
    return "the zone of this node is '" + zone + "', in which other machines are, too, so copies could share this one" + next;
  }
  for (const Json& member : members) {
    const std::string state = text_of(member, "ring_state");
    const bool gone = state == "left" || state == "removed" || state == "none";
    if (text_of(member, "zone") != zone || flag_of(member, "self") || gone || ours.contains(text_of(member, "id"))) continue;
    return "node " + text_of(member, "short") + " of another process is in zone '" + zone + "', too, so copies could share a machine" + next;
  }
  return {};
}

void Loops::invite(Other& other, const std::string& zone) {
  first_->node().admin("invite", {{"expires_s", kInviteSeconds}}, [this, &other, zone](Result<Json> invite) {
    joining_ = nullptr;
    if (stopping_) return;
    other.config.zone = zone;
    if (invite) other.config.join_token = text_of(*invite, "token");
    auto ready = invite ? create_folder(other.config.data) : Status(invite.error());
    if (ready) ready = keep_join_token(other.config);
    if (ready) return begin(other);
    complain(kExitFailed, loop_text(other.number) + " cannot join: " + ready.error().text);
    invite_next();
  });
}

void Loops::begin(Other& other) {
  if (stopping_ || other.running()) return;
  if (!other.config.join_token.empty()) joining_ = &other;
  other.begin(log_of(log_config_, other.number),
              [this, &other](const NodeId& id) { first_->post([this, &other, id] { served(other, id); }); },
              [this, &other] { first_->post([this, &other] { ended(other); }); });
}

void Loops::served(Other& other, const NodeId& id) {
  other.id = id;
  other.again = kAgainMin;
  other.config.join_token.clear();
  if (joining_ == &other) joining_ = nullptr;
  invite_next();
}

void Loops::ended(Other& other) {
  other.join();
  if (joining_ == &other) joining_ = nullptr;
  if (stopping_) return finish_when_all_stopped();
  if (other.outcome == Outcome::kLeft && other.id) other.invites = kInvitesMax;  // Just now: that was wanted.
  if (other.outcome == Outcome::kFailed) {
    other.timer = first_->loop().after(other.again, [this, &other] { begin(other); });
    other.again = std::min(2 * other.again, kAgainMax);
  }
  invite_next();
}

void Loops::stop_others() {
  if (stopping_) return;
  stopping_ = true;
  for (const auto& other : others_) {
    other->timer.cancel();
    other->stop();
  }
}

void Loops::finish_when_all_stopped() {
  if (!stopped_) return;
  std::string late;
  for (const auto& other : others_) {
    if (other->running()) late += (late.empty() ? "" : ", ") + loop_text(other->number);
  }
  if (late.empty()) return first_->finish();
  deadline_ = first_->loop().after(kStopTimeout, [late] {
    std::_Exit(complain(kExitFailed, late + " did not stop in time; nothing acknowledged is lost"));
  });
}

int run_node(const Config& config) {
  if (auto ready = crypto_init(); !ready) return complain(ready.error());
  ::umask(S_IRWXG | S_IRWXO);  // What a node writes is nobody else's.
  if (auto folder = create_folder(config.data); !folder) {
    return complain(kExitFailed, folder.error().text);
  }
  const std::string open_to_others = close_folder(config.data);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  overlay::LogConfig log_config;
  log_config.level = *overlay::parse_log_level(config.log_level);
  log_config.json = config.log_json;
  log_config.file = config.log_file;
  if (!open_to_others.empty()) {
    auto log = overlay::Log::open(log_config);
    if (log) log->warn(open_to_others);
  }
  return Loops(config, log_config).run();
}

}  // namespace starling::node::cli
