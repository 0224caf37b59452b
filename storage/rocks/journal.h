// Journal: numbers that only grow, written once for each batch and not once for each number.
//
// A batch raises the vector of every run and the number of every lane that it touches. It says all of
// that in one row of the journal. A run or a lane gets a row of its own once it has rested, and what rows
// say is erased from the journal: a redo log with fuzzy checkpoints (Mohan et al., ARIES, 1992).
// Two generations: the young one takes raises until it has `limit` bytes. Then it is the old one, and each
// batch writes rows for some of it, in proportion to its own size, so that the old one is done before
// the next is full. What was raised again meanwhile needs no row yet: the young one says more.
// Invariants: (1) a number is said by its row or by a row of the journal that is not erased, and of
//                 several rows of the journal the last is right;
//             (2) lane() knows every synced number that is above its row.
// The highest time is the store's business: it is written with the batch that erases the rows which said it.
// Thread: the store's loop; pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "storage/layout.h"

namespace starling::storage {

// Ids are hashes or random: combining their bits is enough.
struct RaisedHash {
  std::size_t operator()(const LaneId& id) const noexcept {
    return std::hash<MailboxId>{}(id.mailbox) ^ std::hash<DeviceId>{}(id.device) * 31 ^
           id.lane * 0x9E3779B97F4A7C15ULL;
  }
  std::size_t operator()(const PartitionRowKey& run) const noexcept {
    return run.writer.value ^ run.first_slot * 0x9E3779B97F4A7C15ULL;
  }
};

// Numbers by key, in two generations.
template <class Key>
class Raised {
 public:
  [[nodiscard]] const std::uint64_t* find(const Key& key) const {
    if (const auto it = young_.find(key); it != young_.end()) return &it->second;
    const auto it = old_.find(key);
    return it != old_.end() ? &it->second : nullptr;
  }
  void raise(const Key& key, std::uint64_t n) {
    const auto [it, is_new] = young_.try_emplace(key, n);
    it->second = n;
    if (is_new) order_.push_back(key);
  }
  // The young generation is the old one from now on. REQUIRES: resting() == 0.
  void turn() {
    old_ = std::exchange(young_, {});
    queue_ = std::exchange(order_, {});
    looked_ = 0;
  }
  // Of the old generation, so many not yet looked at.
  [[nodiscard]] std::size_t resting() const { return queue_.size() - looked_; }
  // Looks at so many more; `visit` gets those that were not raised since.
  template <class Visit>
  void look(std::size_t count, Visit visit) {
    for (; count > 0 && looked_ < queue_.size(); --count, ++looked_) {
      const auto it = old_.find(queue_[looked_]);
      if (it != old_.end() && !young_.contains(it->first)) visit(it->first, it->second);
    }
  }
  // What was looked at is on disk.
  void settle() {
    for (; settled_of_ < looked_; ++settled_of_) old_.erase(queue_[settled_of_]);
    if (looked_ < queue_.size()) return;
    queue_.clear();
    looked_ = settled_of_ = 0;
  }
  template <class Match>
  void forget_if(Match match) {
    for (auto* generation : {&young_, &old_}) {
      std::erase_if(*generation, [&](const auto& pair) { return match(pair.first); });
    }
  }
  // Those that match, in no particular order; what was raised since comes once.
  template <class Match, class Visit>
  void for_each(Match match, Visit visit) const {
    for (const auto& [key, n] : young_) {
      if (match(key)) visit(key, n);
    }
    for (const auto& [key, n] : old_) {
      if (match(key) && !young_.contains(key)) visit(key, n);
    }
  }

 private:
  std::unordered_map<Key, std::uint64_t, RaisedHash> young_, old_;
  std::vector<Key> order_, queue_;  // Keys of young_ and of old_, as they were first raised.
  std::size_t looked_ = 0;          // Of queue_.
  std::size_t settled_of_ = 0;      // Of those, with their rows on disk.
};

class Journal {
 public:
  // What one batch writes.
  struct Batch {
    std::uint64_t seq = 0;                // Of its row; 0: it has nothing to say.
    JournalRow raised;                    // That row.
    std::vector<JournalRow::Run> runs;    // They get rows of their own.
    std::vector<JournalRow::Lane> lanes;  // Likewise.
    std::uint64_t erase_from = 0;         // Rows of the journal from here on,
    std::uint64_t erase_before = 0;       // to before this one, are said by rows now; both 0: none.
  };

  explicit Journal(std::size_t limit) : limit_(limit) {}

  // For the batch that is about to leave. REQUIRES: none is in flight.
  Batch seal(JournalRow raised);
  // That batch is on disk.
  void settle(const Batch& batch);
  // Every number in a row of its own, and no journal. REQUIRES: none is in flight; nothing follows.
  [[nodiscard]] Batch close() const;

  // Synced, and above its row on disk; null: the row is right.
  [[nodiscard]] const std::uint64_t* lane(const LaneId& id) const { return lanes_.find(id); }
  // All such lanes of the slots [first, last), by the keys of their rows.
  [[nodiscard]] std::map<Bytes, std::uint64_t> lanes_of(Slot first, std::uint32_t last) const;

  // The batch that gathers says so, too.
  void drop(Slot first, std::uint32_t last);
  void forget(const PartitionRowKey& run);

 private:
  const std::size_t limit_;
  std::uint64_t next_seq_ = 1;
  Raised<PartitionRowKey> runs_;
  Raised<LaneId> lanes_;
  std::size_t young_bytes_ = 0;
  std::size_t old_count_ = 0;    // Runs and lanes of the old generation, as it began.
  std::uint64_t old_end_ = 0;    // Its rows are below; 0: it is done.
  std::uint64_t kept_from_ = 1;  // Rows below are erased,
  std::uint64_t spent_to_ = 1;   // and those below this one are said by rows.
};

// What the rows of a journal say, one after the other.
class JournalReplay {
 public:
  // `width`: slots of a partition, as of the rows that follow.
  explicit JournalReplay(std::uint32_t width) : width_(width) {}
  void set_width(std::uint32_t width) { width_ = width; }
  void apply(const JournalRow& row);

  [[nodiscard]] Hlc time() const { return time_; }
  // By the keys of their rows.
  [[nodiscard]] const std::map<Bytes, std::uint64_t>& runs() const { return runs_; }
  [[nodiscard]] const std::map<Bytes, std::uint64_t>& lanes() const { return lanes_; }

 private:
  std::uint32_t width_;
  Hlc time_ = 0;
  std::map<Bytes, std::uint64_t> runs_, lanes_;
};

}  // namespace starling::storage
