// Traces of messages that were written off: kept beside the list of damage, for readers and operators who ask.
#include <algorithm>
#include <limits>

#include "storage/rocks/rocks_store.h"

namespace starling::storage {

namespace {
constexpr std::uint64_t kLastN = std::numeric_limits<std::uint64_t>::max();
}  // namespace

// Those whose change came back in a file, or whose partition was emptied, say nothing any more.
Status RocksStore::load_traces() {
  Engine::Scan rows(*engine_, ColumnFamily::kNode, kNodeLost);
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto trace = parse_lost(rows.key(), rows.value());
    if (!trace || expiry_->expired(trace->expiry)) continue;
    if (damage_.is_lost(slot_of(partition_of(trace->mailbox)), trace->dot)) traces_.add(*trace);
  }
  return rows.status();
}

std::optional<Trace> RocksStore::trace_named(Slot first_slot, const Dot& dot) {
  const auto naming = naming_.find(first_slot);
  if (naming == naming_.end()) return std::nullopt;
  const auto [begin, end] = naming->second.rows.equal_range(dot);
  for (auto at = begin; at != end; ++at) {
    if (at->second.first != ColumnFamily::kKeys) continue;
    const auto named = parse_message_key(at->second.second);
    if (!named) continue;
    const auto row = find_key_row(named->first, named->second);  // Another copy may stand there by now.
    if (row && row->dot == dot) return trace_of(named->first, named->second, *row);
  }
  return std::nullopt;
}

void RocksStore::note_traces(Slot first_slot, std::span<const Trace> traces, const std::set<Dot>& lost) {
  for (const Trace& trace : traces) {
    if (lost.contains(trace.dot) && slot_of(partition_of(trace.mailbox)) == first_slot) note_trace(trace);
  }
}

void RocksStore::note_trace(const Trace& trace) {
  if (expiry_->expired(trace.expiry) || !traces_.add(trace)) return;
  engine_->put(*gathering_->writes, ColumnFamily::kNode, lost_key(trace.mailbox, trace.dot), lost_value(trace).view());
  gathering_->has_writes = true;
  mark_dirty();
}

std::vector<MailboxId> RocksStore::traced_mailboxes(Slot first_slot) const {
  std::vector<MailboxId> out;
  MailboxId first;
  first.raw[0] = static_cast<std::uint8_t>(first_slot >> 8);
  first.raw[1] = static_cast<std::uint8_t>(first_slot);
  const auto& mailboxes = traces_.mailboxes();
  for (auto at = mailboxes.lower_bound(first); at != mailboxes.end(); ++at) {
    if (slot_of(partition_of(at->first)) != first_slot) break;
    out.push_back(at->first);
  }
  return out;
}

// REQUIRES: range.lost is ascending.
void RocksStore::add_traces(Slot first_slot, RangeStatement& range, std::size_t limit) const {
  if (range.lost.empty()) return;
  for (const auto& mailbox : traced_mailboxes(first_slot)) {
    const auto& by_dot = traces_.find(mailbox)->by_dot;
    for (auto at = by_dot.lower_bound({range.writer, range.lost.front()}); at != by_dot.end(); ++at) {
      if (at->first.writer != range.writer || at->first.n > range.lost.back()) break;
      if (range.traces.size() >= limit) return;
      if (std::binary_search(range.lost.begin(), range.lost.end(), at->first.n)) range.traces.push_back(at->second);
    }
  }
}

void RocksStore::erase_trace(Slot first_slot, const Dot& dot) {
  for (const auto& mailbox : traced_mailboxes(first_slot)) {
    if (!traces_.find(mailbox)->by_dot.contains(dot)) continue;
    engine_->erase(*gathering_->writes, ColumnFamily::kNode, lost_key(mailbox, dot));
    return traces_.erase(mailbox, dot);
  }
}

void RocksStore::erase_traces(rocksdb::WriteBatch& writes, Slot first_slot) {
  for (const auto& mailbox : traced_mailboxes(first_slot)) {
    while (const auto* of = traces_.find(mailbox)) {
      const Dot dot = of->by_dot.begin()->first;
      engine_->erase(writes, ColumnFamily::kNode, lost_key(mailbox, dot));
      traces_.erase(mailbox, dot);
    }
  }
}

