// Pending<Key, Value>: what was accepted and is not on disk yet, in front of what is on disk.
//
// A value belongs to the batch that wrote it last. One batch gathers, at most one is in flight:
//   put() -> gathering -> seal() -> in flight -> settle() -> cache of committed values.
// Invariants: (1) find() never misses a value between its put() and its settle();
//             (2) the cache holds at most `cache_max` values, in two generations: a found value
//                 moves to the young one, a full young one becomes the old, the old is forgotten.
//                 Values that are too large for it are not cached, read or written.
// Thread: the store's loop.
#pragma once

#include <cassert>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace starling::storage {

template <class Key, class Value, class Hash = std::hash<Key>>
class Pending {
 public:
  using Small = bool (*)(const Value&);  // May it be cached? Null: they all may.

  // cache_max 0: remembers only what is in flight.
  explicit Pending(std::size_t cache_max = 0, Small is_small = nullptr)
      : generation_max_(cache_max / 2), is_small_(is_small) {}

  // Null: not known here; the disk decides. Valid until the next call.
  const Value* find(const Key& key) {
    if (const auto it = pending_.find(key); it != pending_.end()) return &it->second.value;
    if (const auto it = young_.find(key); it != young_.end()) return &it->second;
    const auto it = old_.find(key);
    if (it == old_.end()) return nullptr;
    Value value = std::move(it->second);
    old_.erase(it);
    return remember(key, std::move(value));
  }

  // A write of the gathering batch.
  void put(const Key& key, Value value) {
    const auto [it, inserted] = pending_.try_emplace(key);
    if (inserted || it->second.batch != batch_) gathered_.push_back(key);
    it->second = {std::move(value), batch_};
  }

  // Caches what was read from disk. Null when it is not cached here.
  const Value* remember(const Key& key, Value value) {
    if (generation_max_ == 0) return nullptr;
    if (is_small_ != nullptr && !is_small_(value)) {  // Nor what was cached before it.
      young_.erase(key);
      old_.erase(key);
      return nullptr;
    }
    if (young_.size() >= generation_max_) {
      evicted_ = evicted_ || !old_.empty();
      old_ = std::exchange(young_, {});
    }
    return &young_.insert_or_assign(key, std::move(value)).first->second;
  }

  // Keys of the gathering batch, each once, in order of first write.
  [[nodiscard]] const std::vector<Key>& gathered() const { return gathered_; }

  // The gathering batch goes to disk; a new one gathers. REQUIRES: none is in flight.
  void seal() {
    assert(in_flight_.empty());
    in_flight_.swap(gathered_);
    ++batch_;
  }

  // The batch in flight is on disk.
  void settle() {
    for (const Key& key : in_flight_) {
      const auto it = pending_.find(key);
      if (it->second.batch == batch_) continue;  // Written again since.
      remember(key, std::move(it->second.value));
      pending_.erase(it);
    }
    in_flight_.clear();
  }

  // Every pair not on disk yet, in no particular order.
  template <class Visit>
  void for_each_pending(Visit visit) const {
    for (const auto& [key, slot] : pending_) visit(key, slot.value);
  }

  // Committed values of these keys are read from disk again.
  template <class Match>
  void forget_if(Match match) {
    for (auto* generation : {&young_, &old_}) {
      std::erase_if(*generation, [&](const auto& pair) { return match(pair.first); });
    }
  }

  // True when a committed value was ever evicted.
  [[nodiscard]] bool evicted() const { return evicted_; }

 private:
  struct Slot {
    Value value{};
    std::uint64_t batch = 0;
  };
  const std::size_t generation_max_;
  const Small is_small_;
  std::uint64_t batch_ = 1;  // Of the gathering batch.
  std::unordered_map<Key, Slot, Hash> pending_;
  std::vector<Key> gathered_;
  std::vector<Key> in_flight_;
  std::unordered_map<Key, Value, Hash> young_;
  std::unordered_map<Key, Value, Hash> old_;
  bool evicted_ = false;
};

}  // namespace starling::storage
