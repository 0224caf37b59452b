// Store: the replicated state of one node, as partitions of writer logs in one RocksDB.
//
// A change is accepted in memory at once and durable a moment later: `held` counts what is accepted,
// `synced` what is on disk. Reads of mailboxes, logs and registers show synced state only, plus, where
// said so, what is in flight.
// Invariants: (1) (w, n) is accepted only when 1..n-1 of w is held in that partition (hazards F4);
//             (2) watchers hear of a change after it is synced, in apply order;
//             (3) replicas that hold the same changes hold the same state, whatever the order;
//             (4) our own dots are made by append() alone, under a writer id of this run (hazards F3);
//             (5) what is damaged or expired is not served, and is never mistaken for the other.
// Thread: one loop.   On disk: layout.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "crypto/random.h"
#include "storage/change.h"
#include "storage/disk_use.h"
#include "storage/engine/commit.h"
#include "storage/rocks/scrub.h"
#include "storage/trace.h"
#include "storage/version_vector.h"

namespace rocksdb {
class Env;
}

namespace starling::storage {

class Export;
class Install;

// A writer outlives a clean stop only when the store took something in so lately.
inline constexpr std::int64_t kKeptWriterIdleMaxMs = 24 * 3600 * 1000;

// Every file is compacted at least this often, so that nothing expired stays for more than 24 h.
inline constexpr std::uint64_t kCompactionPeriodSeconds = 12 * 3600;

struct StoreOptions {
  std::string path;
  rocksdb::Env* env = nullptr;         // nullptr: the operating system's.
  CommitterFactory committer;
  Random* random = nullptr;            // Draws the writer id.
  std::uint32_t partitions = 4096;     // Power of two. Of the ring version; see set_partitions.
  bool background_work = true;         // false: no flush or compaction threads (simulation).
  std::uint64_t compaction_period_s = kCompactionPeriodSeconds;
  std::int64_t wall_ms = 0;  // 0: not known.
};

// One change that reached the disk.
struct SyncedChange {
  PartitionId partition;
  Dot dot;
  Shared bytes;       // Encoded.
  ChangeView view;    // Borrows from *bytes.
};

// A batch that gathers beyond this refuses to apply more (kOverloaded) until the disk catches up.
// append() does not refuse: its callers look at stats().pending and stats().gathered_bytes.
inline constexpr std::size_t kGatheredBytesMax = 64 << 20;
// No run gets this long; a larger number is an error of the sender.
inline constexpr std::uint64_t kRunLengthMax = std::uint64_t{1} << 56;

// "Of `writer`, from..to, these live; the rest is gone" (hazards F21), and of that, these were lost.
struct RangeStatement {
  struct Item {
    std::uint64_t n = 0;
    Blob change;
    FIELDS(n, change)
  };
  WriterId writer;
  std::uint64_t from = 1;
  std::uint64_t to = 0;  // to < from: nothing.
  std::vector<Item> live;           // Ascending n.
  std::vector<std::uint64_t> lost;  // Ascending n.
  std::vector<Trace> traces;        // Of those that were lost, as far as they are known.
  FIELDS(writer, from, to, live, lost, traces)
};

struct StoredChange {
  Dot dot;
  Shared bytes;
};

struct MailboxPage {
  std::vector<StoredChange> changes;  // Per writer ascending; across writers by entry id.
  VersionVector cursor;               // Covers what the reader had plus this page.
  VersionVector covered;              // The partition's synced vector at the time of the read.
  bool more = false;                  // The page was full.
};

struct KeyState {
  Dot dot;              // A change that carries the key (the void if there is one, else the smallest id).
  EntryId id;           // Position.
  bool is_void = false;
  std::uint64_t content = 0;  // content_hash.
};

struct RegisterValue {
  MergeKind merge = MergeKind::kLww;
  EntryId stamp;
  Bytes key;
  Bytes value;
  Dot dot;  // Of the write.
};

// Of messages that were written off, and of which no other copy stands: what readers are told.
struct LostPage {
  std::vector<Trace> messages;  // In the order of their dots.
  VersionVector passed;         // What was looked at, with voids and those of which another copy stands.
  std::vector<Dot> next;        // Of each writer that there was no more room for: the first that was not looked at.
};
struct LostHistory {
  std::vector<Trace> messages;  // Newest first.
  EntryId next;                 // The first that was not looked at; zero: there is none.
};

// A lane and its highest number. Lanes outlive the entries that raised them, so a run that is read
// after those expired does not bring them: whoever applies one with gone dots reads the lanes too.
struct LaneRow {
  MailboxId mailbox;
  DeviceId device;
  std::uint64_t lane = 0;
  std::uint64_t high = 0;
  friend bool operator==(const LaneRow&, const LaneRow&) = default;
  FIELDS(mailbox, device, lane, high)
};

// One step of moving rows to where they belong after a split.
struct SplitStep {
  bool done = false;        // Nothing is left to do.
  double share = 1;         // Of the walk that is done, roughly: by the slots.
  std::uint64_t rows = 0;   // Looked at.
  std::uint64_t bytes = 0;  // Of those rows.
  std::uint64_t moved = 0;
  bool hints = false;       // Of what is held for others, of which nothing is shown or taken meanwhile.
};

// What append() makes into a change: dot and prev are the store's business.
struct Appended {
  Dot dot;
  PartitionId partition;
  Shared bytes;
};

enum class Applied { kNew, kAlready, kGap };

// A change that says nothing any more, because another one won: a recalled content, a second copy of a
// message, an old value of a register.
struct Superseded {
  Dot dot;
  Dot by;
  friend bool operator==(const Superseded&, const Superseded&) = default;
  // What lost to one change lies together.
  friend auto operator<=>(const Superseded& a, const Superseded& b) {
    return std::tie(a.by, a.dot) <=> std::tie(b.by, b.dot);
  }
};
inline constexpr std::size_t kSupersededMax = 200'000;
inline constexpr std::size_t kTracesMax = 100'000;     // Of messages that were written off; more are only counted.
inline constexpr std::size_t kTraceRowsMax = 100'000;

// What was found damaged: one change, or (no dot) a partition to be refilled at the next open.
struct Damage {
  PartitionId partition;
  std::optional<Dot> dot;
  std::string text;
};

struct StoreStats {
  std::uint64_t commits = 0;
  std::uint64_t changes = 0;
  std::uint64_t puts = 0;
  std::uint64_t bytes = 0;
  std::uint64_t shadows = 0;   // Second copies of a key that met.
  std::uint64_t corrupt = 0;   // Records refused by their checksum, rows that could not be read.
  std::uint64_t damaged = 0;   // Changes in the damage list now.
  std::uint64_t lost = 0;      // Changes of which no copy is left.
  std::uint64_t pending = 0;   // Changes accepted, not yet synced.
  std::uint64_t gathered_bytes = 0;  // Of the batch that waits for the one that is being synced.
  std::uint64_t level0_files = 0;     // Of the family that has most: how far compactions are behind,
  std::uint64_t pace_us = 0;          // and how long commits wait for them (engine/pace.h).
  std::uint64_t installed = 0;        // Changes that came by files,
  std::uint64_t installed_files = 0;  // and how many files.
};

class Store {
 public:
  virtual ~Store() = default;

