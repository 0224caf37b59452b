// Keys, lanes, registers and small state: what is in flight first, then the disk.

#include <algorithm>
#include <cassert>
#include <map>

#include "storage/lane_rows.h"
#include "storage/rocks/rocks_store.h"

namespace starling::storage {

std::optional<Bytes> RocksStore::load(ColumnFamily family, View key) {
  rocksdb::PinnableSlice value;
  const auto found = engine_->get(family, key, value);
  if (!found) {
    fail(found.error());
    return std::nullopt;
  }
  if (!*found) return std::nullopt;
  return Bytes(view(value));
}

// --- Message keys and lanes. ---

std::optional<KeyRow> RocksStore::find_key_row(const MailboxId& mailbox, const MessageKey& key) {
  if (const auto* pending = keys_.find({mailbox, key})) return *pending;
  const auto value = load(ColumnFamily::kKeys, message_key(mailbox, key).view());
  if (!value) return std::nullopt;
  auto row = parse_key_row(*value);
  if (row || healing_) return row;
  heal_mailbox(mailbox);
  const auto* healed = keys_.find({mailbox, key});
  return healed != nullptr ? std::optional(*healed) : std::nullopt;
}

std::optional<KeyState> RocksStore::find_key(const MailboxId& mailbox, const MessageKey& key) {
  const auto row = find_key_row(mailbox, key);
  if (!row || expiry_->expired(row->expiry)) return std::nullopt;
  return KeyState{row->dot, row->id, row->is_void, row->content};
}

std::uint64_t RocksStore::lane_high(const MailboxId& mailbox, const DeviceId& device,
                                    std::uint64_t lane) {
  const LaneId id{mailbox, device, lane};
  if (const auto* known = lanes_.find(id)) return *known;
  std::uint64_t high = 0;
  if (const auto* raised = journal_.lane(id)) {
    high = *raised;
  } else if (const auto value = load(ColumnFamily::kLanes, lane_key(id).view())) {
    const auto number = parse_number(*value);
    high = number.value_or(0);
    if (!number && !healing_) {
      heal_mailbox(mailbox);
      if (const auto* healed = lanes_.find(id)) return *healed;
    }
  }
  lanes_.remember(id, high);
  return high;
}

Result<std::vector<LaneRow>> RocksStore::read_lanes(PartitionId partition,
                                                    const std::optional<LaneRow>& after,
                                                    std::size_t limit) {
  const Slot slot = slot_of(partition);
  // Beside a bad file of another family the rows say what can be read. Beside one of their own they might not.
  if (!damage_.is_refill(slot) || is_refill_of(slot, ColumnFamily::kLanes)) TRY(check_whole(slot));
  TRY(check_stays(slot));
  auto [first, last] = bounds_of(slot);
  if (after) first = Bytes(lane_key({after->mailbox, after->device, after->lane}).view()) + '\0';
  std::vector<LaneRow> out;
  LaneRows rows(*engine_, first, last, ReadMode{}, journal_.lanes_of(slot, slot + kSlotCount / partitions_));
  for (; rows.valid() && out.size() < limit; rows.next()) {
    const auto key = parse_lane_key(rows.key());
    const auto high = rows.high();
    if (!key || !high) {
      return Error{Errc::kCorrupt, "storage: a row of 'lanes' is damaged; ask another owner"};
    }
    out.push_back({key->mailbox, key->device, key->lane, *high});
  }
  TRY(rows.status());
  return out;
}

Status RocksStore::merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) {
  TRY(check_room(slot_of(partition)));
  for (const auto& row : lanes) {
    if (partition_of(row.mailbox) != partition) {
      return Error{Errc::kInvalid, "storage: a lane of another partition; ask another owner"};
    }
  }
  for (const auto& row : lanes) {
    if (row.high <= lane_high(row.mailbox, row.device, row.lane)) continue;
    lanes_.put({row.mailbox, row.device, row.lane}, row.high);  // Written at the seal.
    gathering_->has_writes = true;
    mark_dirty();
  }
  return ok_status();
}

// --- Registers. ---

std::optional<RegisterRow> RocksStore::find_register_row(const Bytes& key) {
  if (const auto* pending = registers_.find(key)) return *pending;
  const auto value = load(ColumnFamily::kRegisters, key);
  if (!value) return std::nullopt;
  auto row = parse_register_row(*value);
  if (row) registers_.remember(key, *row);
  MailboxId mailbox;
  if (row || healing_ || !MailboxId::from(View(key).substr(0, MailboxId::kSize), mailbox)) {
    return row;
  }
  heal_mailbox(mailbox);
  const auto* healed = registers_.find(key);
  return healed != nullptr ? std::optional(*healed) : std::nullopt;
}

std::optional<RegisterValue> RocksStore::find_register(const MailboxId& mailbox, View key) {
  auto row = find_register_row(register_key(mailbox, key));
  if (!row) return std::nullopt;
  return RegisterValue{row->merge, row->stamp, Bytes(key), std::move(row->value), row->dot};
}

