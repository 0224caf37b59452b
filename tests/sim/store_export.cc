#include "tests/sim/store_export.h"

#include <map>

#include "crypto/random.h"

namespace starling::sim {
namespace {

using storage::ChangeKind;
using storage::ChangeView;

constexpr std::size_t kReadBytes = 1 << 20;

struct Kept {
  Bytes bytes;  // Owns what `reg` borrows.
  storage::RegisterView reg;
};

// Gathers one partition, change by change.
struct Gatherer {
  PartitionExport out;
  std::map<std::pair<MailboxId, Bytes>, Kept> registers;
  std::map<Dot, Bytes> entries;

  Status add(const Dot& dot, const Bytes& bytes) {
    TRY_ASSIGN(const ChangeView change, storage::decode(bytes, dot));
    if (change.kind != ChangeKind::kRegister) {
      out.entries.push_back({change.mailbox, change.entry.key, change.entry.id,
                             change.kind == ChangeKind::kVoid, body_hash(change.entry.body)});
      entries.emplace(dot, bytes);
      return ok_status();
    }
    const std::pair key{change.mailbox, Bytes(change.reg.key)};
    const auto it = registers.find(key);
    if (it != registers.end() && !storage::wins(change.reg, it->second.reg)) return ok_status();
    Kept& kept = registers[key];
    kept.bytes = bytes;
    TRY_ASSIGN(const ChangeView again, storage::decode(kept.bytes, dot));
    kept.reg = again.reg;
    return ok_status();
  }

  PartitionExport finish() {
    BytesWriter writer(out.canonical);
    for (const auto& [dot, bytes] : entries) {
      writer.u64be(dot.writer.value);
      writer.u64be(dot.n);
      writer.sized(bytes);
    }
    for (const auto& [key, kept] : registers) {
      writer.raw(key.first.view());
      writer.sized(key.second);
      writer.u8(static_cast<std::uint8_t>(kept.reg.merge));
      writer.u64be(kept.reg.stamp.time);
      writer.u64be(kept.reg.stamp.writer.value);
      writer.sized(kept.reg.value);
    }
    return std::move(out);
  }
};

}  // namespace

Result<NodeExport> export_store(storage::Store& store) {
  NodeExport out;
  for (const auto partition : store.touched()) {
    Gatherer gatherer;
    gatherer.out.vector = store.vector(partition);
    const auto dots = gatherer.out.vector.dots();
    for (const auto& last : dots) {
      for (std::uint64_t from = 1; from <= last.n;) {
        TRY_ASSIGN(const auto range, store.read_writer(partition, last.writer, from, kReadBytes));
        for (const auto& item : range.live) {
          TRY(gatherer.add({last.writer, item.n}, item.change.data));
        }
        if (range.to < from) break;
        from = range.to + 1;
      }
    }
    out.partitions.emplace(partition, gatherer.finish());
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
