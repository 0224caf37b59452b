// Coordinator: checks, orders and appends the sends of a mailbox. Any owner can be it, two at once do no
// harm.
//
// A send passes, in this order: ownership, disk and clock; keys in flight (a retry joins the first);
// the lane (number n only after n-1, hazards F5); the key (a hit re-drives replication, F10); for a
// marked retry the other owners are asked before anything is minted; permission; then it gets its id,
// above the floor, and its dot, and leaves for disk, owners and, for a direct message, the sender's
// own mailbox at the same time. It is acknowledged when W copies of each are synced.
// A recall is a void for a message that was stored: it skips the lane, and wants to know who sent the message, so that
// must be found first, here or at another owner (coordinator_recall.cc).
// Invariants: (1) a key is minted once per coordinator, and a retry returns the same id;
//             (2) requests of one lane are taken in order, so a look-up of one holds the others back;
//             (3) nothing is stored when an error other than kTimeout or kUnavailable is returned.
// Thread: one loop.
#pragma once

#include <deque>
#include <functional>
#include <map>

#include "node/replication/append/append_messages.h"
#include "node/replication/catch_up/catch_up.h"
#include "node/replication/stand_ins/holding.h"
#include "node/replication/messages.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/view.h"
#include "node/session/protocol.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::uint64_t kPendingChangesMax = 200'000;  // Accepted, not yet synced.
inline constexpr std::size_t kComparesMax = 64;     // Refusals compared with the other owners at once.
inline constexpr std::size_t kLaneQueueMax = 1024;  // Requests of a lane held back by a look-up.
inline constexpr std::size_t kRecallsMax = 64;      // Messages looked for at once, to be taken back.
// Voids in a row that a lane takes of who may not send: as many numbers as a device may have had on the wire.
inline constexpr std::uint64_t kVoidsOpenMax = 1024;

// What `from` may do in `mailbox`. Answered from the mailbox's own registers (node/mailbox).
struct Permissions {
  std::function<Status(const MailboxId& mailbox, View to, View from)> may_send;
  // It might, once: what it left open then, it may close.
  std::function<bool(const MailboxId& mailbox, View to, View from)> might_send;
};

class Coordinator {
 public:
  using Done = std::function<void(Result<AppendReply>)>;
  using Implies = bool (*)(const storage::ChangeView& change);
  // Carries out what a change implies elsewhere (obligations.h) and tells the first outcome.
  using DriveCopy = std::function<void(PartitionId partition, const Dot& dot, Shared change,
                                       std::function<void(Status)> done)>;

  Coordinator(ClusterView& view, Replicator& replicator, CatchUp& catch_up, Permissions permissions,
              Implies implies, DriveCopy drive_copy, std::uint64_t retention_ms);

  void append(AppendRequest request, Bytes body, Done done);
  void write_register(const WriteRegisterRequest& request, std::function<void(Status)> done);
  // Of requests that say `derive`: as a gateway of this program does it (mailbox/write_register.h). REQUIRED.
  std::function<void(const WriteRegisterRequest& request, std::function<void(Status)> done)> change_member;
  // Of a message that was stored: a copy under a dot of ours, in the batch that gathers. Nobody waits for it, and
  // nothing is checked: the copy says what was allowed.
  [[nodiscard]] Status may_make_anew(PartitionId partition) const;
  void make_anew(const storage::ChangeView& copy);
  [[nodiscard]] std::size_t in_flight() const { return in_flight_.size(); }
  [[nodiscard]] std::size_t longest_lane() const;  // Of those held back by a look-up.

 private:
  struct Pending {          // One send from its first check to its answer.
    AppendRequest request;
    Bytes body;
    Done done;
    MailboxId mailbox;
    MessageKey key;
    std::uint64_t content = 0;
    bool asked = false;     // The other owners were asked for the key,
    bool all_answered = true;  // and all of them answered, also those that seem to be dead.
    bool compared = false;  // With the other owners, because ours says that the sender may not,
    bool knows = false;     // and with as many as it takes to know what was acknowledged.
  };
  struct LaneId {
    MailboxId mailbox;
    DeviceId device;
    std::uint64_t lane;
    friend auto operator<=>(const LaneId&, const LaneId&) = default;
  };
  struct KeyIn {
    MailboxId mailbox;
    MessageKey key;
    friend auto operator<=>(const KeyIn&, const KeyIn&) = default;
  };
  struct InFlight {         // Minted here, not yet acknowledged.
    Dot dot;
    EntryId id;
    std::uint64_t content;
    bool is_void;
    protocol::Grade grade;
    std::vector<Done> waiters;
  };

