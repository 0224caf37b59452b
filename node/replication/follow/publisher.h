// Publisher: pushes what this owner has synced to the gateways that follow it.
//
// A gateway follows (partition, set of mailboxes) as one stream. After the answer to its request
// every later synced change of those mailboxes is pushed, in apply order, whatever way it came here; with
// `resume`, first what the gateway's vector of the mailbox does not cover, unless that is too much: then
// the answer says so and the gateway reads pages at its own pace. A gap cannot go unseen: pushes travel
// in order on one link, and a link that fails (or overflows) makes the gateway follow anew. So does a doubling of the
// partitions: there are no streams of those before.
// A content whose void is here and synced is not pushed, as it is in no page: the next change of its writer shows a gap,
// and sessions read past it.
// Invariants: (1) nothing is pushed before it is synced; (2) no allocation per follower on the append
// path: a change's bytes are shared by all streams of a turn.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "node/replication/append/append_messages.h"
#include "node/replication/follow/follow_messages.h"
#include "node/replication/append/register_versions.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kFollowedMailboxesMax = 2'000'000;
// Of backlog pushed to one gateway in one second: far below what its link may queue, however many
// streams it resumes at once.
inline constexpr std::size_t kBacklogBytesMax = 8 << 20;
// And of pages that were read for that and are not the last: what is in them may all be gone.
inline constexpr std::size_t kBacklogPagesMax = kBacklogBytesMax / kReadBytesMax;
// Of a page of a history: so often kReadChangesMax are looked at, while nothing is found to tell of.
inline constexpr std::size_t kLostRoundsMax = 20;

class Publisher {
 public:
  explicit Publisher(ClusterView& view);

  // From the store's watcher.
  void on_synced(std::span<const storage::SyncedChange> changes);
  // What was written off is back, and synced: to those that follow the mailbox now.
  void regained(const Dot& dot, Shared change);
  void forget(const NodeId& gateway);  // Its link went down.
  [[nodiscard]] std::size_t followed() const { return followers_.size(); }
  [[nodiscard]] std::vector<NodeId> followers(const MailboxId& mailbox) const;

 private:
  using StreamAt = std::pair<NodeId, PartitionId>;
  struct Stream {
    std::uint64_t number = 0;
    std::set<MailboxId> mailboxes;
  };
  struct Outgoing {
    PartitionId partition;
    std::uint64_t stream;
    Dot dot;
    Shared bytes;
    bool regained = false;
  };
  struct Backlog {
    Instant since;
    std::size_t bytes = 0;
    std::size_t pages = 0;
  };

  Result<Bytes> follow(const NodeId& gateway, const FollowRequest& request);
  void unfollow(const NodeId& gateway, const Unfollow& request);
  void drop(std::map<StreamAt, Stream>::iterator stream);
  void remove(const MailboxId& mailbox, const StreamAt& at);
  // False: it is more than the gateway's budget; nothing of it was sent.
  Result<bool> send_backlog(const NodeId& gateway, const FollowRequest& request,
                            const FollowRequest::Item& item);
  [[nodiscard]] bool is_closed(const storage::ChangeView& change);
  void queue(const NodeId& gateway, Outgoing change);
  void flush();
  void serve_reads();
  void read_registers(const ReadRegistersRequest& request, std::uint64_t version, overlay::Reply& reply);

  ClusterView& view_;
  RegisterVersions versions_;
  std::map<StreamAt, Stream> streams_;
  std::unordered_map<MailboxId, std::vector<StreamAt>> followers_;
  std::map<NodeId, std::vector<Outgoing>> outgoing_;
  std::map<NodeId, Backlog> backlogs_;
  bool flush_queued_ = false;
};

}  // namespace starling::node
