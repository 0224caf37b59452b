#include "tests/sim/people/social.h"

#include <algorithm>

namespace starling::sim {

using node::Client;
using node::protocol::EntryMessage;
using node::protocol::HistoryPage;

namespace {

constexpr std::uint64_t kSalt = 0x73'6F'63'69'61'6C;
constexpr Duration kTickMin = 100ms;
constexpr Duration kTickMax = 900ms;
constexpr Duration kAnswerLimit = 8s;   // The client says so itself after 5 s, unless it is closed before.
constexpr Duration kSocialAskAgain = 1s;
constexpr Duration kLateLimit = 20s;    // What has no answer cannot happen any more: gateway, coordinator, a pause.
constexpr double kByWhoIsOut = 0.15;    // Of the sends to a group.
constexpr std::size_t kPasswordTries = 6;
constexpr std::size_t kPagesMax = 200;  // Of one walk.

}  // namespace

Social::Social(World& world, SimCluster& cluster, Workload& workload, SocialOptions options)
    : world_(world), cluster_(cluster), workload_(workload), options_(options), random_(world.seed() ^ kSalt) {}

void Social::start() {
  for (const auto& user : workload_.users()) accounts_[user].passwords = {"secret of " + user};
  if (!options_.any()) return;
  running_ = true;
  tick();
}

// Goes on to the end: whoever is shut out would stay so.
void Social::tick() {
  const auto span = static_cast<std::uint64_t>((kTickMax - kTickMin).count()) + 1;
  world_.after(kTickMin + Duration(static_cast<Duration::rep>(random_.below(span))), [this, alive = alive_] {
    if (!*alive) return;
    let_in();
    if (running_) act();
    tick();
  });
}

void Social::act() {
  const double dice = random_.unit();
  if (dice < 0.45) {
    if (options_.rosters) write();
  } else if (dice < 0.75) {
    if (!options_.rosters) return;
    if (groups_.size() < options_.groups) return found();
    change_roster();
  } else if (dice < 0.95) {
    if (!options_.pages) return;
    auto page = std::make_shared<Page>();
    page->device = random_.below(workload_.size());
    const auto addresses = workload_.addresses();
    page->with = addresses[random_.below(addresses.size())];
    page->done = [this](const Page& walked) { judge(walked); };
    const std::string& user = workload_.device(page->device).identity().user;
    if (page->with != user) read_back(page, 3 + static_cast<std::uint32_t>(random_.below(40)));
  } else if (options_.passwords) {
    change_password();
  }
}

void Social::let_in() {
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    SimDevice& device = workload_.device(i);
    if (!device.shut_out()) continue;
    Account& account = accounts_[device.identity().user];
    device.close();
    device.set_password(account.passwords[account.next++ % account.passwords.size()]);
    device.start(random_.below(cluster_.size()));
  }
}

bool Social::settled() const {
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    if (workload_.device(i).shut_out()) return false;
  }
  return wishes_ == 0;
}

std::vector<std::size_t> Social::devices_of(const std::string& user) const {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < workload_.size(); ++i) {
    if (workload_.device(i).identity().user == user) out.push_back(i);
  }
  return out;
}

SimDevice* Social::ready_device(const std::string& user) {
  std::vector<SimDevice*> ready;
  for (const auto i : devices_of(user)) {
    if (workload_.device(i).ready()) ready.push_back(&workload_.device(i));
  }
  return ready.empty() ? nullptr : ready[random_.below(ready.size())];
}

void Social::wrong(int invariant, const std::string& text, const std::string& needle) {
  world_.note("social", text);
  violations_.push_back({invariant, text, needle.empty() ? text : needle});
}

// Groups.