  // kForeign, kUnsupported (a newer format), kCorrupt (refused to open), kIo, kFull.
  static Result<std::unique_ptr<Store>> open(StoreOptions options);

  // Durable marker: the next run may keep this run's writer. Call last; nothing may follow it.
  virtual Status close_cleanly() = 0;

  [[nodiscard]] virtual WriterId writer() const = 0;
  [[nodiscard]] virtual bool kept_writer() const = 0;  // True after a clean shutdown.
  // REQUIRES: nothing is here. A store that holds changes is split().
  virtual void set_partitions(std::uint32_t partitions) = 0;
  [[nodiscard]] virtual std::uint32_t partitions() const = 0;
  [[nodiscard]] virtual PartitionId partition_of(const MailboxId& mailbox) const = 0;

  // --- Watchers. ---
  // After every sync, with all changes of the batch in apply order.
  virtual void on_synced(std::function<void(std::span<const SyncedChange>)> watcher) = 0;
  // Once, when the first change since the last flush was gathered: arrange for flush() soon.
  virtual void on_dirty(std::function<void()> hook) = 0;
  // A read, write or sync failed, now or since the store was opened: stop the process, start again with a new writer.
  virtual void on_fatal(std::function<void(const Error&)> hook) = 0;
  // The caller learnt that the disk does not hold what it held: as after a failed write.
  virtual void fail(const Error& error) = 0;
  // Hands the gathered batch to the committer unless one is in flight (then it follows by itself).
  virtual void flush() = 0;
  // Calls back when everything accepted so far is synced (at once, in a later flush, if nothing is).
  virtual void when_durable(std::function<void()> done) = 0;

