// Probing: direct pings, indirect ones through others, and doing the same for them (SWIM, DSN 2002,
// sections 3.1 and 4.3; Lifeguard, section IV-A for the nacks).
#include <algorithm>
#include <cassert>
#include <utility>

#include "overlay/gossip/swim.h"

namespace starling::overlay {

void Swim::run_probe() {
  if (probe_ && now_ >= probe_->ends_at) fail_probe();
  if (probe_ && !probe_->asked && now_ >= probe_->ask_others_at) ask_others();
  if (now_ >= probe_at_) start_probe();
}

void Swim::start_probe() {
  assert(!probe_);
  probe_at_ = now_ + awareness_.scale(config_.probe_interval);
  const Member* target = next_target();
  if (target == nullptr) return;
  probe_ = Probe{target->id, next_seq_++, self_.incarnation,
                 now_ + awareness_.scale(config_.probe_timeout), probe_at_};
  send(*target, MessageKind::kPing, probe_->seq, target->id);
}

void Swim::ask_others() {
  probe_->asked = true;
  std::vector<NodeId> others;
  for (const auto& [id, member] : table_.all()) {
    if (member.state == MemberState::kAlive && id != probe_->target) others.push_back(id);
  }
  for (const NodeId& id : pick(config_.indirect_probes, std::move(others))) {
    ++stats_.indirect_probes;
    probe_->silent_helpers.insert(id);
    send(*table_.find(id), MessageKind::kPingReq, probe_->seq, probe_->target);
  }
  probe_->had_helpers = !probe_->silent_helpers.empty();
}

void Swim::fail_probe() {
  const Probe probe = std::move(*probe_);
  probe_.reset();
  const Member* target = table_.find(probe.target);
  if (target == nullptr || !target->live()) return;
  ++stats_.probes_failed;
  // A helper that hears us sends at least a nack: those that did not are a sign against ourselves.
  awareness_.apply(probe.had_helpers ? static_cast<int>(probe.silent_helpers.size()) : 1);
  take_claim({target->id, target->incarnation, static_cast<std::uint8_t>(MemberState::kSuspect),
              self_.node});
}

// Every live member once per round, so a dead one is probed within two rounds at most.
const Member* Swim::next_target() {
  for (int pass = 0; pass < 2; ++pass) {
    while (round_at_ < round_.size()) {
      const Member* member = table_.find(round_[round_at_++]);
      if (member != nullptr && member->live()) return member;
    }
    std::vector<NodeId> live;
    for (const auto& [id, member] : table_.all()) {
      if (member.live()) live.push_back(id);
    }
    round_ = pick(table_.live(), std::move(live));
    round_at_ = 0;
  }
  return nullptr;
}

void Swim::enter_round(const NodeId& id) {
  const auto rest = round_.begin() + static_cast<std::ptrdiff_t>(round_at_);
  if (std::find(rest, round_.end(), id) != round_.end()) return;
  const auto offset = static_cast<std::ptrdiff_t>(random_.below(round_.size() - round_at_ + 1));
  round_.insert(rest + offset, id);
}

void Swim::on_ping(const Packet& packet, const Datagram& datagram, const Member& sender) {
  if (datagram.about != self_.node) {
    ++stats_.misdirected;
    return;
  }
  send(packet.from, &sender, MessageKind::kAck, datagram.seq, self_.node);
}

void Swim::on_ping_req(const Packet& packet, const Datagram& datagram, const Member& sender) {
  if (datagram.about == self_.node) {
    return send(packet.from, &sender, MessageKind::kAck, datagram.seq, self_.node);
  }
  const Member* target = table_.find(datagram.about);
  if (target == nullptr) {
    return send(packet.from, &sender, MessageKind::kNack, datagram.seq, datagram.about);
  }
  if (relays_.size() >= kRelaysMax) return;
  const std::uint64_t seq = next_seq_++;
  relays_[seq] = Relay{sender.id,
                       packet.from,
                       datagram.seq,
                       target->id,
                       now_ + config_.probe_timeout * 4 / 5,
                       now_ + config_.probe_interval};
  send(*target, MessageKind::kPing, seq, target->id);
}

void Swim::on_ack(const Datagram& datagram, Member& sender) {
  if (probe_ && datagram.seq == probe_->seq) {
    if (datagram.about != probe_->target) return;
    // It answered a ping that told it of us.
    if (sender.id == probe_->target) sender.knows_us = std::max(sender.knows_us, probe_->told);
    awareness_.apply(-1);
    probe_.reset();
    return;
  }
  const auto it = relays_.find(datagram.seq);
  if (it == relays_.end() || it->second.target != sender.id) return;
  const Relay relay = std::move(it->second);
  relays_.erase(it);
  send(relay.reply_to, table_.find(relay.requester), MessageKind::kAck, relay.reply_seq,
       relay.target);
}

void Swim::on_nack(const Datagram& datagram) {
  if (probe_ && datagram.seq == probe_->seq) probe_->silent_helpers.erase(datagram.from);
}

void Swim::run_relays() {
  for (auto it = relays_.begin(); it != relays_.end();) {
    Relay& relay = it->second;
    if (!relay.nacked && now_ >= relay.nack_at) {
      relay.nacked = true;
      send(relay.reply_to, table_.find(relay.requester), MessageKind::kNack, relay.reply_seq,
           relay.target);
    }
    it = now_ >= relay.ends_at ? relays_.erase(it) : std::next(it);
  }
}

}  // namespace starling::overlay
