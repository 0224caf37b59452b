// starling tail: prints messages as they come.
#include <iostream>
#include <set>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/chat/session.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/table.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

constexpr Duration kTailSaveEvery = 1s;
constexpr std::uint64_t kHistoryMax = 500;

std::int64_t said_wall_ms(const protocol::EntryMessage& entry) {
  const auto id = parse_entry_id(entry.id);
  return id ? static_cast<std::int64_t>(hlc_ms(id->time)) : 0;
}

class Tail : public ClientHandler {
 public:
  explicit Tail(const Arguments& arguments)
      : json_(arguments.flag("json")),
        from_(arguments.text("from")),
        history_(std::min(arguments.number("history"), kHistoryMax)),
        colour_(stdout_has_colour()),
        holding_(history_ > 0) {}

  UserSession* session = nullptr;
  std::optional<Error> failure;

  void on_entry(const protocol::EntryMessage& entry, bool) override {
    dirty_ = true;
    if (!wanted(entry)) return;
    // What is on its way may stand in the history already.
    if (!holding_ && printed_.contains(key_of(entry))) return;
    if (!holding_) return print(entry);
    held_.push_back(entry);
    // As many as the history would have, and newer.
    if (held_.size() >= history_) release({});
  }
  void on_moved(const protocol::EntryMessage& entry) override {
    if (json_ && wanted(entry)) {
      std::cout << Json{{"moved", hex(entry.device.view())}, {"seq", entry.seq}, {"to", entry.to},
                        {"id", entry.id}}
                << std::endl;
    }
    dirty_ = true;
  }
  void on_void(const protocol::EntryMessage& entry) override {
    if (json_ && wanted(entry)) {
      std::cout << Json{{"void", hex(entry.device.view())}, {"seq", entry.seq}, {"to", entry.to}}
                << std::endl;
    }
    dirty_ = true;
  }
  void on_lost(const protocol::LostMessage& lost) override {
    dirty_ = true;
    if (from_.empty() || lost.conversation == mailbox_of(from_)) tell(lost);
  }
  void on_phase(ClientPhase phase, const Error* why) override {
    if (phase == ClientPhase::kFailed) {
      fail(*why);
    } else if (phase == ClientPhase::kReady) {
      std::cerr << (std::exchange(was_ready_, true) ? "connected again, to " : "following as ")
                << (lost_ ? "" : session->client().user() + " through ")
                << session->client().endpoint().text() << std::endl;
      lost_ = false;
      dirty_ = true;
      if (!from_.empty() && !std::exchange(asked_, true)) check_from();
      if (holding_) ask_history();
    } else if (why != nullptr && !std::exchange(lost_, true)) {
      std::cerr << (was_ready_ ? "connection lost: " : "no connection: ") << why->text
                << "; trying again" << std::endl;
    }
  }
  // The session, whose loop the timer is of, ends before this.
  void end() { timer_.cancel(); }
  // At most one save a second: after a crash, at most that much is printed again.
  void tick() {
    if (std::exchange(dirty_, false)) session->save();
    timer_ = session->loop().after(kTailSaveEvery, [this] { tick(); });
  }

