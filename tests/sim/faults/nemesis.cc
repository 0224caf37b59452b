#include "tests/sim/faults/nemesis.h"

#include <nlohmann/json.hpp>

namespace starling::sim {

namespace {
constexpr Duration kLookForReturn = 500ms;
constexpr int kReturnTurns = 20;  // Of looking: several rounds of repair with each peer.
}  // namespace

void Nemesis::start() {
  running_ = true;
  if (options_.rot) {
    hook_before_ = tap_.on_answer;
    tap_.on_answer = [this](const TapMessage& m, const Result<Bytes>& answer) {
      if (hide(m) == Fate::kDamage) return Fate::kDamage;
      return hook_before_ ? hook_before_(m, answer) : Fate::kPass;
    };
    plan_loss();
  }
  next();
}

Nemesis::~Nemesis() {
  *alive_ = false;
  if (options_.rot) tap_.on_answer = hook_before_;
}

void Nemesis::stop() {
  running_ = false;
  if (loss_ == Loss::kHidden) wait_for_return();
  if (options_.decay) (void)cluster_.undecay(decaying_);
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    cluster_.disk(i).on_commit(nullptr);
    jump_back(i);
  }
}

Duration Nemesis::draw(Duration low, Duration high) {
  const auto span = static_cast<std::uint64_t>((high - low).count()) + 1;
  return low + Duration(static_cast<Duration::rep>(random_.below(span)));
}

void Nemesis::later(Duration delay, std::function<void()> fn) {
  world_.after(delay, [this, fn = std::move(fn), alive = alive_] {
    if (*alive && running_) fn();
  });
}

void Nemesis::next() {
  later(draw(options_.gap_min, options_.gap_max), [this] {
    strike();
    next();
  });
}

std::vector<Nemesis::Fault> Nemesis::choices() const {
  std::vector<Fault> out;
  if (options_.crashes) out.insert(out.end(), 2, Fault::kCrash);
  if (options_.partitions) out.push_back(Fault::kPartition);
  if (options_.pauses) out.push_back(Fault::kPause);
  if (options_.slow_disks) out.push_back(Fault::kSlowDisk);
  if (options_.clocks) out.push_back(Fault::kClock);
  if (options_.rot) out.insert(out.end(), 2, Fault::kRot);
  if (options_.more) {
    out.insert(out.end(),
               {Fault::kHang, Fault::kDrift, Fault::kBreak, Fault::kLag, Fault::kBridge});
  }
  if (options_.hard) {
    out.insert(out.end(), {Fault::kPair, Fault::kBlackout, Fault::kFull, Fault::kFailedSync,
                           Fault::kHalves, Fault::kPort, Fault::kJump});
  }
  if (options_.decay) out.insert(out.end(), 4, Fault::kDecay);
  if (options_.sites) out.insert(out.end(), {Fault::kSite, Fault::kSite});
  return out;
}

void Nemesis::strike() {
  const auto from = choices();
  if (from.empty()) return;
  const std::size_t i = random_.below(cluster_.size());
  const Duration length = draw(options_.length_min, options_.length_max);
  strike(from[random_.below(from.size())], i, length);
}

