#include "tests/sim/faults/movements.h"

#include <algorithm>
#include <numeric>

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

constexpr Duration kMovementsEvery = 500ms;
constexpr Duration kSaidFor = 30s;
constexpr std::uint64_t kWeightLeast = 50, kWeightMost = 200;
constexpr std::uint64_t kRates[] = {256 << 10, 1 << 20, 16 << 20};
constexpr int kMovementInviteSeconds = 86'400;   // Longer than any clock jumps.
constexpr int kRetireSeconds = 86'400;   // So is who was away, or hands home, not shut out by a rotation.
constexpr int kAsksPerAgreed = 2;        // So often as needed: what comes beside an open change is refused.
constexpr Duration kDeadFor = 20s;       // Who was removed comes back after so long.
constexpr Duration kTakesItsPlace = 20s;  // Else its operator gives it up.
constexpr Duration kJoinsWithin = 90s;    // All nodes that its token names may be gone.
constexpr std::size_t kRotations = 6;     // A keyring holds eight keys, and none of them retires.
constexpr int kPutOutTurns = 20;         // Seconds that the others have to come to rest.
constexpr Duration kGoesOnFor = 5s;      // Who was revoked and is up, heard by nobody.

enum class Kind { kJoin, kLeave, kRemove, kReplace, kForce, kWeight, kPause, kThrottle, kDrain, kRotate, kRevoke };
struct Share {
  Kind kind;
  std::uint64_t share;
};
constexpr Share kShares[] = {{Kind::kJoin, 6},   {Kind::kLeave, 6},    {Kind::kRemove, 3}, {Kind::kReplace, 3},
                             {Kind::kForce, 1},  {Kind::kWeight, 5},   {Kind::kPause, 2},  {Kind::kThrottle, 2},
                             {Kind::kDrain, 2},  {Kind::kRotate, 1}};
constexpr std::uint64_t kShareOfRevokes = 3;  // Beside those, where it is wanted.

Kind draw_kind(Random& random, bool revokes) {
  const auto others = std::accumulate(std::begin(kShares), std::end(kShares), std::uint64_t{0},
                                      [](std::uint64_t sum, const Share& share) { return sum + share.share; });
  const auto all = others + (revokes ? kShareOfRevokes : 0);
  auto at = random.below(all);
  for (const auto& [kind, share] : kShares) {
    if (at < share) return kind;
    at -= share;
  }
  return Kind::kRevoke;
}

}  // namespace

void Movements::later(Duration delay, std::function<void()> fn) {
  world_.after(delay, [this, fn = std::move(fn), alive = alive_] {
    if (*alive) fn();
  });
}

void Movements::start(Duration length) {
  if (options_.count == 0) return;
  running_ = true;
  gap_ = length / static_cast<int>(options_.count * kAsksPerAgreed);
  look();
  next();
}

void Movements::stop() {
  running_ = false;
  for (const auto i : drained_) {
    if (cluster_.up(i)) ask_at(i, "undrain", "undrain", Json::object());
  }
  drained_.clear();
}

// One, or with a chance of one in six two or three at one moment.
void Movements::next() {
  const auto half = static_cast<std::uint64_t>(gap_.count() / 2) + 1;
  later(gap_ / 2 + Duration(static_cast<Duration::rep>(random_.below(2 * half))), [this] {
    if (!running_ || agreed_ >= options_.count) return;
    const auto at_once = random_.below(6) == 0 ? 2 + random_.below(2) : 1;
    if (at_once > 1) ++done_["several at once"];
    for (std::uint64_t n = 0; n < at_once; ++n) move();
    next();
  });
}

// --- What is. ---

void Movements::look() {
  later(kMovementsEvery, [this] { look(); });
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.departed(i) && !cluster_.retired(i)) {
      ++done_["switched off"];
      cluster_.retire(i);
    }
  }
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.up(i) || !cluster_.node(i).serving() || doubted_.contains(i)) continue;
    cluster_.ask(i, "ring", Json::object(), [this, alive = alive_](const Result<Json>& ring) {
      if (*alive && ring) see(*ring);
    });
    take_back_joins();
    if (running_) return;
    heed_status();
    cluster_.ask(i, "throttle", Json::object(), [this, alive = alive_](const Result<Json>& controls) {
      if (*alive && controls) later(Duration(0), [this, controls = *controls] { calm(controls); });
    });
    return;
  }
}

