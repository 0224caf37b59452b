// starling chat: a terminal to talk in.
#include <unistd.h>

#include <csignal>
#include <deque>
#include <map>
#include <set>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/chat/session.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/screen.h"
#include "node/cli/terminal/table.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

constexpr Duration kSaveEvery = 1s;
constexpr Duration kPendingNotice = 2s;  // Then we say that a message still waits.
constexpr std::uint32_t kHistoryLines = 20;
constexpr Duration kLastWords = 5s;      // At the end of the input, for acknowledgements.
constexpr Duration kLoginPatience = 20s;  // For a piped input that ends before the login.
constexpr Duration kRecallAgain = 1s;     // After an answer that may be another one soon,
constexpr int kRecallTries = 20;         // so often.
constexpr std::size_t kOpenMax = 1'000;  // Piped lines on their way; the next waits.

constexpr const char* kHelp =
    "/to ADDRESS          talk to @somebody or #a-group; a bare line goes there\n"
    "/history [COUNT]     older messages of this conversation\n"
    "/recall [N]          take back your last message here, or the N-th last, everywhere\n"
    "/groups              the groups you are in\n"
    "/who [#GROUP]        who is in the group\n"
    "/create #GROUP       make a group\n"
    "/add @USER [#GROUP]  add somebody to it\n"
    "/quit                leave; //text sends a line that begins with a slash";

class Chat : public ClientHandler {
 public:
  explicit Chat(const Arguments& arguments)
      : to_(arguments.text("address")),
        json_(arguments.flag("json")),
        piped_(json_ || ::isatty(STDIN_FILENO) == 0) {}

  // Of a login that was refused; of a piped input, also the first line that failed.
  std::optional<Error> failure;

  void run(UserSession& session) {
    session_ = &session;
    Screen screen;
    screen_ = &screen;
    if (!piped_) {
      say(dim("Starling. You are ", colour()) + name_of(session.client().user()) +
          dim(". /help lists the commands, Ctrl-C leaves.", colour()));
    }
    prompt();
    session.loop().on_signal(SIGWINCH, [this] { screen_->redraw(); });
    session.client().start();
    tick();
    {
      StdinLines input(session.loop(), [this](std::string line) { heard(std::move(line)); },
                       [this] { leave(); });
      session.run();
    }
    save_timer_.cancel();
    leave_timer_.cancel();
    pending_.clear();
    recall_timers_.clear();
    tell_what_is_open();
    screen_ = nullptr;
  }

  void on_entry(const protocol::EntryMessage& entry, bool) override {
    dirty_ = true;
    // What this device sent itself is shown when it is acknowledged.
    if (entry.device == session_->client().device()) return;
    show(entry);
    // A script says itself whom it talks to.
    if (to_.empty() && !piped_) talk_to(peer_of(entry));
  }
  // The line stands where it stands; /history shows the order.
  void on_moved(const protocol::EntryMessage&) override { dirty_ = true; }
  void on_void(const protocol::EntryMessage& entry) override {
    dirty_ = true;
    if (json_) {
      return say(Json{{"void", hex(entry.device.view())}, {"seq", entry.seq}, {"from", entry.from}, {"to", entry.to}});
    }
    const bool ours = entry.from == session_->client().user();
    if (entry.device == session_->client().device() && recalling_.contains({entry.to, entry.seq})) return;
    const std::string where = peer_of(entry) == to_ ? "" : entry.to.starts_with('#') ? " in " + printable(entry.to, false) : "";
    note((ours ? std::string("you") : printable(entry.from, false)) + " took back a message" + where);
  }
  void on_lost(const protocol::LostMessage& lost) override {
    dirty_ = true;
    show(lost);
  }
  void on_kept_sent(const std::string& to, const Result<Sent>& sent) override {
    dirty_ = true;
    note("a message to " + printable(to, false) + " kept from before " +
         (sent ? "was sent now" : "was refused: " + sent.error().text));
    leave_when_done();
  }
  void on_joined(const std::string& group) override {
    note("you are now in " + printable(group, false));
  }
  void on_left(const std::string& group) override {
    note("you are no longer in " + printable(group, false));
  }
  void on_phase(ClientPhase phase, const Error* why) override {
    if (phase == ClientPhase::kFailed) {
      failure = *why;
      session_->stop();
    } else if (phase == ClientPhase::kReady) {
      note((was_ready_ ? "connected again, to " : "connected to ") +
           session_->client().endpoint().text() + " (node " + session_->client().node() + ")");
      lost_ = false;
      if (!std::exchange(was_ready_, true) && !to_.empty() && !piped_) history(kHistoryLines);
      dirty_ = true;
      work();
    } else if (why != nullptr && !std::exchange(lost_, true)) {
      note((was_ready_ ? "connection lost: " : "no connection: ") + why->text +
           "; trying again, what you write waits");
    }
  }

