#include "storage/export.h"

#include <xxhash.h>

namespace starling::storage {
namespace {

constexpr std::array kFamilies = {ColumnFamily::kKeys, ColumnFamily::kRegisters,
                                  ColumnFamily::kLanes};
constexpr std::uint32_t kSlots = 1 << 16;

Bytes bound(std::uint32_t slot) {
  if (slot >= kSlots) return {};
  return Bytes(slot_key(static_cast<Slot>(slot)).view());
}

void write_id(BytesWriter& out, const EntryId& id) {
  out.u64be(id.time);
  out.u64be(id.writer.value);
}

}  // namespace

void Export::FreeState::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Export::Export(Engine& engine, Slot first, std::uint32_t last, std::uint64_t cutoff_ms)
    : engine_(engine),
      slot_(first),
      cutoff_ms_(cutoff_ms),
      first_(bound(first)),
      last_(bound(last)),
      snapshot_(&engine.db()),
      hash_(XXH3_createState()) {
  XXH3_128bits_reset(hash_.get());
  open_scan();
}

Export::~Export() = default;

void Export::open_scan() {
  scan_ = std::make_unique<Engine::Scan>(engine_, kFamilies[family_], first_, last_,
                                         ReadMode{snapshot_.snapshot(), false});
  (*scan_)->SeekToFirst();
}

Result<VersionVector> Export::vector() {
  VersionVector out;
  Engine::Scan rows(engine_, ColumnFamily::kPartitions, Bytes(slot_key(slot_).view()),
                    bound(std::uint32_t{slot_} + 1), ReadMode{snapshot_.snapshot(), false});
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto key = parse_partition_key(rows.key());
    const auto n = parse_number(rows.value());
    if (!key || !n) return Error{Errc::kCorrupt, "storage: a vector is damaged; start again"};
    out.raise(key->writer, *n);
  }
  TRY(rows.status());
  return out;
}

Result<std::optional<Bytes>> Export::next() {
  while (true) {
    if (!scan_->valid()) {
      TRY(scan_->status());
      if (family_ + 1 == kFamilies.size()) return std::optional<Bytes>();
      ++family_;
      open_scan();
      continue;
    }
    TRY_ASSIGN(auto out, row());
    (*scan_)->Next();
    if (!out) continue;
    Bytes size;
    BytesWriter(size).u32be(static_cast<std::uint32_t>(out->size()));
    XXH3_128bits_update(hash_.get(), size.data(), size.size());
    XXH3_128bits_update(hash_.get(), out->data(), out->size());
    return out;
  }
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
  const Error damaged{Errc::kCorrupt, std::string("storage: a row of '") +
                                          kColumnFamilyNames[static_cast<std::size_t>(
                                              kFamilies[family_])] +
                                          "' is damaged; the scrub mends it from the log"};
  switch (kFamilies[family_]) {
    case ColumnFamily::kKeys: {
      const auto row = parse_key_row(value);
      if (!row) return damaged;
      if (is_expired(row->expiry, cutoff_ms_)) return std::optional<Bytes>();
      out.raw(rest);
      write_id(out, row->id);
      out.u8(row->is_void ? 1 : 0);
      out.u64be(row->content);
      break;
    }
    case ColumnFamily::kRegisters: {
      const auto row = parse_register_row(value);
      if (!row) return damaged;
      out.sized(rest);
      out.u8(static_cast<std::uint8_t>(row->merge));
      write_id(out, row->stamp);
      out.sized(row->value);
      break;
    }
    default: {
      const auto high = parse_number(value);
      if (!high) return damaged;
      out.raw(rest);
      out.u64be(*high);
    }
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