  // --- Dots. ---
  [[nodiscard]] virtual std::uint64_t held(PartitionId partition, WriterId writer) const = 0;
  [[nodiscard]] virtual std::uint64_t synced(PartitionId partition, WriterId writer) const = 0;
  [[nodiscard]] virtual VersionVector vector(PartitionId partition) const = 0;  // Synced.
  // Partitions with a non-empty vector, ascending.
  [[nodiscard]] virtual std::vector<PartitionId> touched() const = 0;

  // The highest n that append() gave out under writer(). Above held() after a drop, until our own run
  // has come back from the owners that took the partition over.
  [[nodiscard]] virtual std::uint64_t issued(PartitionId partition) const = 0;

  // Nothing of the run is here but its entry in the vector: every change of it expired or was erased.
  [[nodiscard]] virtual bool is_spent(PartitionId partition, WriterId writer) = 0;
  // Takes a spent run out of the vector, as if it had never been heard of. False: it is not spent.
  // REQUIRES of the caller: nothing more can come under that writer, or dots would be taken twice.
  virtual bool forget(PartitionId partition, WriterId writer) = 0;

  // --- Writing. ---
  // Our next dot in the partition of change.mailbox; `change.prev` is filled in.
  // REQUIRES: issued() of the partition is held (invariant 4), and it is not being installed.
  virtual Appended append(ChangeView change) = 0;
  // Another writer's change. kGap stores nothing. kCorrupt, kUnsupported: nothing stored.
  virtual Result<Applied> apply(PartitionId partition, const Dot& dot, View change) = 0;
  // A run of a writer: what is absent from it counts as seen. Applies what extends the prefix.
  virtual Result<Applied> apply(PartitionId partition, const RangeStatement& range) = 0;

  // Begins to fill partitions by files (install.h). Those of which something is here are left out, and those that are
  // being erased or filled; with none left it is kInvalid or kOverloaded.
  virtual Result<std::shared_ptr<Install>> install(std::span<const PartitionId> partitions) = 0;
  [[nodiscard]] virtual bool is_installing(PartitionId partition) const = 0;

  // --- Reading logs and mailboxes (synced, not expired). ---
  // kCorrupt: something of this partition is damaged; another owner has it. A mailbox of a partition
  // with damage is not read; a run is read up to the change before the damaged one, also beside a file that cannot be
  // read: what can be read of it other owners may have.
  // At least one change if there is any, then up to `bytes`. `to` may lie before the last synced n. Expired ones are
  // gone; shown, those that are on disk yet count as live: for who keeps a copy of the log, not of what it says.
  enum class Expired { kGone, kShown };
  virtual Result<RangeStatement> read_writer(PartitionId partition, WriterId writer, std::uint64_t from,
                                             std::size_t bytes, Expired expired) = 0;
  Result<RangeStatement> read_writer(PartitionId partition, WriterId writer, std::uint64_t from, std::size_t bytes) {
    return read_writer(partition, writer, from, bytes, Expired::kGone);
  }
  // Changes after `cursor`: of all kinds, or all but registers, which then count as read. So does a content of which
  // a void is here. A page may be empty and have more behind it.
  enum class Kinds { kAll, kEntries };
  virtual Result<MailboxPage> read_mailbox(const MailboxId& mailbox, const VersionVector& cursor,
                                           std::size_t changes, std::size_t bytes, Kinds kinds) = 0;
  Result<MailboxPage> read_mailbox(const MailboxId& mailbox, const VersionVector& cursor,
                                   std::size_t changes, std::size_t bytes) {
    return read_mailbox(mailbox, cursor, changes, bytes, Kinds::kAll);
  }
  // The last change of each writer there: a cursor that covers it has seen the mailbox. kCorrupt.
  virtual Result<VersionVector> mailbox_vector(const MailboxId& mailbox) = 0;
  // Entries of a conversation older than `before` (zero: newest), newest first.
  virtual Result<std::vector<StoredChange>> history(const MailboxId& mailbox,
                                                    const MailboxId& conversation,
                                                    const EntryId& before, std::size_t limit) = 0;
  // The entry at this position, whichever conversation it is of.
  virtual Result<std::optional<StoredChange>> find_entry(const MailboxId& mailbox,
                                                         const EntryId& id) = 0;
  virtual Result<StoredChange> read_change(PartitionId partition, const Dot& dot) = 0;