 private:
  struct Own {  // A message of ours, acknowledged.
    std::uint64_t seq = 0;
    std::string text;
  };
  [[nodiscard]] bool colour() const { return !json_ && screen_ != nullptr && screen_->colour(); }
  [[nodiscard]] std::string name_of(const std::string& address) const {
    return coloured_name(printable(address, false), colour());
  }
  void say(const std::string& line) {
    if (screen_ != nullptr) screen_->print(line);
  }
  void say(const Json& line) { say(line.dump(-1, ' ', false, Json::error_handler_t::replace)); }
  void note(const std::string& line) {
    if (json_) return say(Json{{"note", line}});
    say(dim("* " + line, colour()));
  }
  void prompt() {
    if (screen_ != nullptr && !json_) screen_->set_prompt(to_.empty() ? "> " : to_ + "> ");
  }
  [[nodiscard]] std::string peer_of(const protocol::EntryMessage& entry) const {
    return entry.to == session_->client().user() ? entry.from : entry.to;
  }

  void show(const protocol::LostMessage& lost) { json_ ? say(lost_json(lost)) : note(lost_text(lost, to_)); }
  // `copies`: of a message of our own, acknowledged just now.
  void show(const protocol::EntryMessage& entry, int copies = 0) {
    const auto id = parse_entry_id(entry.id);
    const std::int64_t at = id ? static_cast<std::int64_t>(hlc_ms(id->time)) : 0;
    if (json_) return say(json_of(entry, at, copies));
    const bool here = peer_of(entry) == to_;
    const std::string where =
        here ? "" : dim(" > " + printable(entry.to, false), colour());
    const bool text = entry.content == static_cast<std::uint8_t>(storage::EntryType::kText);
    say(dim(clock_text(at), colour()) + " " + name_of(entry.from) + where + "  " +
        (text ? printable(entry.body.data, true)
              : "(" + std::to_string(entry.body.data.size()) + " bytes)") +
        (copies > 0 ? dim(" \u2713" + std::to_string(copies), colour()) : ""));
  }
  // As `tail --json`; `copies` for what was sent here.
  static Json json_of(const protocol::EntryMessage& entry, std::int64_t at, int copies) {
    Json line{{"id", entry.id}, {"from", entry.from}, {"to", entry.to}, {"wall_ms", at}};
    if (is_utf8(entry.body.data)) {
      line["text"] = entry.body.data;
    } else {
      line["hex"] = hex(entry.body.data);
    }
    if (copies > 0) line["copies"] = copies;
    return line;
  }

