// The commands of a chat: the lines that begin with a slash.
#include <algorithm>
#include <cstdlib>

#include "node/cli/chat/chat.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

constexpr Duration kRecallAgain = 1s;  // After an answer that may be another one soon,
constexpr int kRecallTries = 20;       // so often.

constexpr const char* kHelp =
    "/to ADDRESS          talk to @somebody or #a-group; a bare line goes there\n"
    "/history [COUNT]     older messages of this conversation\n"
    "/recall [N]          take back your last message here, or the N-th last, everywhere\n"
    "/groups              the groups you are in\n"
    "/who [#GROUP]        who is in the group\n"
    "/create #GROUP       make a group\n"
    "/add @USER [#GROUP]  add somebody to it\n"
    "/quit                leave; //text sends a line that begins with a slash";

}  // namespace

void Chat::command(const std::string& line) {
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

void Chat::talk_to(const std::string& address) {
  if (const auto kind = check_address(address); !kind) return trouble(kind.error());
  to_ = address;
  note("talking to " + printable(to_, false));
  prompt();
}

void Chat::history(std::uint32_t count) {
  if (to_.empty()) return misused("of whom? /to ADDRESS first");
  session_->client().history(to_, oldest_[to_], count, answer<protocol::HistoryPage>(
                             [this, to = to_](Result<protocol::HistoryPage> page) {
    if (!page) return trouble(page.error(), "no history: " + page.error().text);
    if (page->entries.empty() && page->lost.empty()) return note("nothing older here");
    note(page->more ? "earlier (more with /history):" : "from the beginning:");
    show(*page);
    std::string& oldest = oldest_[to];
    if (!page->lost.empty()) oldest = page->lost.back().id;
    if (!page->entries.empty() && (oldest.empty() || page->entries.back().id < oldest)) {
      oldest = page->entries.back().id;
    }
  }));
}

void Chat::show(const protocol::HistoryPage& page) {
  auto lost = page.lost.rbegin();
  for (auto it = page.entries.rbegin(); it != page.entries.rend(); ++it) {
    for (; lost != page.lost.rend() && lost->id < it->id; ++lost) show(*lost);
    show(*it);
  }
  for (; lost != page.lost.rend(); ++lost) show(*lost);
}

void Chat::recall(std::size_t back) {
  if (to_.empty()) return misused("of whom? /to ADDRESS first");
  auto& ours = ours_[to_];
  if (back == 0 || back > ours.size()) {
    return misused(ours.empty() ? "there is nothing to take back: you have sent nothing here since you came"
                                : "there are " + std::to_string(ours.size()) +
                                      " messages to take back, that you have sent here since you came");
  }
  const Own own = ours[ours.size() - back];
  if (!recalling_.insert({to_, own.seq}).second) return note("that is being taken back");
  ++asked_;
  ask_recall(to_, own, kRecallTries);
}

// Asked again it is the same recall.
void Chat::ask_recall(const std::string& to, const Own& own, int tries) {
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

void Chat::groups() {
  session_->client().groups(answer<std::vector<std::string>>([this](auto groups) {
    if (!groups) return trouble(groups.error());
    std::string line = groups->empty() ? "you are in no group; /create #NAME makes one" : "groups:";
    for (const auto& group : *groups) line += " " + printable(group, false);
    note(line);
  }));
}

void Chat::who(const std::string& group) {
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

void Chat::add(const std::string& rest) {
  const std::size_t space = rest.find(' ');
  const std::string user = rest.substr(0, space);
  const std::string group = space == std::string::npos ? to_ : rest.substr(space + 1);
  session_->client().add_member(group, user, 0, answer<Done>([this, user, group](Status status) {
    if (!status) return trouble(status.error());
    note(user + " is now in " + group);
  }));
}

}  // namespace starling::node::cli
