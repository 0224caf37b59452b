// Social: what people do beside writing, while things break: they found groups, add, remove and leave, and write there;
// read back page by page; change their passwords.
//
// It draws from a generator of its own and acts on a Workload's devices, so a run without it stays the same run. Who is
// in the groups of the Workload does not change; those of the Social are its own. What is asked for without an answer is
// asked again until it is acknowledged, so that in the end it is known what must stand.
// try_all() asks the quiet cluster, at every node and on every device, what the run asks for in the end.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/judge/checkers.h"
#include "tests/sim/people/workload.h"

namespace starling::sim {

struct SocialOptions {
  bool rosters = false;    // Groups whose members change.
  bool pages = false;      // Reading back.
  bool passwords = false;  // That change.
  std::size_t groups = 3;
  [[nodiscard]] bool any() const { return rosters || pages || passwords; }
};

class Social {
 public:
  Social(World& world, SimCluster& cluster, Workload& workload, SocialOptions options);
  ~Social() { *alive_ = false; }
  Social(const Social&) = delete;
  Social& operator=(const Social&) = delete;

  void start();
  void stop() { running_ = false; }
  // All that was asked for is acknowledged, and nobody is shut out.
  [[nodiscard]] bool settled() const;
  // Of the quiet cluster, which it asks and writes to: it is quiet no more. Every user gets a fresh device.
  void try_all();
  [[nodiscard]] const Violations& violations() const { return violations_; }
  // What was done, by kind.
  [[nodiscard]] const std::map<std::string, std::size_t>& done() const { return done_; }

 private:
  // Of one user in one group, or the password of one user; one at a time each.
  struct Wish {
    std::string by;         // Whose device asks.
    std::string group;      // Empty: a password.
    std::string user;
    bool founding = false;
    bool removal = false;
    std::uint8_t role = 0;
    std::string password;   // The next.
    std::size_t unsure = 0;  // Attempts without an answer.
  };
  struct Group {
    std::string owner;
    bool founded = false;
  };
  struct Account {
    std::vector<std::string> passwords;  // One of these it is.
    std::size_t next = 0;                // To be tried.
    std::size_t changes = 0;
    std::set<std::string> former;        // That can be no more.
  };
  struct Page {
    std::size_t device = 0;
    std::string with;
    std::string before;
    std::vector<node::protocol::EntryMessage> entries;
    bool whole = false;  // To the end.
    std::function<void(Page)> done;
  };

  void tick();
  void act();
  void let_in();
  void write();
  void found();
  void change_roster();
  void change_password();
  void wish(const std::shared_ptr<Wish>& wish);
  void attempt(const std::shared_ptr<Wish>& wish);
  void ask(const std::shared_ptr<Wish>& wish, SimDevice& device, std::function<void(Result<Done>)> done);
  void answered(const std::shared_ptr<Wish>& wish, const Result<Done>& answer);
  void granted(const std::shared_ptr<Wish>& wish);
  void given_up(const std::shared_ptr<Wish>& wish);
  void read_back(const std::shared_ptr<Page>& page, std::uint32_t limit);
  void judge(const Page& page);
  [[nodiscard]] std::string key(const Wish& wish) const { return wish.group + wish.user; }
  SimDevice* ready_device(const std::string& user);
  std::vector<std::size_t> devices_of(const std::string& user) const;
  const std::string& any_user() { return workload_.users()[random_.below(workload_.users().size())]; }
  void wrong(int invariant, const std::string& text, const std::string& needle = "");

  bool wait_until_burned();
  void add_fresh_devices();
  void try_pages();
  void judge_end(const Page& page);
  void try_rosters();
  void try_sends(const std::string& group, const std::map<std::string, std::uint8_t>& members);
  void try_passwords();
  bool logs_in(const std::string& user, const std::string& password, std::size_t node);

  World& world_;
  SimCluster& cluster_;
  Workload& workload_;
  const SocialOptions options_;
  SeededRandom random_;
  std::map<std::string, Group> groups_;
  std::map<std::string, Account> accounts_;
  std::map<std::string, Instant> blocked_;  // By key: wishes under way (kNever), and what waits for late attempts.
  std::map<std::string, std::size_t> done_;
  Violations violations_;
  std::size_t wishes_ = 0;                  // Under way.
  bool running_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