 private:
  [[nodiscard]] bool wanted(const protocol::EntryMessage& entry) const {
    return from_.empty() || entry.from == from_ || entry.to == from_;
  }
  void fail(const Error& why) {
    failure = why;
    session->stop();
  }
  // A name with a slip would be followed in vain for ever.
  void check_from() {
    if (from_.front() == '#') {
      session->client().members(from_, "", [this](const Result<protocol::Members>& members) {
        if (!members) no_such(members.error());
      });
    } else {
      session->client().lane_high(from_, [this](const Result<std::uint64_t>& high) {
        if (!high) no_such(high.error());
      });
    }
  }
  void no_such(const Error& why) {
    if (is_retryable(why.code)) {
      asked_ = false;  // With the next connection.
    } else {
      fail({why.code, "cannot follow " + from_ + ": " + why.text});
    }
  }
  void ask_history() {
    session->client().history(from_, "", static_cast<std::uint32_t>(history_),
                              [this](Result<protocol::HistoryPage> page) {
      if (!holding_) return;
      if (!page && page.code() == Errc::kUnavailable) return;  // With the next connection.
      if (!page) std::cerr << "no history: " << page.error().text << std::endl;
      if (page) {
        for (auto it = page->lost.rbegin(); it != page->lost.rend(); ++it) tell(*it);
      }
      release(page ? std::move(page->entries) : std::vector<protocol::EntryMessage>());
    });
  }
  // History, newest first, then what came meanwhile; each message once.
  void release(std::vector<protocol::EntryMessage> page) {
    holding_ = false;
    std::set<MessageKey> held;
    for (const auto& entry : held_) held.insert(key_of(entry));
    for (auto it = page.rbegin(); it != page.rend(); ++it) {
      if (!held.contains(key_of(*it))) print(*it);
      printed_.insert(key_of(*it));
    }
    for (const auto& entry : std::exchange(held_, {})) print(entry);
  }
  void tell(const protocol::LostMessage& lost) {
    if (json_) {
      std::cout << lost_json(lost) << std::endl;
    } else {
      std::cerr << lost_text(lost, from_) << std::endl;
    }
  }
  static MessageKey key_of(const protocol::EntryMessage& entry) {
    return {entry.device, entry.lane, entry.seq};
  }
  void print(const protocol::EntryMessage& entry) {
    if (json_) {
      Json line{{"id", entry.id},     {"mailbox", entry.mailbox}, {"from", entry.from},
                {"to", entry.to},     {"seq", entry.seq},         {"device", hex(entry.device.view())},
                {"wall_ms", said_wall_ms(entry)}};
      if (is_utf8(entry.body.data)) {
        line["text"] = entry.body.data;
      } else {
        line["base64"] = base64(entry.body.data);
      }
      std::cout << line << std::endl;
      return;
    }
    std::cout << dim(clock_text(said_wall_ms(entry)), colour_) << ' '
              << coloured_name(printable(entry.from, false), colour_) << " > "
              << printable(entry.to, false) << "  " << printable(entry.body.data, true) << std::endl;
  }

  const bool json_;
  const std::string from_;
  const std::uint64_t history_;
  const bool colour_;
  bool holding_;                                // Entries wait for the history before them.
  std::vector<protocol::EntryMessage> held_;    // At most kHistoryMax.
  std::set<MessageKey> printed_;                // Those of the history; at most kHistoryMax.
  bool asked_ = false;                          // Whether there is --from.
  bool was_ready_ = false;
  bool lost_ = false;
  bool dirty_ = false;
  overlay::Timer timer_;
};

int tail(const Arguments& arguments) {
  Tail tail(arguments);
  if (arguments.number("history") > 0 && arguments.text("from").empty()) {
    return complain(kExitUsage, "--history needs --from: history of which conversation?");
  }
  if (const auto user = session_user(arguments); !user) {
    return complain(kExitUsage, user.error().text);
  }
  if (const std::string from = arguments.text("from"); !from.empty()) {
    if (const auto kind = check_address(from); !kind) return complain(kExitUsage, kind.error().text);
  }
  auto opened = UserSession::open(arguments, tail, true);
  if (!opened) return complain_of_opening(opened.error());
  tail.session = opened->get();
  tail.session->client().start();
  tail.tick();
  tail.session->run();
  tail.end();
  return tail.failure ? complain(*tail.failure) : kExitOk;
}

}  // namespace

Command tail_command() {
  return {"tail",
          "print messages as they come",
          "tail --user @NAME [options]",
          "Prints what this device has not seen yet, then follows until Ctrl-C. With --json there is one\n"
          "object a line: messages, and for messages printed before {\"moved\": DEVICE, seq, to, id} when one\n"
          "takes an earlier place, {\"void\": DEVICE, seq, to} when one was withdrawn.\n\n"
          "  starling tail --user @alice\n"
          "  starling tail --user @alice --from '#ops' --history 20 --json\n",
          [](po::options_description& options) {
            options.add_options()("from", po::value<std::string>()->value_name("ADDRESS"),
                                  "only this group, or what is from or to this user")(
                "history", po::value<std::uint64_t>()->value_name("COUNT")->default_value(0),
                "begin with the last COUNT messages of --from (at most 500)");
            add_session_options(options);
          },
          tail,
          {}};
}

}  // namespace starling::node::cli