void Social::write() {
  const auto& rosters = workload_.history().rosters();
  if (groups_.empty()) return;
  auto at = groups_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(random_.below(groups_.size())));
  const auto& [name, group] = *at;
  if (!group.founded) return;
  const auto members = rosters.members(name);
  std::vector<std::string> from;
  const bool by_who_is_out = random_.unit() < kByWhoIsOut;
  for (const auto& user : rosters.ever(name)) {
    if (members.contains(user) != by_who_is_out) from.push_back(user);
  }
  if (from.empty()) return;
  SimDevice* device = ready_device(from[random_.below(from.size())]);
  if (device == nullptr) return;
  ++done_["group send"];
  Bytes body = workload_.body(*device, random_.below(200));
  device->send(name, std::move(body), workload_.how());
}

void Social::found() {
  auto founding = std::make_shared<Wish>();
  founding->group = "#r" + std::to_string(groups_.size());
  founding->by = founding->user = any_user();
  founding->role = 2;
  founding->founding = true;
  groups_[founding->group].owner = founding->by;
  wish(founding);
}

// The owner stays; others are added, removed, raised to moderators, or leave.
void Social::change_roster() {
  auto at = groups_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(random_.below(groups_.size())));
  const auto& [name, group] = *at;
  auto next = std::make_shared<Wish>();
  next->group = name;
  next->user = any_user();
  next->by = group.owner;
  if (!group.founded || next->user == group.owner) return;
  const auto members = workload_.history().rosters().members(name);
  const double dice = random_.unit();
  next->role = dice < 0.2 ? 1 : 0;
  next->removal = members.contains(next->user) && dice >= 0.2;
  if (next->removal && dice < 0.5) next->by = next->user;
  wish(next);
}

void Social::change_password() {
  auto next = std::make_shared<Wish>();
  next->by = next->user = any_user();
  Account& account = accounts_[next->user];
  next->password = "secret " + std::to_string(account.changes + 1) + " of " + next->user;
  if (blocked_.contains(key(*next)) && blocked_[key(*next)] > world_.now()) return;
  ++account.changes;
  account.passwords.push_back(next->password);
  wish(next);
}

void Social::wish(const std::shared_ptr<Wish>& wish) {
  const auto blocked = blocked_.find(key(*wish));
  if (blocked != blocked_.end() && blocked->second > world_.now()) return;
  blocked_[key(*wish)] = kNever;
  ++wishes_;
  attempt(wish);
}

// Until it is acknowledged.
void Social::attempt(const std::shared_ptr<Wish>& wish) {
  const auto again = [this, wish, alive = alive_] {
    if (*alive) attempt(wish);
  };
  SimDevice* device = ready_device(wish->by);
  if (device == nullptr) {
    world_.after(kSocialAskAgain, again);
    return;
  }
  const auto change = wish->group.empty() ? 0 : workload_.history().rosters().ask(wish->group, wish->user, wish->removal,
                                                                                 wish->role, world_.now());
  world_.note("social", wish->by + " asks for " + (wish->group.empty() ? "a password" : wish->group) +
                            (wish->removal ? " without " : " with ") + wish->user + " role " +
                            std::to_string(wish->role));
  auto open = std::make_shared<bool>(true);
  const auto once = [this, wish, change, open, alive = alive_](const Result<Done>& answer) {
    if (!*alive || !std::exchange(*open, false)) return;
    if (answer && !wish->group.empty()) workload_.history().rosters().done(change, world_.now());
    answered(wish, answer);
  };
  world_.after(kAnswerLimit, [once] { once(Error{Errc::kTimeout, "no answer"}); });
  ask(wish, *device, once);
}

void Social::ask(const std::shared_ptr<Wish>& wish, SimDevice& device, std::function<void(Result<Done>)> done) {
  device.call([&](Client& client) {
    if (wish->founding) return client.create_group(wish->group, std::move(done));
    if (wish->removal) return client.remove_member(wish->group, wish->user, std::move(done));
    if (!wish->group.empty()) return client.add_member(wish->group, wish->user, wish->role, std::move(done));
    const Account& account = accounts_[wish->user];
    const auto& old = account.passwords[random_.below(account.passwords.size())];
    client.change_password(old, wish->password, std::move(done));
  });
}