  // Lines of a pipe wait for the login and, one by one, for the answer to the one before.
  void heard(std::string line) {
    if (!piped_) return on_line(std::move(line));
    lines_.push_back(std::move(line));
    work();
  }
  void work() {
    while (was_ready_ && asked_ == 0 && !lines_.empty() &&
           session_->client().open_sends() < kOpenMax) {
      // What was sent before it is there to be taken back only when it is acknowledged.
      if (lines_.front().starts_with("/recall") && session_->client().open_sends() > 0) break;
      std::string line = std::move(lines_.front());
      lines_.pop_front();
      on_line(std::move(line));
    }
    leave_when_done();
  }
  // Counts the questions under way: Done for a question of the client.
  template <class T>
  Client::Done<T> answer(std::function<void(Result<T>)> done) {
    ++asked_;
    return [this, done = std::move(done)](Result<T> result) {
      --asked_;
      done(std::move(result));
      work();
    };
  }
  // What was asked for did not happen.
  void trouble(const Error& error, const std::string& text) {
    if (piped_ && !failure) failure = error;
    if (json_) return say(Json{{"error", {{"name", name(error.code)}, {"text", text}}}});
    note(text);
  }
  void trouble(const Error& error) { trouble(error, error.text); }
  void misused(const std::string& text) { trouble({Errc::kInvalid, text}, text); }

