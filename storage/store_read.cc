// Reads of logs and mailboxes: what is synced, checked again on its way out.

#include <algorithm>
#include <cassert>

#include "storage/mailbox_reader.h"
#include "storage/rocks_store.h"

namespace starling::storage {
namespace {

std::string dot_text(const Dot& dot) {
  return "(" + std::to_string(dot.writer.value) + ", " + std::to_string(dot.n) + ")";
}

}  // namespace

Error RocksStore::damaged(const Dot& dot, const std::string& what) {
  stats_.corrupt += 1;
  return {Errc::kCorrupt,
          "storage: change " + dot_text(dot) + " is damaged, " + what + "; read another owner"};
}

Result<std::optional<StoredChange>> RocksStore::load_change(Slot first_slot, const Dot& dot) {
  rocksdb::PinnableSlice value;
  TRY_ASSIGN(const bool found,
             engine_->get(ColumnFamily::kLog, log_key(first_slot, dot).view(), value));
  if (!found) return std::optional<StoredChange>();
  auto bytes = std::make_shared<const Bytes>(view(value));
  if (const auto decoded = decode(*bytes, dot); !decoded) {
    return damaged(dot, decoded.error().text);
  }
  return std::optional<StoredChange>({dot, std::move(bytes)});
}

Result<StoredChange> RocksStore::load_named(Slot first_slot, const Dot& dot) {
  TRY_ASSIGN(auto change, load_change(first_slot, dot));
  if (!change) return damaged(dot, "its log row is missing");
  return *std::move(change);
}

Result<StoredChange> RocksStore::read_change(PartitionId partition, const Dot& dot) {
  const Slot slot = slot_of(partition);
  const Error absent{Errc::kNotFound, "storage: no change " + dot_text(dot) + " here"};
  if (dot.n > table_.synced(slot, dot.writer)) return absent;
  TRY_ASSIGN(auto change, load_change(slot, dot));
  if (!change) return absent;  // Seen and gone.
  return *std::move(change);
}

Result<RangeStatement> RocksStore::read_writer(PartitionId partition, WriterId writer,
                                               std::uint64_t from, std::size_t bytes) {
  const Slot slot = slot_of(partition);
  RangeStatement out;
  out.writer = writer;
  out.from = std::max<std::uint64_t>(from, 1);
  out.to = out.from - 1;
  const std::uint64_t synced = table_.synced(slot, writer);
  if (synced < out.from) return out;
  const FixedBytes<10> run = FixedBytes<10>().u16be(slot).u64be(writer.value);
  Engine::Scan log(*engine_, ColumnFamily::kLog, run.view());
  std::size_t used = 0;
  out.to = synced;
  log->Seek(slice(log_key(slot, {writer, out.from}).view()));
  for (; log.valid(); log->Next()) {
    const auto dot = parse_dot_key(log.key(), sizeof(Slot));
    assert(dot && dot->writer == writer);
    if (dot->n > synced) break;
    if (!out.live.empty() && used + log.value().size() > bytes) {
      out.to = dot->n - 1;  // Up to here the statement is whole.
      break;
    }
    if (const auto decoded = decode(log.value(), *dot); !decoded) {
      return damaged(*dot, decoded.error().text);
    }
    used += log.value().size();
    out.live.push_back({dot->n, {Bytes(log.value())}});
  }
  TRY(log.status());
  return out;
}

Result<MailboxPage> RocksStore::read_mailbox(const MailboxId& mailbox, const VersionVector& cursor,
                                             std::size_t changes, std::size_t bytes) {
  const Slot slot = slot_of(partition_of(mailbox));
  MailboxPage page;
  page.cursor = cursor;
  page.covered = table_.vector(slot);
  MailboxReader reader(*engine_, mailbox, cursor, page.covered);
  TRY(reader.start());
  std::size_t used = 0;
  while (!reader.done()) {
    const bool some = !page.changes.empty();
    page.more = some && page.changes.size() >= changes;
    if (page.more) break;
    TRY_ASSIGN(StoredChange change, load_named(slot, reader.dot()));
    page.more = some && used + change.bytes->size() > bytes;
    if (page.more) break;
    used += change.bytes->size();
    page.cursor.raise(change.dot.writer, change.dot.n);
    page.changes.push_back(std::move(change));
    TRY(reader.next());
  }
  return page;
}

Result<std::vector<StoredChange>> RocksStore::history(const MailboxId& mailbox,
                                                      const MailboxId& conversation,
                                                      const EntryId& before, std::size_t limit) {
  const Slot slot = slot_of(partition_of(mailbox));
  const FixedBytes<32> prefix =
      FixedBytes<32>().raw(mailbox.view()).raw(conversation.view());
  Engine::Scan entries(*engine_, ColumnFamily::kEntries, prefix.view());
  if (before.is_zero()) {
    entries->SeekToLast();
  } else {
    const auto key = entry_key(mailbox, conversation, before);
    entries->SeekForPrev(slice(key.view()));
    if (entries.valid() && entries.key() == key.view()) entries->Prev();
  }
  std::vector<StoredChange> out;
  for (; entries.valid() && out.size() < limit; entries->Prev()) {
    const auto dot = parse_dot(entries.value());
    if (!dot) {
      return Error{Errc::kCorrupt, "storage: a row of 'entries' is damaged; read another owner"};
    }
    TRY_ASSIGN(StoredChange change, load_named(slot, *dot));
    out.push_back(std::move(change));
  }
  TRY(entries.status());
  return out;
}

}  // namespace starling::storage
