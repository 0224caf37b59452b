// Export: what the owners of a partition have in common when their vectors are equal (architecture
// invariant 5), in one canonical order and encoding, and its digest.
//
// row := 1:u8 mailbox:16 device:16 lane:u64be seq:u64be id void:u8 content:u64be     a message key
//      | 2:u8 mailbox:16 key:u32sized merge:u8 stamp value:u32sized                  a register
//      | 3:u8 mailbox:16 device:16 lane:u64be high:u64be                             a lane
// id, stamp := time:u64be writer:u64be. Rows come kind by kind, each in the order of its keys.
// What is expired at the cut-off is left out, erased or not: two owners compare at one cut-off, at or
// above the expiry time of both. Dots are left out: a key may have come in several copies.
// It reads three index families and no body, as of its construction: vector and rows go together. What the
// journal says of vector and lanes it is told.
// Thread: the store's loop; must not outlive the store.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <rocksdb/snapshot.h>

#include "storage/engine/engine.h"
#include "storage/lane_rows.h"
#include "storage/version_vector.h"

struct XXH3_state_s;

namespace starling::storage {

class Export {
 public:
  using Digest = std::array<std::uint8_t, 16>;  // XXH3-128 of all rows, each with its length.

  // The rows of slots [first, last); last 65536: to the end.
  Export(Engine& engine, Slot first, std::uint32_t last, std::uint64_t cutoff_ms);
  ~Export();

  // Was the row there, as of the construction?
  [[nodiscard]] bool has(ColumnFamily family, View key);
  // The vector as of the construction, and lanes above their rows, by the keys of those. Once, first.
  void raise(VersionVector vector, std::map<Bytes, std::uint64_t> lanes);

  [[nodiscard]] const VersionVector& vector() const { return vector_; }
  // The next row; nothing at the end. kCorrupt: a row that cannot be read, the scrub mends it.
  Result<std::optional<Bytes>> next();
  // Of the rows so far.
  [[nodiscard]] Digest digest() const;

 private:
  Result<std::optional<Bytes>> row() const;
  Result<std::optional<Bytes>> next_lane();
  Bytes add(Bytes row);
  void open_scan();

  Engine& engine_;
  const std::uint64_t cutoff_ms_;
  const Bytes first_, last_;
  rocksdb::ManagedSnapshot snapshot_;
  struct FreeState {
    void operator()(XXH3_state_s* state) const;
  };
  const std::unique_ptr<XXH3_state_s, FreeState> hash_;
  VersionVector vector_;
  std::map<Bytes, std::uint64_t> raised_;
  std::size_t family_ = 0;
  std::unique_ptr<Engine::Scan> scan_;   // Of keys and registers,
  std::unique_ptr<LaneRows> lanes_;      // then of lanes.
};

}  // namespace starling::storage
