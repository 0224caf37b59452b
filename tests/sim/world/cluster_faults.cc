// What breaks the hosts of a SimCluster, and what mends them.
#include <algorithm>

#include "storage/engine/engine.h"
#include "storage/layout.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

namespace {

// The partition, as the store counts, in whose rows of the log this slot comes first. While a split is settled that of
// a lower child may be its parent's.
Result<Part> part_of(storage::Engine& engine, Slot first_slot) {
  rocksdb::PinnableSlice count, split;
  TRY_ASSIGN(const bool counted, engine.get(storage::ColumnFamily::kNode, storage::kNodePartitions, count));
  TRY_ASSIGN(const bool splitting, engine.get(storage::ColumnFamily::kNode, storage::kNodeSplit, split));
  const auto known = storage::parse_number({count.data(), count.size()});
  if (!counted || !known) return Error{Errc::kCorrupt, "the store does not say how many partitions it has"};
  auto of = static_cast<std::uint32_t>(*known);
  if (splitting && starling::partition_of(first_slot, of).value % 2 == 0) of /= 2;
  return Part{starling::partition_of(first_slot, of), of};
}

}  // namespace

Status SimCluster::rot(std::size_t i, Random& random) {
  assert(!up(i));
  TRY_ASSIGN(auto engine, storage::Engine::open({folder(i) + "/store", disk(i).env(), false}));
  std::vector<std::pair<Bytes, Bytes>> log;
  {
    storage::Engine::Scan rows(*engine, storage::ColumnFamily::kLog, {});
    for (rows->SeekToFirst(); rows.valid(); rows->Next()) log.emplace_back(rows.key(), rows.value());
  }
  if (log.empty()) return Error{Errc::kNotFound, "no change is stored"};
  auto& [key, value] = log[random.below(log.size())];
  const Dot dot = *storage::parse_dot_key(key, sizeof(Slot));
  TRY_ASSIGN(const Part part, part_of(*engine, Slot{BytesReader(key).u16be()}));
  note_destroyed(i, part, key, value);
  value[random.below(value.size())] ^= static_cast<char>(1u << random.below(8));
  world_.note(hosts_[i]->name, "a bit flips in change " + to_text(dot));
  rocksdb::WriteBatch batch;
  engine->put(batch, storage::ColumnFamily::kLog, key, value);
  return engine->write_synced(batch);
}

Result<std::string> SimCluster::decay(std::size_t i, Random& random) {
  assert(!up(i));
  const std::string path = folder(i) + "/store";
  auto files = disk(i).copy(path);
  std::vector<std::pair<std::string, std::size_t>> hit;  // By bytes, so that large files are hit more often.
  std::size_t bytes = 0;
  for (const auto& [name, text] : files) {
    const bool state = name.ends_with(".log") || name.ends_with(".sst") || name.find("MANIFEST") != std::string::npos;
    if (!state || text.empty()) continue;
    bytes += text.size();
    hit.emplace_back(name, bytes);
  }
  if (hit.empty()) return Error{Errc::kNotFound, "no file"};
  const std::size_t at = random.below(bytes);
  const auto file = std::find_if(hit.begin(), hit.end(), [at](const auto& f) { return at < f.second; })->first;
  const auto sound = files;
  auto& text = files[file];
  const std::size_t where = random.below(text.size());
  const FlippedBit flipped{file, where, static_cast<char>(1u << random.below(8))};
  text[where] ^= flipped.bit;
  hosts_[i]->flipped = flipped;
  hosts_[i]->sound = sound;
  world_.note(hosts_[i]->name, "a bit flips in " + file);
  disk(i).put_back(path, files);
  if (file.ends_with(".sst")) note_unreadable(i, sound, files);
  const std::string kind = file.ends_with(".log") ? "log" : file.ends_with(".sst") ? "table" : "manifest";
  return "flipped bit in a " + kind;
}

// With the block, every change in it. Found in copies: to open a store changes it.
void SimCluster::note_unreadable(std::size_t i, const SimDisk::Folder& sound, const SimDisk::Folder& flipped) {
  const std::string store = folder(i) + "/store", before = "/before", after = "/after";
  const auto put = [&](const std::string& at, const SimDisk::Folder& files) {
    SimDisk::Folder there;
    for (const auto& [name, bytes] : files) there[at + name.substr(store.size())] = bytes;
    disk(i).put_back(at, there);
  };
  put(before, sound);
  put(after, flipped);
  {
    const auto was = storage::Engine::open({before, disk(i).env(), false});
    const auto is = storage::Engine::open({after, disk(i).env(), false});
    if (was && is) note_lost_rows(i, **was, **is);
  }
  put(before, {});
  put(after, {});
}