void Nemesis::strike(Fault fault, std::size_t i, Duration length) {
  const std::string& ip = cluster_.ip(i);
  switch (fault) {
    case Fault::kCrash: return crash(i, length);
    case Fault::kPartition: return partition(i, length);
    case Fault::kPause:
      ++done_["pause"];
      cluster_.pause(i);
      return later(length, [this, i] { cluster_.resume(i); });
    case Fault::kSlowDisk:
      ++done_["slow disk"];
      cluster_.disk(i).set_speed(20ms, 200ms);
      return later(length, [this, i] {
        cluster_.disk(i).set_speed(DiskOptions{}.sync_min, DiskOptions{}.sync_max);
      });
    case Fault::kClock: {
      ++done_["clock step"];
      const auto by = static_cast<std::int64_t>(random_.below(4001)) - 2000;
      return cluster_.clock_step(i, std::chrono::milliseconds(by));
    }
    case Fault::kSite:
      ++done_["site cut off"];
      cluster_.cut_zone(cluster_.zone(i));
      return later(length, [this] { cluster_.heal(); });
    case Fault::kRot: return rot(length);
    case Fault::kDecay: return decay(length);
    case Fault::kHang:
      ++done_["hung disk"];
      world_.note("nemesis", "disk of " + ip + " hangs");
      cluster_.disk(i).hold(true);
      return later(length, [this, i] { cluster_.disk(i).hold(false); });
    case Fault::kDrift:
      ++done_["clock drift"];
      cluster_.clock_drift(i, static_cast<double>(random_.below(40'001)) - 20'000);
      return later(length, [this, i] { cluster_.clock_drift(i, 0); });
    case Fault::kBreak: return break_links(i, length);
    case Fault::kLag:
      ++done_["lag"];
      world_.note("nemesis", "lag at " + ip);
      cluster_.network().set_extra_latency(ip, draw(20ms, 400ms));
      return later(length, [this, i] {
        cluster_.network().set_extra_latency(cluster_.ip(i), Duration(0));
      });
    case Fault::kBridge:  // Two nodes do not see each other; the others see both.
      ++done_["bridge"];
      cluster_.partition({{i}, {other_than(i)}});
      return later(length, [this] { cluster_.heal(); });
    case Fault::kPair:
      ++done_["two crashes at once"];
      return lose_power({i, other_than(i)});
    case Fault::kBlackout: {
      ++done_["blackout"];
      std::vector<std::size_t> all;
      for (std::size_t n = 0; n < cluster_.size(); ++n) all.push_back(n);
      return lose_power(all);
    }
    case Fault::kFull:
      ++done_["full disk"];
      world_.note("nemesis", "disk of " + ip + " is full");
      cluster_.disk(i).set_free_bytes(0);
      return later(length, [this, i] {
        cluster_.disk(i).set_free_bytes(DiskOptions{}.free_bytes);
      });
    case Fault::kFailedSync:
      ++done_["failed sync"];
      world_.note("nemesis", "the next sync of " + ip + " fails");
      return cluster_.disk(i).fail_next_sync();
    case Fault::kHalves: return halves(length);
    case Fault::kPort: {  // Data dies and gossip lives, or the other way round.
      const bool data = random_.below(2) == 0;
      ++done_[data ? "only gossip" : "no gossip"];
      const auto kind = data ? SimNetwork::Kind::kStreams : SimNetwork::Kind::kDatagrams;
      world_.note("nemesis", std::string(data ? "streams" : "datagrams") + " of " + ip + " die");
      cluster_.network().silence(ip, kind, true);
      return later(length, [this, i, kind] {
        cluster_.network().silence(cluster_.ip(i), kind, false);
      });
    }
    case Fault::kJump: {
      ++done_["clock jump"];
      constexpr std::uint64_t kHourMs = 3'600'000;
      const auto by = static_cast<std::int64_t>(random_.below(2 * kHourMs + 1)) -
                      static_cast<std::int64_t>(kHourMs);
      jumps_[i] += by;
      cluster_.clock_step(i, std::chrono::milliseconds(by));
      return later(length, [this, i] { jump_back(i); });
    }
  }
}

std::size_t Nemesis::other_than(std::size_t i) {
  return (i + 1 + random_.below(cluster_.size() - 1)) % cluster_.size();
}

void Nemesis::jump_back(std::size_t i) {
  const auto by = std::exchange(jumps_[i], 0);
  if (by != 0) cluster_.clock_step(i, std::chrono::milliseconds(-by));
}

// One link, again and again.
void Nemesis::break_links(std::size_t i, Duration length) {
  ++done_["broken links"];
  const std::size_t other = other_than(i);
  world_.note("nemesis", "links of " + cluster_.ip(i) + " and " + cluster_.ip(other) + " break");
  for (Duration at{}; at < length; at += draw(5ms, 2s)) {
    later(at, [this, i, other] {
      cluster_.network().reset_streams(cluster_.ip(i), cluster_.ip(other));
    });
  }
}

void Nemesis::crash(std::size_t i, Duration length) {
  std::size_t down = 0;
  for (std::size_t n = 0; n < cluster_.size(); ++n) down += !cluster_.up(n) && !cluster_.retired(n);
  if (!cluster_.up(i) || down > (options_.both ? 1u : 0u)) return;
  const Crash kind = random_.below(2) == 0 ? Crash::kProcess : Crash::kPower;
  ++done_[kind == Crash::kPower ? "power loss" : "kill"];
  // At once, or between the sync of a commit and everything that follows from it.
  if (random_.below(2) == 0) {
    cluster_.crash(i, kind);
  } else {
    cluster_.disk(i).on_commit([this, i, kind](std::uint64_t) {
      cluster_.disk(i).on_commit(nullptr);
      cluster_.crash(i, kind);
    });
  }
  later(length, [this, i] { restart(i); });
}

// Always on one node: a change of which every copy rots is lost.
void Nemesis::rot(Duration length) {
  if (!cluster_.up(0)) return;
  ++done_["flipped bit"];
  cluster_.crash(0, Crash::kPower);
  if (const auto flipped = cluster_.rot(0, random_); !flipped) {
    world_.note("nemesis", "nothing rots: " + flipped.error().text);
  }
  later(length, [this] { restart(0); });
}

// One node in a run, so that of what was acknowledged a sound copy is left.
void Nemesis::decay(Duration length) {
  if (!cluster_.up(decaying_)) return;
  cluster_.crash(decaying_, Crash::kPower);
  if (random_.below(3) == 0) {
    if (cluster_.rot(decaying_, random_)) ++done_["flipped bit"];
  } else if (const auto what = cluster_.decay(decaying_, random_)) {
    ++done_[*what];
  }
  later(length, [this] { restart(decaying_); });
}

// A change that only the first node cannot read is written off there, as if all copies were unreadable; then the
// others can be read again. Meanwhile nobody reads there: a device that passes the number finds it in the history only.
Fate Nemesis::hide(const TapMessage& m) const {
  if (loss_ == Loss::kNone) return Fate::kPass;
  switch (m.method) {
    case overlay::Method::kRead:
    case overlay::Method::kFollow:
    case overlay::Method::kHistory:
    case overlay::Method::kHeads: return m.to == 0 ? Fate::kDamage : Fate::kPass;
    case overlay::Method::kFetch: {
      if (m.to == 0) return Fate::kDamage;
      const auto fetch = unpack<node::FetchRequest>(m.body);
      // Who mends names the end of the run; who catches up does not.
      const bool mends = m.from == 0 && fetch && fetch->to != 0;
      return mends && loss_ == Loss::kHidden ? Fate::kDamage : Fate::kPass;
    }
    default: return Fate::kPass;
  }
}

void Nemesis::plan_loss() {
  const auto rest = Duration(static_cast<Duration::rep>(lost_random_.below(8'000'000'000)));
  later(2s + rest, [this] { begin_loss(); });
}

void Nemesis::begin_loss() {
  if (!cluster_.up(0)) return plan_loss();
  cluster_.crash(0, Crash::kPower);
  if (!cluster_.rot(0, lost_random_)) world_.note("nemesis", "nothing to lose");
  loss_ = Loss::kHidden;
  written_off_ = false;
  later(500ms, [this] { restart(0); });
  later(3s, [this] { give_up(12); });
}

// Until something is lost: all members have to be there for it.
void Nemesis::give_up(int tries) {
  if (loss_ != Loss::kHidden) return;
  if (written_off_ || tries == 0) return wait_for_return();
  if (cluster_.up(0)) {
    cluster_.ask(0, "repair", {{"start", true}, {"give_up", true}}, [this, alive = alive_](const Result<Json>& answer) {
      if (*alive && answer && answer->at("lost") > 0) written_off_ = true;
    });
  }
  later(500ms, [this, tries] { give_up(tries - 1); });
}

// Also when the faults have ended. What has not come back by then, while all serve, only the first node had.
void Nemesis::wait_for_return() {
  if (!running_ && loss_ == Loss::kComesBack && cluster_.all_serving() && ++served_turns_ == kReturnTurns) {
    world_.note("nemesis", "what is missing at the first node was nowhere else");
    loss_ = Loss::kNone;
    return;
  }
  if (loss_ == Loss::kHidden && written_off_) {
    ++done_["written off"];
    world_.note("nemesis", "what was written off can be read again");
  }
  loss_ = Loss::kComesBack;
  if (cluster_.up(0)) {
    cluster_.ask(0, "repair", Json::object(), [this, alive = alive_](const Result<Json>& answer) {
      if (!*alive || loss_ != Loss::kComesBack || !answer) return;
      if (answer->at("lost") > 0 || answer->at("damaged") > 0) return;
      loss_ = Loss::kNone;
      if (running_) plan_loss();
    });
  }
  world_.after(kLookForReturn, [this, alive = alive_] {
    if (*alive && loss_ == Loss::kComesBack) wait_for_return();
  });
}

// In the same moment; each comes back in its own time.
void Nemesis::lose_power(const std::vector<std::size_t>& nodes) {
  for (const auto i : nodes) {
    cluster_.crash(i, Crash::kPower);
    later(draw(options_.length_min, options_.length_max), [this, i] { restart(i); });
  }
}

void Nemesis::restart(std::size_t i) {
  cluster_.disk(i).on_commit(nullptr);
  const auto started = cluster_.restart(i);
  if (started) {
    // Now and then the power goes again while it starts.
    if (!options_.hard || random_.below(4) != 0) return;
    return later(draw(Duration(0), 300ms), [this, i] { lose_power({i}); });
  }
  world_.note("nemesis", started.error().text);  // Its disk is full, perhaps.
  // Or it refuses what it finds: that is as good as mending it.
  if (started.code() == Errc::kCorrupt && cluster_.undecay(i)) ++done_["refused to start"];
  later(1s, [this, i] { restart(i); });
}

void Nemesis::partition(std::size_t i, Duration length) {
  std::vector<std::size_t> others;
  for (std::size_t n = 0; n < cluster_.size(); ++n) {
    if (n != i) others.push_back(n);
  }
  if (random_.below(3) == 0 && !others.empty()) {
    ++done_["one-way cut"];
    const auto& to = cluster_.ip(others[random_.below(others.size())]);
    world_.note("network", "one-way cut from " + cluster_.ip(i) + " to " + to);
    cluster_.network().cut(cluster_.ip(i), to);
  } else {
    ++done_["partition"];
    cluster_.partition({{i}, others});
  }
  later(length, [this] { cluster_.heal(); });
}

// Any two sides.
void Nemesis::halves(Duration length) {
  ++done_["halves"];
  std::vector<std::vector<std::size_t>> sides(2);
  for (std::size_t n = 0; n < cluster_.size(); ++n) sides[random_.below(2)].push_back(n);
  cluster_.partition(sides);
  later(length, [this] { cluster_.heal(); });
}

}  // namespace starling::sim
