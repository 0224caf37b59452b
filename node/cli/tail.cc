// starling tail: prints messages as they come.
#include <iostream>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/session.h"
#include "node/cli/table.h"
#include "node/cli/terminal.h"

namespace starling::node::cli {
namespace {

constexpr Duration kSaveEvery = 1s;

std::int64_t wall_ms_of(const protocol::EntryMessage& entry) {
  const auto id = parse_entry_id(entry.id);
  return id ? static_cast<std::int64_t>(hlc_ms(id->time)) : 0;
}

class Tail : public ClientHandler {
 public:
  explicit Tail(const Arguments& arguments)
      : json_(arguments.flag("json")),
        from_(arguments.text("from")),
        history_(arguments.number("history")),
        colour_(stdout_has_colour()) {}

  UserSession* session = nullptr;
  std::optional<Error> failure;

  void on_entry(const protocol::EntryMessage& entry, bool) override {
    if (wanted(entry)) print(entry);
    dirty_ = true;
  }
  void on_void(const protocol::EntryMessage& entry) override {
    if (json_ && wanted(entry)) {
      std::cout << Json{{"void", hex(entry.device.view())}, {"seq", entry.seq}, {"to", entry.to}}
                << std::endl;
    }
  }
  void on_phase(ClientPhase phase, const Error* why) override {
    if (phase == ClientPhase::kFailed) {
      failure = *why;
      session->stop();
    } else if (phase == ClientPhase::kReady) {
      std::cerr << "following as " << session->client().user() << " through "
                << session->client().endpoint().text() << std::endl;
      if (std::exchange(history_due_, false)) ask_history();
    } else if (why != nullptr) {
      std::cerr << "connection lost: " << why->text << std::endl;
    }
  }
  // At most one save a second: after a crash, at most that much is printed again.
  void tick() {
    if (std::exchange(dirty_, false)) session->save();
    timer_ = session->loop().after(kSaveEvery, [this] { tick(); });
  }

 private:
  [[nodiscard]] bool wanted(const protocol::EntryMessage& entry) const {
    return from_.empty() || entry.from == from_ || entry.to == from_;
  }
  void ask_history() {
    if (history_ == 0 || from_.empty()) return;
    session->client().history(
        from_, "", static_cast<std::uint32_t>(std::min<std::uint64_t>(history_, 500)),
        [this](Result<protocol::HistoryPage> page) {
          if (!page) {
            std::cerr << "no history: " << page.error().text << std::endl;
            return;
          }
          for (auto it = page->entries.rbegin(); it != page->entries.rend(); ++it) print(*it);
        });
  }
  void print(const protocol::EntryMessage& entry) {
    if (json_) {
      Json line{{"id", entry.id},     {"mailbox", entry.mailbox}, {"from", entry.from},
                {"to", entry.to},     {"seq", entry.seq},         {"device", hex(entry.device.view())},
                {"wall_ms", wall_ms_of(entry)}};
      if (is_utf8(entry.body.data)) {
        line["text"] = entry.body.data;
      } else {
        line["base64"] = base64(entry.body.data);
      }
      std::cout << line << std::endl;
      return;
    }
    std::cout << dim(clock_text(wall_ms_of(entry)), colour_) << ' '
              << coloured_name(printable(entry.from, false), colour_) << " > "
              << printable(entry.to, false) << "  " << printable(entry.body.data, true) << std::endl;
  }

  const bool json_;
  const std::string from_;
  const std::uint64_t history_;
  const bool colour_;
  bool history_due_ = true;
  bool dirty_ = false;
  overlay::Timer timer_;
};

int tail(const Arguments& arguments) {
  Tail tail(arguments);
  if (arguments.number("history") > 0 && arguments.text("from").empty()) {
    return complain(kExitUsage, "--history needs --from: history of which conversation?");
  }
  auto opened = UserSession::open(arguments, tail, true);
  if (!opened) return complain(opened.error());
  tail.session = opened->get();
  tail.session->client().start();
  tail.tick();
  tail.session->run();
  return tail.failure ? complain(*tail.failure) : kExitOk;
}

}  // namespace

Command tail_command() {
  return {"tail",
          "print messages as they come",
          "tail --user @NAME [options]",
          "Prints what this device has not seen yet, then follows until Ctrl-C.\n\n"
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