  void serve();
  [[nodiscard]] Status may_store(PartitionId partition, std::uint8_t flags, bool quorum) const;
  [[nodiscard]] Status may_use_own_run(PartitionId partition) const;
  void admit(Pending send);
  [[nodiscard]] bool closes_open(const Pending& send, std::uint64_t high) const;
  void known(Pending send, const storage::KeyState& state);
  void mint(Pending send);
  // The same key, said otherwise: a void for a content, or a copy with a smaller id.
  void store(Pending&& send, const storage::ChangeView& change);  // `change` may borrow from `send`.
  void join(Pending send, const storage::KeyState& state);
  static bool supersedes(const AppendRequest& request, bool stored_is_void, const EntryId& stored_id);
  // What takes several steps knows the mailbox: the number of its partition may change meanwhile (ClusterView::on_doubled).
  void replicate(const KeyIn& key, const Dot& dot, protocol::Grade grade, Shared change);
  struct Both;
  void drive_implied(const MailboxId& mailbox, const Dot& dot, Shared change,
                     const std::shared_ptr<Both>& both);
  void finish(const KeyIn& key, Result<std::uint8_t> copies);
  struct Asked {
    bool found = false;
    bool alive = true;      // All owners that seem to be alive answered, up to the one that has it,
    bool everybody = true;  // and no owner seems to be dead.
    bool written_off = false;  // An owner that has it not knows that it was there, and may come back.
  };
  // The message has a trace here and no record.
  [[nodiscard]] std::optional<Dot> written_off(const MailboxId& mailbox, const MessageKey& key);
  overlay::Task<Asked> ask_for_key(MailboxId mailbox, MessageKey key);
  overlay::Task<starling::Done> ask_owners(Pending send, LaneId lane);
  // coordinator_recall.cc
  overlay::Task<starling::Done> answer_closed(Pending send);
  [[nodiscard]] bool is_closed_by_recall(const MailboxId& mailbox, const storage::KeyState& closed) const;
  overlay::Task<starling::Done> take_back(Pending recall);
  overlay::Task<Result<Shared>> find_message(MailboxId mailbox, MessageKey key);
  [[nodiscard]] Status store_recall(Pending& recall, const storage::ChangeView& sent);
  overlay::Task<starling::Done> compare_first(Pending send, LaneId lane);
  struct Known {
    bool by_all = true;      // All owners that seem to be alive answered.
    bool by_enough = false;  // So many that whatever W owners acknowledged is here now.
  };
  struct Comparison {
    Known known;
    std::size_t home = 0;  // Home owners whose changes are here.
    std::size_t left = 0;  // Owners that did not answer yet.
    overlay::Completer<bool> done;
  };
  overlay::Task<Known> compare_with_owners(MailboxId mailbox);
  overlay::Task<starling::Done> compare_one(NodeId owner, MailboxId mailbox, std::shared_ptr<Comparison> comparison);
  overlay::Task<starling::Done> redrive(KeyIn key, Dot dot, protocol::Grade grade);
  overlay::Task<starling::Done> redrive_register(MailboxId mailbox, Dot dot, std::function<void(Status)> done);
  void resume_lane(const LaneId& lane);
  [[nodiscard]] std::uint64_t outliving(std::uint64_t expires_ms) const;
  [[nodiscard]] std::uint64_t expiry_of(const EntryId& id, const AppendRequest& request) const;
  void refuse(const Pending& send, Error error);

  ClusterView& view_;
  Replicator& replicator_;
  CatchUp& catch_up_;
  const Permissions permissions_;
  Implies implies_;
  DriveCopy drive_copy_;
  const std::uint64_t retention_ms_;
  Holding holding_;
  std::map<KeyIn, InFlight> in_flight_;  // Ordered: iteration is part of a simulated history.
  std::map<LaneId, std::deque<Pending>> held_lanes_;  // A look-up is under way.
  std::size_t comparing_ = 0;  // Comparisons of which a task goes on, also when nobody waits for it any more.
  std::size_t recalling_ = 0;  // Recalls that look for their message.
  overlay::Scope scope_;
};

}  // namespace starling::node
