#include "overlay/gossip/swim.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace starling::overlay {

Swim::Swim(const SwimConfig& config, const Identity& identity, Random& random, MemberRecord self)
    : config_(config),
      identity_(identity),
      random_(random),
      self_(std::move(self)),
      born_as_(self_.incarnation),
      next_seq_(random.u64()),
      awareness_(config.awareness_max),
      queue_(config.retransmit_mult) {
  assert(fingerprint(self_.key) == self_.node);
  self_.proves = true;
  self_.run = std::max(static_cast<std::uint32_t>(next_seq_), 1u);
  next_seq_ >>= 32;  // The other half of the draw: hard to guess, and far from running over.
  heartbeat_ = {self_.wall_ms, self_.ring, self_.catching_up, self_.sessions};
}

Swim::Output Swim::step(const Input& input, Instant now, std::int64_t now_wall_ms) {
  assert(now >= now_ || phase_ == Phase::kIdle);
  if (phase_ == Phase::kGone) return {};
  note_oversleep(now);
  now_ = now;
  wall_ms_ = now_wall_ms;
  std::visit([this](const auto& in) { on(in); }, input);
  run_timers();
  out_.wake_at = due_ = wake_at();
  return std::exchange(out_, {});
}

void Swim::on(const Start& start) {
  assert(phase_ == Phase::kIdle);
  phase_ = Phase::kRunning;
  started_at_ = now_;
  seeds_ = start.seeds;
  died_at_ = self_.incarnation == 0 ? 0 : self_.incarnation - 1;
  sign_self();
  probe_at_ = gossip_at_ = join_at_ = now_;
  // Nodes started together must not exchange together for ever.
  push_pull_at_ = now_ + Duration(random_.below(config_.push_pull_interval.count()));
  reconnect_at_ = now_ + Duration(random_.below(config_.reconnect_interval.count()));
  ring_told_at_ = now_ - kRingReminder;
}

void Swim::on(const Packet& packet) {
  if (phase_ == Phase::kIdle) return;
  ++stats_.packets_received;
  const Result<Datagram> decoded = decode_datagram(packet.plain);
  if (!decoded) {
    ++stats_.malformed;
    return;
  }
  const Datagram& datagram = decoded.value();
  if (datagram.from == self_.node) {
    ++stats_.own;
    return;
  }
  if (!hears(datagram.from)) {
    ++stats_.outsider;
    return;
  }
  // Records first: they are signed and stand by themselves, and one may introduce the sender.
  for (const Blob& update : datagram.updates) {
    if (update.data.empty() || update.data[0] != static_cast<char>(UpdateKind::kRecord)) continue;
    take_record(View(update.data).substr(1), true, MemberState::kAlive);
  }
  Member* sender = table_.find(datagram.from);
  if (sender == nullptr) {
    ++stats_.stranger;
    return;
  }
  if (sender->record.writer != datagram.writer || sender->record.run != datagram.run) {
    ++stats_.stale_run;
    return;
  }
  if (!is_of(*sender, packet.plain)) {
    ++stats_.unproven;
    return;
  }
  if (!sender->window.accept(datagram.counter)) {
    ++stats_.replayed;
    return;
  }
  // What was overtaken, or recorded and sent again to a later run of ours, tells nothing of now.
  if (datagram.counter == sender->window.newest()) take_heartbeat(*sender, datagram.heartbeat);
  for (const Blob& update : datagram.updates) {
    if (update.data.empty() || update.data[0] != static_cast<char>(UpdateKind::kClaim)) continue;
    if (const auto claim = decode_claim(View(update.data).substr(1))) {
      take_claim(claim.value());
    } else {
      ++stats_.malformed;
    }
  }
  switch (datagram.as()) {
    case MessageKind::kPing: return on_ping(packet, datagram, *sender);
    case MessageKind::kPingReq: return on_ping_req(packet, datagram, *sender);
    case MessageKind::kAck: return on_ack(datagram, *sender);
    case MessageKind::kNack: return on_nack(datagram);
    case MessageKind::kGossip: return;
  }
}

void Swim::on(const Merge& merge) {
  if (phase_ == Phase::kIdle || !hears(merge.from)) return;
  // A newcomer is told of everybody; that is news to nobody else.
  const bool spread = table_.live() > 0;
  for (const MemberEntry& entry : merge.body.members) take_entry(merge.from, entry, spread);
  was_told_ = true;
}