  // --- Message keys, lanes (including what is in flight). An expired key is not found. ---
  virtual std::optional<KeyState> find_key(const MailboxId& mailbox, const MessageKey& key) = 0;
  // Of a message, whatever became of its record. By its position: looks through kTraceRowsMax rows of the mailbox at most.
  virtual std::optional<Trace> trace(const MailboxId& mailbox, const MessageKey& key) = 0;
  virtual std::optional<Trace> trace(const MailboxId& mailbox, const EntryId& id) = 0;
  // Highest number held of the lane; 0: none.
  virtual std::uint64_t lane_high(const MailboxId& mailbox, const DeviceId& device,
                                  std::uint64_t lane) = 0;

  // Lanes of a partition after `after` (none: from the first), in the order of their keys. Synced.
  virtual Result<std::vector<LaneRow>> read_lanes(PartitionId partition,
                                                  const std::optional<LaneRow>& after,
                                                  std::size_t limit) = 0;
  // Raises lanes to another owner's. kInvalid: a lane of another partition; nothing is done.
  virtual Status merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) = 0;

  // --- Registers (including what is in flight). ---
  virtual std::optional<RegisterValue> find_register(const MailboxId& mailbox, View key) = 0;
  // Registers whose key begins with `prefix` and is after `after` (empty: from the first). Synced only.
  virtual std::vector<RegisterValue> scan_registers(const MailboxId& mailbox, View prefix, View after,
                                                    std::size_t limit) = 0;

  // Mailboxes after `after` (zero: from the first) that have the register `key`, in the order of their
  // ids. Synced only.
  virtual std::vector<std::pair<MailboxId, RegisterValue>> find_mailboxes(View key,
                                                                          const MailboxId& after,
                                                                          std::size_t limit) = 0;

  // --- Damage (damage.h). ---
  // Inside the call that met it; must not call the store.
  virtual void on_damage(std::function<void(const Damage&)> hook) = 0;
  // Nothing damaged, nothing to refill, not being dropped or installed: only then does vector() mean what it says.
  [[nodiscard]] virtual bool is_whole(PartitionId partition) const = 0;
  [[nodiscard]] virtual std::vector<PartitionId> damaged_partitions() const = 0;  // Not whole.
  [[nodiscard]] virtual std::vector<Dot> damaged(PartitionId partition) const = 0;
  [[nodiscard]] virtual std::vector<Dot> lost(PartitionId partition) const = 0;
  // Of a damaged change: do its other rows show that it expired? Looks at a part of them; false: ask again.
  [[nodiscard]] virtual bool is_past(PartitionId partition, const Dot& damaged) = 0;
  // A file of theirs cannot be read. Once it is permitted the next open empties them, under a new writer,
  // and everything else that the file cannot be separated from; they are filled by catching up. Until
  // then they are not served, and close_cleanly() refuses.
  [[nodiscard]] virtual std::vector<PartitionId> to_refill() const = 0;
  // Every partition held here is covered by others. Durable at once; good for one open.
  virtual Status permit_refill() = 0;
  // Emptied by this open.
  [[nodiscard]] virtual std::vector<PartitionId> refilled() const = 0;
  // The bytes of a damaged or lost change: checked, then every row that it implies is written again.
  // Nothing to do for any other change. kCorrupt: not the bytes of this dot.
  virtual Status mend(PartitionId partition, const Dot& dot, View change) = 0;
  // The same from another owner's answer for a run that has damaged or lost changes: what is absent and not
  // lost there is gone. kOverloaded: not all of it is done yet; again (a call looks at a part of the rows).
  virtual Status mend(PartitionId partition, const RangeStatement& range) = 0;
  // No copy is left anywhere: the damaged change, or the next of a run that has no more copies, counts as gone from
  // now on. kInvalid: it is here, or it is not the next. kOverloaded: nothing is done yet; again.
  virtual Status mark_lost(PartitionId partition, const Dot& dot) = 0;
  // Messages that were written off, as far as their rows were here, until they would have expired. At most `limit` of
  // them are looked at, each at the price of a look-up.
  // Behind the cursor and, of each writer, up to `end` (null: all).
  virtual LostPage lost_after(const MailboxId& mailbox, const VersionVector& cursor, const VersionVector* end,
                              std::size_t limit) = 0;
  // Of a conversation: older than `before` (zero: newest) and younger than `end` (zero: all).
  virtual LostHistory lost_before(const MailboxId& mailbox, const MailboxId& conversation, const EntryId& before,
                                  const EntryId& end, std::size_t limit) = 0;
  // The last of each writer: a cursor that covers it was told of all.
  [[nodiscard]] virtual VersionVector lost_vector(const MailboxId& mailbox) const = 0;
  // One step of the scrub; an empty cursor begins the walk. kOverloaded: later again.
  virtual Result<ScrubStep> scrub(View cursor, std::size_t bytes) = 0;

