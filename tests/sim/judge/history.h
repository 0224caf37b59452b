// History: what the clients of a run did and saw, and what the nodes hold in the end. Checkers read
// it.
//
// Every body in a simulation is unique, so its hash names the send that it belongs to, whatever
// key, id or dot the cluster gave it. What clients did and saw is judged by node/check, as the
// histories of real processes are; events() says it in that form.
// What faults destroyed is told, too: a send of which every copy that it was acknowledged with is gone is
// judged like one of a grade that may lose, and positions that are gone count no more.
// Thread: value types.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "crypto/result.h"
#include "node/check/history.h"
#include "node/session/protocol.h"
#include "overlay/loop/clock.h"
#include "storage/ids.h"
#include "storage/version_vector.h"
#include "tests/sim/judge/rosters.h"

namespace starling::sim {

// A partition, and of how many it is one: while they are doubled nodes count them differently.
struct Part {
  PartitionId partition;
  std::uint32_t of = 1;

  [[nodiscard]] bool holds(const MailboxId& mailbox) const {
    return partition_of(slot_of(mailbox), of) == partition;
  }
  // One lies in the other.
  [[nodiscard]] bool meets(const Part& other) const {
    return of <= other.of ? covering(other.partition, other.of, of) == partition : other.meets(*this);
  }
};

using DeviceIndex = std::size_t;
using SendIndex = std::size_t;

enum class Outcome {
  kPending,  // No answer yet.
  kAcked,
  kRefused,  // The cluster said for good that it will not.
  kUnknown,  // Given up: may or may not have happened.
};

struct DeviceInfo {
  std::string user;  // "@alice"
  std::string name;
  DeviceId id;
};

struct SendRecord {
  DeviceIndex device = 0;
  std::string to;
  std::uint64_t hash = 0;  // Of the body.
  std::size_t size = 0;
  std::uint64_t number = 0;  // In the lane of (device, to), as the client counts; 0: it took none.
  Instant invoked;
  Instant ended;
  Outcome outcome = Outcome::kPending;
  Errc error{};            // kRefused, kUnknown.
  std::uint64_t seq = 0;   // kAcked: the number in the lane.
  std::string id;          // kAcked: the position.
  std::uint8_t copies = 0;
  node::protocol::Grade grade{};
  std::uint32_t lifetime_s = 0;
  bool recalling = false;  // Its user asked to take it back.
};

// Somebody asked to take a message back.
struct RecallRecord {
  DeviceIndex device = 0;
  SendIndex send = 0;
  Instant asked;
  Instant ended;
  Outcome outcome = Outcome::kPending;
  Errc error{};
  std::string id;  // kAcked: the position that it was told.
};

// One event that a device handed to its application.
struct Delivery {
  DeviceIndex device = 0;
  Instant at;
  std::string mailbox;
  Dot dot;
  std::string id;
  MessageKey key;
  std::string from;
  std::string to;
  bool is_void = false;
  std::uint64_t hash = 0;
  std::size_t size = 0;
  bool again = false;  // Not a new message: another position of one that the device has.
};

class History {
 public:
  DeviceIndex add_device(const std::string& user, const std::string& name);
  // Members for the whole run. Of groups whose members change see rosters().
  void add_group(const std::string& group, std::set<std::string> members);

  SendIndex invoke(DeviceIndex device, const std::string& to, View body, Instant now,
                   node::protocol::Grade grade = {}, std::uint32_t lifetime_s = 0);
  void acked(SendIndex send, std::uint64_t seq, const std::string& id, std::uint8_t copies,
             Instant now);
  void failed(SendIndex send, Outcome outcome, Errc error, Instant now);
  // By whomever; a stranger is refused.
  using RecallIndex = std::size_t;
  RecallIndex recall(DeviceIndex device, SendIndex send, Instant now);
  void recalled(RecallIndex recall, const Result<std::string>& id, Instant now);
  // The client library did not take it. REQUIRES: the newest send.
  void not_taken(SendIndex send, Errc error, Instant now);
  // Its login was refused: what it would send then it is refused by its own library.
  void shut_out(DeviceIndex device) { shut_out_.insert(device); }
  // It gave up what was open, and took back the numbers of this lane above `last`, which no node ever saw.
  void gave_up(DeviceIndex device, const std::string& to, std::uint64_t last);
  void delivered(Delivery delivery) { deliveries_.push_back(std::move(delivery)); }
  // A fault destroyed the synced copy that `node` had, in this mailbox, of the message with this body.
  void destroyed(std::uint64_t hash, const MailboxId& mailbox, std::size_t node) {
    destroyed_[hash][mailbox].insert(node);
  }