void Swim::on(const UpdateSelf& update) {
  assert(check_record(update.record).ok());
  MemberRecord next = update.record;
  next.node = self_.node;
  next.key = self_.key;
  next.writer = self_.writer;
  next.proves = true;
  next.run = self_.run;
  next.incarnation = std::min(self_.incarnation + 1, kIncarnationMax);
  self_ = std::move(next);
  if (phase_ != Phase::kIdle) sign_self();
}

void Swim::on(const Leave&) {
  if (phase_ != Phase::kRunning) return;
  phase_ = Phase::kLeaving;
  probe_.reset();
  spread(
      {self_.node, self_.incarnation, static_cast<std::uint8_t>(MemberState::kLeft), self_.node});
  gossip_at_ = now_;
  gone_at_ = table_.live() == 0 ? now_ : now_ + config_.leave_linger;
}

void Swim::set_members(std::set<NodeId> members, std::set<NodeId> gone) {
  members_ = std::move(members);
  gone_ = std::move(gone);
  std::vector<NodeId> others;
  for (const auto& [id, member] : table_.all()) {
    if (!hears(id)) others.push_back(id);
  }
  for (const NodeId& id : others) {
    table_.erase(id);
    suspicions_.erase(id);
    proof_keys_.erase(id);
    if (probe_ && probe_->target == id) probe_.reset();
  }
}

// A process that was stopped (SIGSTOP, a frozen virtual machine, swapping) finds all its deadlines
// passed at once. It heard nobody because it did not listen: everyone gets the time back.
void Swim::note_oversleep(Instant now) {
  if (due_ == kNever || now - due_ < config_.oversleep) return;
  const Duration gap = now - due_;
  ++stats_.overslept;
  awareness_.apply(+1);
  for (auto& [id, suspicion] : suspicions_) suspicion.postpone(gap);
  probe_.reset();
  relays_.clear();
}

void Swim::run_timers() {
  if (phase_ == Phase::kIdle) return;
  run_relays();
  if (phase_ == Phase::kRunning) {
    run_probe();
    run_suspicions();
    run_exchanges();
  }
  run_gossip();
  if (now_ >= gone_at_) {
    phase_ = Phase::kGone;
    event(MemberEvent::Kind::kLeft, self_.node);
  }
}

void Swim::run_gossip() {
  if (now_ < gossip_at_ || queue_.empty()) return;
  gossip_at_ = now_ + config_.gossip_interval;
  std::vector<NodeId> hearers;
  for (const auto& [id, member] : table_.all()) {
    const bool newly_dead =
        member.state == MemberState::kDead && now_ - member.since < config_.gossip_to_the_dead;
    if (member.live() || newly_dead) hearers.push_back(id);
  }
  // Whoever turns up later gets it all by push-pull.
  if (hearers.empty()) return queue_.clear();
  for (const NodeId& id : pick(config_.gossip_nodes, std::move(hearers))) {
    if (queue_.empty()) break;
    send(*table_.find(id), MessageKind::kGossip, 0, id);
  }
}

void Swim::run_exchanges() {
  if (now_ >= push_pull_at_) {
    // The cost of a push-pull grows with n, and so does the number of nodes that do them.
    const std::size_t n = cluster_size();
    const int stretch = n <= 32 ? 1 : static_cast<int>(std::bit_width((n - 1) / 32)) + 1;
    push_pull_at_ = now_ + config_.push_pull_interval * stretch;
    std::vector<NodeId> live;
    for (const auto& [id, member] : table_.all()) {
      if (member.state == MemberState::kAlive) live.push_back(id);
    }
    for (const NodeId& id : pick(1, std::move(live))) out_.exchanges.push_back({id});
  }
  if (table_.live() == 0 && !seeds_.empty() && now_ >= join_at_) {
    join_at_ = now_ + config_.join_interval;
    out_.exchanges.push_back({seeds_[random_.below(seeds_.size())]});
  }
  // Who met the others by gossip first: a node that goes on under its writer mints nothing before it was told.
  if (table_.live() > 0 && !was_told_ && now_ >= join_at_) {
    join_at_ = now_ + config_.join_interval;
    std::vector<NodeId> live;
    for (const auto& [id, member] : table_.all()) {
      if (member.state == MemberState::kAlive) live.push_back(id);
    }
    for (const NodeId& id : pick(1, std::move(live))) out_.exchanges.push_back({id});
  }
  if (now_ < reconnect_at_) return;
  reconnect_at_ = now_ + config_.reconnect_interval;
  std::vector<Exchange> lost;
  std::set<std::string> found{self_.link};
  for (const auto& [id, member] : table_.all()) {
    if (member.state == MemberState::kDead && !gone_.contains(id)) lost.push_back({id});
    if (member.state != MemberState::kLeft) found.insert(member.record.link);
  }
  if (table_.live() > 0) {
    for (const Endpoint& seed : seeds_) {
      if (!found.contains(seed.text())) lost.push_back({seed});
    }
  }
  if (!lost.empty()) out_.exchanges.push_back(lost[random_.below(lost.size())]);
}

