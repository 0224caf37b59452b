// SwimNet: N Swim machines on a virtual network in virtual time, from one seed.
//
// Packets are lost and delayed by chance; nodes crash, pause, restart; the network splits. No
// sockets, no clock: run_for() returns as soon as the virtual time has passed. What leaves a node is
// counted as it would be on the wire.
#pragma once

#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "crypto/access/keyring.h"
#include "crypto/init.h"
#include "overlay/gossip/swim.h"

namespace starling::overlay {

class SwimNet {
 public:
  using Kind = MemberEvent::Kind;
  struct Seen {
    Duration at;  // Since the net began.
    MemberEvent event;
  };

  explicit SwimNet(int nodes, std::uint64_t seed = 1, SwimConfig config = SwimConfig::lan())
      : config_(config), random_(seed) {
    if (!crypto_init()) std::abort();
    for (int i = 0; i < nodes; ++i) {
      hosts_.push_back(std::make_unique<Host>(Identity::generate(random_), random_.u64()));
    }
  }

  SwimNet(const SwimNet&) = delete;
  SwimNet& operator=(const SwimNet&) = delete;

  // A new run of the process at `i`, which joins through node 0 (and node 1, for node 0).
  void boot(int i) {
    prepare(i);
    step(i, Swim::Start{{address(i == 0 ? 1 : 0, 7401)}});
  }
  // All at once, and each knows all others from the start: as after a long time of quiet.
  void boot_acquainted() {
    PushPull everybody;
    for (int i = 0; i < size(); ++i) {
      prepare(i);
      step(i, Swim::Start{});
      everybody.members.push_back(swim(i).push_pull(now_, wall_ms(i)).members.front());
    }
    for (int i = 0; i < size(); ++i) step(i, Swim::Merge{id(i == 0 ? 1 : 0), everybody});
    for (auto& host : hosts_) host->events.clear();
  }
  void boot_all() {
    for (int i = 0; i < size(); ++i) boot(i);
  }
  // Its runs from now on go on under its writer, as after a clean stop.
  void keep_writer(int i) { hosts_[i]->keeps_writer = true; }
  void crash(int i) {
    hosts_[i]->up = false;
    hosts_[i]->inbox.clear();
  }
  void pause(int i) { hosts_[i]->paused = true; }
  void resume(int i) {
    Host& host = *hosts_[i];
    host.paused = false;
    step(i, Swim::Tick{});
    for (Swim::Packet& packet : std::exchange(host.inbox, {})) step(i, packet);
  }
  void step(int i, const Swim::Input& input) {
    Host& host = *hosts_[i];
    Swim::Output out = host.swim->step(input, now_, wall_ms(i));
    for (Swim::Send& send : out.sends) transmit(i, std::move(send));
    for (const Swim::Exchange& exchange : out.exchanges) push_pull(i, exchange);
    for (const MemberEvent& event : out.events) host.events.push_back({now_ - kBegin, event});
    host.wake_at = out.wake_at;
    if (out.wake_at == kNever) return;
    at(std::max(out.wake_at, now_), [this, i] {
      Host& host = *hosts_[i];
      if (host.up && !host.paused && host.wake_at <= now_) step(i, Swim::Tick{});
    });
  }
  void run_for(Duration time) {
    const Instant end = now_ + time;
    while (!agenda_.empty() && agenda_.begin()->first.first <= end) {
      auto item = agenda_.extract(agenda_.begin());
      now_ = item.key().first;
      item.mapped()();
    }
    now_ = end;
  }
  // Runs until `done`, at most `limit`; returns how long it took, or `limit`.
  Duration run_until(const std::function<bool()>& done, Duration limit) {
    const Instant begin = now_;
    while (!done() && now_ - begin < limit) run_for(10ms);
    return now_ - begin;
  }

  void split(const std::vector<int>& away) {
    for (int i : away) hosts_[i]->side = 1;
  }
  void heal() {
    for (auto& host : hosts_) host->side = 0;
  }
  void set_loss(double loss) { loss_ = loss; }
  void set_wall_offset(int i, std::int64_t ms) { hosts_[i]->wall_offset_ms = ms; }
  // Sees every packet; returns false to drop it.
  void set_tap(std::function<bool(int from, const Swim::Send&)> tap) { tap_ = std::move(tap); }

  struct Traffic {
    std::uint64_t packets = 0;
    std::uint64_t packet_bytes = 0;     // Sealed, with the headers of UDP and IP.
    std::uint64_t push_pull_bytes = 0;  // Bodies, both ways.
  };
  [[nodiscard]] const Traffic& traffic() const { return traffic_; }
  // Push-pulls that were tried, heard or not.
  [[nodiscard]] int tries(int from, int to) const {
    const auto it = tries_.find({from, to});
    return it == tries_.end() ? 0 : it->second;
  }

