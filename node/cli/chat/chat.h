// Chat: one run of `starling chat`: lines of a terminal or a pipe go to one conversation at a time, or are commands.
//
// A line of a terminal is worked on at once. Lines of a pipe, or with --json, wait for the login and, one by one, for
// the answer to the one before; the first that fails decides the exit code.
// Invariants: (1) what this device sends is shown when it is acknowledged, not when it comes back;
//             (2) only what was acknowledged in this run can be taken back here;
//             (3) `asked_` is the number of questions under way: the end of the input waits for them, up to a limit.
// Thread: the loop's, which is the main thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "node/cli/chat/session.h"
#include "node/cli/terminal/screen.h"

namespace starling::node::cli {

class Chat : public ClientHandler {
 public:
  explicit Chat(const Arguments& arguments);

  // Of a login that was refused; of a piped input, also the first line that failed.
  std::optional<Error> failure;

  void run(UserSession& session);

  void on_entry(const protocol::EntryMessage& entry, bool live) override;
  // The line stands where it stands; /history shows the order.
  void on_moved(const protocol::EntryMessage&) override { dirty_ = true; }
  void on_void(const protocol::EntryMessage& entry) override;
  void on_lost(const protocol::LostMessage& lost) override;
  void on_kept_sent(const std::string& to, const Result<Sent>& sent) override;
  void on_joined(const std::string& group) override;
  void on_left(const std::string& group) override;
  void on_phase(ClientPhase phase, const Error* why) override;

 private:
  static constexpr std::uint32_t kHistoryLines = 20;
  struct Own {  // A message of ours, acknowledged.
    std::uint64_t seq = 0;
    std::string text;
  };

  // What is printed.
  [[nodiscard]] bool colour() const { return !json_ && screen_ != nullptr && screen_->colour(); }
  [[nodiscard]] std::string name_of(const std::string& address) const;
  [[nodiscard]] std::string peer_of(const protocol::EntryMessage& entry) const {
    return entry.to == session_->client().user() ? entry.from : entry.to;
  }
  void say(const std::string& line) {
    if (screen_ != nullptr) screen_->print(line);
  }
  void say(const Json& line) { say(line.dump(-1, ' ', false, Json::error_handler_t::replace)); }
  void note(const std::string& line);
  void prompt() {
    if (screen_ != nullptr && !json_) screen_->set_prompt(to_.empty() ? "> " : to_ + "> ");
  }
  void show(const protocol::LostMessage& lost) { json_ ? say(lost_json(lost)) : note(lost_text(lost, to_)); }
  // `copies`: of a message of our own, acknowledged just now.
  void show(const protocol::EntryMessage& entry, int copies = 0);
  void show(const protocol::HistoryPage& page);  // Oldest first.

  // What did not happen, although it was asked for.
  void trouble(const Error& error, const std::string& text);
  void trouble(const Error& error) { trouble(error, error.text); }
  void misused(const std::string& text) { trouble({Errc::kInvalid, text}, text); }

  // Lines of the input, and what is sent.
  void heard(std::string line);
  void work();
  void on_line(std::string line);
  void send(const std::string& text);
  void on_sent(std::uint64_t number, const std::string& to, const std::string& text, const Result<Sent>& result);
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

  // The commands: chat_commands.cc.
  void command(const std::string& line);
  void talk_to(const std::string& address);
  void history(std::uint32_t count);
  void recall(std::size_t back);  // Of what was sent here in this run.
  void ask_recall(const std::string& to, const Own& own, int tries);
  void groups();
  void who(const std::string& group);
  void add(const std::string& rest);

  // The end, and what is saved until then.
  void leave();
  void leave_when_done();
  void tell_what_is_open();
  void tick();

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

}  // namespace starling::node::cli