  void on_line(std::string line) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.starts_with("//")) {
      send(line.substr(1));
    } else if (line.starts_with('/')) {
      command(line.substr(1));
    } else if (!line.empty()) {
      send(line);
    }
    prompt();
  }

  void send(const std::string& text) {
    if (to_.empty()) return misused("to whom? /to @somebody or /to #a-group");
    const std::uint64_t number = ++sent_;
    const std::string to = to_;
    const auto accepted = session_->client().send(
        to, text, {},
        [this, number, to, text](Result<Sent> result) { on_sent(number, to, text, result); });
    if (!accepted) return trouble(accepted.error(), "not sent: " + accepted.error().text);
    session_->save();
    pending_[number] = session_->loop().after(kPendingNotice, [this, text] {
      note("waiting for an acknowledgement: " + printable(text, false));
    });
  }

  void on_sent(std::uint64_t number, const std::string& to, const std::string& text,
               const Result<Sent>& result) {
    pending_.erase(number);
    dirty_ = true;
    if (!result) {
      trouble(result.error(), "not sent (" + result.error().text + "): " + printable(text, false));
    } else {
      protocol::EntryMessage own;
      own.id = result->id;
      own.from = session_->client().user();
      own.to = to;
      own.content = static_cast<std::uint8_t>(storage::EntryType::kText);
      own.body.data = text;
      show(own, result->copies);
      ours_[to].push_back({result->seq, text});
      if (ours_[to].size() > kOpenMax) ours_[to].pop_front();
    }
    work();
  }

  // Of what was sent here in this run.
  void recall(std::size_t back) {
    if (to_.empty()) return misused("of whom? /to ADDRESS first");
    auto& ours = ours_[to_];
    if (back == 0 || back > ours.size()) {
      return misused(ours.empty() ? "there is nothing to take back: you have sent nothing here since you came"
                                  : "there are " + std::to_string(ours.size()) + " messages to take back, that you have sent here since you came");
    }
    const Own own = ours[ours.size() - back];
    if (!recalling_.insert({to_, own.seq}).second) return note("that is being taken back");
    ++asked_;
    ask_recall(to_, own, kRecallTries);
  }
  // Asked again it is the same recall.
  void ask_recall(const std::string& to, const Own& own, int tries) {
    auto& client = session_->client();
    client.recall(to, client.device(), own.seq, [this, to, own, tries](const Result<std::string>& id) {
      if (!id && is_retryable(id.code()) && tries > 1) {
        recall_timers_[{to, own.seq}] =
            session_->loop().after(kRecallAgain, [this, to, own, tries] { ask_recall(to, own, tries - 1); });
        return;
      }
      --asked_;
      if (id) {
        std::erase_if(ours_[to], [&](const Own& other) { return other.seq == own.seq; });
        note("taken back: " + printable(own.text, false));
      } else {
        recalling_.erase({to, own.seq});
        trouble(id.error(), "not taken back (" + id.error().text + "): " + printable(own.text, false));
      }
      work();
    });
  }

  void talk_to(const std::string& address) {
    if (const auto kind = check_address(address); !kind) return trouble(kind.error());
    to_ = address;
    note("talking to " + printable(to_, false));
    prompt();
  }

  void command(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string verb = line.substr(0, space);
    std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    while (rest.ends_with(' ')) rest.pop_back();
    if (verb == "quit" || verb == "exit") return session_->stop();
    if (verb == "help") return json_ ? note(kHelp) : say(std::string(kHelp));
    if (verb == "to") {
      talk_to(rest);
      const bool ready = session_->client().phase() == ClientPhase::kReady;
      if (to_ == rest && ready && !piped_) history(kHistoryLines);
    } else if (verb == "history") {
      const int count = std::atoi(rest.c_str());
      history(count > 0 ? static_cast<std::uint32_t>(std::min(count, 500)) : kHistoryLines);
    } else if (verb == "recall") {
      const int back = rest.empty() ? 1 : std::atoi(rest.c_str());
      recall(back > 0 ? static_cast<std::size_t>(back) : 0);
    } else if (verb == "groups") {
      groups();
    } else if (verb == "who") {
      who(rest.empty() ? to_ : rest);
    } else if (verb == "create") {
      session_->client().create_group(rest, answer<Done>([this, rest](Status status) {
        if (!status) return trouble(status.error());
        note("made " + rest);
        talk_to(rest);
      }));
    } else if (verb == "add") {
      add(rest);
    } else {
      misused("there is no /" + printable(verb, false) + "; /help lists the commands");
    }
  }

  void history(std::uint32_t count) {
    if (to_.empty()) return misused("of whom? /to ADDRESS first");
    session_->client().history(to_, oldest_[to_], count, answer<protocol::HistoryPage>(
                               [this, to = to_](Result<protocol::HistoryPage> page) {
      if (!page) return trouble(page.error(), "no history: " + page.error().text);
      if (page->entries.empty() && page->lost.empty()) return note("nothing older here");
      note(page->more ? "earlier (more with /history):" : "from the beginning:");
      show(*page);
      std::string& oldest = oldest_[to];
      if (!page->lost.empty()) oldest = page->lost.back().id;
      if (!page->entries.empty() && (oldest.empty() || page->entries.back().id < oldest)) oldest = page->entries.back().id;
    }));
  }

  // Oldest first.
  void show(const protocol::HistoryPage& page) {
    auto lost = page.lost.rbegin();
    for (auto it = page.entries.rbegin(); it != page.entries.rend(); ++it) {
      for (; lost != page.lost.rend() && lost->id < it->id; ++lost) show(*lost);
      show(*it);
    }
    for (; lost != page.lost.rend(); ++lost) show(*lost);
  }

  void groups() {
    session_->client().groups(answer<std::vector<std::string>>([this](auto groups) {
      if (!groups) return trouble(groups.error());
      std::string line =
          groups->empty() ? "you are in no group; /create #NAME makes one" : "groups:";
      for (const auto& group : *groups) line += " " + printable(group, false);
      note(line);
    }));
  }

  void who(const std::string& group) {
    session_->client().members(group, "", answer<protocol::Members>([this, group](auto members) {
      if (!members) return trouble(members.error());
      std::string line = "in " + printable(group, false) + ":";
      static constexpr const char* kRoles[] = {"", " (moderator)", " (owner)"};
      for (const auto& member : members->members) {
        line += " " + printable(member.user, false) + kRoles[std::min<int>(member.role, 2)];
      }
      note(line + (members->more ? " and more" : ""));
    }));
  }

  void add(const std::string& rest) {
    const std::size_t space = rest.find(' ');
    const std::string user = rest.substr(0, space);
    const std::string group = space == std::string::npos ? to_ : rest.substr(space + 1);
    session_->client().add_member(group, user, 0, answer<Done>([this, user, group](Status status) {
      if (!status) return trouble(status.error());
      note(user + " is now in " + group);
    }));
  }

  // The input ended: wait a little for what is under way, then go.
  void leave() {
    leaving_ = true;
    leave_timer_ = session_->loop().after(was_ready_ ? kLastWords : kLoginPatience,
                                          [this] { session_->stop(); });
    leave_when_done();
  }
  void leave_when_done() {
    if (!leaving_ || !lines_.empty() || asked_ > 0) return;
    if (session_->client().open_sends() == 0) session_->stop();
  }
  void tell_what_is_open() {
    const std::size_t open = session_->client().open_sends();
    const std::size_t lines = lines_.size() + (session_->keeps() ? 0 : open);
    if (!failure && piped_ && open + lines > 0) {
      failure = Error{Errc::kUnavailable, "no node answered in time; try again"};
    }
    if (lines > 0) {
      note(thousands(lines) + (lines == 1 ? " line was" : " lines were") + " not sent");
    }
    if (session_->keeps() && open > 0) {
      note(thousands(open) + (open == 1 ? " message is" : " messages are") +
           " not acknowledged yet; kept, and sent again when you come back");
    }
  }

  void tick() {
    if (std::exchange(dirty_, false)) session_->save();
    save_timer_ = session_->loop().after(kSaveEvery, [this] { tick(); });
  }

  UserSession* session_ = nullptr;
  Screen* screen_ = nullptr;
  std::string to_;
  const bool json_;
  const bool piped_;  // Lines come from a program; so they do with --json.
  std::deque<std::string> lines_;  // Of a pipe, not worked on yet.
  std::size_t asked_ = 0;          // Questions without their answer.
  std::map<std::string, std::string> oldest_;  // Conversation -> oldest id shown by /history.
  std::map<std::uint64_t, overlay::Timer> pending_;
  std::map<std::string, std::deque<Own>> ours_;  // By whom they went to, oldest first.
  std::set<std::pair<std::string, std::uint64_t>> recalling_;  // Of those, asked to be taken back, or taken back.
  std::map<std::pair<std::string, std::uint64_t>, overlay::Timer> recall_timers_;
  std::uint64_t sent_ = 0;
  bool was_ready_ = false;
  bool lost_ = false;
  bool leaving_ = false;
  bool dirty_ = false;
  overlay::Timer save_timer_;
  overlay::Timer leave_timer_;
};

