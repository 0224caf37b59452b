// What a Social asks the quiet cluster in the end.
#include <algorithm>
#include <sstream>

#include "tests/sim/people/social.h"

namespace starling::sim {

using node::Client;
using node::protocol::Members;

namespace {

constexpr Duration kBurnLimit = 120s;   // Expiry moves every 10 s, by the lowest clock.
constexpr Duration kAnswersWithin = 30s;
constexpr Duration kShownWithin = 30s;
constexpr std::size_t kPasswordsTried = 2;  // Users of a run.

std::string first_difference(const std::string& one, const std::string& other) {
  std::istringstream ones(one), others(other);
  std::string a, b;
  for (bool more = true; more && a == b;) {
    a.clear();
    b.clear();
    more = static_cast<bool>(std::getline(ones, a));
    more |= static_cast<bool>(std::getline(others, b));
  }
  return "\"" + b + "\" instead of \"" + a + "\"";
}

// One request of a device, run to its answer; again while that is "not now".
template <class T>
Result<T> answer_of(World& world, SimDevice& device,
                    const std::function<void(Client&, std::function<void(Result<T>)>)>& request) {
  Result<T> last = Error{Errc::kTimeout, "no answer"};
  for (const Instant end = world.now() + kAnswersWithin; world.now() < end; world.run_for(500ms)) {
    if (!device.ready()) continue;
    auto answer = std::make_shared<std::optional<Result<T>>>();
    device.call([&](Client& client) {
      request(client, [answer](Result<T> result) { answer->emplace(std::move(result)); });
    });
    world.run_until([&] { return answer->has_value(); }, kAnswersWithin);
    if (!answer->has_value()) continue;
    last = std::move(**answer);
    if (last || !node::is_retryable(last.code())) break;
  }
  return last;
}

std::string members_text(const std::map<std::string, std::uint8_t>& members) {
  std::string out;
  for (const auto& [user, role] : members) out += (out.empty() ? "" : " ") + user + ":" + std::to_string(role);
  return out.empty() ? "nobody" : out;
}

}  // namespace

void Social::try_all() {
  if (!wait_until_burned()) return;
  add_fresh_devices();
  if (options_.rosters) try_rosters();
  try_pages();
  if (options_.passwords) try_passwords();
}

// Of what was sent with a lifetime, nothing is left to show. What nobody answered may be stamped until now.
bool Social::wait_until_burned() {
  constexpr std::uint64_t kSecond = 1000;
  std::uint64_t last_ms = 0, now_ms = static_cast<std::uint64_t>(world_.wall_ms());
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.up(i)) now_ms = std::max(now_ms, hlc_ms(cluster_.store(i).highest_time()));
  }
  const auto burns_from = [&last_ms](std::uint64_t ms, const SendRecord& send) {
    if (send.lifetime_s == 0) return;
    last_ms = std::max(last_ms, ms + kSecond * send.lifetime_s + kSecond);  // Stamps are whole seconds.
  };
  const auto burns = [&burns_from](const std::string& id, const SendRecord& send) {
    if (const auto at = parse_entry_id(id)) burns_from(hlc_ms(at->time), send);
  };
  for (const auto& send : workload_.history().sends()) {
    burns(send.id, send);
    if (send.outcome == Outcome::kUnknown) burns_from(now_ms, send);
  }
  for (const auto& delivery : workload_.history().deliveries()) {
    if (const auto* send = workload_.history().send_of(delivery.hash)) burns(delivery.id, *send);
  }
  if (last_ms == 0) return true;
  const auto burned = [&] {
    for (std::size_t i = 0; i < cluster_.size(); ++i) {
      if (!cluster_.retired(i) && cluster_.up(i) && cluster_.store(i).expiry_time() <= last_ms) return false;
    }
    return true;
  };
  const Instant end = world_.now() + kBurnLimit;
  while (!burned() && world_.now() < end) world_.run_for(1s);
  if (!burned()) wrong(5, "messages with a lifetime do not expire", "expiry");
  return burned();
}

