#include "storage/rocks/install_files.h"

#include <algorithm>

#include "storage/rows.h"

namespace starling::storage {
namespace {

// The files of one family: another one begins at each cut, so that none spans what others hold there, or it
// could not go below that.
class Series {
 public:
  Series(Engine& engine, ColumnFamily family, const std::vector<Slot>& cuts)
      : engine_(engine), family_(family), cuts_(cuts) {}

  Status put(View key, View value) {
    TRY(reach(key));
    file_->put(key, value);
    return ok_status();
  }
  Status erase(View key) {
    TRY(reach(key));
    file_->erase(key);
    return ok_status();
  }
  Status close() {
    if (!file_) return ok_status();
    auto path = file_->finish();
    file_.reset();
    if (!path) return path.error();
    paths_.push_back(std::move(*path));
    return ok_status();
  }
  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }

 private:
  Status reach(View key) {
    const Slot slot = BytesReader(key).u16be();
    const std::size_t before = next_cut_;
    while (next_cut_ < cuts_.size() && cuts_[next_cut_] <= slot) ++next_cut_;
    if (next_cut_ != before) TRY(close());
    if (!file_) file_ = std::make_unique<Engine::SortedFile>(engine_, family_);
    return ok_status();
  }

  Engine& engine_;
  const ColumnFamily family_;
  const std::vector<Slot>& cuts_;
  std::size_t next_cut_ = 0;
  std::unique_ptr<Engine::SortedFile> file_;
  std::vector<std::string> paths_;
};

template <class Key, class Value>
struct Row {
  Key key;
  Value value;
};

template <class R>
void sort_by_key(std::vector<R>& rows) {
  std::sort(rows.begin(), rows.end(), [](const R& a, const R& b) { return View(a.key.view()) < View(b.key.view()); });
}

// Calls `visit` with [from, to) of each run of equal keys.
template <class R, class Visit>
Status for_each_key(std::vector<R>& rows, Visit visit) {
  sort_by_key(rows);
  for (auto from = rows.begin(); from != rows.end();) {
    auto to = from;
    while (to != rows.end() && to->key.view() == from->key.view()) ++to;
    TRY(visit(from, to));
    from = to;
  }
  return ok_status();
}

struct RegisterKey {
  Bytes bytes;
  [[nodiscard]] View view() const { return bytes; }
};

class PartWriter {
 public:
  PartWriter(Engine& engine, InstallPart& part) : engine_(engine), part_(part) {}

  Status write() {
    TRY(write_log());
    TRY(write_mailbox_dots());
    TRY(write_keys());
    TRY(write_entries());
    TRY(write_registers());
    return write_lanes();
  }
  [[nodiscard]] const Engine::Files& files() const { return files_; }

 private:
  using EntryKey = FixedBytes<48>;

  [[nodiscard]] Slot slot_of(const SyncedChange& change) const {
    return first_slot(change.partition, part_.partitions);
  }
  [[nodiscard]] Slot slot_of(const MailboxId& mailbox) const {
    return first_slot(partition_of(starling::slot_of(mailbox), part_.partitions), part_.partitions);
  }

  // Of an earlier part. A family that cannot be read ends the installation.
  Result<std::optional<Bytes>> stored(ColumnFamily family, Slot first_slot, View key) {
    if (!part_.begun.contains(first_slot)) return std::optional<Bytes>();
    rocksdb::PinnableSlice value;
    const auto status = engine_.db().Get({}, engine_.handle(family), slice(key), &value);
    if (status.IsNotFound()) return std::optional<Bytes>();
    if (!status.ok()) return to_error(status, "a read");
    return std::optional<Bytes>(view(value));
  }

  Status keep(Series& series, ColumnFamily family) {
    const Status closed = series.close();
    part_.files += series.paths().size();
    if (!series.paths().empty()) files_[family] = series.paths();
    return closed;
  }

  Status write_log() {
    std::vector<Row<FixedBytes<18>, View>> rows;
    rows.reserve(part_.changes.size());
    for (const auto& change : part_.changes) rows.push_back({log_key(slot_of(change), change.dot), *change.bytes});
    return write_rows(ColumnFamily::kLog, rows, [](View value) { return value; });
  }

  Status write_mailbox_dots() {
    std::vector<Row<FixedBytes<32>, FixedBytes<21>>> rows;
    rows.reserve(part_.changes.size());
    for (const auto& change : part_.changes) {
      rows.push_back({mailbox_dot_key(change.view.mailbox, change.dot),
                      mailbox_dot_value(mailbox_dot_row(change.view))});
    }
    return write_rows(ColumnFamily::kMailboxDots, rows, [](const auto& value) { return value.view(); });
  }

  template <class R, class ToView>
  Status write_rows(ColumnFamily family, std::vector<R>& rows, ToView to_view) {
    sort_by_key(rows);
    Series series(engine_, family, part_.cuts);
    Status written = ok_status();
    for (const auto& row : rows) {
      written = series.put(row.key.view(), to_view(row.value));
      if (!written) break;
    }
    const Status kept = keep(series, family);
    return written ? kept : written;
  }

