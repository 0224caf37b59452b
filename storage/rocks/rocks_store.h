// RocksStore: the Store, over one Engine. Contract: store.h. Bytes on disk: layout.h.
//
// A change is staged into the gathering batch: its rows go into a WriteBatch, its meaning into the
// in-flight state (Pending) that later changes are checked against. flush() seals the batch; the
// committer makes it durable; then vectors move, watchers hear, callbacks run, and the batch that
// gathered meanwhile follows. What many changes share (lanes, vectors, highest time) is said in one
// row of the journal, at the seal.
// Split by concept: store.cc (open, close, vectors), store_flush.cc (the pipeline), store_write.cc
// (append, apply, staging), store_read.cc (logs, mailboxes), store_state.cc (keys, lanes,
// registers, small state), store_damage.cc (damage, mending), store_refill.cc (unreadable files),
// store_scrub.cc, store_superseded.cc (changes that another one replaced), install.cc (partitions filled by files),
// store_split.cc (every partition becomes two).
// Thread: one loop. Callbacks may call the store, and must not destroy it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/engine/engine.h"
#include "storage/rocks/damage.h"
#include "storage/rocks/journal.h"
#include "storage/rocks/partition_table.h"
#include "storage/rocks/pending.h"
#include "storage/rocks/traces.h"
#include "storage/store.h"

namespace starling::storage {

inline constexpr std::size_t kLaneCacheMax = 64 << 10;
inline constexpr std::size_t kPrevCacheMax = 64 << 10;
inline constexpr std::size_t kRegisterCacheMax = 16 << 10;
inline constexpr std::size_t kRegisterCachedBytesMax = 512;  // Accounts and memberships are far smaller.
// The expiry time moves in steps, so that it costs a write in ten seconds and no more.
inline constexpr std::uint64_t kExpiryStepMs = 10'000;
// A read of a run looks at this many times the bytes it may return, then says what it saw.
inline constexpr std::size_t kReadThroughFactor = 8;
inline constexpr std::size_t kChangeCost = 256;  // Of reading and applying a change of a run, beside its bytes.
// Rows that a page may leave out before it ends, so that one page does not hold up the loop.
inline constexpr std::size_t kRowsPassedMax = 10'000;
// Changes that a call reads in search of copies of a message.
inline constexpr std::size_t kCopiesReadMax = 1'000;
// Of each generation of the journal: some 20,000 numbers, written as rows by an open. The small one makes tests
// and simulations see every part of its life.
inline constexpr std::size_t kJournalBytes = 1 << 20;
inline constexpr std::size_t kJournalBytesWithoutBackgroundWork = 2 << 10;

struct MailboxKey {
  MailboxId mailbox;
  MessageKey key;
  friend bool operator==(const MailboxKey&, const MailboxKey&) = default;
};
struct KeyHash {
  std::size_t operator()(const MailboxKey& key) const noexcept {
    return std::hash<MailboxId>{}(key.mailbox) * 31 ^ std::hash<MessageKey>{}(key.key);
  }
};

class RocksInstall;

class RocksStore final : public Store {
 public:
  // `expiry` is the one that the engine's filters have.
  RocksStore(StoreOptions options, std::unique_ptr<Engine> engine, std::shared_ptr<ExpiryTime> expiry);
  ~RocksStore() override;
  // Reads the state on disk, draws or keeps the writer, removes the clean marker. Once, first.
  Status start();

  Status close_cleanly() override;
  [[nodiscard]] WriterId writer() const override { return writer_; }
  [[nodiscard]] bool kept_writer() const override { return kept_writer_; }
  void set_partitions(std::uint32_t partitions) override;
  [[nodiscard]] std::uint32_t partitions() const override { return partitions_; }
  [[nodiscard]] PartitionId partition_of(const MailboxId& mailbox) const override;