  [[nodiscard]] int size() const { return static_cast<int>(hosts_.size()); }
  [[nodiscard]] Duration elapsed() const { return now_ - kBegin; }
  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] std::int64_t wall_ms(int i) const {
    return 1'700'000'000'000 + to_ms(now_ - kBegin) + hosts_[i]->wall_offset_ms;
  }
  Swim& swim(int i) { return *hosts_[i]->swim; }
  const Identity& identity(int i) { return hosts_[i]->identity; }
  NodeId id(int i) { return hosts_[i]->identity.node_id(); }
  static Endpoint address(int i, std::uint16_t port) {
    return {"10.0." + std::to_string(i / 200) + "." + std::to_string(i % 200 + 1), port};
  }
  std::vector<Seen>& events(int i) { return hosts_[i]->events; }
  int count(int i, Kind kind, int about) {
    int n = 0;
    for (const Seen& seen : events(i)) n += seen.event.kind == kind && seen.event.node == id(about);
    return n;
  }
  int count_all(Kind kind) {
    int n = 0;
    for (int i = 0; i < size(); ++i) {
      for (const Seen& seen : events(i)) n += seen.event.kind == kind;
    }
    return n;
  }
  // Absent when `observer` does not know `other`.
  std::optional<MemberState> state(int observer, int other) {
    const Member* member = std::as_const(swim(observer)).table().find(id(other));
    if (member == nullptr) return {};
    return member->state;
  }
  // Every node that is up holds every other that is up for alive.
  bool converged() {
    for (int i = 0; i < size(); ++i) {
      for (int j = 0; j < size(); ++j) {
        if (i == j || !hosts_[i]->up || !hosts_[j]->up) continue;
        if (state(i, j) != MemberState::kAlive) return false;
      }
    }
    return true;
  }
  // Every other node that is up holds `i` for `wanted`.
  bool all_see(int i, MemberState wanted) {
    for (int j = 0; j < size(); ++j) {
      if (j != i && hosts_[j]->up && state(j, i) != wanted) return false;
    }
    return true;
  }

 private:
  struct Host {
    Host(Identity key_pair, std::uint64_t seed) : identity(std::move(key_pair)), random(seed) {}
    Identity identity;
    SeededRandom random;
    std::unique_ptr<Swim> swim;
    bool up = false;
    bool paused = false;
    bool keeps_writer = false;
    int side = 0;
    std::int64_t wall_offset_ms = 0;
    Instant wake_at = kNever;
    std::vector<Swim::Packet> inbox;  // What the kernel holds for a paused process.
    std::vector<Seen> events;
  };
  static constexpr Instant kBegin{1h};
  static constexpr std::size_t kUdpHeaders = 28;

  void prepare(int i) {
    Host& host = *hosts_[i];
    MemberRecord record;
    record.node = host.identity.node_id();
    record.key = host.identity.public_key();
    record.incarnation = static_cast<std::uint64_t>(wall_ms(i));
    record.gossip = address(i, 7400).text();
    record.link = address(i, 7401).text();
    record.client = address(i, 7402).text();
    record.admin = address(i, 7403).text();
    record.zone = "z" + std::to_string(i % 3);
    record.version = "0.1.0";
    record.writer = host.keeps_writer && host.swim ? host.swim->self().writer : WriterId{host.random.u64()};
    host.swim = std::make_unique<Swim>(config_, host.identity, host.random, record);
    host.up = true;
    host.paused = false;
    host.wake_at = kNever;
    host.events.clear();
    by_ip_[address(i, 0).host] = i;
    by_id_[id(i)] = i;
  }

  void at(Instant when, std::function<void()> what) {
    agenda_.emplace(std::pair(when, ++agenda_seq_), std::move(what));
  }
  Duration latency() { return std::chrono::microseconds(500 + random_.below(4500)); }
  bool connected(int a, int b) {
    return hosts_[a]->up && hosts_[b]->up && hosts_[a]->side == hosts_[b]->side;
  }
  int host_at(const Endpoint& endpoint) {
    const auto it = by_ip_.find(endpoint.host);
    return it == by_ip_.end() ? -1 : it->second;
  }
  void transmit(int from, Swim::Send send) {
    if (tap_ && !tap_(from, send)) return;
    ++traffic_.packets;
    traffic_.packet_bytes += send.plain.size() + kKeyringOverhead + kUdpHeaders;
    const int to = host_at(send.to);
    if (to < 0 || random_.unit() < loss_ || !connected(from, to)) return;
    at(now_ + latency(), [this, from, to, plain = std::move(send.plain)]() mutable {
      Host& host = *hosts_[to];
      if (!host.up) return;
      Swim::Packet packet{address(from, 7400), std::move(plain)};
      if (host.paused) return host.inbox.push_back(std::move(packet));
      step(to, packet);
    });
  }
  // Two crossings of the network; fails silently, as a call that times out.
  void push_pull(int from, const Swim::Exchange& exchange) {
    int to = -1;
    if (const NodeId* peer = std::get_if<NodeId>(&exchange.with)) {
      const auto it = by_id_.find(*peer);
      if (it != by_id_.end()) to = it->second;
    } else {
      to = host_at(std::get<Endpoint>(exchange.with));
    }
    if (to < 0) return;
    ++tries_[{from, to}];
    carry(from, to, [this, from, to] { carry(to, from, [] {}); });
  }
  void carry(int from, int to, std::function<void()> then) {
    if (!connected(from, to)) return;
    Bytes body = pack(swim(from).push_pull(now_, wall_ms(from)));
    traffic_.push_pull_bytes += body.size();
    at(now_ + latency(), [this, from, to, body = std::move(body), then = std::move(then)] {
      if (!connected(from, to) || hosts_[from]->paused || hosts_[to]->paused) return;
      step(to, Swim::Merge{id(from), decode_push_pull(body).value()});
      then();
    });
  }

  const SwimConfig config_;
  SeededRandom random_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> agenda_;
  std::uint64_t agenda_seq_ = 0;
  Instant now_ = kBegin;
  double loss_ = 0;
  Traffic traffic_;
  std::map<std::pair<int, int>, int> tries_;
  std::map<std::string, int> by_ip_;
  std::map<NodeId, int> by_id_;
  std::function<bool(int, const Swim::Send&)> tap_;
};

}  // namespace starling::overlay
