#include "tests/sim/history.h"

#include <cassert>

#include <xxhash.h>

namespace starling::sim {

std::uint64_t body_hash(View body) { return XXH3_64bits(body.data(), body.size()); }

DeviceIndex History::add_device(const std::string& user, const std::string& name) {
  devices_.push_back({user, name, device_of(mailbox_of(user), name)});
  return devices_.size() - 1;
}

void History::add_group(const std::string& group, std::set<std::string> members) {
  groups_[group] = std::move(members);
}

SendIndex History::invoke(DeviceIndex device, const std::string& to, View body, Instant now) {
  SendRecord send;
  send.device = device;
  send.to = to;
  send.hash = body_hash(body);
  send.size = body.size();
  send.invoked = now;
  const SendIndex index = sends_.size();
  const bool fresh = by_hash_.emplace(send.hash, index).second;
  assert(fresh && "bodies name their send");
  (void)fresh;
  sends_.push_back(std::move(send));
  return index;
}

void History::acked(SendIndex index, std::uint64_t seq, const std::string& id, std::uint8_t copies,
                    Instant now) {
  SendRecord& send = sends_[index];
  send.outcome = Outcome::kAcked;
  send.seq = seq;
  send.id = id;
  send.copies = copies;
  send.ended = now;
}

void History::failed(SendIndex index, Outcome outcome, Errc error, Instant now) {
  SendRecord& send = sends_[index];
  send.outcome = outcome;
  send.error = error;
  send.ended = now;
}

const SendRecord* History::send_of(std::uint64_t hash) const {
  const auto it = by_hash_.find(hash);
  return it == by_hash_.end() ? nullptr : &sends_[it->second];
}

MessageKey History::key_of(const SendRecord& send) const {
  assert(send.outcome == Outcome::kAcked);
  return {devices_[send.device].id, lane_to(mailbox_of(send.to)), send.seq};
}

std::set<std::string> History::readers(const SendRecord& send) const {
  if (const auto group = groups_.find(send.to); group != groups_.end()) return group->second;
  return {devices_[send.device].user, send.to};
}

std::size_t History::count(Outcome outcome) const {
  std::size_t n = 0;
  for (const auto& send : sends_) n += send.outcome == outcome;
  return n;
}

std::string History::text(DeviceIndex device) const {
  return devices_[device].user + "/" + devices_[device].name;
}

std::string History::text(const SendRecord& send) const {
  std::string out = text(send.device) + " to " + send.to;
  if (send.outcome == Outcome::kAcked) {
    out += " #" + std::to_string(send.seq) + " id " + send.id;
  }
  return out + " body " + hash_text(send.hash);
}

std::string hash_text(std::uint64_t hash) {
  return hex({reinterpret_cast<const char*>(&hash), sizeof hash});
}

}  // namespace starling::sim