  // What a weak grade promises in this run: whether processes ended, and whether disks were lost or damaged.
  void weak_grades_last(bool memory, bool local) {
    memory_lasts_ = memory;
    local_lasts_ = local;
  }

  // Nobody has this change any more. A device that was shown it is judged as if it stood where the copies that are
  // left stand.
  void written_off(const Part& part, const Dot& dot) { written_off_[dot].push_back(part); }

  [[nodiscard]] const std::vector<DeviceInfo>& devices() const { return devices_; }
  [[nodiscard]] const std::vector<SendRecord>& sends() const { return sends_; }
  [[nodiscard]] const std::vector<Delivery>& deliveries() const { return deliveries_; }
  [[nodiscard]] const std::vector<RecallRecord>& recalls() const { return recalls_; }
  [[nodiscard]] const SendRecord* send_of(std::uint64_t hash) const;
  [[nodiscard]] MessageKey key_of(const SendRecord& send) const;  // REQUIRES: acked.
  // Acknowledged, and in one of its mailboxes the faults destroyed as many copies as the ack had counted.
  [[nodiscard]] bool may_be_lost(const SendRecord& send) const;
  // Acknowledged, at a grade that still stands for something, not to be burned, and not destroyed.
  [[nodiscard]] bool lives(const SendRecord& send) const;
  // ... and nobody asked to take it back.
  [[nodiscard]] bool is_owed(const SendRecord& send) const;
  // Once stored it is not lost with a node: by its grade, and what happened in this run.
  [[nodiscard]] bool lasts(const SendRecord& send) const;
  [[nodiscard]] bool is_written_off(const Delivery& delivery) const;
  [[nodiscard]] const std::map<std::string, std::set<std::string>>& groups() const {
    return groups_;
  }
  [[nodiscard]] Rosters& rosters() { return rosters_; }
  [[nodiscard]] const Rosters& rosters() const { return rosters_; }
  // Its sender has to expect that: who is out of a group may not write to it, who is shut out writes nothing.
  [[nodiscard]] bool may_be_refused(const SendRecord& send) const;
  [[nodiscard]] std::size_t count(Outcome outcome) const;
  [[nodiscard]] std::string text(const SendRecord& send) const;
  [[nodiscard]] std::string text(DeviceIndex device) const;

 private:
  std::vector<DeviceInfo> devices_;
  std::map<std::string, std::set<std::string>> groups_;
  std::map<std::pair<DeviceIndex, std::string>, std::uint64_t> lanes_;  // Numbers used.
  std::vector<SendRecord> sends_;
  std::unordered_map<std::uint64_t, SendIndex> by_hash_;
  std::vector<Delivery> deliveries_;
  std::vector<RecallRecord> recalls_;
  std::map<std::uint64_t, std::map<MailboxId, std::set<std::size_t>>> destroyed_;  // By body: nodes.
  std::map<Dot, std::vector<Part>> written_off_;
  bool memory_lasts_ = true;
  bool local_lasts_ = true;
  Rosters rosters_;
  std::set<DeviceIndex> shut_out_;
};

// The whole history in the order of time, with header and end.
std::vector<node::check::Event> events(const History& history, const std::string& cluster);

// A stored change that a fault destroyed at a node.
struct Destroyed {
  std::size_t node = 0;
  Part part;               // Where the row lay: its slot may be that of a parent that is not settled yet.
  Dot dot;
  MailboxId mailbox;       // Of a message.
  std::uint64_t hash = 0;  // Of its body; 0: no message, or it was unreadable before.
};

std::uint64_t body_hash(View body);
std::string hash_text(std::uint64_t hash);  // As traces and checkers say it.

// What one node holds of one partition.
struct StoredEntry {
  MailboxId mailbox;
  MessageKey key;
  EntryId id;
  bool is_void = false;
  std::uint64_t hash = 0;
  Dot dot;
};
struct PartitionExport {
  storage::VersionVector vector;
  Bytes canonical;  // Equal states have equal bytes.
  std::vector<StoredEntry> entries;
  std::vector<Dot> lost;  // Written off.
};
struct NodeExport {
  std::string name;
  std::map<PartitionId, PartitionExport> partitions;
  std::uint32_t partition_count = 1;  // Of its store.
  bool settled = true;                // No row lies where it lay before the last split.
};
struct ClusterExport {
  std::uint32_t partition_count = 0;  // Of the ring.
  std::vector<NodeExport> nodes;
  std::map<PartitionId, std::vector<std::size_t>> owners;  // Indexes into nodes.
};

// Tells the history what nobody has any more: what the stores list as written off, and what writers of nodes that were
// forced out had shown before they gave it to anybody.
void note_written_off(History& history, const ClusterExport& stores, const std::set<WriterId>& abandoned);

}  // namespace starling::sim