// Everything from the stores.
void Social::add_fresh_devices() {
  const std::size_t first = workload_.size();
  for (const auto& user : workload_.users()) {
    SimDevice& device = workload_.add_device(user, "fresh");
    device.set_password(accounts_[user].passwords.front());
    device.start(random_.below(cluster_.size()));
  }
  const auto ready = [&] {
    for (std::size_t i = first; i < workload_.size(); ++i) {
      if (!workload_.device(i).ready()) return false;
    }
    return true;
  };
  if (!world_.run_until(ready, kShownWithin)) wrong(1, "a fresh device does not come to be ready");
  for (const auto& delivery : workload_.history().deliveries()) {
    if (delivery.device < first || delivery.is_void) continue;
    const SendRecord* send = workload_.history().send_of(delivery.hash);
    if (send == nullptr || send->lifetime_s == 0) continue;
    wrong(1, "shown to a fresh device after it expired: " + workload_.history().text(*send), hash_text(send->hash));
  }
}

// Every conversation of every user, whole, from the fresh devices: nothing missing, nothing twice, everywhere the same.
void Social::try_pages() {
  std::map<std::string, std::string> logs;  // Of a conversation, as the first one read it.
  std::size_t limit = 5;
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    const SimDevice& device = workload_.device(i);
    if (device.identity().name != "fresh") continue;
    const std::string& user = device.identity().user;
    auto addresses = workload_.addresses();
    for (const auto& [group, state] : groups_) addresses.push_back(group);
    for (const auto& with : addresses) {
      const auto& groups = workload_.history().groups();
      const bool reads = with.starts_with('@')    ? with != user
                         : groups.contains(with) ? groups.at(with).contains(user)
                                                 : workload_.history().rosters().members(with).contains(user);
      if (!reads) continue;
      auto page = std::make_shared<Page>();
      page->device = i;
      page->with = with;
      bool ended = false;
      page->done = [this, &ended](const Page& walked) {
        ended = true;
        judge(walked);
        judge_end(walked);
      };
      read_back(page, static_cast<std::uint32_t>(limit += 7) % 60 + 5);
      world_.run_until([&] { return ended; }, kAnswersWithin);
      if (!ended) {
        page->done = [](const Page&) {};
        wrong(1, workload_.history().text(i) + " does not come to the end of " + with);
      }
      std::string log;
      for (const auto& entry : page->entries) {
        // The sender keeps what the other lost with the node that acknowledged it at a weak grade.
        const SendRecord* send = workload_.history().send_of(body_hash(entry.body.data));
        if (send != nullptr && !workload_.history().lasts(*send)) continue;
        log += entry.id + " " + hash_text(body_hash(entry.body.data)) + "\n";
      }
      const std::string name = with.starts_with('#') ? with : std::min(user, with) + " " + std::max(user, with);
      if (const auto [known, first] = logs.try_emplace(name, log); !first && known->second != log) {
        wrong(5, name + " reads back otherwise for " + user + ": " + first_difference(known->second, log));
      }
    }
  }
}

void Social::judge_end(const Page& page) {
  const History& history = workload_.history();
  const std::string& user = workload_.device(page.device).identity().user;
  const std::string where = history.text(page.device) + " reads back " + page.with + ": ";
  if (!page.whole) wrong(1, where + "not to its end");
  std::map<std::uint64_t, std::size_t> read;
  for (const auto& entry : page.entries) ++read[body_hash(entry.body.data)];
  for (const auto& send : history.sends()) {
    const std::string& from = history.devices()[send.device].user;
    const bool group = page.with.starts_with('#');
    const bool here = group ? send.to == page.with
                            : (from == user && send.to == page.with) || (from == page.with && send.to == user);
    if (!here) continue;
    const auto times = read.contains(send.hash) ? read[send.hash] : 0;
    if (times == 0 && history.is_owed(send)) wrong(1, where + "without " + history.text(send), hash_text(send.hash));
    if (times > 1) wrong(2, where + "twice " + history.text(send), hash_text(send.hash));
    if (times > 0 && send.lifetime_s > 0) wrong(1, where + "expired " + history.text(send), hash_text(send.hash));
    if (times > 0 && send.outcome == Outcome::kRefused) wrong(7, where + "refused " + history.text(send), hash_text(send.hash));
  }
}