  // Of the copies of a key one stands in `keys`, and, unless it is a void, in `entries`.
  Status write_keys() {
    struct Candidate {
      KeyRow row;
      MailboxId mailbox;
    };
    std::vector<Row<FixedBytes<48>, Candidate>> rows;
    for (const auto& change : part_.changes) {
      if (change.view.kind == ChangeKind::kRegister) continue;
      rows.push_back({message_key(change.view.mailbox, change.view.entry.key),
                      {key_row(change.dot, change.view), change.view.mailbox}});
    }
    Series series(engine_, ColumnFamily::kKeys, part_.cuts);
    const Status written = for_each_key(rows, [&](auto from, auto to) -> Status {
      const auto best = std::min_element(from, to, [](const auto& a, const auto& b) {
        return takes_key(a.value.row, b.value.row);
      });
      const auto& [row, mailbox] = best->value;
      TRY_ASSIGN(const auto bytes, stored(ColumnFamily::kKeys, slot_of(mailbox), from->key.view()));
      if (const auto current = bytes ? parse_key_row(*bytes) : std::nullopt) {
        if (!takes_key(row, *current)) return ok_status();
        if (!current->is_void) {
          entries_.push_back({entry_key(mailbox, current->conversation, current->id), std::nullopt});
        }
      }
      if (!row.is_void) {
        entries_.push_back({entry_key(mailbox, row.conversation, row.id), EntryRow{row.dot, row.expiry}});
      }
      return series.put(from->key.view(), key_value(row).view());
    });
    const Status kept = keep(series, ColumnFamily::kKeys);
    return written ? kept : written;
  }

  Status write_entries() {
    Series series(engine_, ColumnFamily::kEntries, part_.cuts);
    const Status written = for_each_key(entries_, [&](auto from, auto to) -> Status {
      const auto put = std::find_if(from, to, [](const auto& row) { return row.value.has_value(); });
      if (put == to) return series.erase(from->key.view());
      return series.put(from->key.view(), entry_value(*put->value).view());
    });
    const Status kept = keep(series, ColumnFamily::kEntries);
    return written ? kept : written;
  }

  Status write_registers() {
    std::vector<Row<RegisterKey, const SyncedChange*>> rows;
    for (const auto& change : part_.changes) {
      if (change.view.kind != ChangeKind::kRegister) continue;
      rows.push_back({{register_key(change.view.mailbox, change.view.reg.key)}, &change});
    }
    Series series(engine_, ColumnFamily::kRegisters, part_.cuts);
    const Status written = for_each_key(rows, [&](auto from, auto to) -> Status {
      TRY_ASSIGN(const auto bytes,
                 stored(ColumnFamily::kRegisters, slot_of(*from->value), from->key.view()));
      auto best = bytes ? parse_register_row(*bytes) : std::nullopt;
      bool raised = false;
      for (auto at = from; at != to; ++at) {
        const RegisterView& reg = at->value->view.reg;
        if (best && !takes_register(at->value->dot, reg, *best)) continue;
        best = RegisterRow{reg.merge, reg.stamp, at->value->dot, Bytes(reg.value)};
        raised = true;
      }
      return raised ? series.put(from->key.view(), register_value(*best)) : ok_status();
    });
    const Status kept = keep(series, ColumnFamily::kRegisters);
    return written ? kept : written;
  }

  Status write_lanes() {
    std::vector<Row<FixedBytes<40>, LaneRow>> rows;
    for (const auto& lane : part_.lanes) rows.push_back({lane_key({lane.mailbox, lane.device, lane.lane}), lane});
    for (const auto& change : part_.changes) {
      if (change.view.kind == ChangeKind::kRegister) continue;
      const MessageKey& key = change.view.entry.key;
      rows.push_back({lane_key({change.view.mailbox, key.device, key.lane}),
                      {change.view.mailbox, key.device, key.lane, key.seq}});
    }
    Series series(engine_, ColumnFamily::kLanes, part_.cuts);
    const Status written = for_each_key(rows, [&](auto from, auto to) -> Status {
      TRY_ASSIGN(const auto bytes,
                 stored(ColumnFamily::kLanes, slot_of(from->value.mailbox), from->key.view()));
      std::uint64_t high = bytes ? parse_number(*bytes).value_or(0) : 0;
      for (auto at = from; at != to; ++at) high = std::max(high, at->value.high);
      return series.put(from->key.view(), number_value(high).view());
    });
    const Status kept = keep(series, ColumnFamily::kLanes);
    return written ? kept : written;
  }

  Engine& engine_;
  InstallPart& part_;
  std::vector<Row<EntryKey, std::optional<EntryRow>>> entries_;  // Nothing: to be erased.
  Engine::Files files_;
};

}  // namespace

Status store_part(Engine& engine, InstallPart& part) {
  PartWriter writer(engine, part);
  const auto written = writer.write();
  part.stored = part.changes.size();
  part.changes = {};
  part.lanes = {};
  if (written) return engine.ingest(writer.files());
  engine.remove(writer.files());
  return written;
}

}  // namespace starling::storage