  void on_synced(std::function<void(std::span<const SyncedChange>)> watcher) override;
  void on_dirty(std::function<void()> hook) override;
  void on_fatal(std::function<void(const Error&)> hook) override;
  void fail(const Error& error) override;
  void flush() override;
  void when_durable(std::function<void()> done) override;

  [[nodiscard]] std::uint64_t held(PartitionId partition, WriterId writer) const override;
  [[nodiscard]] std::uint64_t synced(PartitionId partition, WriterId writer) const override;
  [[nodiscard]] VersionVector vector(PartitionId partition) const override;
  [[nodiscard]] std::uint64_t issued(PartitionId partition) const override;
  [[nodiscard]] bool is_spent(PartitionId partition, WriterId writer) override;
  bool forget(PartitionId partition, WriterId writer) override;
  [[nodiscard]] std::vector<PartitionId> touched() const override;

  void on_damage(std::function<void(const Damage&)> hook) override;
  [[nodiscard]] bool is_whole(PartitionId partition) const override;
  [[nodiscard]] std::vector<PartitionId> damaged_partitions() const override;
  [[nodiscard]] std::vector<Dot> damaged(PartitionId partition) const override;
  [[nodiscard]] bool is_past(PartitionId partition, const Dot& damaged) override;
  [[nodiscard]] std::vector<Dot> lost(PartitionId partition) const override;
  [[nodiscard]] std::vector<PartitionId> to_refill() const override;
  Status permit_refill() override;
  [[nodiscard]] std::vector<PartitionId> refilled() const override;
  Status mend(PartitionId partition, const Dot& dot, View change) override;
  Status mend(PartitionId partition, const RangeStatement& range) override;
  Status mark_lost(PartitionId partition, const Dot& dot) override;
  LostPage lost_after(const MailboxId& mailbox, const VersionVector& cursor, const VersionVector* end,
                      std::size_t limit) override;
  LostHistory lost_before(const MailboxId& mailbox, const MailboxId& conversation, const EntryId& before,
                          const EntryId& end, std::size_t limit) override;
  [[nodiscard]] VersionVector lost_vector(const MailboxId& mailbox) const override;
  Result<ScrubStep> scrub(View cursor, std::size_t bytes) override;

  void set_expiry_time(std::uint64_t ms) override;
  [[nodiscard]] std::uint64_t expiry_time() const override { return expiry_->ms(); }
  void tend() override { engine_->tend(); }
  [[nodiscard]] DiskUse disk_use() const override { return engine_->disk_use(); }
  [[nodiscard]] std::vector<PartitionId> with_superseded() const override;
  [[nodiscard]] std::vector<Superseded> superseded(PartitionId partition) const override;
  [[nodiscard]] std::vector<Superseded> superseded(PartitionId partition, const Dot& by) const override;
  Status erase_superseded(PartitionId partition, std::span<const Superseded> changes) override;
  Status drop(PartitionId partition) override;
  Status split() override;
  [[nodiscard]] bool is_split_settled() const override { return !split_; }
  Result<SplitStep> settle_split(std::size_t bytes) override;
  std::unique_ptr<Export> export_partition(PartitionId partition,
                                           std::uint64_t cutoff_ms) override;

  bool hold(PartitionId partition, const Dot& dot, View change) override;
  std::vector<Hint> hints() override;
  [[nodiscard]] bool hints_readable() const override { return !unreadable_hints_.has_value(); }
  std::vector<StoredChange> read_held(PartitionId partition, const Dot& from,
                                      std::size_t bytes) override;
  void release(PartitionId partition, WriterId writer) override;

  Appended append(ChangeView change) override;
  Result<Applied> apply(PartitionId partition, const Dot& dot, View change) override;
  Result<Applied> apply(PartitionId partition, const RangeStatement& range) override;

  Result<std::shared_ptr<Install>> install(std::span<const PartitionId> partitions) override;
  [[nodiscard]] bool is_installing(PartitionId partition) const override {
    return installing_.contains(slot_of(partition));
  }