// What was acknowledged last stands, for all who may ask; who is out is told nothing, and writes nothing.
void Social::try_rosters() {
  const auto& rosters = workload_.history().rosters();
  for (const auto& [name, group] : groups_) {
    const std::string group_name = name;
    const auto expected = rosters.members(name);
    for (std::size_t i = 0; i < workload_.size(); ++i) {
      SimDevice& device = workload_.device(i);
      const std::string where = workload_.history().text(i) + " asks who is in " + name + ": ";
      const auto answer = answer_of<Members>(world_, device, [&](Client& client, auto done) {
        client.members(group_name, "", std::move(done));
      });
      if (!expected.contains(device.identity().user)) {
        if (answer || answer.code() != Errc::kDenied) {
          wrong(1, where + "out of it, and told " + (answer ? "all" : answer.error().text), name);
        }
        continue;
      }
      std::map<std::string, std::uint8_t> told;
      if (answer) {
        for (const auto& member : answer->members) told[member.user] = member.role;
      }
      if (told != expected) {
        wrong(1, where + (answer ? members_text(told) : answer.error().text) + ", and acknowledged are " + members_text(expected), name);
      }
    }
    try_sends(name, expected);
  }
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    SimDevice& device = workload_.device(i);
    const auto answer = answer_of<std::vector<std::string>>(
        world_, device, [](Client& client, auto done) { client.groups(std::move(done)); });
    for (const auto& [name, group] : groups_) {
      const bool in = rosters.members(name).contains(device.identity().user);
      const bool told = answer && std::find(answer->begin(), answer->end(), name) != answer->end();
      if (answer && told == in) continue;
      wrong(1, workload_.history().text(i) + " is told that it is " + (told ? "" : "not ") + "in " + name +
                   (answer ? "" : ": " + answer.error().text), name);
    }
  }
}

void Social::try_sends(const std::string& group, const std::map<std::string, std::uint8_t>& members) {
  History& history = workload_.history();
  std::vector<SendIndex> sent;
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    SimDevice& device = workload_.device(i);
    if (device.identity().name != "fresh") continue;
    sent.push_back(device.send(group, workload_.body(device, 0)));
  }
  const auto answered = [&] {
    return std::none_of(sent.begin(), sent.end(),
                        [&](SendIndex i) { return history.sends()[i].outcome == Outcome::kPending; });
  };
  if (!world_.run_until(answered, kAnswersWithin)) wrong(1, "no answer to sends to " + group, group);
  for (const auto i : sent) {
    const SendRecord& send = history.sends()[i];
    const bool in = members.contains(history.devices()[send.device].user);
    const bool taken = send.outcome == Outcome::kAcked;
    if (taken != in) wrong(1, (taken ? "taken: " : "refused: ") + history.text(send), hash_text(send.hash));
  }
  // Nobody who is out is shown it; who is in is judged by the checkers.
  for (const Instant end = world_.now() + kShownWithin; !check_delivered(history).empty() && world_.now() < end;) {
    world_.run_for(200ms);
  }
  world_.run_for(1s);
  for (const auto& delivery : history.deliveries()) {
    const auto* send = history.send_of(delivery.hash);
    const auto index = send == nullptr ? history.sends().size() : static_cast<SendIndex>(send - history.sends().data());
    if (std::find(sent.begin(), sent.end(), index) == sent.end()) continue;
    if (members.contains(history.devices()[delivery.device].user)) continue;
    wrong(1, history.text(delivery.device) + " is out of it, and shown " + history.text(*send), hash_text(send->hash));
  }
}

void Social::try_passwords() {
  std::size_t tried = 0;
  for (const auto& [user, account] : accounts_) {
    if (account.changes == 0 || account.passwords.size() > 1 || tried == kPasswordsTried) continue;
    ++tried;
    const std::size_t node = random_.below(cluster_.size());
    if (!logs_in(user, account.passwords.front(), node)) wrong(1, user + " cannot log in with the password that was acknowledged", user);
    if (!account.former.empty() && logs_in(user, *account.former.rbegin(), node)) {
      wrong(12, user + " is let in with a password of before", user);
    }
  }
}

bool Social::logs_in(const std::string& user, const std::string& password, std::size_t node) {
  History history;
  std::vector<overlay::Endpoint> doors;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.retired(i)) doors.push_back(cluster_.client_address(i));
  }
  SimDevice device(world_, cluster_.network(), history, SimDevice::Identity{user, "probe", password, "10.4.0.1"},
                   [doors] { return doors; });
  device.start(node);
  world_.run_until([&] { return device.ready() || device.shut_out(); }, kAnswersWithin);
  return device.ready();
}

}  // namespace starling::sim