void Movements::see(const Json& ring) {
  states_.clear();
  changing_ = !ring.at("change").get<std::string>().empty();
  for (const auto& member : ring.at("members")) {
    const auto id = member.at("short").get<std::string>();
    states_[id] = member.at("state").get<std::string>();
    if (const auto node = parse_node_id(member.at("id").get<std::string>())) ids_[id] = *node;
  }
  for (const auto i : doubted_) {
    const bool out = state(i) == "removing" || state(i) == "removed";
    if (out && put_out_.insert(i).second) later(kGoesOnFor, [this, i] { cluster_.abandon(i); });
  }
  std::erase_if(joining_, [this](const auto& joiner) {
    if (state(joiner.first).empty()) return cluster_.retired(joiner.first);
    agree(joiner.second);
    return true;
  });
}

// Nobody resumes a change that was paused, nor lifts a limit, unless it is we.
void Movements::calm(const Json& controls) {
  const auto at = any(true);
  if (!at) return;
  if (controls.at("paused") == true) ask_at(*at, "resume", "resume", Json::object());
  if (controls.at("rate_limit").get<std::uint64_t>() < kRates[2]) {
    ask_at(*at, "throttle", "throttle", {{"rate", kRates[2]}});
  }
}

// A node that knows nobody any more who is there says that it is to be removed, and to join anew. The network is whole
// by now; what it says for a while is so.
void Movements::heed_status() {
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.up(i) || cluster_.node(i).serving()) continue;
    cluster_.ask(i, "status", Json::object(), [this, i, alive = alive_](const Result<Json>& status) {
      if (!*alive) return;
      const auto why = status ? status->at("node").at("waits_for").get<std::string>() : std::string();
      const bool may_wait = why.find("start them again") != std::string::npos;
      if (may_wait || why.find("join as a new node") == std::string::npos) return (void)says_join_anew_.erase(i);
      if (++says_join_anew_[i] < kSaidFor / kMovementsEvery) return;
      later(Duration(0), [this, i] {
        ++done_["told to join anew"];
        taken_out_.insert(i);
        cluster_.retire(i);
      });
    });
  }
}

// Who was let in just when its operator gave it up, and who is to join anew.
void Movements::take_back_joins() {
  for (const auto i : taken_out_) {
    if (!cluster_.retired(i)) continue;
    if (state(i) == "joining") ask_for("abort", "abort", Json::object());
    if (state(i) == "serving") ask_for("remove", "remove", {{"nodes", {cluster_.id(i)}}});
  }
}

std::string Movements::state(std::size_t i) const {
  const auto found = states_.find(cluster_.id(i));
  return found == states_.end() ? "" : found->second;
}

std::size_t Movements::members() const {
  const auto in_ring = std::count_if(states_.begin(), states_.end(), [](const auto& member) {
    return member.second == "serving" || member.second == "joining";
  });
  return static_cast<std::size_t>(in_ring) + joining_.size();
}

std::optional<std::size_t> Movements::any(bool up, std::optional<std::size_t> but) {
  std::vector<std::size_t> from;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (i == but || doubted_.contains(i)) continue;
    if (state(i) == "serving" && !cluster_.retired(i) && cluster_.up(i) == up) from.push_back(i);
  }
  if (from.empty()) return std::nullopt;
  return from[random_.below(from.size())];
}

std::optional<std::size_t> Movements::dead_one() {
  if (const auto down = any(false)) return down;
  const auto node = any(true);
  if (node) cluster_.crash(*node, Crash::kPower);
  return node;
}

// --- What is asked for. ---

void Movements::move() {
  const Kind kind = draw_kind(random_, options_.revokes);
  switch (kind) {
    case Kind::kPause: return pause();
    case Kind::kThrottle: return throttle();
    case Kind::kDrain: return drain();
    case Kind::kRotate: return rotate();
    default: break;
  }
  if (putting_out_) return;
  if (changing_ && random_.below(10) == 0) return ask_for("abort", "abort", Json::object());
  const bool many = members() > options_.nodes_min;
  switch (kind) {
    case Kind::kJoin: return members() < options_.nodes_max ? join() : leave();
    case Kind::kLeave: return many ? leave() : join();
    case Kind::kRemove: return many ? remove() : weight();
    case Kind::kReplace: return replace();
    case Kind::kForce:
    case Kind::kRevoke: return many ? put_out(kind == Kind::kRevoke) : weight();
    default: return weight();
  }
}