  using Store::read_writer;
  Result<RangeStatement> read_writer(PartitionId partition, WriterId writer, std::uint64_t from,
                                     std::size_t bytes, Expired expired) override;
  using Store::read_mailbox;
  Result<MailboxPage> read_mailbox(const MailboxId& mailbox, const VersionVector& cursor,
                                   std::size_t changes, std::size_t bytes, Kinds kinds) override;
  Result<VersionVector> mailbox_vector(const MailboxId& mailbox) override;
  Result<std::optional<StoredChange>> find_entry(const MailboxId& mailbox,
                                                 const EntryId& id) override;
  Result<std::vector<StoredChange>> history(const MailboxId& mailbox, const MailboxId& conversation,
                                            const EntryId& before, std::size_t limit) override;
  Result<StoredChange> read_change(PartitionId partition, const Dot& dot) override;

  std::optional<KeyState> find_key(const MailboxId& mailbox, const MessageKey& key) override;
  std::optional<Trace> trace(const MailboxId& mailbox, const MessageKey& key) override;
  std::optional<Trace> trace(const MailboxId& mailbox, const EntryId& id) override;
  std::uint64_t lane_high(const MailboxId& mailbox, const DeviceId& device,
                          std::uint64_t lane) override;
  Result<std::vector<LaneRow>> read_lanes(PartitionId partition,
                                          const std::optional<LaneRow>& after,
                                          std::size_t limit) override;
  Status merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) override;

  std::optional<RegisterValue> find_register(const MailboxId& mailbox, View key) override;
  std::vector<RegisterValue> scan_registers(const MailboxId& mailbox, View prefix, View after,
                                            std::size_t limit) override;

  std::vector<std::pair<MailboxId, RegisterValue>> find_mailboxes(View key, const MailboxId& after,
                                                                  std::size_t limit) override;

  std::optional<Bytes> get(Family family, View key) override;
  void put(Family family, View key, View value) override;
  std::vector<std::pair<Bytes, Bytes>> scan(Family family, View prefix, View after,
                                            std::size_t limit) override;

  [[nodiscard]] StoreStats stats() const override;
  [[nodiscard]] Hlc highest_time() const override { return highest_time_; }

 private:
  friend class RocksInstall;
  struct Closed {
    Slot first_slot = 0;
    Dot dot;
    bool lost = false;  // Else mended, or gone.
  };
  // What reaches the disk together.
  struct Batch {
    std::unique_ptr<rocksdb::WriteBatch> writes = std::make_unique<rocksdb::WriteBatch>();
    std::vector<SyncedChange> changes;           // In apply order.
    Journal::Batch journal;                      // Filled at the seal.
    std::vector<PartitionRowKey> forgotten;      // Runs taken out of the vector.
    std::vector<std::function<void()>> durable;  // To call when it is synced.
    std::vector<Closed> closed;                  // Damage that ends when it is synced.
    std::set<Slot> dropped;                      // Still seen by reads until it is synced.
    std::uint64_t expiry_ms = 0;                 // Takes effect when it is synced; 0: unchanged.
    std::uint32_t split_from = 0;                // It splits the store, which had so many partitions; 0: no.
    bool moves_rows = false;                     // It splits the store, or moves or erases rows while that is settled.
    bool has_writes = false;
  };

  // --- store.cc ---
  [[nodiscard]] Slot slot_of(PartitionId partition) const;
  [[nodiscard]] std::vector<PartitionId> partitions_of(const std::vector<Slot>& slots) const;
  // The slots of the partition, as bounds of a scan of any family.
  [[nodiscard]] std::pair<Bytes, Bytes> bounds_of(Slot first_slot) const;
  Status load_node_state();
  // Rows for all that the journal says; it begins anew.
  Status fold_journal();
  Status load_partitions();
  Status load_issued();
  [[nodiscard]] std::uint64_t issued_of(Slot first_slot) const;
  // Registers and lanes that are committed: read from disk again.
  void forget_cached(const std::set<Slot>& first_slots);
  static bool is_cached(const RegisterRow& row) { return row.value.size() <= kRegisterCachedBytesMax; }
  Status begin_run();
  // A number of `node`; nothing when absent.
  Result<std::optional<std::uint64_t>> load_number(View key);

