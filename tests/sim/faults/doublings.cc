#include "tests/sim/faults/doublings.h"

#include <algorithm>

#include "overlay/ring/paxos_wire.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {
namespace {

constexpr Duration kDoublingsEvery = 200ms;
constexpr Duration kAskAgain = 3s;       // Who was asked may be gone.
constexpr std::uint64_t kCommitsMax = 12;  // Of a node, until its power is lost in one of them.
// From the proposal to a loss of power: it is agreed on in milliseconds, and settled in tenths of a second.
constexpr Duration kCutWithin[] = {20ms, 200ms, 1s, 3s};

}  // namespace

bool tells_of_ring(const TapMessage& m) {
  if (m.method != overlay::Method::kPaxos) return m.method == overlay::Method::kRingDecided || m.method == overlay::Method::kRingGet;
  const auto request = overlay::decode_paxos_request(m.body);
  return request && View(request->instance.data).starts_with("ring");
}

void Doublings::later(Duration delay, std::function<void()> fn) {
  world_.after(delay, [this, fn = std::move(fn), alive = alive_] {
    if (*alive) fn();
  });
}

Duration Doublings::draw(Duration most) {
  return Duration(static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(most.count()) + 1)));
}

void Doublings::start(Duration length) {
  if (options_.count == 0) return;
  running_ = true;
  gap_ = length / static_cast<int>(options_.count + 1);
  listen();
  next();
}

void Doublings::next() {
  if (begun_ == options_.count) return;
  later(gap_ / 2 + draw(gap_), [this] {
    ++begun_;
    goal_ = 2 * highest();
    asked_ = Instant{};
    look();
  });
}

std::uint32_t Doublings::highest() {
  std::uint32_t most = 1;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.up(i)) most = std::max(most, cluster_.partitions(i));
  }
  return most;
}

// Until it is agreed on.
void Doublings::look() {
  if (!running_) return;
  if (highest() >= goal_) {
    ++done_["doubling"];
    return next();
  }
  later(kDoublingsEvery, [this] { look(); });
  if (asked_ != Instant{} && world_.now() < asked_ + kAskAgain) return;
  const std::size_t at = random_.below(cluster_.size());
  if (may_double(at)) propose(at);
}

bool Doublings::may_double(std::size_t asked) {
  if (!cluster_.up(asked) || !cluster_.node(asked).serving()) return false;
  const auto* ring = node::NodeParts::ring(cluster_.node(asked));
  if (ring == nullptr || ring->changing()) return false;
  std::size_t ready = 0;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    const auto* member = cluster_.up(i) ? ring->member(cluster_.node_id(i)) : nullptr;
    if (member == nullptr || member->gone()) continue;
    if (!cluster_.node(i).serving() || !cluster_.settled(i) || 2 * cluster_.partitions(i) != goal_) return false;
    ++ready;
  }
  return ready == static_cast<std::size_t>(std::count_if(ring->members().begin(), ring->members().end(),
                                                         [](const auto& member) { return !member.gone(); }));
}

void Doublings::propose(std::size_t at) {
  asked_ = world_.now();
  world_.note("doublings", "asked for at " + cluster_.ip(at));
  strike();
  cluster_.propose_doubled(at, [this, alive = alive_](const Status& agreed) {
    if (*alive) world_.note("doublings", agreed ? "agreed" : "refused: " + agreed.error().text);
  });
}

// What tells of a ring version is garbled on its way to who is deaf.
void Doublings::listen() {
  tap_.alter = [this, alive = alive_, before = tap_.alter](const TapMessage& m, Bytes& body) {
    if (before) before(m, body);
    if (*alive && deaf_ == m.to && m.from != m.to && m.method != overlay::Method::kRingGet && tells_of_ring(m)) body = "?";
  };
  tap_.alter_answer = [this, alive = alive_, before = tap_.alter_answer](const TapMessage& m, Bytes& body) {
    if (before) before(m, body);
    if (*alive && deaf_ == m.from && m.from != m.to && m.method == overlay::Method::kRingGet) body = "?";
  };
}

void Doublings::deafen(std::size_t i) {
  ++done_["deaf at a doubling"];
  world_.note("doublings", "n" + std::to_string(i) + " is deaf to ring versions");
  deaf_ = i;
  later(draw(options_.deaf_most), [this] { deaf_.reset(); });
}

void Doublings::strike() {
  if (random_.below(options_.deaf_one_in) == 0) deafen(random_.below(cluster_.size()));
  if (!options_.cuts) return;
  switch (random_.below(5)) {
    case 0: return;
    case 1: {
      const Duration at = draw(kCutWithin[random_.below(std::size(kCutWithin))]);
      return later(at, [this] {
        ++done_["power lost at a doubling, all"];
        for (std::size_t i = 0; i < cluster_.size(); ++i) lose_power(i);
      });
    }
    default: {
      const auto cuts = 1 + random_.below(2);
      for (std::uint64_t n = 0; n < cuts; ++n) lose_power_soon(random_.below(cluster_.size()));
    }
  }
}

// After a while, or in one of its next commits.
void Doublings::lose_power_soon(std::size_t i) {
  const Duration at = draw(kCutWithin[random_.below(std::size(kCutWithin))]);
  ++done_["power lost at a doubling"];
  if (random_.below(2) == 0) return later(at, [this, i] { lose_power(i); });
  later(at / 4, [this, i, after = random_.below(kCommitsMax)] {
    if (!running_) return;
    cluster_.disk(i).on_commit([this, i, last = cluster_.disk(i).commits() + after](std::uint64_t number) {
      if (number < last) return;
      cluster_.disk(i).on_commit(nullptr);
      lose_power(i);
    });
  });
}

void Doublings::lose_power(std::size_t i) {
  if (!running_ || !cluster_.up(i)) return;
  cluster_.crash(i, Crash::kPower);
  later(100ms + draw(3s), [this, i] { restart(i); });
}

// At the latest when the faults end.
void Doublings::restart(std::size_t i) {
  if (!running_) return;
  if (!cluster_.restart(i)) later(1s, [this, i] { restart(i); });  // Its disk is full, perhaps.
}

bool Doublings::settled() {
  if (options_.count == 0) return true;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.retired(i) || cluster_.departed(i)) continue;
    if (!cluster_.up(i) || !cluster_.settled(i) || cluster_.partitions(i) != highest()) return false;
  }
  return true;
}

}  // namespace starling::sim
