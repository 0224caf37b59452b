// HeadCheck: a login's first question. Who of the owners of its mailboxes has more than its cursors?
//
// What W owners acknowledged is at one of any N-W+1 of them, so that many are asked for each mailbox, the
// followed one among them; all mailboxes that one node is asked about go in one request (hazards F16, F27).
// An owner that cannot tell is replaced by the next, while there is one.
// Bounded: kHeadsMax mailboxes a request, one answer awaited from each owner at most. Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "node/replication/follow/follow_messages.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr Duration kHeadsDeadline = 500ms;

class HeadCheck : public std::enable_shared_from_this<HeadCheck> {
 public:
  struct Item {
    MailboxId mailbox;
    std::uint64_t digest = 0;  // Of the session's vector.
    NodeId followed;
  };
  struct Found {
    bool followed_has_more = true;  // Or could not tell.
    std::vector<NodeId> others;     // That have more.
    std::vector<NodeId> spare;      // Owners that were not asked.
  };
  using Done = std::function<void(const MailboxId& mailbox, Found found)>;

  // `done` comes once for each item, later.
  static void ask(ClusterView& view, const std::vector<Item>& items, Done done);

  HeadCheck(ClusterView& view, Done done) : view_(view), done_(std::move(done)) {}

 private:
  struct Check {
    Item item;
    std::size_t in_flight = 0;
    Found found;
  };
  void begin(const std::vector<Item>& items);
  void flush();
  void answered(const NodeId& node, const std::vector<MailboxId>& mailboxes, Result<Bytes> body);
  void settle(const NodeId& node, Check& check, bool told, bool counts, bool more);

  ClusterView& view_;
  const Done done_;
  std::map<MailboxId, Check> checks_;
  std::map<NodeId, std::vector<MailboxId>> to_ask_;
};

}  // namespace starling::node