  // --- store_flush.cc ---
  void mark_dirty();
  void commit_gathered();
  void write_shared_rows();
  void write_own_rows(rocksdb::WriteBatch& writes, const Journal::Batch& from);
  void committed(const Status& status);

  // --- store_write.cc ---
  [[nodiscard]] Status check_foreign(Slot first_slot, WriterId writer, std::uint64_t n) const;
  Result<ChangeView> check(PartitionId partition, const Dot& dot, View change);
  [[nodiscard]] Status check_room() const;
  [[nodiscard]] Status check_room(Slot first_slot) const;  // And it is not being dropped or installed.
  [[nodiscard]] Status check_stays(Slot first_slot) const;  // Only that.
  [[nodiscard]] bool is_dropping(Slot first_slot) const;
  Result<std::vector<SyncedChange>> check(PartitionId partition, const RangeStatement& range,
                                          std::uint64_t held);
  void stage(PartitionId partition, const Dot& dot, Shared bytes, const ChangeView& change);
  // The rows that the change implies, merged with what is accepted. The same change again writes
  // its rows again.
  void stage_rows(Slot first_slot, const Dot& dot, View bytes, const ChangeView& change);
  void put_key(const MailboxKey& id, const KeyRow& row);
  void stage_key(const Dot& dot, const ChangeView& change);
  void stage_register(const Dot& dot, const ChangeView& change);
  std::uint64_t previous(const MailboxId& mailbox);

  // --- install.cc ---
  [[nodiscard]] Status may_install(Slot first_slot) const;
  Status empty_unfinished();
  void erase_partition(rocksdb::WriteBatch& writes, Slot first_slot);

  // --- store_read.cc ---
  struct Loaded {
    StoredChange change;
    ChangeView view;  // Borrows from change.bytes.
  };
  // Nothing: no log row, or expired. kCorrupt: damaged, and noted.
  Result<std::optional<Loaded>> load_change(Slot first_slot, const Dot& dot, ReadMode mode = {});
  // A change that a row names which is not expired, so it must be there.
  // REQUIRES: as of the same snapshot, because a commit may erase both meanwhile.
  Result<StoredChange> load_named(Slot first_slot, const Dot& dot, ReadMode mode);
  Status read_run(Slot slot, std::uint64_t to, std::size_t bytes, Expired expired, RangeStatement& out);
  Status read_row_by_row(Slot slot, std::uint64_t to, std::size_t bytes, Expired expired, RangeStatement& out);
  Result<bool> take_row(Slot slot, const Dot& dot, View bytes, Expired expired, RangeStatement& out);
  [[nodiscard]] bool is_closed(View content, const VersionVector& synced, ReadMode mode) const;

