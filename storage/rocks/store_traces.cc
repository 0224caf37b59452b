// Traces of messages that were written off: kept beside the list of damage, for readers and operators who ask.
#include <algorithm>

#include "storage/rocks/rocks_store.h"

namespace starling::storage {

// Those whose change came back in a file, or whose partition was emptied, say nothing any more.
Status RocksStore::load_traces() {
  Engine::Scan rows(*engine_, ColumnFamily::kNode, kNodeLost);
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto trace = parse_lost(rows.key(), rows.value());
    if (!trace || !damage_.is_lost(slot_of(partition_of(trace->mailbox)), trace->dot)) continue;
    traces_count_ += traces_[trace->mailbox].emplace(trace->dot, *trace).second ? 1 : 0;
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
  if (traces_count_ >= kTracesMax) return;
  traces_count_ += traces_[trace.mailbox].insert_or_assign(trace.dot, trace).second ? 1 : 0;
  engine_->put(*gathering_->writes, ColumnFamily::kNode, lost_key(trace.mailbox, trace.dot), lost_value(trace).view());
  gathering_->has_writes = true;
  mark_dirty();
}

std::vector<const Trace*> RocksStore::traces_of(Slot first_slot) const {
  std::vector<const Trace*> out;
  if (traces_.empty()) return out;
  MailboxId first;
  first.raw[0] = static_cast<std::uint8_t>(first_slot >> 8);
  first.raw[1] = static_cast<std::uint8_t>(first_slot);
  for (auto at = traces_.lower_bound(first); at != traces_.end(); ++at) {
    if (slot_of(partition_of(at->first)) != first_slot) break;
    for (const auto& [dot, trace] : at->second) out.push_back(&trace);
  }
  return out;
}

void RocksStore::erase_trace(Slot first_slot, const Dot& dot) {
  for (const Trace* trace : traces_of(first_slot)) {
    if (trace->dot != dot) continue;
    engine_->erase(*gathering_->writes, ColumnFamily::kNode, lost_key(trace->mailbox, dot));
    const auto of = traces_.find(trace->mailbox);
    of->second.erase(dot);
    if (of->second.empty()) traces_.erase(of);
    --traces_count_;
    return;
  }
}

void RocksStore::erase_traces(rocksdb::WriteBatch& writes, Slot first_slot) {
  for (auto at = traces_.begin(); at != traces_.end();) {
    const auto of = at++;
    if (slot_of(partition_of(of->first)) != first_slot) continue;
    for (const auto& [dot, trace] : of->second) engine_->erase(writes, ColumnFamily::kNode, lost_key(of->first, dot));
    traces_count_ -= of->second.size();
    traces_.erase(of);
  }
}

std::vector<Trace> RocksStore::lost_messages(const MailboxId& mailbox) {
  std::vector<Trace> out;
  const auto of = traces_.find(mailbox);
  if (of == traces_.end()) return out;
  const Slot slot = slot_of(partition_of(mailbox));
  for (const auto& [dot, trace] : of->second) {
    if (!damage_.is_lost(slot, dot) || expiry_->expired(trace.expiry)) continue;
    if (!find_key(mailbox, trace.key)) out.push_back(trace);
  }
  return out;
}

std::optional<Trace> RocksStore::trace(const MailboxId& mailbox, const MessageKey& key) {
  if (const auto row = find_key_row(mailbox, key)) return trace_of(mailbox, key, *row);
  const auto of = traces_.find(mailbox);
  if (of == traces_.end()) return std::nullopt;
  for (const auto& [dot, trace] : of->second) {
    if (trace.key == key) return trace;
  }
  return std::nullopt;
}

std::optional<Trace> RocksStore::trace(const MailboxId& mailbox, const EntryId& id) {
  if (const auto of = traces_.find(mailbox); of != traces_.end()) {
    for (const auto& [dot, trace] : of->second) {
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
