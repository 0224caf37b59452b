// The life of a chat: what comes from the client, lines of the input, what is sent, and the end.
#include "node/cli/chat/chat.h"

#include <unistd.h>

#include <csignal>
#include <utility>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/table.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

constexpr Duration kSaveEvery = 1s;
constexpr Duration kPendingNotice = 2s;   // Then we say that a message still waits.
constexpr Duration kLastWords = 5s;       // At the end of the input, for acknowledgements.
constexpr Duration kLoginPatience = 20s;  // For a piped input that ends before the login.
constexpr std::size_t kOpenMax = 1'000;   // Piped lines on their way; the next waits.

// As `tail --json`; `copies` for what was sent here.
Json json_of(const protocol::EntryMessage& entry, std::int64_t at, int copies) {
  Json line{{"id", entry.id}, {"from", entry.from}, {"to", entry.to}, {"wall_ms", at}};
  if (is_utf8(entry.body.data)) {
    line["text"] = entry.body.data;
  } else {
    line["hex"] = hex(entry.body.data);
  }
  if (copies > 0) line["copies"] = copies;
  return line;
}

}  // namespace

Chat::Chat(const Arguments& arguments)
    : to_(arguments.text("address")),
      json_(arguments.flag("json")),
      piped_(json_ || ::isatty(STDIN_FILENO) == 0) {}

void Chat::run(UserSession& session) {
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

void Chat::on_entry(const protocol::EntryMessage& entry, bool) {
  dirty_ = true;
  // What this device sent itself is shown when it is acknowledged.
  if (entry.device == session_->client().device()) return;
  show(entry);
  // A script says itself whom it talks to.
  if (to_.empty() && !piped_) talk_to(peer_of(entry));
}

void Chat::on_void(const protocol::EntryMessage& entry) {
  dirty_ = true;
  if (json_) {
    return say(Json{{"void", hex(entry.device.view())}, {"seq", entry.seq}, {"from", entry.from}, {"to", entry.to}});
  }
  const bool ours = entry.from == session_->client().user();
  if (entry.device == session_->client().device() && recalling_.contains({entry.to, entry.seq})) return;
  const bool elsewhere = peer_of(entry) != to_ && entry.to.starts_with('#');
  const std::string where = elsewhere ? " in " + printable(entry.to, false) : "";
  note((ours ? std::string("you") : printable(entry.from, false)) + " took back a message" + where);
}

void Chat::on_lost(const protocol::LostMessage& lost) {
  dirty_ = true;
  show(lost);
}

void Chat::on_kept_sent(const std::string& to, const Result<Sent>& sent) {
  dirty_ = true;
  note("a message to " + printable(to, false) + " kept from before " +
       (sent ? "was sent now" : "was refused: " + sent.error().text));
  leave_when_done();
}

void Chat::on_joined(const std::string& group) {
  note("you are now in " + printable(group, false));
}

void Chat::on_left(const std::string& group) {
  note("you are no longer in " + printable(group, false));
}

void Chat::on_phase(ClientPhase phase, const Error* why) {
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

std::string Chat::name_of(const std::string& address) const {
  return coloured_name(printable(address, false), colour());
}

void Chat::note(const std::string& line) {
  if (json_) return say(Json{{"note", line}});
  say(dim("* " + line, colour()));
}

void Chat::show(const protocol::EntryMessage& entry, int copies) {
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

void Chat::trouble(const Error& error, const std::string& text) {
  if (piped_ && !failure) failure = error;
  if (json_) return say(Json{{"error", {{"name", name(error.code)}, {"text", text}}}});
  note(text);
}

// Lines of a pipe wait for the login and, one by one, for the answer to the one before.
void Chat::heard(std::string line) {
  if (!piped_) return on_line(std::move(line));
  lines_.push_back(std::move(line));
  work();
}

void Chat::work() {
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

void Chat::on_line(std::string line) {
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

void Chat::send(const std::string& text) {
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

void Chat::on_sent(std::uint64_t number, const std::string& to, const std::string& text,
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

// The input ended: wait a little for what is under way, then go.
void Chat::leave() {
  leaving_ = true;
  leave_timer_ = session_->loop().after(was_ready_ ? kLastWords : kLoginPatience,
                                        [this] { session_->stop(); });
  leave_when_done();
}

void Chat::leave_when_done() {
  if (!leaving_ || !lines_.empty() || asked_ > 0) return;
  if (session_->client().open_sends() == 0) session_->stop();
}

void Chat::tell_what_is_open() {
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

void Chat::tick() {
  if (std::exchange(dirty_, false)) session_->save();
  save_timer_ = session_->loop().after(kSaveEvery, [this] { tick(); });
}

namespace {

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
