// Feeds: the live tails of the mailboxes that this gateway's sessions follow.
//
// One stream per partition comes from one caught-up owner, ourselves where we are one. When that owner
// fails, or the ring changes, the gateway follows another from where each feed stands. A feed fans one
// pushed change out to its sessions; the frame for clients is encoded once and shared.
// A session joins a feed only after a read that was answered, after we followed, by the followed owner,
// and that covers what the stream has pushed meanwhile (hazards F9).
// Invariants: (1) `resume_from` of a feed is under the vector of each live session of it, so whatever a
// session lacks comes again after a failover; (2) pushes of a replaced stream are ignored; (3) a cursor that a device
// made up costs its own session only: a feed takes over what the owner knows of, and a request to follow is bounded.
// Thread: one loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "node/replication/follow/follow_messages.h"
#include "node/replication/view.h"

namespace starling::node {

// Pages on their way from one owner: together well under what a link may queue.
inline constexpr std::size_t kReadsAtOnceMax = 32;
// An owner that does not answer, or has damage in the partition, is not followed for so long, while there is another.
inline constexpr Duration kAvoidFor = 30s;
// When an owner fails, all gateways follow others in its place, partition by partition: so many at once, then a random
// rest (hazards F25).
inline constexpr std::size_t kFollowsAtOnceMax = 64;
// Of the vectors in one request; mailboxes beyond it read anew. Well under what a link takes.
inline constexpr std::size_t kFollowDotsMax = 64 << 10;
inline constexpr Duration kFollowRest = 20ms;

// A change on its way to the sessions of a feed.
class Delivery {
 public:
  Delivery(const std::string& mailbox, const Dot& dot, const storage::ChangeView& change)
      : mailbox(mailbox), dot(dot), change(change) {}
  const std::string& mailbox;  // Address.
  const Dot& dot;
  const storage::ChangeView& change;
  // The client frame of an entry or void: encoded at the first call, then shared.
  [[nodiscard]] const Shared& frame() const;

 private:
  mutable Shared frame_;
};

class FeedSubscriber {
 public:
  // The owner is followed: read now, then try to join.
  virtual void on_feed_ready(const MailboxId& mailbox) = 0;
  // Joined no longer: more was missed than an owner pushes. on_feed_ready follows.
  virtual void on_feed_lost(const MailboxId& mailbox) = 0;
  // Only while joined.
  virtual void on_change(const MailboxId& mailbox, const Delivery& delivery) = 0;
  // One that was written off, and whose number was passed, is there after all. Only while joined.
  virtual void on_regained(const MailboxId& mailbox, const Delivery& delivery) = 0;

 protected:
  ~FeedSubscriber() = default;  // Borrowed.
};

class Feeds {
 public:
  explicit Feeds(ClusterView& view);

  // on_feed_ready comes in a later turn.
  void subscribe(const MailboxId& mailbox, const std::string& address, FeedSubscriber& subscriber);
  void unsubscribe(const MailboxId& mailbox, FeedSubscriber& subscriber);

  // From the owner that is followed. kUnavailable: wait for on_feed_ready.
  using ReadDone = std::function<void(Result<ReadReply>)>;
  void read(const MailboxId& mailbox, const storage::VersionVector& cursor, ReadDone done);
  // From another owner, whose answer may hold what the followed one lacks.
  void read_at(const NodeId& owner, const MailboxId& mailbox, const storage::VersionVector& cursor,
               ReadDone done);
  // Nothing: wait for on_feed_ready.
  [[nodiscard]] std::optional<NodeId> followed(const MailboxId& mailbox) const;
  // True when `vector` covers what the stream has pushed: from now on the subscriber gets every change.
  bool join(const MailboxId& mailbox, FeedSubscriber& subscriber,
            const storage::VersionVector& vector);
  // The subscriber fell behind: no more changes until it reads and joins again.
  void part(const MailboxId& mailbox, FeedSubscriber& subscriber);

 private:
  struct Listener {
    FeedSubscriber* subscriber;
    bool joined = false;
  };
  struct Feed {
    std::string address;
    bool ready = false;                   // The owner confirmed that it pushes us this mailbox.
    bool has_joined = false;              // resume_from means something.
    storage::VersionVector pushed;        // By the present stream.
    storage::VersionVector resume_from;
    std::vector<Listener> listeners;
  };
  struct Stream {
    std::uint64_t number = 0;
    NodeId owner;
    bool live = false;                    // Confirmed.
    bool asking = false;                  // A full follow request is under way.
    storage::VersionVector known;         // The owner's, of the whole partition, when it confirmed.
    std::set<MailboxId> mailboxes;
    std::set<MailboxId> to_add;           // Subscribed in this turn.
  };

  Feed* find(const MailboxId& mailbox);
  void follow(PartitionId partition);
  void followed(PartitionId partition, std::uint64_t number, Result<Bytes> reply);
  void add(PartitionId partition);
  void mark_ready(const MailboxId& mailbox);
  void partitions_doubled();
  void refollow_all(const std::function<bool(const Stream&)>& which);
  void follow_some();
  void watch();
  [[nodiscard]] bool useful(const Stream& stream) const;
  [[nodiscard]] int rank_of(PartitionId partition, const NodeId& owner) const;
  [[nodiscard]] std::optional<NodeId> choose_owner(PartitionId partition) const;
  void receive(const NodeId& from, const Push& push);
  // `again`: it was passed while it was lost.
  void fan_out(const MailboxId& mailbox, Feed& feed, const Dot& dot, const storage::ChangeView& change, bool again);
  void send(PartitionId partition, Stream& stream, std::vector<FollowRequest::Item> items,
            std::function<void(Result<Bytes>)> done);
  void lose(const MailboxId& mailbox);
  void read_next(const NodeId& owner);
  void avoid(PartitionId partition, const NodeId& owner);
  [[nodiscard]] bool avoided(PartitionId partition, const NodeId& owner) const;

  struct WaitingRead {
    MailboxId mailbox;
    storage::VersionVector cursor;
    bool of_followed = true;  // Whoever that is by then.
    ReadDone done;
  };
  struct Reads {
    std::size_t in_flight = 0;
    std::deque<WaitingRead> waiting;  // At most one per tail of a session.
  };

  ClusterView& view_;
  std::unordered_map<MailboxId, Feed> feeds_;
  std::map<PartitionId, Stream> streams_;
  std::map<NodeId, Reads> reads_;  // By the owner asked.
  std::map<std::pair<PartitionId, NodeId>, Instant> avoided_;  // Until then. Few: damaged partitions.
  std::set<PartitionId> adding_;   // Streams with to_add, flushed at the end of the turn.
  std::deque<PartitionId> to_follow_;    // Anew, a bounded number at once.
  std::set<PartitionId> to_follow_set_;  // The same.
  overlay::Timer follow_timer_;
  std::uint64_t next_number_;
  bool flush_queued_ = false;
  overlay::Timer watch_;
};

}  // namespace starling::node
