// LogRun: the rows of one writer's run in a partition, in ascending n. While a split is settled, rows of the upper
// child may lie under its parent's first slot: both places are read as one.
//
// Rows of the sibling lie among them then: whoever reads decodes, and passes over what is of another partition.
// A row moves from its old place to the new one, never back, so the old one is looked at first: nothing is missed,
// and of two rows of one n the one in the new place is right.
// Thread: the store's loop.
#pragma once

#include <cassert>
#include <optional>

#include "storage/engine/engine.h"
#include "storage/layout.h"

namespace starling::storage {

class LogRun {
 public:
  // `old_slot`: where else rows of the partition may lie; its own first slot: nowhere.
  LogRun(Engine& engine, Slot first_slot, Slot old_slot, WriterId writer, ReadMode mode)
      : first_slot_(first_slot), old_slot_(old_slot), writer_(writer) {
    if (old_slot != first_slot) old_.emplace(engine, ColumnFamily::kLog, partition_key(old_slot, writer).view(), mode);
    new_.emplace(engine, ColumnFamily::kLog, partition_key(first_slot, writer).view(), mode);
  }

  void seek(std::uint64_t n) {
    if (old_) (*old_)->Seek(slice(log_key(old_slot_, {writer_, n}).view()));
    (*new_)->Seek(slice(log_key(first_slot_, {writer_, n}).view()));
    choose();
  }
  [[nodiscard]] bool valid() const { return at_->valid(); }
  // Until next().
  [[nodiscard]] Dot dot() const { return dot_of(*at_); }
  [[nodiscard]] View value() const { return at_->value(); }
  void next() {
    if (old_ && old_->valid() && new_->valid() && dot_of(*old_) == dot_of(*new_)) (*old_)->Next();
    (*at_)->Next();
    choose();
  }
  [[nodiscard]] Status status() const {
    if (old_) TRY(old_->status());
    return new_->status();
  }

 private:
  static Dot dot_of(const Engine::Scan& scan) {
    const auto dot = parse_dot_key(scan.key(), sizeof(Slot));
    assert(dot);
    return *dot;
  }
  void choose() {
    const bool old = old_ && old_->valid() && (!new_->valid() || dot_of(*old_) < dot_of(*new_));
    at_ = old ? &*old_ : &*new_;
  }

  const Slot first_slot_, old_slot_;
  const WriterId writer_;
  std::optional<Engine::Scan> old_, new_;
  Engine::Scan* at_ = nullptr;
};

}  // namespace starling::storage