void Movements::agree(const std::string& kind) {
  ++done_[kind + " agreed"];
  if (!running_) return;
  static const std::set<std::string> changes = {"join",           "leave",      "remove",                  "replace", "weight",
                                                "forced removal", "revocation", "revocation of a live one"};
  if (changes.contains(kind)) ++agreed_;
  if (kind == "abort" && agreed_ > 0) --agreed_;
}

void Movements::ask_for(const std::string& kind, const std::string& method, const Json& arguments) {
  if (const auto at = any(true)) ask_at(*at, kind, method, arguments);
}

void Movements::ask_at(std::size_t at, const std::string& kind, const std::string& method, const Json& arguments,
                       Answer then) {
  ++done_[kind];
  world_.note("movements", kind + " by " + cluster_.ip(at) + ": " + arguments.dump());
  cluster_.ask(at, method, arguments, [this, kind, then = std::move(then), alive = alive_](Result<Json> answer) {
    if (!*alive) return;
    if (answer) agree(kind);
    world_.note("movements", kind + (answer ? " agreed" : " refused: " + answer.error().text));
    if (then) then(answer);
  });
}

// --- Changes of the ring. ---

void Movements::begin(std::size_t inviter, const std::string& kind, std::optional<std::size_t> dead) {
  cluster_.ask(inviter, "invite", {{"expires_s", kMovementInviteSeconds}},
               [this, kind, dead, alive = alive_](const Result<Json>& invite) {
    if (!*alive || !invite) return;
    later(Duration(0), [this, kind, dead, token = invite->at("token").get<std::string>()] {
      ++done_[kind];
      const auto joining = cluster_.begin_join(token, dead ? ids_[cluster_.id(*dead)] : NodeId{});
      world_.note("movements", joining ? kind + " of " + cluster_.ip(*joining) : joining.error().text);
      if (!joining) return;
      joining_[*joining] = kind;
      taken_out_.insert(*joining);
      if (dead) replacers_.insert(*joining);
      later(dead ? kTakesItsPlace : kJoinsWithin, [this, i = *joining] {
        if (joining_.erase(i) == 0 || cluster_.retired(i)) return;
        ++done_["join given up"];
        cluster_.retire(i);
      });
    });
  });
}

void Movements::join() {
  if (const auto inviter = any(true)) begin(*inviter, "join", std::nullopt);
}

// Now and then two in one change.
void Movements::leave() {
  std::set<std::string> nodes;
  const auto wanted = random_.below(4) == 0 && members() > options_.nodes_min + 1 ? 2 : 1;
  for (int n = 0; n < wanted; ++n) {
    if (const auto node = any(true)) nodes.insert(cluster_.id(*node));
  }
  if (!nodes.empty()) ask_for("leave", "leave", {{"nodes", nodes}});
}

// It comes back, at the latest when the faults end, and finds that it is a holder, or a member as before.
void Movements::come_back_later(std::size_t node) {
  later(kDeadFor, [this, node] {
    if (running_) (void)cluster_.restart(node);
  });
}

// Asked for once the others know that it is down.
void Movements::remove() {
  const auto node = dead_one();
  if (!node) return;
  for (const Duration after : {6s, 9s, 12s}) {
    later(after, [this, i = *node] {
      if (running_ && !putting_out_ && state(i) == "serving") ask_for("remove", "remove", {{"nodes", {cluster_.id(i)}}});
    });
  }
  come_back_later(*node);
}

// The new one is refused when the dead one came back. It asks again while another change is under way, until its
// operator gives up.
void Movements::replace() {
  const auto node = dead_one();
  if (!node) return;
  later(7s, [this, i = *node] {
    const auto inviter = any(true);
    if (!running_ || putting_out_ || !inviter || cluster_.up(i) || state(i) != "serving") return;
    begin(*inviter, "replace", i);
  });
  come_back_later(*node);
}

void Movements::weight() {
  const auto node = any(true);
  if (!node) return;
  const auto weight = kWeightLeast + random_.below(kWeightMost - kWeightLeast + 1);
  ask_for("weight", "weight", {{"nodes", {cluster_.id(*node)}}, {"weight", weight}});
}

// --- Who is put out for good: forced out, or revoked. ---

// A revoked one may be up: it is not to be believed, whatever it does.
void Movements::put_out(bool revoke) {
  const auto node = revoke && random_.below(2) == 0 ? any(true) : dead_one();
  if (!node) return;
  putting_out_ = true;
  try_to_put_out({*node, revoke}, kPutOutTurns);
}

