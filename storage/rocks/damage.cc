#include "storage/rocks/damage.h"

namespace starling::storage {

bool DamageTable::load(View key, View value) {
  if (value.size() != 1) return false;
  BytesReader in(key);
  const Slot slot = in.u16be();
  if (const auto dot = parse_dot_key(key, sizeof(Slot))) {
    if (value == damage_value(DamageState::kDamaged).view()) {
      partitions_[slot].damaged.insert(*dot);
      return true;
    }
    if (value == damage_value(DamageState::kLost).view()) {
      partitions_[slot].lost.insert(*dot);
      return true;
    }
    return false;
  }
  const std::uint64_t file = in.u64be();
  if (!in.done() || value != damage_value(DamageState::kRefill).view()) return false;
  partitions_[slot].refill.insert(file);
  return true;
}

bool DamageTable::add(Slot first_slot, const Dot& dot) {
  Partition& partition = partitions_[first_slot];
  return !partition.lost.contains(dot) && partition.damaged.insert(dot).second;
}

void DamageTable::mended(Slot first_slot, const Dot& dot) {
  const auto it = partitions_.find(first_slot);
  if (it == partitions_.end()) return;
  it->second.damaged.erase(dot);
  it->second.lost.erase(dot);
}

void DamageTable::lose(Slot first_slot, const Dot& dot) {
  Partition& partition = partitions_[first_slot];
  partition.damaged.erase(dot);
  partition.lost.insert(dot);
}

bool DamageTable::refill(Slot first_slot, std::uint64_t file) {
  return partitions_[first_slot].refill.insert(file).second;
}

std::vector<Slot> DamageTable::split(Slot half) {
  std::map<Slot, Partition> uppers;
  std::vector<Slot> added;
  for (const auto& [slot, partition] : partitions_) {
    added.push_back(static_cast<Slot>(slot + half));
    uppers.emplace(added.back(), partition);
  }
  partitions_.merge(uppers);
  return added;
}

const DamageTable::Partition* DamageTable::find(Slot first_slot) const {
  const auto it = partitions_.find(first_slot);
  return it != partitions_.end() ? &it->second : nullptr;
}

bool DamageTable::is_damaged(Slot first_slot, const Dot& dot) const {
  const Partition* found = find(first_slot);
  return found != nullptr && found->damaged.contains(dot);
}

bool DamageTable::is_lost(Slot first_slot, const Dot& dot) const {
  const Partition* found = find(first_slot);
  return found != nullptr && found->lost.contains(dot);
}

bool DamageTable::is_whole(Slot first_slot) const {
  const Partition* found = find(first_slot);
  return found == nullptr || (found->damaged.empty() && found->refill.empty());
}

bool DamageTable::is_refill(Slot first_slot) const {
  const Partition* found = find(first_slot);
  return found != nullptr && !found->refill.empty();
}

std::optional<std::uint64_t> DamageTable::first_damaged(Slot first_slot, const Dot& from) const {
  const Partition* found = find(first_slot);
  if (found == nullptr) return std::nullopt;
  const auto it = found->damaged.lower_bound(from);
  if (it == found->damaged.end() || it->writer != from.writer) return std::nullopt;
  return it->n;
}

std::vector<Dot> DamageTable::damaged(Slot first_slot) const {
  const Partition* found = find(first_slot);
  if (found == nullptr) return {};
  return {found->damaged.begin(), found->damaged.end()};
}

std::vector<Dot> DamageTable::lost(Slot first_slot) const {
  const Partition* found = find(first_slot);
  if (found == nullptr) return {};
  return {found->lost.begin(), found->lost.end()};
}

std::vector<Slot> DamageTable::damaged_slots() const {
  std::vector<Slot> out;
  for (const auto& [slot, partition] : partitions_) {
    if (!partition.damaged.empty() || !partition.refill.empty()) out.push_back(slot);
  }
  return out;
}

std::vector<Slot> DamageTable::refill_slots() const {
  std::vector<Slot> out;
  for (const auto& [slot, partition] : partitions_) {
    if (!partition.refill.empty()) out.push_back(slot);
  }
  return out;
}

std::set<std::uint64_t> DamageTable::refill_files() const {
  std::set<std::uint64_t> out;
  for (const auto& [slot, partition] : partitions_) {
    out.insert(partition.refill.begin(), partition.refill.end());
  }
  return out;
}

std::set<std::uint64_t> DamageTable::refill_files(Slot first_slot) const {
  const Partition* found = find(first_slot);
  return found != nullptr ? found->refill : std::set<std::uint64_t>();
}

std::size_t DamageTable::damaged_count() const {
  std::size_t out = 0;
  for (const auto& [slot, partition] : partitions_) out += partition.damaged.size();
  return out;
}

std::size_t DamageTable::lost_count() const {
  std::size_t out = 0;
  for (const auto& [slot, partition] : partitions_) out += partition.lost.size();
  return out;
}

}  // namespace starling::storage
