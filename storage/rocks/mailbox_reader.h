// MailboxReader: the dots of a mailbox after a cursor: of each writer in ascending n, across
// writers by position (entry id or stamp). One iterator serves them all: each run keeps a few rows.
//
// Invariant: skips nothing between `cursor` and `covered`, repeats nothing, shows nothing beyond.
// Thread: the store's loop; lives inside one read.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/engine/engine.h"
#include "storage/version_vector.h"

namespace starling::storage {

// Rows that a run reads ahead at once.
inline constexpr std::size_t kRunRowsAhead = 32;

class MailboxReader {
 public:
  // Finds the writers of the mailbox by seeking from one to the next. All arguments must live as
  // long as the reader. kCorrupt, kIo.
  MailboxReader(Engine& engine, const MailboxId& mailbox, const VersionVector& cursor,
                const VersionVector& covered, ReadMode mode);
  Status start();

  [[nodiscard]] bool done() const { return heads_.empty(); }
  struct Row {
    Dot dot;
    EntryId at;
    ExpirySeconds expiry = 0;
    ChangeKind kind = ChangeKind::kEntry;
    bool damaged = false;  // Only the dot is known.
  };
  [[nodiscard]] const Row& row() const;  // REQUIRES: !done().
  Status next();                         // REQUIRES: !done().

 private:
  struct Run {
    std::vector<Row> rows;
    std::size_t used = 0;
    bool more = false;  // The disk may have rows behind these.
    [[nodiscard]] const Row& head() const { return rows[used]; }
  };
  Status read_ahead(Run& run, WriterId writer, std::uint64_t after);
  Result<Row> parse() const;  // Of the iterator.
  void sift(std::size_t run);

  const MailboxId& mailbox_;
  const VersionVector& cursor_;
  const VersionVector& covered_;
  Engine::Scan scan_;
  std::vector<Run> runs_;
  std::vector<std::size_t> heads_;  // Heap of runs with a row, smallest position on top.
};

}  // namespace starling::storage
