// The crowd of `starling bench`: many who exist, a few who are there.
//
// A few are busy and most are not (Zipf). Each writes to a few contacts of its own; half of what one writes goes to
// somebody who is there, as in a conversation. Visits last exponentially distributed times. At the end
// all to whom something is owed come and fetch it, so nothing that was acknowledged may be missing.
#include <cmath>
#include <set>
#include <unordered_map>

#include "node/cli/load/bench.h"
#include "node/cli/load/zipf.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr double kActivityExponent = 0.9;  // Flatter than rooms (generator.cc): most people write at times.
constexpr double kContactExponent = 1.0;
constexpr std::size_t kContacts = 20;
constexpr double kPresentShare = 0.5;      // Of messages, to somebody who is there.
constexpr int kDrawsMax = 100;             // To draw somebody else than oneself.
constexpr Duration kLook = 20ms;

}  // namespace

class Crowd {
 public:
  explicit Crowd(Bench& bench)
      : bench_(bench),
        random_(bench.arguments_.number("seed")),
        size_(std::max<std::size_t>(2, bench.arguments_.number("users"))),
        online_(std::clamp<std::size_t>(bench.arguments_.number("online"), 2, size_)),
        stay_(bench.seconds("session")),
        busy_(size_, kActivityExponent),
        contact_(std::min(kContacts, size_ - 1), kContactExponent) {}

  Status run() {
    TRY(bench_.create_users(size_));
    TRY(plan());
    TRY(let_in());
    drive();
    return fetch();
  }

 private:
  using User = Bench::User;
  struct Visit {
    User* user = nullptr;
    Instant until{};
  };

  // Whoever will come needs a token, and minting one would hold up those who are there.
  Status plan() {
    const double length = bench_.seconds("warm-up") + bench_.seconds("duration");
    const auto visits = online_ + static_cast<std::size_t>(1.5 * length / stay_ * static_cast<double>(online_));
    for (std::size_t i = 0; i < visits; ++i) {
      TRY_ASSIGN(User* const user, device_of(busy_.draw(random_)));
      queue_.push_back(user);
      bench_.progress_.show(static_cast<double>(i) / static_cast<double>(visits),
                            "minting tokens: " + thousands(bench_.users_.size()), bench_.loop_.clock_now());
    }
    return ok_status();
  }

  Result<User*> device_of(std::size_t person) {
    const auto known = devices_.find(person);
    if (known != devices_.end()) return bench_.users_[known->second].get();
    devices_.emplace(person, bench_.users_.size());
    people_.push_back(person);
    TRY(bench_.add_device(bench_.user_name(person), true));
    return bench_.users_.back().get();
  }

  Instant leaves_at() {
    return bench_.loop_.clock_now() + to_duration(-std::log(1 - random_.unit()) * stay_);
  }

  // The next of the plan who is not there.
  User* next() {
    while (at_ < queue_.size()) {
      User* user = queue_[at_++];
      const auto phase = user->client->phase();
      if (phase == ClientPhase::kIdle || phase == ClientPhase::kStopped) return user;
    }
    return nullptr;
  }

  Status let_in() {
    std::vector<User*> first;
    std::unordered_map<User*, bool> there;
    while (first.size() < online_) {
      User* user = next();
      if (user == nullptr) break;
      if (there.emplace(user, true).second) first.push_back(user);
    }
    TRY(bench_.log_in(first));
    for (User* user : first) visits_.push_back({user, leaves_at()});
    return ok_status();
  }

  // Who has stayed long enough goes, once its messages are acknowledged, and another one comes.
  void turn_over() {
    const Instant now = bench_.loop_.clock_now();
    for (Visit& visit : visits_) {
      if (visit.until > now || visit.user->client->open_sends() > 0) continue;
      User* user = next();
      if (user == nullptr) break;
      visit.user->client->stop();
      visit = {user, leaves_at()};
      user->client->start();
      ++came_;
    }
    timer_ = bench_.loop_.after(kLook, [this] { turn_over(); });
  }

  void drive() {
    for (const auto& user : bench_.users_) bench_.senders_.push_back(user.get());
    bench_.by_ack_ = bench_.live_only_ = bench_.sending_ = true;
    bench_.start_ = bench_.loop_.clock_now();
    bench_.pacer_.start(bench_.rate_, [this](std::uint64_t, Instant due) { write(due); });
    turn_over();
    bench_.tick();
    bench_.loop_.run();
    bench_.sending_ = false;
    bench_.pacer_.stop();
    timer_.cancel();
    bench_.end_measuring();
    bench_.drain([this] { return bench_.tally_.acked() + bench_.tally_.refused() >= bench_.posted_; });
  }

  void write(Instant due) {
    User* from = visits_[random_.below(visits_.size())].user;
    if (from->client->phase() != ClientPhase::kReady) from = visits_[random_.below(visits_.size())].user;
    const std::size_t sender = people_[from->number];
    std::size_t to = sender;
    for (int tried = 0; to == sender && tried < kDrawsMax; ++tried) {
      const bool present = random_.unit() < kPresentShare;
      to = present ? people_[visits_[random_.below(visits_.size())].user->number] : contact_of(sender);
    }
    if (to == sender) return;
    const std::uint64_t posted = bench_.posted_;
    bench_.send_from(from->number, bench_.user_name(to), due);
    if (bench_.posted_ == posted) return;
    const auto known = devices_.find(to);
    if (known == devices_.end()) strangers_.insert(to);
    else ++bench_.users_[known->second]->owed;
  }

  // Anybody, and the same for the same person.
  std::size_t contact_of(std::size_t person) {
    SeededRandom contacts(person * kContacts + contact_.draw(random_));
    return contacts.below(size_);
  }

  Status fetch() {
    for (const std::size_t person : strangers_) {
      TRY_ASSIGN(User* const user, device_of(person));
      ++user->owed;
      bench_.progress_.show(0, "minting tokens: " + thousands(bench_.users_.size()), bench_.loop_.clock_now());
    }
    std::vector<User*> away;
    for (const auto& user : bench_.users_) {
      if (user->owed > 0 && user->client->phase() != ClientPhase::kReady) away.push_back(user.get());
    }
    bench_.extra_["population"] = size_;
    bench_.extra_["online"] = visits_.size();
    bench_.extra_["came"] = came_;
    bench_.extra_["were_away"] = away.size();
    TRY(bench_.log_in(away));
    bench_.drain([this] {
      return std::all_of(bench_.users_.begin(), bench_.users_.end(), [](const auto& user) { return user->owed <= 0; });
    });
    return ok_status();
  }

  Bench& bench_;
  SeededRandom random_;
  const std::size_t size_, online_;
  const double stay_;  // Seconds.
  const Zipf busy_, contact_;
  std::unordered_map<std::size_t, std::size_t> devices_;  // Place in users_, by person.
  std::vector<std::size_t> people_;                       // By place in users_.
  std::set<std::size_t> strangers_;                       // Written to, and not in the plan.
  std::vector<User*> queue_;
  std::size_t at_ = 0;      // Of queue_.
  std::vector<Visit> visits_;
  std::uint64_t came_ = 0;
  overlay::Timer timer_;
};

Status Bench::crowd() {
  if (rate_ <= 0 || seconds("session") <= 0) {
    return Error{Errc::kInvalid, "crowd needs a --rate and a --session above 0"};
  }
  return Crowd(*this).run();
}

}  // namespace starling::node::cli
