// DamageTable: which changes of a partition cannot be read here (damaged), which have no copy left
// anywhere (lost), and which partitions are emptied and refilled at the next open.
//
// A damaged change is not served, and its partition does not count as covering it. It leaves the
// list when its bytes came from another owner (mended), when another owner says that it is gone, or
// when it is lost: then ranges treat it as gone (hazards F30).
// Invariants: (1) a dot is damaged or lost, never both; (2) at most kDamagedDotsMax dots of one
// partition are listed: with more, the whole partition is refilled.
// Partitions are known by their first slot. On disk: layout.h, family `damage`.
// Thread: the store's loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "storage/ids.h"
#include "storage/layout.h"

namespace starling::storage {

inline constexpr std::size_t kDamagedDotsMax = 4096;

class DamageTable {
 public:
  // From disk. False: a row that means nothing.
  bool load(View key, View value);

  // Returns true when it was not known, as damaged or lost.
  bool add(Slot first_slot, const Dot& dot);
  void mended(Slot first_slot, const Dot& dot);
  void lose(Slot first_slot, const Dot& dot);
  // The partition is refilled at the next open, because of this file (0: of no file).
  bool refill(Slot first_slot, std::uint64_t file);
  // The partition is empty.
  void forget(Slot first_slot) { partitions_.erase(first_slot); }
  // Every partition becomes two, `half` slots apart. Which of them a change was of cannot be told, so it is both's:
  // whom it is not of hears from others that it is gone there. Those who are new.
  std::vector<Slot> split(Slot half);

  [[nodiscard]] bool is_damaged(Slot first_slot, const Dot& dot) const;
  [[nodiscard]] bool is_lost(Slot first_slot, const Dot& dot) const;
  [[nodiscard]] bool is_refill(Slot first_slot) const;
  // The smallest damaged n of the writer, from `from` on.
  [[nodiscard]] std::optional<std::uint64_t> first_damaged(Slot first_slot, const Dot& from) const;
  [[nodiscard]] bool is_whole(Slot first_slot) const;  // Nothing damaged, nothing to refill.
  [[nodiscard]] std::vector<Dot> damaged(Slot first_slot) const;
  [[nodiscard]] std::vector<Dot> lost(Slot first_slot) const;
  [[nodiscard]] std::vector<Slot> damaged_slots() const;  // Not whole; ascending.
  [[nodiscard]] std::vector<Slot> refill_slots() const;
  [[nodiscard]] std::set<std::uint64_t> refill_files() const;
  [[nodiscard]] std::set<std::uint64_t> refill_files(Slot first_slot) const;
  [[nodiscard]] std::size_t damaged_count() const;
  [[nodiscard]] std::size_t lost_count() const;

 private:
  struct Partition {
    std::set<Dot> damaged;
    std::set<Dot> lost;
    std::set<std::uint64_t> refill;  // Files; not empty: to refill.
  };
  const Partition* find(Slot first_slot) const;
  std::map<Slot, Partition> partitions_;
};

}  // namespace starling::storage