  // --- Retention (expiry.h). ---
  // Moves the expiry time forward to `ms` (in steps of kExpiryStepMs), once that is durable.
  virtual void set_expiry_time(std::uint64_t ms) = 0;
  [[nodiscard]] virtual std::uint64_t expiry_time() const = 0;  // In effect; 0: nothing expires.
  // Once in kCompactionPeriodSeconds: makes idle files be compacted too.
  virtual void tend() = 0;

  // --- Superseded changes (hazards F21). ---
  // Noted as they are met, by reads of the scrub too: at most kSupersededMax, the others are met again.
  [[nodiscard]] virtual std::vector<PartitionId> with_superseded() const = 0;
  [[nodiscard]] virtual std::vector<Superseded> superseded(PartitionId partition) const = 0;
  // What lost to that one, at the price of what it gives.
  [[nodiscard]] virtual std::vector<Superseded> superseded(PartitionId partition, const Dot& by) const = 0;
  // Erases their bodies: from now on ranges call them gone. REQUIRES of the caller: every owner of the
  // partition has synced `by`, or the last copy of something acknowledged could go with ours.
  virtual Status erase_superseded(PartitionId partition, std::span<const Superseded> changes) = 0;

  // --- Giving up. ---
  // Erases all of the partition. Only the count of our own dots outlives it. REQUIRES: it is closed to
  // writes, and others cover it (architecture invariant 6). kOverloaded: a change of it is on its way to
  // the disk; later again.
  virtual Status drop(PartitionId partition) = 0;

  // --- Splitting (docs/decisions/0025). ---
  // Partition p becomes 2p and 2p + 1: each with its mailboxes, and with the vector, the damage and the counts of p.
  // At once; durable with the gathering batch, and with it what was put() in the same turn. What is on its way is
  // reported under the new numbers. Dots stay what they are: of those up to now each is of one child and gone in the
  // other; each child goes on behind them. Not from a watcher.
  // kOverloaded: an install is under way, or the last split is not settled. kInvalid: there are 65,536.
  virtual Status split() = 0;
  // Nothing lies any more where it lay before the last split. Until then nothing is dropped or installed, and of what
  // is held for others nothing is shown, taken or released before that has its place.
  [[nodiscard]] virtual bool is_split_settled() const = 0;
  // Moves some of it, having looked at about so many bytes. kOverloaded: the step before is on its way to the disk.
  virtual Result<SplitStep> settle_split(std::size_t bytes) = 0;

  // What replicas compare, as of now, without what is expired at the cut-off.
  virtual std::unique_ptr<Export> export_partition(PartitionId partition,
                                                   std::uint64_t cutoff_ms) = 0;

  // --- Hints: changes of partitions that we do not own, held for their owners. ---
  // In no vector, mailbox or log. The caller keeps the overview. False: not taken, a split is being settled.
  virtual bool hold(PartitionId partition, const Dot& dot, View change) = 0;
  struct Hint {
    PartitionId partition;
    Dot dot;
    std::size_t size = 0;
  };
  virtual std::vector<Hint> hints() = 0;
  // False: a file of theirs cannot be read, and hints() and read_held() tell only the rest.
  [[nodiscard]] virtual bool hints_readable() const = 0;
  // From the dot on, of the same writer, ascending. Synced only. Without bytes: since a split this n is known to be
  // of another partition.
  virtual std::vector<StoredChange> read_held(PartitionId partition, const Dot& from,
                                              std::size_t bytes) = 0;
  virtual void release(PartitionId partition, WriterId writer) = 0;

  // --- Small durable state: Paxos acceptors, identity, ring. Written with the next batch. ---
  enum class Family { kPaxos, kNode };
  virtual std::optional<Bytes> get(Family family, View key) = 0;  // Including in flight.
  virtual void put(Family family, View key, View value) = 0;  // An empty value erases the key.
  // Keys that begin with `prefix` and are after `after` (empty: from the first), ascending.
  virtual std::vector<std::pair<Bytes, Bytes>> scan(Family family, View prefix, View after,
                                                    std::size_t limit) = 0;

  [[nodiscard]] virtual StoreStats stats() const = 0;
  [[nodiscard]] virtual DiskUse disk_use() const = 0;  // Some 0.1 ms.
  // Highest entry time ever accepted, so that a lone node's clock never mints below it.
  [[nodiscard]] virtual Hlc highest_time() const = 0;
};

}  // namespace starling::storage