  // --- store_damage.cc ---
  [[nodiscard]] Status check_whole(Slot first_slot) const;
  Status list_hints(View prefix, std::vector<Hint>& out);
  void unreadable_hints(Slot slot, const std::string& text);
  void damaged_hint(Slot slot, const Dot& dot, const std::string& what);
  Error damaged_change(Slot first_slot, const Dot& dot, const std::string& what);
  bool note_damage(Slot first_slot, const Dot& dot, const std::string& what);
  void close_damage(Slot first_slot, const Dot& dot, bool lost);
  // It leaves the list with a batch that is on its way.
  [[nodiscard]] bool is_closing(Slot first_slot, const Dot& dot, bool lost) const;
  // Index rows that name damaged changes of a partition. A call looks at a part of the partition's.
  using NamedRow = std::pair<ColumnFamily, Bytes>;
  struct Naming {
    std::set<Dot> dots;
    std::size_t family = 0;  // Looked through now,
    Bytes at;                // from this key on.
    std::multimap<Dot, NamedRow> rows;
    std::map<Bytes, Dot> keys;  // Of the rows of keys: whom they name.
    [[nodiscard]] bool complete() const;
  };
  // kOverloaded: there are more; again.
  Status find_rows_naming(Slot first_slot, const std::set<Dot>& dots);
  // Notes the other copies of the messages that those rows of keys stand for.
  Status find_copies(Slot first_slot, Naming& naming);
  // The change has rows again that nobody has looked for.
  void forget_naming(Slot first_slot, const Dot& dot);
  Status erase_rows_naming(Slot first_slot, const std::set<Dot>& dots);
  [[nodiscard]] std::set<NamedRow> rows_of_others(Slot first_slot, const std::set<Dot>& dots) const;
  void stand_again(Slot first_slot, const std::set<Dot>& dots);
  // Index rows are written again from the log. False: its log record cannot be read either.
  bool heal(Slot first_slot, const Dot& dot);
  void heal_mailbox(const MailboxId& mailbox);

  // --- store_traces.cc ---
  Status load_traces();
  // Of the message that this change is, as its rows say that were looked for.
  std::optional<Trace> trace_named(Slot first_slot, const Dot& dot);
  // What another owner tells of the runs that it lost.
  void note_traces(Slot first_slot, std::span<const Trace> traces, const std::set<Dot>& lost);
  void note_trace(const Trace& trace);
  void erase_trace(Slot first_slot, const Dot& dot);
  void erase_traces(rocksdb::WriteBatch& writes, Slot first_slot);
  [[nodiscard]] std::vector<MailboxId> traced_mailboxes(Slot first_slot) const;
  // Tells the statement's reader of what it says is lost.
  void add_traces(Slot first_slot, RangeStatement& range, std::size_t limit) const;
  [[nodiscard]] bool tells(const Trace& trace) const;
  [[nodiscard]] bool is_missing(const Trace& trace);

  // --- store_split.cc ---
  Status load_split();
  [[nodiscard]] Slot half() const;  // Slots of a partition: half of what its parent had.
  // Where else rows of the partition may lie, in `log`: its own first slot, or its parent's.
  [[nodiscard]] Slot old_slot(Slot first_slot) const;
  [[nodiscard]] bool is_of(Slot first_slot, const MailboxId& mailbox) const;
  [[nodiscard]] bool moves_rows() const;
  [[nodiscard]] bool is_splitting() const;  // The split is not on disk yet.
  [[nodiscard]] bool moves_hints() const { return split_ && split_->stage == SplitRow::Stage::kHints; }
  void split_damage();
  void split_batch(Batch& batch);
  void split_counts();
  // The record of a change of this partition. False: none.
  Result<bool> find_log(Slot first_slot, const Dot& dot, rocksdb::PinnableSlice& out, ReadMode mode = {});
  void erase_log(Slot first_slot, const Dot& dot);
  // A record under that first slot does not decode.
  void damaged_record(Slot at, const Dot& dot, const std::string& what);
  Result<bool> settle_row(ColumnFamily family, View key, View value);
  void end_stage();

  // --- store_superseded.cc ---
  void note_superseded(const MailboxId& mailbox, const Dot& dot, const Dot& by);
  [[nodiscard]] std::vector<Superseded> lost_to(Slot first_slot, const Dot& by) const;
  // The dot that stands for what this change says: its own, or another's.
  Dot standing(const Dot& dot, const ChangeView& change);

  // --- store_refill.cc ---
  // Row by row: there are few, and range deletions are a risk to the scan of those that stay (docs/decisions/0072).
  void erase_damage(rocksdb::WriteBatch& writes, Slot first_slot);
  // Whether a file of this family is why the partition is to be refilled.
  [[nodiscard]] bool is_refill_of(Slot first_slot, ColumnFamily family) const;
  void unreadable(ColumnFamily family, View key, const std::string& text);
  void note_refill(const std::set<Slot>& first_slots, std::uint64_t file, const std::string& text);
  Status load_damage();
  Status refill();

