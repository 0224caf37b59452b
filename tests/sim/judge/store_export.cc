#include "tests/sim/judge/store_export.h"

#include "crypto/random.h"
#include "storage/export.h"

namespace starling::sim {
namespace {

constexpr std::size_t kReadBytes = 1 << 20;

// Every entry that the log has, copies of one key included: what the checkers name sends by.
Status add_entries(storage::Store& store, PartitionId partition, PartitionExport& out) {
  const auto dots = out.vector.dots();
  for (const auto& last : dots) {
    for (std::uint64_t from = 1; from <= last.n;) {
      TRY_ASSIGN(const auto range, store.read_writer(partition, last.writer, from, kReadBytes));
      for (const auto& item : range.live) {
        const Dot dot{last.writer, item.n};
        TRY_ASSIGN(const auto change, storage::decode(item.change.data, dot));
        if (change.kind == storage::ChangeKind::kRegister) continue;
        out.entries.push_back({change.mailbox, change.entry.key, change.entry.id,
                               change.kind == storage::ChangeKind::kVoid,
                               body_hash(change.entry.body), dot});
      }
      if (range.to < from) break;
      from = range.to + 1;
    }
  }
  return ok_status();
}

}  // namespace

Result<NodeExport> export_store(storage::Store& store) {
  NodeExport out;
  out.partition_count = store.partitions();
  out.settled = store.is_split_settled();
  for (const auto partition : store.touched()) {
    PartitionExport& into = out.partitions[partition];
    const auto rows = store.export_partition(partition, store.expiry_time());
    into.vector = rows->vector();
    BytesWriter canonical(into.canonical);
    while (true) {
      TRY_ASSIGN(const auto row, rows->next());
      if (!row) break;
      canonical.sized(*row);
    }
    TRY(add_entries(store, partition, into));
    into.lost = store.lost(partition);
  }
  return out;
}

Result<NodeExport> export_store(SimDisk& disk, const std::string& data, std::uint32_t partitions) {
  SeededRandom random(1);
  storage::StoreOptions options;
  options.path = data + "/store";
  options.env = disk.env();
  options.committer = direct_committer();
  options.random = &random;
  options.partitions = partitions;
  options.background_work = false;
  TRY_ASSIGN(auto store, storage::Store::open(std::move(options)));
  return export_store(*store);
}

}  // namespace starling::sim