void SimCluster::note_lost_rows(std::size_t i, storage::Engine& was, storage::Engine& is) {
  storage::Engine::Scan rows(was, storage::ColumnFamily::kLog, {});
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    rocksdb::PinnableSlice value;
    const auto found = is.get(storage::ColumnFamily::kLog, rows.key(), value);
    if (found && *found) continue;
    const auto part = part_of(was, Slot{BytesReader(rows.key()).u16be()});
    if (part) note_destroyed(i, *part, rows.key(), rows.value());
  }
}

void SimCluster::note_destroyed(std::size_t i, const Part& part, View key, View value) {
  const Dot dot = *storage::parse_dot_key(key, sizeof(Slot));
  Destroyed destroyed{i, part, dot, {}, 0};
  const auto change = storage::decode(value, dot);
  if (change && change->kind != storage::ChangeKind::kRegister) {
    destroyed.mailbox = change->mailbox;
    destroyed.hash = body_hash(change->entry.body);
  }
  destroyed_.push_back(destroyed);
}

bool SimCluster::undecay(std::size_t i) {
  if (!hosts_[i]->flipped || up(i)) return false;
  const FlippedBit flipped = *std::exchange(hosts_[i]->flipped, std::nullopt);
  const std::string path = folder(i) + "/store";
  if (const auto sound = std::exchange(hosts_[i]->sound, std::nullopt)) {  // What a start that failed did is undone, too.
    world_.note(hosts_[i]->name, "the flipped bit is taken back");
    disk(i).put_back(path, *sound);
    return true;
  }
  auto files = disk(i).copy(path);
  const auto file = files.find(flipped.file);
  if (file == files.end() || file->second.size() <= flipped.at) return false;
  world_.note(hosts_[i]->name, "the flipped bit is taken back");
  file->second[flipped.at] ^= flipped.bit;
  disk(i).put_back(path, files);
  return true;
}

void SimCluster::pause(std::size_t i) {
  if (!up(i)) return;
  world_.note(hosts_[i]->name, "paused");
  hosts_[i]->loop->pause();
}

void SimCluster::resume(std::size_t i) {
  if (!up(i)) return;
  world_.note(hosts_[i]->name, "resumed");
  hosts_[i]->loop->resume();
}

void SimCluster::clock_step(std::size_t i, std::chrono::milliseconds by) {
  world_.note(hosts_[i]->name, "clock stepped by " + std::to_string(by.count()) + " ms");
  hosts_[i]->clock_offset += by;
  if (up(i)) hosts_[i]->loop->step_clock(by);
}

void SimCluster::clock_drift(std::size_t i, double ppm) {
  world_.note(hosts_[i]->name, "clock drifts by " + std::to_string(ppm) + " ppm");
  hosts_[i]->drift_ppm = ppm;
  if (up(i)) hosts_[i]->loop->set_drift(ppm);
}

void SimCluster::partition(const std::vector<std::vector<std::size_t>>& sides) {
  std::vector<std::vector<std::string>> sets;
  std::string what = "partition";
  for (const auto& side : sides) {
    auto& set = sets.emplace_back();
    what += " {";
    for (const auto i : side) {
      set.push_back(ip(i));
      what += " " + hosts_[i]->name;
    }
    what += " }";
  }
  world_.note("network", what);
  network_.partition(sets);
}

void SimCluster::cut_zone(const std::string& zone) {
  std::vector<std::vector<std::size_t>> sides(2);
  for (std::size_t i = 0; i < hosts_.size(); ++i) sides[hosts_[i]->config.zone == zone ? 0 : 1].push_back(i);
  partition(sides);
}

void SimCluster::heal() {
  world_.note("network", "healed");
  network_.heal_all();
}

Status SimCluster::end_faults() {
  heal();
  network_.options().loss = 0;
  network_.options().duplicate = 0;
  network_.options().straggle = 0;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    network_.set_extra_latency(ip(i), Duration(0));
    disk(i).hold(false);
    disk(i).fail_next_sync(false);
    disk(i).set_speed(options_.disk.sync_min, options_.disk.sync_max);
    disk(i).set_free_bytes(options_.disk.free_bytes);
    if (hosts_[i]->drift_ppm != 0) clock_drift(i, 0);
    if (up(i) && hosts_[i]->loop->paused()) resume(i);
    TRY(restart(i));
  }
  return ok_status();
}

}  // namespace starling::sim