int chat(const Arguments& arguments) {
  if (const auto user = session_user(arguments); !user) {
    return complain(kExitUsage, user.error().text);
  }
  Chat chat(arguments);
  if (const std::string to = arguments.text("address"); !to.empty()) {
    if (const auto kind = check_address(to); !kind) return complain(kExitUsage, kind.error().text);
  }
  auto session = UserSession::open(arguments, chat, true);
  if (!session) return complain_of_opening(session.error());
  chat.run(**session);
  return chat.failure ? complain(*chat.failure) : kExitOk;
}

}  // namespace

Command chat_command() {
  return {"chat",
          "talk, in a terminal",
          "chat [ADDRESS] --user @NAME [options]",
          "A chat in the terminal: messages scroll above, your line stays below. A mark such as\n"
          "\u27132 behind your message says on how many nodes it is stored. Also reads lines from a\n"
          "pipe: then a line goes nowhere before ADDRESS or /to says where, and a refusal shows in\n"
          "the exit code. With --json every line that is printed is one JSON object: a message\n"
          "(id, from, to, wall_ms, text; copies when it is yours), a note, or an error.\n\n"
          "  starling chat '#ops' --user @alice --client 127.0.0.1:7400\n",
          [](po::options_description& options) {
            options.add_options()("address", po::value<std::string>(), "whom to talk to first");
            add_session_options(options);
          },
          chat,
          {"[address]"}};
}

}  // namespace starling::node::cli
