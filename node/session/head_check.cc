#include "node/session/head_check.h"

#include <algorithm>
#include <set>

namespace starling::node {

void HeadCheck::ask(ClusterView& view, const std::vector<Item>& items, Done done) {
  std::make_shared<HeadCheck>(view, std::move(done))->begin(items);
}

void HeadCheck::begin(const std::vector<Item>& items) {
  for (const auto& item : items) {
    const PartitionId partition = view_.store.partition_of(item.mailbox);
    // One away is asked beside those that know.
    const std::size_t needed = view_.ring().enough_to_know() + (view_.ring().is_home(partition, item.followed) ? 0 : 1);
    Check& check = checks_[item.mailbox];
    check.item = item;
    to_ask_[item.followed].push_back(item.mailbox);
    check.in_flight = 1;
    for (const auto& owner : view_.candidates(partition)) {
      if (owner == item.followed || !view_.alive(owner)) continue;
      if (check.in_flight < needed) {
        to_ask_[owner].push_back(item.mailbox);
        ++check.in_flight;
      } else {
        check.found.spare.push_back(owner);
      }
    }
  }
  flush();
}

void HeadCheck::flush() {
  for (auto& [node, mailboxes] : std::exchange(to_ask_, {})) {
    for (std::size_t at = 0; at < mailboxes.size(); at += kHeadsMax) {
      const auto first = mailboxes.begin() + static_cast<std::ptrdiff_t>(at);
      const std::vector<MailboxId> part(first, first + static_cast<std::ptrdiff_t>(
                                                           std::min(kHeadsMax, mailboxes.size() - at)));
      HeadsRequest request{view_.ring().number(), {}};
      for (const auto& mailbox : part) request.items.push_back({mailbox, checks_.at(mailbox).item.digest});
      view_.rpc.call(node, overlay::Method::kHeads, pack(request), kHeadsDeadline,
                     [self = shared_from_this(), node = node, part](Result<Bytes> body) {
                       self->answered(node, part, std::move(body));
                     });
    }
  }
}

void HeadCheck::answered(const NodeId& node, const std::vector<MailboxId>& mailboxes,
                         Result<Bytes> body) {
  const auto reply = body ? unpack<HeadsReply>(*body) : Result<HeadsReply>(body.error());
  std::set<MailboxId> changed;
  std::set<MailboxId> refused;
  if (reply) {
    changed.insert(reply->changed.begin(), reply->changed.end());
    for (const auto& item : reply->refused) refused.insert(item.mailbox);
  }
  for (const auto& mailbox : mailboxes) {
    const auto check = checks_.find(mailbox);
    if (check == checks_.end()) continue;
    const bool told = reply.ok() && !refused.contains(mailbox);
    settle(node, check->second, told, told && !reply->behind, changed.contains(mailbox));
    if (check->second.in_flight > 0) continue;
    Found found = std::move(check->second.found);
    checks_.erase(check);
    done_(mailbox, std::move(found));
  }
  flush();
}

// One that catches up may have what nobody else has, but does not count.
void HeadCheck::settle(const NodeId& node, Check& check, bool told, bool counts, bool more) {
  --check.in_flight;
  if (node == check.item.followed) {
    check.found.followed_has_more = !told || more;
  } else if (told && more) {
    check.found.others.push_back(node);
  }
  if (!counts && !check.found.spare.empty()) {
    to_ask_[check.found.spare.front()].push_back(check.item.mailbox);
    check.found.spare.erase(check.found.spare.begin());
    ++check.in_flight;
  }
}

}  // namespace starling::node