Instant Swim::wake_at() const {
  if (phase_ == Phase::kIdle || phase_ == Phase::kGone) return kNever;
  Instant at = gone_at_;
  if (!queue_.empty()) at = std::min(at, gossip_at_);
  for (const auto& [seq, relay] : relays_) {
    at = std::min(at, relay.nacked ? relay.ends_at : relay.nack_at);
  }
  if (phase_ == Phase::kLeaving) return at;
  if (table_.live() > 0) at = std::min({at, probe_at_, push_pull_at_});
  if (probe_) at = std::min(at, probe_->asked ? probe_->ends_at : probe_->ask_others_at);
  for (const auto& [id, suspicion] : suspicions_) at = std::min(at, suspicion.deadline());
  if (table_.live() == 0 ? !seeds_.empty() : !was_told_) at = std::min(at, join_at_);
  return std::min(at, reconnect_at_);
}

// Null for a key that is none. Made once: it costs as much as some hundred packets.
const SecretKey* Swim::key_with(const MemberRecord& peer) {
  const auto known = proof_keys_.find(peer.node);
  if (known != proof_keys_.end()) return &known->second;
  const auto key = proof_key(identity_, peer.key);
  if (!key) return nullptr;
  if (proof_keys_.size() >= kMembersMax) proof_keys_.clear();  // Those that gave way in the table are among them.
  return &proof_keys_.emplace(peer.node, *key).first->second;
}

// A program of before there were proofs has none, and its signed record says so.
bool Swim::is_of(const Member& sender, View plain) {
  if (!sender.record.proves) return true;
  const SecretKey* key = key_with(sender.record);
  return key != nullptr && is_proven(plain, *key);
}

// `n` of `from`, in random order.
std::vector<NodeId> Swim::pick(std::size_t n, std::vector<NodeId> from) {
  n = std::min(n, from.size());
  for (std::size_t i = 0; i < n; ++i) {
    std::swap(from[i], from[i + random_.below(from.size() - i)]);
  }
  from.resize(n);
  return from;
}

void Swim::event(MemberEvent::Kind kind, const NodeId& node, RingNumber ring) {
  out_.events.push_back({kind, node, ring});
}

void Swim::send(const Member& to, MessageKind kind, std::uint64_t seq, const NodeId& about) {
  if (const auto endpoint = Endpoint::parse(to.record.gossip)) {
    send(endpoint.value(), &to, kind, seq, about);
  }
}

// `member` is who lives at `to`.
void Swim::send(const Endpoint& to, const Member* member, MessageKind kind, std::uint64_t seq,
                const NodeId& about) {
  Datagram datagram{
      self_.node, self_.writer, ++counter_, heartbeat_, static_cast<std::uint8_t>(kind),
      seq,        about,        {},         self_.run,  {}};
  datagram.heartbeat.wall_ms = wall_ms_;
  std::size_t budget = kPacketSizeMax - kDatagramHeaderMax;
  const auto add = [&](const Shared& update) {
    budget -= update->size() + kUpdateOverhead;
    datagram.updates.push_back({*update});
  };
  // Who does not know us yet cannot heed us.
  const bool introduce = member != nullptr && member->knows_us < self_.incarnation;
  if (introduce) add(self_update_);
  // Whoever is accused hears it first (Lifeguard's buddy system, section IV-C).
  if (member != nullptr && member->state != MemberState::kAlive &&
      member->state != MemberState::kLeft) {
    add(encode_claim(
        {member->id, member->incarnation, static_cast<std::uint8_t>(member->state), self_.node}));
  }
  std::vector<Shared> news;
  queue_.take(budget, cluster_size(), news);
  for (const Shared& update : news) {
    if (!introduce || update != self_update_) datagram.updates.push_back({*update});
  }
  const SecretKey* key = member == nullptr ? nullptr : key_with(member->record);
  Bytes plain = key == nullptr ? pack(datagram) : prove(datagram, *key);
  assert(plain.size() <= kPacketSizeMax);
  ++stats_.packets_sent;
  out_.sends.push_back({to, std::move(plain)});
}

}  // namespace starling::overlay
