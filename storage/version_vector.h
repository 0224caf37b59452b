// VersionVector: writer -> n, "I have synced every change 1..n of this writer, or know it to be gone".
//
// No holes, no exceptions (hazards F4), so "what am I missing" is a comparison of two short lists.
// Merging takes the larger n of each writer: commutative, associative, idempotent.
// Kept sorted by writer, so equal vectors have equal bytes. A cursor of a device is the same thing
// restricted to one mailbox.
// Thread: any; value type. Source: Bayou (SOSP 1995), DottedDB (SRDS 2017).
#pragma once

#include <cstdint>
#include <vector>

#include "storage/ids.h"

namespace starling::storage {

class VersionVector {
 public:
  [[nodiscard]] std::uint64_t get(WriterId writer) const;  // 0 when unknown.
  [[nodiscard]] bool covers(const Dot& dot) const { return dot.n <= get(dot.writer); }
  [[nodiscard]] bool covers(const VersionVector& other) const;
  // Raises writer to n; never lowers.
  void raise(WriterId writer, std::uint64_t n);
  void merge(const VersionVector& other);
  [[nodiscard]] std::uint64_t digest() const;  // XXH3 of the sorted dots; equal for equal vectors.
  [[nodiscard]] const std::vector<Dot>& dots() const { return dots_; }
  [[nodiscard]] bool empty() const { return dots_.empty(); }
  friend bool operator==(const VersionVector&, const VersionVector&) = default;

  // msgpack: an array of [writer, n]. A decoded vector is sorted and merged again.
  template <typename Packer>
  void msgpack_pack(Packer& packer) const {
    packer.pack(dots_);
  }
  void msgpack_unpack(const msgpack::object& object) {
    assign(object.as<std::vector<Dot>>());
  }

 private:
  // Any order, repeats allowed: n log n, so hostile bytes cost no more than their sort.
  void assign(std::vector<Dot> dots);
  void assign_sorted(const std::vector<Dot>& dots);

  std::vector<Dot> dots_;  // Ascending writers, each once, no n of 0.
};

}  // namespace starling::storage
