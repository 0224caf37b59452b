// Reads of logs and mailboxes: what is synced, checked again on its way out.

#include <algorithm>
#include <cassert>
#include <limits>

#include <rocksdb/snapshot.h>

#include "storage/rocks/log_run.h"
#include "storage/rocks/mailbox_reader.h"
#include "storage/rocks/rocks_store.h"

namespace starling::storage {
namespace {

constexpr std::uint64_t kLongRun = 16;           // Changes.
constexpr std::uint64_t kRowsByKeyMax = 256;     // In one statement.
constexpr std::size_t kTracesOfRunMax = 4096;  // In one statement: half a megabyte. Who misses more is not told of them.

}  // namespace

Result<std::optional<RocksStore::Loaded>> RocksStore::load_change(Slot first_slot,
                                                                  const Dot& dot, ReadMode mode) {
  rocksdb::PinnableSlice value;
  TRY_ASSIGN(const bool found, find_log(first_slot, dot, value, mode));
  if (!found) return std::optional<Loaded>();
  auto bytes = std::make_shared<const Bytes>(view(value));
  const auto decoded = decode(*bytes, dot);
  if (!decoded) {
    if (decoded.code() == Errc::kUnsupported) return decoded.error();
    return damaged_change(first_slot, dot, decoded.error().text);
  }
  if (expiry_->expired(expiry_seconds(decoded->entry.expires_ms))) return std::optional<Loaded>();
  return std::optional<Loaded>({{dot, std::move(bytes)}, *decoded});
}

Result<StoredChange> RocksStore::load_named(Slot first_slot, const Dot& dot, ReadMode mode) {
  TRY_ASSIGN(auto loaded, load_change(first_slot, dot, mode));
  if (!loaded) return damaged_change(first_slot, dot, "its log record is missing");
  return std::move(loaded->change);
}

Result<StoredChange> RocksStore::read_change(PartitionId partition, const Dot& dot) {
  const Slot slot = slot_of(partition);
  const Error absent{Errc::kNotFound, "storage: no change " + to_text(dot) + " here"};
  if (dot.n > table_.synced(slot, dot.writer)) return absent;
  if (damage_.is_damaged(slot, dot)) return check_whole(slot).error();
  TRY_ASSIGN(auto loaded, load_change(slot, dot));
  if (!loaded) return absent;  // Seen and gone.
  return std::move(loaded->change);
}

Result<RangeStatement> RocksStore::read_writer(PartitionId partition, WriterId writer, std::uint64_t from,
                                               std::size_t bytes, Expired expired) {
  const Slot slot = slot_of(partition);
  RangeStatement out;
  out.writer = writer;
  out.from = std::max<std::uint64_t>(from, 1);
  out.to = out.from - 1;
  const std::uint64_t synced = table_.synced(slot, writer);
  if (synced < out.from) return out;
  const auto hole = damage_.first_damaged(slot, {writer, out.from});
  if (hole == out.from) return check_whole(slot).error();
  const std::uint64_t to = hole ? *hole - 1 : synced;
  // Beside a file that cannot be read a scan fails even where its own rows could be read; a look-up does not.
  const Status read = damage_.is_refill(slot) ? read_row_by_row(slot, to, bytes, expired, out)
                                              : read_run(slot, to, bytes, expired, out);
  if (!read && out.to < out.from) return read.error();
  for (const Dot& dot : damage_.lost(slot)) {
    if (dot.writer == writer && out.from <= dot.n && dot.n <= out.to) out.lost.push_back(dot.n);
  }
  add_traces(slot, out, kTracesOfRunMax);
  return out;
}

// `out.to`: up to here the statement is whole, however this ends.
Status RocksStore::read_run(Slot slot, std::uint64_t to, std::size_t bytes, Expired expired, RangeStatement& out) {
  // A long run is read once, by an owner that lacks it: not at the expense of what is read often.
  ReadMode mode;
  if (to - out.from >= kLongRun) mode = {.fill_cache = false, .ahead_bytes = bytes};
  LogRun log(*engine_, slot, old_slot(slot), out.writer, mode);
  std::size_t used = 0, seen = 0;
  for (log.seek(out.from); log.valid(); log.next()) {
    const Dot dot = log.dot();
    assert(dot.writer == out.writer);
    if (dot.n > to) break;
    out.to = dot.n - 1;
    const bool full = !out.live.empty() && used + log.value().size() + kChangeCost > bytes;
    if (full || (seen > used && seen > kReadThroughFactor * bytes)) return ok_status();
    TRY_ASSIGN(const bool live, take_row(slot, dot, log.value(), expired, out));
    out.to = dot.n;
    seen += log.value().size() + kChangeCost;
    if (live) used += log.value().size() + kChangeCost;
  }
  TRY(log.status());
  out.to = to;
  return ok_status();
}

// The same with a look-up for each row, up to the first that cannot be read. All such rows of these are listed as
// damaged: who has none of them elsewhere wants to know of more than one at a time.
Status RocksStore::read_row_by_row(Slot slot, std::uint64_t to, std::size_t bytes, Expired expired,
                                   RangeStatement& out) {
  std::size_t used = 0;
  Status whole = ok_status();
  RangeStatement beyond;  // Of rows that can be read behind one that cannot.
  const std::uint64_t last = std::min(to, out.to + kRowsByKeyMax);
  for (std::uint64_t n = out.to + 1; n <= last && used <= bytes; ++n) {
    const Dot dot{out.writer, n};
    rocksdb::PinnableSlice value;
    const auto found = damage_.is_lost(slot, dot) ? Result<bool>(false) : find_log(slot, dot, value);
    if (!found && found.code() != Errc::kCorrupt) return found.error();
    Status taken = ok_status();
    if (!found) {
      taken = damaged_change(slot, dot, "its row cannot be read");
    } else if (*found) {
      const auto row = take_row(slot, dot, view(value), expired, whole ? out : beyond);
      if (!row) taken = row.error();
    }
    if (!taken && taken.code() != Errc::kCorrupt) return taken;
    if (whole) whole = std::move(taken);
    if (!whole) continue;
    used += value.size() + kChangeCost;
    out.to = n;
  }
  return whole;
}

// True: it is live. What does not decode is noted as damaged.
Result<bool> RocksStore::take_row(Slot slot, const Dot& dot, View bytes, Expired expired, RangeStatement& out) {
  const auto decoded = decode(bytes, dot);
  if (!decoded && decoded.code() == Errc::kUnsupported) return decoded.error();
  if (!decoded) return damaged_change(slot, dot, decoded.error().text);
  if (split_ && !is_of(slot, decoded->mailbox)) return false;  // The sibling's: gone here.
  const bool shown = expired == Expired::kShown;
  if (!shown && expiry_->expired(expiry_seconds(decoded->entry.expires_ms))) return false;  // Gone.
  out.live.push_back({dot.n, {Bytes(bytes)}});
  return true;
}

// A void of the message is on disk. One that is not synced could be lost with us, and the message would be passed over.
bool RocksStore::is_closed(View content, const VersionVector& synced, ReadMode mode) const {
  const auto change = parse(content);
  if (!change) return false;
  rocksdb::PinnableSlice value;
  const auto found =
      engine_->get(ColumnFamily::kKeys, message_key(change->mailbox, change->entry.key).view(), value, mode);
  const auto row = found && *found ? parse_key_row(view(value)) : std::nullopt;
  return row && row->is_void && synced.covers(row->dot);
}

Result<MailboxPage> RocksStore::read_mailbox(const MailboxId& mailbox, const VersionVector& cursor,
                                             std::size_t changes, std::size_t bytes, Kinds kinds) {
  const Slot slot = slot_of(partition_of(mailbox));
  TRY(check_whole(slot));
  MailboxPage page;
  page.cursor = cursor;
  page.covered = table_.vector(slot);
  rocksdb::ManagedSnapshot snapshot(&engine_->db());
  const ReadMode mode{snapshot.snapshot()};
  MailboxReader reader(*engine_, mailbox, cursor, page.covered, mode);
  TRY(reader.start());
  std::size_t used = 0, passed = 0;
  while (!reader.done()) {
    const MailboxReader::Row row = reader.row();
    if (row.damaged) {
      heal(slot, row.dot);
      return Error{Errc::kCorrupt, "storage: a row of 'mailbox_dots' is damaged and is written "
                                   "again from the log; read another owner, or again"};
    }
    const auto pass = [&]() -> Status {
      page.more = ++passed > kRowsPassedMax;
      if (page.more) return ok_status();
      page.cursor.raise(row.dot.writer, row.dot.n);
      return reader.next();
    };
    // Gone, or not asked for, counts as seen.
    if (expiry_->expired(row.expiry) || (kinds == Kinds::kEntries && row.kind == ChangeKind::kRegister)) {
      TRY(pass());
      if (page.more) break;
      continue;
    }
    const bool some = !page.changes.empty();
    page.more = (some && page.changes.size() >= changes) || used > bytes;
    if (page.more) break;
    TRY_ASSIGN(StoredChange change, load_named(slot, row.dot, mode));
    if (row.kind == ChangeKind::kEntry && is_closed(*change.bytes, page.covered, mode)) {
      used += change.bytes->size();  // Read all the same.
      TRY(pass());
      if (page.more) break;
      continue;
    }
    page.more = some && used + change.bytes->size() > bytes;
    if (page.more) break;
    used += change.bytes->size();
    page.cursor.raise(change.dot.writer, change.dot.n);
    page.changes.push_back(std::move(change));
    TRY(reader.next());
  }
  return page;
}

// Two seeks a writer: to the first row behind its last, and one back.
Result<VersionVector> RocksStore::mailbox_vector(const MailboxId& mailbox) {
  TRY(check_whole(slot_of(partition_of(mailbox))));
  constexpr auto kEnd = std::numeric_limits<std::uint64_t>::max();
  VersionVector out;
  Engine::Scan rows(*engine_, ColumnFamily::kMailboxDots, mailbox.view());
  rows->SeekToFirst();
  while (rows.valid()) {
    const auto first = parse_dot_key(rows.key(), MailboxId::kSize);
    if (!first) return Error{Errc::kCorrupt, "storage: a key of 'mailbox_dots' is damaged; ask another owner"};
    rows->SeekForPrev(slice(mailbox_dot_key(mailbox, {first->writer, kEnd}).view()));
    const auto last = rows.valid() ? parse_dot_key(rows.key(), MailboxId::kSize) : std::nullopt;
    if (!last) break;
    out.raise(last->writer, last->n);
    rows->Next();
  }
  TRY(rows.status());
  return out;
}

// One seek a conversation.
Result<std::optional<StoredChange>> RocksStore::find_entry(const MailboxId& mailbox,
                                                           const EntryId& id) {
  const Slot slot = slot_of(partition_of(mailbox));
  TRY(check_whole(slot));
  rocksdb::ManagedSnapshot snapshot(&engine_->db());
  const ReadMode mode{snapshot.snapshot()};
  Engine::Scan entries(*engine_, ColumnFamily::kEntries, mailbox.view(), mode);
  entries->SeekToFirst();
  while (entries.valid()) {
    MailboxId conversation;
    const View rest = entries.key().substr(MailboxId::kSize);
    if (!MailboxId::from(rest.substr(0, MailboxId::kSize), conversation)) break;
    const auto wanted = entry_key(mailbox, conversation, id);
    if (entries.key() < wanted.view()) entries->Seek(slice(wanted.view()));
    if (entries.valid() && entries.key() == wanted.view()) {
      const auto row = parse_entry_row(entries.value());
      if (!row) return Error{Errc::kCorrupt, "storage: a row of 'entries' is damaged; ask another owner"};
      TRY_ASSIGN(StoredChange change, load_named(slot, row->dot, mode));
      return std::optional<StoredChange>(std::move(change));
    }
    const Bytes behind(17, '\xff');  // After every id.
    entries->Seek(slice(Bytes(mailbox.view()).append(conversation.view()).append(behind)));
  }
  TRY(entries.status());
  return std::optional<StoredChange>();
}

Result<std::vector<StoredChange>> RocksStore::history(const MailboxId& mailbox,
                                                      const MailboxId& conversation,
                                                      const EntryId& before, std::size_t limit) {
  const Slot slot = slot_of(partition_of(mailbox));
  TRY(check_whole(slot));
  const FixedBytes<32> prefix =
      FixedBytes<32>().raw(mailbox.view()).raw(conversation.view());
  rocksdb::ManagedSnapshot snapshot(&engine_->db());
  const ReadMode mode{snapshot.snapshot()};
  Engine::Scan entries(*engine_, ColumnFamily::kEntries, prefix.view(), mode);
  if (before.is_zero()) {
    entries->SeekToLast();
  } else {
    const auto key = entry_key(mailbox, conversation, before);
    entries->SeekForPrev(slice(key.view()));
    if (entries.valid() && entries.key() == key.view()) entries->Prev();
  }
  std::vector<StoredChange> out;
  for (; entries.valid() && out.size() < limit; entries->Prev()) {
    const auto row = parse_entry_row(entries.value());
    if (!row) {
      heal_mailbox(mailbox);
      return Error{Errc::kCorrupt, "storage: a row of 'entries' is damaged and is written again "
                                   "from the log; read another owner, or again"};
    }
    if (expiry_->expired(row->expiry)) continue;
    TRY_ASSIGN(StoredChange change, load_named(slot, row->dot, mode));
    out.push_back(std::move(change));
  }
  TRY(entries.status());
  return out;
}

}  // namespace starling::storage