void Social::answered(const std::shared_ptr<Wish>& wish, const Result<Done>& answer) {
  world_.note("social", (wish->group.empty() ? "password" : wish->group) + " of " + wish->user + ": " +
                            (answer ? "done" : answer.error().text));
  // Founded by an earlier try of a device that was started anew since.
  if (answer || (wish->founding && answer.code() == Errc::kExists && wish->unsure > 0)) {
    if (!answer) {
      const auto change = workload_.history().rosters().ask(wish->group, wish->user, false, wish->role, world_.now());
      workload_.history().rosters().done(change, world_.now());
    }
    return granted(wish);
  }
  // Who is out cannot leave again; whether that was acknowledged, the owner finds out.
  if (wish->removal && answer.code() == Errc::kDenied) wish->by = groups_[wish->group].owner;
  ++wish->unsure;
  // A session may be ended by the new password before it has its answer, and in two sites mostly is.
  if (wish->group.empty() && wish->unsure >= kPasswordTries) return given_up(wish);
  world_.after(kSocialAskAgain, [this, wish, alive = alive_] {
    if (*alive) attempt(wish);
  });
}

void Social::granted(const std::shared_ptr<Wish>& wish) {
  --wishes_;
  ++done_[wish->group.empty() ? "password" : wish->founding ? "group founded" : wish->removal ? "member removed"
                                                                                              : "member added"];
  blocked_[key(*wish)] = world_.now() + (wish->unsure > 0 ? kLateLimit : Duration(0));
  if (wish->founding) groups_[wish->group].founded = true;
  if (!wish->group.empty()) return;
  Account& account = accounts_[wish->user];
  for (auto& password : account.passwords) {
    if (password != wish->password) account.former.insert(std::move(password));
  }
  account.passwords = {wish->password};
}

// It is one of several now, whichever.
void Social::given_up(const std::shared_ptr<Wish>& wish) {
  --wishes_;
  ++done_["password in doubt"];
  blocked_[key(*wish)] = world_.now() + kLateLimit;
}

// Reading back.

void Social::read_back(const std::shared_ptr<Page>& page, std::uint32_t limit) {
  SimDevice& device = workload_.device(page->device);
  if (!device.ready()) return page->done(*page);
  device.call([&](Client& client) {
    client.history(page->with, page->before, limit,
                   [this, page, limit, alive = alive_](Result<HistoryPage> answer) {
      if (!*alive) return;
      ++done_["page"];
      page->whole = answer && !answer->more;
      if (answer) {
        for (auto& entry : answer->entries) page->entries.push_back(std::move(entry));
      }
      const bool ends = !answer || page->whole || answer->entries.empty() || page->entries.size() > kPagesMax * limit;
      if (!ends) page->before = page->entries.back().id;
      world_.after(Duration(0), [this, page, limit, ends, alive] {
        if (!*alive) return;
        if (ends) return page->done(*page);
        read_back(page, limit);
      });
    });
  });
}

// What holds at any time: the log of that conversation, from the newest to the oldest, as it was sent.
void Social::judge(const Page& page) {
  const History& history = workload_.history();
  const SimDevice& device = workload_.device(page.device);
  const std::string where = history.text(page.device) + " reads back " + page.with + ": ";
  const EntryMessage* before = nullptr;
  for (const auto& entry : page.entries) {
    const auto hash = body_hash(entry.body.data);
    const SendRecord* send = history.send_of(hash);
    if (before != nullptr && before->id <= entry.id) {
      wrong(4, where + before->id + " stands before " + entry.id, hash_text(hash));
    }
    before = &entry;
    if (send == nullptr || entry.content == 0) {
      wrong(7, where + "body " + hash_text(hash) + " was never sent", hash_text(hash));
      continue;
    }
    const std::string& from = history.devices()[send->device].user;
    const bool between = entry.to.starts_with('#') ? entry.to == page.with
                                                   : (from == page.with && entry.to == device.identity().user) ||
                                                         (from == device.identity().user && entry.to == page.with);
    const bool same = entry.from == from && entry.to == send->to && entry.seq == send->number;
    if (!between || !same) wrong(7, where + "altered or misplaced: " + history.text(*send), hash_text(hash));
  }
}

}  // namespace starling::sim