std::vector<RegisterValue> RocksStore::scan_registers(const MailboxId& mailbox, View prefix,
                                                      View after, std::size_t limit) {
  std::vector<RegisterValue> out;
  const Bytes first = register_key(mailbox, prefix);
  const Bytes last_seen = register_key(mailbox, after);
  Engine::Scan rows(*engine_, ColumnFamily::kRegisters, first);
  rows->Seek(slice(std::max(first, last_seen)));
  for (; rows.valid() && out.size() < limit; rows->Next()) {
    const View key = rows.key().substr(MailboxId::kSize);
    if (!after.empty() && key <= after) continue;
    auto row = parse_register_row(rows.value());
    if (!row) row = find_register_row(Bytes(rows.key()));  // Heals it.
    if (!row) continue;
    out.push_back({row->merge, row->stamp, Bytes(key), std::move(row->value), row->dot});
  }
  if (const auto status = rows.status(); !status) fail(status.error());
  return out;
}

// One seek finds the register of a mailbox, the next one the mailbox behind it.
std::vector<std::pair<MailboxId, RegisterValue>> RocksStore::find_mailboxes(View key,
                                                                            const MailboxId& after,
                                                                            std::size_t limit) {
  std::vector<std::pair<MailboxId, RegisterValue>> out;
  Engine::Scan rows(*engine_, ColumnFamily::kRegisters, View());
  const Bytes behind(kRegisterKeySizeMax + 1, '\xff');  // After every key.
  rows->Seek(slice(after.is_zero() ? Bytes() : register_key(after, behind)));
  while (rows.valid() && out.size() < limit) {
    MailboxId mailbox;
    if (!MailboxId::from(rows.key().substr(0, MailboxId::kSize), mailbox)) break;
    const Bytes wanted = register_key(mailbox, key);
    if (rows.key() < wanted) rows->Seek(slice(wanted));
    if (rows.valid() && rows.key() == View(wanted)) {
      auto row = parse_register_row(rows.value());
      if (!row) row = find_register_row(wanted);  // Heals it.
      if (row) {
        out.emplace_back(
            mailbox, RegisterValue{row->merge, row->stamp, Bytes(key), std::move(row->value), row->dot});
      }
    }
    if (rows.valid() && rows.key().starts_with(mailbox.view())) {
      rows->Seek(slice(register_key(mailbox, behind)));
    }
  }
  if (const auto status = rows.status(); !status) fail(status.error());
  return out;
}

// --- Small state. ---

namespace {

ColumnFamily column_of(Store::Family family) {
  return family == Store::Family::kPaxos ? ColumnFamily::kPaxos : ColumnFamily::kNode;
}

}  // namespace

Pending<Bytes, Bytes>& RocksStore::small_state(Family family) {
  return family == Family::kPaxos ? paxos_ : node_;
}

std::optional<Bytes> RocksStore::load_small(Family family, View key) {
  if (const auto* pending = small_state(family).find(Bytes(key))) return *pending;
  return load(column_of(family), key);
}

std::optional<Bytes> RocksStore::get(Family family, View key) {
  auto value = load_small(family, key);
  if (value && value->empty()) return std::nullopt;  // Erased.
  return value;
}

void RocksStore::put(Family family, View key, View value) {
  assert(family != Family::kNode || !is_reserved(key));
  if (value.empty()) {
    engine_->erase(*gathering_->writes, column_of(family), key);
  } else {
    engine_->put(*gathering_->writes, column_of(family), key, value);
  }
  small_state(family).put(Bytes(key), Bytes(value));
  gathering_->has_writes = true;
  mark_dirty();
}

std::vector<std::pair<Bytes, Bytes>> RocksStore::scan(Family family, View prefix,
                                                      View after, std::size_t limit) {
  std::map<Bytes, Bytes> found;
  Engine::Scan rows(*engine_, column_of(family), prefix);
  rows->Seek(slice(std::max(prefix, after)));
  for (; rows.valid() && found.size() < limit; rows->Next()) {
    if (!after.empty() && rows.key() <= after) continue;
    if (family == Family::kNode && is_reserved(rows.key())) continue;
    const auto* pending = small_state(family).find(Bytes(rows.key()));
    if (pending != nullptr && pending->empty()) continue;  // Erased.
    found.emplace(rows.key(), rows.value());
  }
  if (const auto status = rows.status(); !status) fail(status.error());
  small_state(family).for_each_pending([&](const Bytes& key, const Bytes& value) {
    if (View(key).starts_with(prefix) && View(key) > after) found.insert_or_assign(key, value);
  });
  std::vector<std::pair<Bytes, Bytes>> out;
  for (auto& [key, value] : found) {
    if (out.size() == limit) break;
    if (!value.empty()) out.emplace_back(key, std::move(value));
  }
  return out;
}

}  // namespace starling::storage