void Movements::try_to_put_out(PutOut which, int turns) {
  if (!running_ || turns == 0 || cluster_.retired(which.node)) {
    putting_out_ = false;
    if (running_) (void)cluster_.restart(which.node);
    return;
  }
  if (quiet_but(which)) put_out_if_alike(which);
  later(1s, [this, which, turns] { try_to_put_out(which, turns - 1); });
}

bool Movements::quiet_but(PutOut which) {
  if (changing_ || !joining_.empty() || (!which.revoke && cluster_.up(which.node))) return false;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (i == which.node || cluster_.retired(i)) continue;
    if (!cluster_.up(i) || !cluster_.node(i).serving() || state(i) != "serving") return false;
  }
  return true;
}

// All that serve know the same version, and it is not an intent.
void Movements::put_out_if_alike(PutOut which) {
  struct Survey {
    std::size_t open = 0;
    std::set<std::string> rings;
  };
  const auto survey = std::make_shared<Survey>();
  const auto asked = [this, which](std::size_t i) { return i != which.node && cluster_.up(i); };
  for (std::size_t i = 0; i < cluster_.size(); ++i) survey->open += asked(i) ? 1 : 0;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!asked(i)) continue;
    cluster_.ask(i, "ring", Json::object(), [this, survey, which, alive = alive_](const Result<Json>& ring) {
      if (!*alive) return;
      survey->rings.insert(ring ? ring->at("change").dump() + ring->at("number").dump() : ring.error().text);
      if (--survey->open > 0 || survey->rings.size() > 1 || !survey->rings.begin()->starts_with("\"\"")) return;
      later(Duration(0), [this, which] { put_out_if_allowed(which); });
    });
  }
}

void Movements::put_out_if_allowed(PutOut which) {
  const auto at = which.revoke ? any(true, which.node) : any(true);
  if (!at) return;
  const std::string method = which.revoke ? "revoke" : "remove";
  Json act = which.revoke ? Json{{"node", cluster_.id(which.node)}}
                          : Json{{"nodes", Json::array({cluster_.id(which.node)})}};
  Json dry = act;
  dry["dry_run"] = true;
  if (!which.revoke) act["force"] = true;
  cluster_.ask(*at, method, dry, [this, which, at, method, act, alive = alive_](const Result<Json>& allowed) {
    if (!*alive || !allowed) return;
    later(Duration(0), [this, which, at, method, act] {
      if (!running_ || !quiet_but(which)) return;
      if (which.revoke) return revoke(which.node, *at, act);
      ask_at(*at, "forced removal", method, act, [this, which](const Result<Json>& forced) {
        if (forced) later(Duration(0), [this, which] { cluster_.abandon(which.node); });
      });
    });
  });
}

// It may be decided though the answer is lost. From here on the node is neither asked nor believed, and it is switched off
// when the others say that it is out (see).
void Movements::revoke(std::size_t node, std::size_t at, const Json& act) {
  doubted_.insert(node);
  ask_at(at, cluster_.up(node) ? "revocation of a live one" : "revocation", "revoke", act);
}

// --- What changes no ring. ---

void Movements::pause() {
  ask_for("pause", "pause", Json::object());
  later(1s + Duration(static_cast<Duration::rep>(random_.below(4'000'000'000))), [this] {
    if (running_) ask_for("resume", "resume", Json::object());
  });
}

void Movements::throttle() { ask_for("throttle", "throttle", {{"rate", kRates[random_.below(std::size(kRates))]}}); }

void Movements::drain() {
  const auto node = any(true);
  if (!node) return;
  drained_.insert(*node);
  ask_at(*node, "drain", "drain", Json::object());
  later(2s + Duration(static_cast<Duration::rep>(random_.below(4'000'000'000))), [this, i = *node] {
    if (running_ && drained_.erase(i) > 0 && cluster_.up(i)) ask_at(i, "undrain", "undrain", Json::object());
  });
}

void Movements::rotate() {
  if (done_["key rotation agreed"] >= kRotations) return;
  ask_for("key rotation", "key.rotate", {{"retire_after_s", kRetireSeconds}});
}

bool Movements::settled() {
  if (options_.count == 0) return true;
  if (changing_) return false;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.retired(i) && state(i) != "serving") return false;
  }
  return true;
}

}  // namespace starling::sim
