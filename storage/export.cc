#include "storage/export.h"

#include <xxhash.h>

namespace starling::storage {
namespace {

constexpr std::array kFamilies = {ColumnFamily::kKeys, ColumnFamily::kRegisters,
                                  ColumnFamily::kLanes};

Bytes bound(std::uint32_t slot) {
  if (slot >= kSlotCount) return {};
  return Bytes(slot_key(static_cast<Slot>(slot)).view());
}

void write_sorted_id(BytesWriter& out, const EntryId& id) {
  out.u64be(id.time);
  out.u64be(id.writer.value);
}

Error damaged_row(ColumnFamily family) {
  return {Errc::kCorrupt, std::string("storage: a row of '") +
                              kColumnFamilyNames[static_cast<std::size_t>(family)] +
                              "' is damaged; the scrub mends it from the log"};
}

}  // namespace

void Export::FreeState::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Export::Export(Engine& engine, Slot first, std::uint32_t last, std::uint64_t cutoff_ms)
    : engine_(engine),
      cutoff_ms_(cutoff_ms),
      first_(bound(first)),
      last_(bound(last)),
      snapshot_(&engine.db()),
      hash_(XXH3_createState()) {
  XXH3_128bits_reset(hash_.get());
  open_scan();
}

Export::~Export() = default;

void Export::raise(VersionVector vector, std::map<Bytes, std::uint64_t> lanes) {
  vector_ = std::move(vector);
  raised_ = std::move(lanes);
}

bool Export::has(ColumnFamily family, View key) {
  rocksdb::PinnableSlice value;
  const auto found = engine_.get(family, key, value, ReadMode{snapshot_.snapshot(), false});
  return found && *found;
}

void Export::open_scan() {
  if (kFamilies[family_] == ColumnFamily::kLanes) {
    scan_.reset();
    lanes_ = std::make_unique<LaneRows>(engine_, first_, last_, ReadMode{snapshot_.snapshot(), false},
                                        std::move(raised_));
    return;
  }
  scan_ = std::make_unique<Engine::Scan>(engine_, kFamilies[family_], first_, last_,
                                         ReadMode{snapshot_.snapshot(), false});
  (*scan_)->SeekToFirst();
}

Result<std::optional<Bytes>> Export::next() {
  while (scan_) {
    if (!scan_->valid()) {
      TRY(scan_->status());
      ++family_;
      open_scan();
      continue;
    }
    TRY_ASSIGN(auto out, row());
    (*scan_)->Next();
    if (out) return std::optional(add(std::move(*out)));
  }
  return next_lane();
}

Bytes Export::add(Bytes row) {
  Bytes size;
  BytesWriter(size).u32be(static_cast<std::uint32_t>(row.size()));
  XXH3_128bits_update(hash_.get(), size.data(), size.size());
  XXH3_128bits_update(hash_.get(), row.data(), row.size());
  return row;
}

Result<std::optional<Bytes>> Export::next_lane() {
  if (!lanes_->valid()) {
    TRY(lanes_->status());
    return std::optional<Bytes>();
  }
  const auto high = lanes_->high();
  if (!high) return damaged_row(ColumnFamily::kLanes);
  Bytes bytes;
  BytesWriter out(bytes);
  out.u8(static_cast<std::uint8_t>(family_ + 1));
  out.raw(lanes_->key());
  out.u64be(*high);
  lanes_->next();
  return std::optional<Bytes>(add(std::move(bytes)));
}

// Of the scan's position; nothing when it is expired.
Result<std::optional<Bytes>> Export::row() const {
  const View key = scan_->key();
  const View value = scan_->value();
  const View mailbox = key.substr(0, MailboxId::kSize);
  const View rest = key.substr(mailbox.size());
  Bytes bytes;
  BytesWriter out(bytes);
  out.u8(static_cast<std::uint8_t>(family_ + 1));
  out.raw(mailbox);
  if (kFamilies[family_] == ColumnFamily::kKeys) {
    const auto row = parse_key_row(value);
    if (!row) return damaged_row(ColumnFamily::kKeys);
    if (is_expired(row->expiry, cutoff_ms_)) return std::optional<Bytes>();
    out.raw(rest);
    write_sorted_id(out, row->id);
    out.u8(row->is_void ? 1 : 0);
    out.u64be(row->content);
  } else {
    const auto row = parse_register_row(value);
    if (!row) return damaged_row(ColumnFamily::kRegisters);
    out.sized(rest);
    out.u8(static_cast<std::uint8_t>(row->merge));
    write_sorted_id(out, row->stamp);
    out.sized(row->value);
  }
  return std::optional<Bytes>(std::move(bytes));
}

Export::Digest Export::digest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash_.get()));
  Digest out;
  std::memcpy(out.data(), canonical.digest, out.size());
  return out;
}

}  // namespace starling::storage
