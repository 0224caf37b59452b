// starling send: one message, and what became of it.
#include <iostream>
#include <iterator>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/session.h"

namespace starling::node::cli {
namespace {

constexpr Duration kVoidGrace = 200ms;

struct Outcome : ClientHandler {
  UserSession* session = nullptr;
  std::optional<Result<Sent>> result;
  std::optional<Error> trouble;  // The last one of the connection.
  bool logged_in = false;
  void on_phase(ClientPhase phase, const Error* why) override {
    if (why != nullptr) trouble = *why;
    if (phase == ClientPhase::kReady) logged_in = true;
    if (phase == ClientPhase::kFailed) session->stop();
  }
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

int unacknowledged(const Outcome& outcome) {
  const std::string why = outcome.trouble ? ": " + outcome.trouble->text : "";
  if (outcome.logged_in) {
    return complain(kExitUnavailable, "not acknowledged in time" + why +
                                          "; it is kept and sent again with the next run");
  }
  return complain(kExitUnreachable, "no node could be reached" + why +
                                        "; the message is kept and sent with the next run");
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
  const auto grade = parse_grade(arguments.text("grade"));
  if (!grade) return complain(kExitUsage, grade.error().text);
  Outcome outcome;
  auto opened = UserSession::open(arguments, outcome, false);
  if (!opened) return complain(opened.error());
  UserSession& session = **opened;
  outcome.session = &session;
  const std::string to = arguments.text("address");
  overlay::Timer linger;
  const auto accepted = session.client().send(
      to, message_text(arguments), {*grade, storage::EntryType::kText}, [&](Result<Sent> result) {
        outcome.result = std::move(result);
        // A refused number is closed by a void; what does not leave now does with the next run.
        linger = session.loop().after(outcome.result->ok() ? Duration(0) : kVoidGrace,
                                      [&] { session.stop(); });
      });
  if (!accepted) return complain(accepted.error());
  session.save();
  session.client().start();
  auto deadline = session.loop().after(std::chrono::seconds(arguments.number("timeout")),
                                       [&] { session.stop(); });
  session.run();
  if (!outcome.result) return unacknowledged(outcome);
  if (!outcome.result->ok()) return complain(outcome.result->error());
  return print(arguments, to, **outcome.result);
}

}  // namespace

Command send_command() {
  return {
      "send",
      "send a message",
      "send ADDRESS [TEXT...] --user @NAME [options]",
      "Sends a message and waits until it is stored safely. Without a text, or with \"-\", the text comes\n"
      "from standard input.\n\n"
      "  starling send @bob \"lunch?\" --user @alice --client 127.0.0.1:7400\n"
      "  uptime | starling send '#ops' --user @alice\n",
      [](po::options_description& options) {
        options.add_options()("address", po::value<std::string>(), "@user or #group")(
            "text", po::value<std::vector<std::string>>(), "the message")(
            "grade", po::value<std::string>()->value_name("NAME")->default_value("quorum"),
            "when to acknowledge: quorum, all, local or memory")(
            "timeout", po::value<std::uint64_t>()->value_name("SECONDS")->default_value(30),
            "give up waiting after this long");
        add_session_options(options);
      },
      send,
      {"address", "[text...]"}};
}

}  // namespace starling::node::cli
