// starling send: one message, and what became of it.
#include <iostream>
#include <iterator>

#include "node/cli/admin_client.h"
#include "node/cli/chat/session.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kBurnAfterMinutesMax = 10 * 365 * 24 * 60;
constexpr Duration kVoidGrace = 200ms;
constexpr Duration kKeptGrace = 3s;  // For what earlier runs left, once our own message is through.

// Sends when the login is through: one that is refused leaves nothing behind.
class Sending : public ClientHandler {
 public:
  Sending(std::string to, std::string text, SendOptions options)
      : to_(std::move(to)), text_(std::move(text)), options_(options) {}

  std::optional<Result<Sent>> result;
  std::optional<Error> refused;  // The login.
  std::optional<Error> trouble;  // The last one of the connection.
  bool handed_over = false;      // From here on the outcome can be unknown.
  std::uint64_t kept_sent = 0;
  std::vector<std::string> kept_refused;

  void run(UserSession& session, Duration patience) {
    session_ = &session;
    session.client().start();
    auto deadline = session.loop().after(patience, [&] { session.stop(); });
    session.run();
    linger_.cancel();
    // Why a node would not take it says more than what became of the connection.
    if (const auto& refusal = session.client().stats().last_refusal) trouble = *refusal;
  }

  void on_phase(ClientPhase phase, const Error* why) override {
    if (why != nullptr) trouble = *why;
    if (phase == ClientPhase::kFailed) {
      refused = *why;
      session_->stop();
    } else if (phase == ClientPhase::kReady && !std::exchange(handed_over, true)) {
      const auto accepted = session_->client().send(
          to_, std::move(text_), options_,
          [this](Result<Sent> sent) { on_result(std::move(sent)); });
      if (!accepted) return on_result(accepted.error());
      session_->save();
    }
  }
  void on_kept_sent(const std::string& to, const Result<Sent>& sent) override {
    if (sent) {
      ++kept_sent;
    } else {
      kept_refused.push_back("to " + to + ": " + sent.error().text);
    }
    stop_when_done();
  }

 private:
  void on_result(Result<Sent> sent) {
    result = std::move(sent);
    // A refused number is closed by a void; what does not leave now does with the next run.
    linger_ = session_->loop().after(result->ok() ? kKeptGrace : kVoidGrace,
                                     [this] { session_->stop(); });
    stop_when_done();
  }
  void stop_when_done() {
    if (result && result->ok() && session_->client().open_sends() == 0) session_->stop();
  }

  const std::string to_;
  std::string text_;
  const SendOptions options_;
  UserSession* session_ = nullptr;
  overlay::Timer linger_;
};

Result<protocol::Grade> parse_grade(const std::string& text) {
  if (text == "quorum") return protocol::Grade::kQuorum;
  if (text == "all") return protocol::Grade::kAll;
  if (text == "local") return protocol::Grade::kLocal;
  if (text == "memory") return protocol::Grade::kMemory;
  return Error{Errc::kInvalid, "'" + text + "' is no grade: quorum, all, local or memory"};
}

std::string message_text(const Arguments& arguments) {
  const auto words = arguments.list("text");
  if (words.empty() || (words.size() == 1 && words[0] == "-")) {
    std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    if (text.ends_with('\n')) text.pop_back();
    return text;
  }
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

int no_answer(const Sending& sending) {
  const std::string why = sending.trouble ? ": " + sending.trouble->text : "";
  if (!sending.handed_over) {
    return complain(kExitUnreachable,
                    "no node could be reached" + why +
                        "; nothing was sent. Look with `starling status`, or name other nodes with "
                        "--client");
  }
  return complain(kExitUnavailable,
                  "not acknowledged in time" + why +
                      "; the message is kept and goes out with your next send, tail or chat: do not "
                      "send it again");
}

void tell_of_kept(const Sending& sending) {
  if (sending.kept_sent > 0) {
    complain(kExitOk, thousands(sending.kept_sent) +
                          (sending.kept_sent == 1 ? " message" : " messages") +
                          " kept from before went out as well");
  }
  for (const auto& refused : sending.kept_refused) {
    complain(kExitOk, "a message kept from before was refused, " + refused);
  }
}

int print(const Arguments& arguments, const std::string& to, const Sent& sent) {
  if (arguments.flag("json")) {
    std::cout << Json{{"to", to},
                      {"id", sent.id},
                      {"seq", sent.seq},
                      {"copies", sent.copies},
                      {"attempts", sent.attempts},
                      {"ms", to_ms(sent.latency)}}
              << std::endl;
  } else {
    std::cout << "sent to " << to << " as " << sent.id << ", " << int{sent.copies} << " synced "
              << (sent.copies == 1 ? "copy" : "copies") << ", " << to_ms(sent.latency) << " ms"
              << std::endl;
  }
  return kExitOk;
}

int send(const Arguments& arguments) {
  const std::string to = arguments.text("address");
  if (const auto kind = check_address(to); !kind) return complain(kExitUsage, kind.error().text);
  const auto grade = parse_grade(arguments.text("grade"));
  if (!grade) return complain(kExitUsage, grade.error().text);
  if (const auto user = session_user(arguments); !user) {
    return complain(kExitUsage, user.error().text);
  }
  std::string text = message_text(arguments);
  if (text.empty()) {
    return complain(kExitUsage, "there is nothing to send: give a TEXT, or write it to standard input");
  }
  const std::uint64_t minutes = arguments.number("burn-after");
  if (minutes > kBurnAfterMinutesMax) {
    return complain(kExitUsage, "--burn-after takes up to " + thousands(kBurnAfterMinutesMax) + " minutes");
  }
  Sending sending(to, std::move(text),
                  {*grade, storage::EntryType::kText, static_cast<std::uint32_t>(minutes * 60)});
  auto session = UserSession::open(arguments, sending, false);
  if (!session) return complain_of_opening(session.error());
  sending.run(**session, std::chrono::seconds(arguments.number("timeout")));
  tell_of_kept(sending);
  if (sending.refused) {
    return complain(exit_code(*sending.refused),
                    "the login was refused: " + sending.refused->text +
                        (sending.handed_over ? "; the message is taken back with your next login"
                                             : "; nothing was sent"));
  }
  if (!sending.result) return no_answer(sending);
  if (!sending.result->ok()) return complain(sending.result->error());
  return print(arguments, to, **sending.result);
}

}  // namespace

Command send_command() {
  return {
      "send",
      "send a message",
      "send ADDRESS [TEXT...] --user @NAME [options]",
      "Sends a message and waits until it is stored safely. Without a text, or with \"-\", the text comes\n"
      "from standard input. When no node answers or the login is refused, nothing is sent. A message that\n"
      "left without an answer is kept and goes out with the next run, once: do not send it again.\n\n"
      "  starling send @bob \"lunch?\" --user @alice --client 127.0.0.1:7400\n"
      "  uptime | starling send '#ops' --user @alice\n",
      [](po::options_description& options) {
        options.add_options()("address", po::value<std::string>(), "@user or #group")(
            "text", po::value<std::vector<std::string>>(), "the message")(
            "grade", po::value<std::string>()->value_name("NAME")->default_value("quorum"),
            "when to acknowledge: quorum, all, local or memory")(
            "burn-after", po::value<std::uint64_t>()->value_name("MINUTES")->default_value(0),
            "erase it everywhere after this long; 0: when history ends")(
            "timeout", po::value<std::uint64_t>()->value_name("SECONDS")->default_value(30),
            "give up waiting after this long");
        add_session_options(options);
      },
      send,
      {"address", "[text...]"}};
}

}  // namespace starling::node::cli