  // --- store_scrub.cc: a step looks through one snapshot, and mends what is accepted. ---
  struct ScrubRun;
  void scrub_row(ScrubRun& run, ColumnFamily family, View key, View value);
  void scrub_log(ScrubRun& run, View key, View value);
  void scrub_mailbox_dot(ScrubRun& run, View key, View value);
  void scrub_named(ScrubRun& run, ColumnFamily family, View key, View value);
  bool rows_stand(ScrubRun& run, const Dot& dot, const ChangeView& change);
  void scrub_damage_list(ScrubRun& run);

  // --- store_state.cc: memory first, then disk. A failed read is fatal and reads as absent;
  // nothing is reported durable after it. ---
  std::optional<Bytes> load(ColumnFamily family, View key);
  std::optional<Bytes> load_small(Family family, View key);  // Empty: erased, not on disk yet.
  std::optional<KeyRow> find_key_row(const MailboxId& mailbox, const MessageKey& key);
  std::optional<RegisterRow> find_register_row(const Bytes& key);
  Pending<Bytes, Bytes>& small_state(Family family);

  // Set at construction or start.
  const StoreOptions options_;
  const std::unique_ptr<Engine> engine_;
  const std::shared_ptr<ExpiryTime> expiry_;
  std::unique_ptr<Committer> committer_;
  WriterId writer_;
  bool kept_writer_ = false;
  std::uint32_t partitions_ = 0;
  bool was_split_ = false;         // Ever.
  std::optional<SplitRow> split_;  // Being settled.
  std::vector<std::function<void(std::span<const SyncedChange>)>> watchers_;
  std::function<void()> dirty_hook_;
  std::function<void(const Error&)> fatal_hook_;
  std::function<void(const Damage&)> damage_hook_;
  std::set<std::pair<Slot, Dot>> damaged_hints_;  // That were told of; bounded.
  std::optional<Damage> unreadable_hints_;        // A file of theirs cannot be read.
  std::vector<Slot> refilled_;

  // Accepted state: disk plus what is in flight.
  PartitionTable table_;
  Journal journal_;
  DamageTable damage_;
  std::map<std::pair<Slot, Dot>, Bytes> past_searches_;  // Of damaged changes: the row of mailboxes to go on from.
  std::map<Slot, Naming> naming_;  // Of partitions with damage.
  TraceTable traces_;  // Of changes that damage_ says are lost, or will.
  std::map<Slot, std::set<Superseded>> superseded_;
  std::size_t superseded_count_ = 0;
  std::set<Slot> installing_;             // Being filled by files.
  std::map<Slot, std::uint64_t> issued_;  // Of our writer, in partitions that were dropped.
  Pending<MailboxId, std::uint64_t> previous_{kPrevCacheMax};  // Our last n in the mailbox.
  Pending<LaneId, std::uint64_t, RaisedHash> lanes_{kLaneCacheMax};
  Pending<MailboxKey, KeyRow, KeyHash> keys_;
  Pending<Bytes, RegisterRow> registers_{kRegisterCacheMax, is_cached};  // By row key.
  Pending<Bytes, Bytes> paxos_;
  Pending<Bytes, Bytes> node_;
  Hlc highest_time_ = 0;
  Hlc written_time_ = 0;  // The one in the last batch.
  std::uint64_t staged_expiry_ms_ = 0;
  bool healing_ = false;  // Rows that cannot be read count as absent.

  // The pipeline.
  std::unique_ptr<Batch> gathering_ = std::make_unique<Batch>();
  std::unique_ptr<Batch> in_flight_;
  bool reporting_ = false;  // Inside callbacks of a finished batch.
  bool dirty_ = false;      // The hook was called since the last flush.
  std::optional<Error> failed_;
  bool closed_ = false;
  StoreStats stats_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // For callbacks on their way.
};

}  // namespace starling::storage
