// Pages of mailboxes, asked from owners: a bounded number at once, and none for a while from one that has damage.
#include "node/session/feeds.h"

namespace starling::node {

using overlay::Method;

void Feeds::read(const MailboxId& mailbox, const storage::VersionVector& cursor, ReadDone done) {
  const auto owner = followed(mailbox);
  if (!owner) return done(Error{Errc::kUnavailable, "no owner is followed yet"});
  auto& reads = reads_[*owner];
  if (reads.in_flight >= kReadsAtOnceMax) {
    reads.waiting.push_back({mailbox, cursor, true, std::move(done)});
    return;
  }
  read_at(*owner, mailbox, cursor, [this, mailbox, owner = *owner, done = std::move(done)](auto page) {
    const bool useless = !page && (page.code() == Errc::kCorrupt || page.code() == Errc::kNotOwner ||
                                   page.code() == Errc::kCatchingUp);
    if (useless) avoid(view_.store.partition_of(mailbox), owner);
    done(std::move(page));
  });
}

void Feeds::read_at(const NodeId& owner, const MailboxId& mailbox, const storage::VersionVector& cursor,
                    ReadDone done) {
  auto& reads = reads_[owner];
  if (reads.in_flight >= kReadsAtOnceMax) {
    reads.waiting.push_back({mailbox, cursor, false, std::move(done)});
    return;
  }
  ++reads.in_flight;
  // A session makes nothing of a group's registers.
  const Feed* feed = find(mailbox);
  const bool entries_only = feed != nullptr && feed->address.front() == '#';
  std::vector<Dot> pushed = feed == nullptr ? std::vector<Dot>() : feed->pushed.dots();
  std::erase_if(pushed, [&](const Dot& dot) { return cursor.covers(dot); });
  view_.rpc.call(owner, Method::kRead,
                 pack(ReadRequest{view_.ring().number(), mailbox, cursor, entries_only, std::move(pushed)}), kReadDeadline,
                 [this, owner, done = std::move(done)](Result<Bytes> body) {
                   --reads_[owner].in_flight;
                   read_next(owner);
                   if (!body) return done(body.error());
                   done(unpack<ReadReply>(*body));
                 });
}

// Whoever waited may be followed elsewhere by now, or not at all.
void Feeds::read_next(const NodeId& owner) {
  auto& reads = reads_[owner];
  while (!reads.waiting.empty() && reads.in_flight < kReadsAtOnceMax) {
    auto next = std::move(reads.waiting.front());
    reads.waiting.pop_front();
    if (next.of_followed) {
      read(next.mailbox, next.cursor, std::move(next.done));
    } else {
      read_at(owner, next.mailbox, next.cursor, std::move(next.done));
    }
  }
  if (reads.in_flight == 0 && reads.waiting.empty()) reads_.erase(owner);
}

// It cannot be read there: follow another owner, if there is one.
void Feeds::avoid(PartitionId partition, const NodeId& owner) {
  std::erase_if(avoided_, [now = view_.loop.now()](const auto& item) { return item.second <= now; });
  avoided_[{partition, owner}] = view_.loop.now() + kAvoidFor;
  const auto stream = streams_.find(partition);
  if (stream == streams_.end() || stream->second.owner != owner || stream->second.asking) return;
  if (choose_owner(partition) != owner) follow(partition);
}

bool Feeds::avoided(PartitionId partition, const NodeId& owner) const {
  const auto it = avoided_.find({partition, owner});
  return it != avoided_.end() && it->second > view_.loop.now();
}

}  // namespace starling::node