// --- For readers. ---

bool RocksStore::tells(const Trace& trace) const {
  return !expiry_->expired(trace.expiry) && damage_.is_lost(slot_of(partition_of(trace.mailbox)), trace.dot);
}

// Another copy of the message may stand.
bool RocksStore::is_missing(const Trace& trace) { return !trace.is_void && !find_key(trace.mailbox, trace.key); }

LostPage RocksStore::lost_after(const MailboxId& mailbox, const VersionVector& cursor, const VersionVector* end,
                                std::size_t limit) {
  LostPage out;
  const auto* of = traces_.find(mailbox);
  if (of == nullptr) return out;
  std::size_t left = limit;
  for (auto at = of->by_dot.begin(); at != of->by_dot.end();) {
    const WriterId writer = at->first.writer;
    const std::uint64_t last = end == nullptr ? kLastN : end->get(writer);
    at = of->by_dot.upper_bound({writer, cursor.get(writer)});
    for (; at != of->by_dot.end() && at->first.writer == writer && at->first.n <= last; ++at) {
      if (!tells(at->second)) continue;
      if (left == 0) {
        out.next.push_back(at->first);
        break;
      }
      --left;
      out.passed.raise(writer, at->first.n);
      if (is_missing(at->second)) out.messages.push_back(at->second);
    }
    at = of->by_dot.upper_bound({writer, kLastN});
  }
  return out;
}

VersionVector RocksStore::lost_vector(const MailboxId& mailbox) const {
  VersionVector out;
  const auto* of = traces_.find(mailbox);
  if (of == nullptr) return out;
  for (auto at = of->by_dot.end(); at != of->by_dot.begin();) {
    --at;
    if (!tells(at->second)) continue;
    out.raise(at->first.writer, at->first.n);
    at = of->by_dot.lower_bound({at->first.writer, 0});
  }
  return out;
}

LostHistory RocksStore::lost_before(const MailboxId& mailbox, const MailboxId& conversation, const EntryId& before,
                                    const EntryId& end, std::size_t limit) {
  LostHistory out;
  const auto* of = traces_.find(mailbox);
  if (of == nullptr) return out;
  const EntryId first = before.is_zero() ? EntryId{kLastN, {kLastN}} : before;
  std::size_t left = limit;
  for (auto at = of->by_place.lower_bound({conversation, first, Dot{}}); at != of->by_place.begin();) {
    --at;
    const auto& [where, id, dot] = *at;
    if (where != conversation || id <= end) break;
    const Trace& trace = of->by_dot.at(dot);
    if (trace.is_void || !tells(trace)) continue;
    if (left == 0) {
      out.next = id;
      break;
    }
    --left;
    if (is_missing(trace)) out.messages.push_back(trace);
  }
  return out;
}

// --- For operators. ---

std::optional<Trace> RocksStore::trace(const MailboxId& mailbox, const MessageKey& key) {
  if (const auto row = find_key_row(mailbox, key)) return trace_of(mailbox, key, *row);
  const auto* of = traces_.find(mailbox);
  if (of == nullptr) return std::nullopt;
  for (const auto& [dot, trace] : of->by_dot) {
    if (trace.key == key) return trace;
  }
  return std::nullopt;
}

std::optional<Trace> RocksStore::trace(const MailboxId& mailbox, const EntryId& id) {
  if (const auto* of = traces_.find(mailbox)) {
    for (const auto& [dot, trace] : of->by_dot) {
      if (trace.id == id) return trace;
    }
  }
  Engine::Scan rows(*engine_, ColumnFamily::kKeys, mailbox.view(), ReadMode{nullptr, false});
  rows->SeekToFirst();
  for (std::size_t left = kTraceRowsMax; rows.valid() && left > 0; rows->Next(), --left) {
    const auto row = parse_key_row(rows.value());
    if (!row || row->id != id) continue;
    if (const auto named = parse_message_key(rows.key())) return trace_of(mailbox, named->second, *row);
  }
  return std::nullopt;
}

}  // namespace starling::storage
