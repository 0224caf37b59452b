#include "node/session/feeds.h"

#include <algorithm>
#include <cassert>

#include "node/session/entry_frame.h"

namespace starling::node {

using overlay::Method;

namespace {

constexpr Duration kFollowDeadline = 2s;
constexpr Duration kWatchEvery = 500ms;

// Pointwise minimum: what both have.
storage::VersionVector both(const storage::VersionVector& a, const storage::VersionVector& b) {
  storage::VersionVector out;
  for (const auto& dot : a.dots()) {
    if (const auto n = std::min(dot.n, b.get(dot.writer)); n > 0) out.raise(dot.writer, n);
  }
  return out;
}

// What of a session's vector is of writers that the owner told of.
storage::VersionVector real_part(const storage::VersionVector& vector, const storage::VersionVector& known,
                                 const storage::VersionVector& pushed) {
  storage::VersionVector out;
  for (const auto& dot : vector.dots()) {
    if (known.get(dot.writer) > 0 || pushed.get(dot.writer) > 0) out.raise(dot.writer, dot.n);
  }
  return out;
}

}  // namespace

const Shared& Delivery::frame() const {
  if (!frame_) frame_ = std::make_shared<const Bytes>(entry_frame(mailbox, dot, change));
  return frame_;
}

Feeds::Feeds(ClusterView& view) : view_(view), next_number_(view.random.u64() >> 16) {
  view_.on_notice<Push>(Method::kPush, [this](const NodeId& from, const Push& push) { receive(from, push); });
  view_.rpc.on_link([this](const NodeId& peer, const overlay::Hello* hello) {
    if (hello == nullptr) refollow_all([&](const Stream& s) { return s.live && s.owner == peer; });
  });
  view_.on_doubled([this] { partitions_doubled(); });
  view_.on_ring([this] {
    refollow_all([this](const Stream&) { return true; });
  });
  watch();
}

// A stream's mailboxes go on in two. Nobody pushes those yet: what the sessions have is in their feeds, and each is
// followed from there.
void Feeds::partitions_doubled() {
  for (const auto& [parent, stream] : std::exchange(streams_, {})) {
    for (const auto& mailbox : stream.mailboxes) {
      Stream& child = streams_[view_.store.partition_of(mailbox)];
      if (child.mailboxes.empty()) child.known = stream.known;
      child.mailboxes.insert(mailbox);
      feeds_.at(mailbox).ready = false;
    }
  }
  adding_.clear();
  to_follow_.clear();
  to_follow_set_.clear();
  avoided_.clear();
}

// An owner may be declared dead, or fall behind, while its link still stands; and what could not be
// followed is tried again.
void Feeds::watch() {
  watch_ = view_.loop.after(kWatchEvery, [this] { watch(); });
  refollow_all([this](const Stream& stream) {
    if (stream.asking) return false;
    return !stream.live || !view_.reachable(stream.owner) || !useful(stream);
  });
}

// A follower of an owner that stores nothing hears nothing: another is better, if there is one.
bool Feeds::useful(const Stream& stream) const {
  if (stream.mailboxes.empty()) return true;
  const PartitionId partition = view_.store.partition_of(*stream.mailboxes.begin());
  if (!view_.ring().is_owner(partition, stream.owner)) return false;
  const bool good = view_.ring().is_home(partition, stream.owner) && !view_.behind(stream.owner);
  return good || choose_owner(partition) == stream.owner;
}

Feeds::Feed* Feeds::find(const MailboxId& mailbox) {
  auto it = feeds_.find(mailbox);
  return it == feeds_.end() ? nullptr : &it->second;
}

void Feeds::subscribe(const MailboxId& mailbox, const std::string& address,
                      FeedSubscriber& subscriber) {
  auto [it, fresh] = feeds_.try_emplace(mailbox);
  Feed& feed = it->second;
  feed.listeners.push_back({&subscriber});
  if (!fresh) {
    if (feed.ready) {
      // In a later turn, like every other answer; the subscriber may be gone by then.
      view_.loop.defer([this, mailbox, target = &subscriber] {
        Feed* again = find(mailbox);
        if (again == nullptr || !again->ready) return;
        for (const auto& listener : again->listeners) {
          if (listener.subscriber == target) return target->on_feed_ready(mailbox);
        }
      });
    }
    return;
  }
  feed.address = address;
  const PartitionId partition = view_.store.partition_of(mailbox);
  auto& stream = streams_[partition];
  stream.mailboxes.insert(mailbox);
  stream.to_add.insert(mailbox);
  adding_.insert(partition);
  if (std::exchange(flush_queued_, true)) return;
  view_.loop.defer([this] {
    flush_queued_ = false;
    for (const auto p : std::exchange(adding_, {})) add(p);
  });
}

void Feeds::unsubscribe(const MailboxId& mailbox, FeedSubscriber& subscriber) {
  Feed* feed = find(mailbox);
  if (feed == nullptr) return;
  std::erase_if(feed->listeners, [&](const Listener& l) { return l.subscriber == &subscriber; });
  if (!feed->listeners.empty()) return;
  feeds_.erase(mailbox);
  const PartitionId partition = view_.store.partition_of(mailbox);
  auto it = streams_.find(partition);
  if (it == streams_.end()) return;
  it->second.mailboxes.erase(mailbox);
  it->second.to_add.erase(mailbox);
  if (it->second.number != 0) {
    view_.rpc.notify(it->second.owner, Method::kUnfollow,
                     pack(Unfollow{partition, it->second.number, {mailbox}, view_.partitions()}));
  }
  if (it->second.mailboxes.empty()) streams_.erase(it);
}

std::optional<NodeId> Feeds::followed(const MailboxId& mailbox) const {
  const auto feed = feeds_.find(mailbox);
  const auto stream = streams_.find(view_.store.partition_of(mailbox));
  if (feed == feeds_.end() || !feed->second.ready) return std::nullopt;
  if (stream == streams_.end() || !stream->second.live) return std::nullopt;
  return stream->second.owner;
}

bool Feeds::join(const MailboxId& mailbox, FeedSubscriber& subscriber,
                 const storage::VersionVector& vector) {
  Feed* feed = find(mailbox);
  if (feed == nullptr || !feed->ready || !vector.covers(feed->pushed)) return false;
  for (auto& listener : feed->listeners) {
    if (listener.subscriber != &subscriber) continue;
    listener.joined = true;
    const auto stream = streams_.find(view_.store.partition_of(mailbox));
    assert(stream != streams_.end());  // The feed has a listener.
    const auto real = real_part(vector, stream->second.known, feed->pushed);
    feed->resume_from = feed->has_joined ? both(feed->resume_from, real) : real;
    feed->has_joined = true;
    return true;
  }
  return false;
}

void Feeds::part(const MailboxId& mailbox, FeedSubscriber& subscriber) {
  Feed* feed = find(mailbox);
  if (feed == nullptr) return;
  for (auto& listener : feed->listeners) {
    if (listener.subscriber == &subscriber) listener.joined = false;
  }
  feed->has_joined = std::any_of(feed->listeners.begin(), feed->listeners.end(),
                                 [](const Listener& l) { return l.joined; });
}

int Feeds::rank_of(PartitionId partition, const NodeId& owner) const {
  if (avoided(partition, owner)) return 0;
  if (!view_.ring().is_home(partition, owner)) return 1;
  return view_.behind(owner) ? 2 : 3;
}

// Ourselves where we are an owner: no hop. Otherwise by rendezvous hash among those caught up, so that
// the gateways of a partition spread over its owners (hazards F25). Away owners only when none at home can be
// reached: they lag.
std::optional<NodeId> Feeds::choose_owner(PartitionId partition) const {
  if (!view_.in_ring()) return std::nullopt;
  std::optional<NodeId> best;
  std::tuple<int, bool, std::size_t> best_rank;
  for (const auto& owner : view_.ring().owners(partition)) {
    if (!view_.reachable(owner)) continue;
    const auto weight = std::hash<std::string>{}(Bytes(owner.view()) + Bytes(view_.self.view()) +
                                                 std::to_string(partition.value));
    const std::tuple<int, bool, std::size_t> rank{
        rank_of(partition, owner), owner == view_.self, weight};
    if (!best || rank > best_rank) {
      best = owner;
      best_rank = rank;
    }
  }
  return best;
}

void Feeds::send(PartitionId partition, Stream& stream, std::vector<FollowRequest::Item> items,
                 std::function<void(Result<Bytes>)> done) {
  FollowRequest request{view_.ring().number(), partition, stream.number, std::move(items), view_.partitions()};
  view_.rpc.call(stream.owner, Method::kFollow, pack(request), kFollowDeadline, std::move(done));
}

// A new stream for everything we follow in the partition.
void Feeds::follow(PartitionId partition) {
  auto it = streams_.find(partition);
  if (it == streams_.end()) return;
  Stream& stream = it->second;
  const auto owner = choose_owner(partition);
  stream.live = false;
  // The one that we leave would push for ever.
  if (stream.number != 0 && owner && stream.owner != *owner) {
    view_.rpc.notify(stream.owner, Method::kUnfollow,
                     pack(Unfollow{partition, stream.number, {}, view_.partitions()}));
  }
  if (!owner) return;  // watch() comes back to it.
  stream.owner = *owner;
  stream.number = ++next_number_;
  stream.asking = true;
  stream.to_add.clear();
  std::vector<FollowRequest::Item> items;
  std::size_t dots = 0;
  for (const auto& mailbox : stream.mailboxes) {
    Feed& feed = feeds_.at(mailbox);
    feed.ready = false;
    feed.pushed = {};
    if (feed.has_joined) dots += feed.resume_from.dots().size();
    if (feed.has_joined && dots > kFollowDotsMax) {
      stream.to_add.insert(mailbox);
    } else {
      items.push_back({mailbox, feed.has_joined, feed.has_joined ? feed.resume_from : storage::VersionVector{}});
    }
  }
  const auto beyond = stream.to_add;
  send(partition, stream, std::move(items), [this, partition, number = stream.number](auto reply) {
    followed(partition, number, std::move(reply));
  });
  for (const auto& mailbox : beyond) lose(mailbox);
}

void Feeds::followed(PartitionId partition, std::uint64_t number, Result<Bytes> reply) {
  auto it = streams_.find(partition);
  if (it == streams_.end() || it->second.number != number) return;
  Stream& stream = it->second;
  stream.asking = false;
  if (!reply) {
    // Another owner at once, or watch() comes back to it: whether this one is dead takes seconds to be known.
    const bool useless = reply.code() == Errc::kCorrupt || reply.code() == Errc::kUnavailable ||
                         reply.code() == Errc::kTimeout;
    return useless ? avoid(partition, stream.owner) : void();
  }
  const auto answer = unpack<FollowReply>(*reply);
  if (!answer) return;
  stream.live = true;
  stream.known = answer->vector;
  for (const auto& mailbox : answer->behind) lose(mailbox);
  const auto to_add = stream.to_add;
  const auto mailboxes = stream.mailboxes;  // A subscriber may change it.
  for (const auto& mailbox : mailboxes) {
    if (!to_add.contains(mailbox)) mark_ready(mailbox);
  }
  if (!to_add.empty()) add(partition);
}

// The stream begins after a hole: nobody may go on from where the feed stood.
void Feeds::lose(const MailboxId& mailbox) {
  Feed* feed = find(mailbox);
  if (feed == nullptr) return;
  feed->has_joined = false;
  std::vector<FeedSubscriber*> lost;
  for (auto& listener : feed->listeners) {
    if (std::exchange(listener.joined, false)) lost.push_back(listener.subscriber);
  }
  for (auto* subscriber : lost) subscriber->on_feed_lost(mailbox);
}

// What was subscribed since the stream began.
void Feeds::add(PartitionId partition) {
  auto it = streams_.find(partition);
  if (it == streams_.end() || it->second.asking) return;  // followed() comes back to it.
  Stream& stream = it->second;
  if (!stream.live) return follow(partition);
  std::vector<MailboxId> added(stream.to_add.begin(), stream.to_add.end());
  stream.to_add.clear();
  if (added.empty()) return;
  std::vector<FollowRequest::Item> items;
  for (const auto& mailbox : added) items.push_back({mailbox, false, {}});
  send(partition, stream, std::move(items),
       [this, partition, number = stream.number, added](Result<Bytes> reply) {
    auto again = streams_.find(partition);
    if (again == streams_.end() || again->second.number != number) return;
    const auto answer = reply ? unpack<FollowReply>(*reply) : Result<FollowReply>(reply.error());
    if (!answer) return follow(partition);
    again->second.known.merge(answer->vector);
    for (const auto& mailbox : added) mark_ready(mailbox);
  });
}

void Feeds::mark_ready(const MailboxId& mailbox) {
  Feed* feed = find(mailbox);
  if (feed == nullptr) return;
  feed->ready = true;
  std::vector<FeedSubscriber*> waiting;
  for (const auto& listener : feed->listeners) {
    if (!listener.joined) waiting.push_back(listener.subscriber);
  }
  for (auto* subscriber : waiting) {
    // An earlier one may have made this one go.
    Feed* again = find(mailbox);
    if (again == nullptr) return;
    for (const auto& listener : again->listeners) {
      if (listener.subscriber != subscriber) continue;
      subscriber->on_feed_ready(mailbox);
      break;
    }
  }
}

void Feeds::refollow_all(const std::function<bool(const Stream&)>& which) {
  std::vector<PartitionId> affected;
  for (const auto& [partition, stream] : streams_) {
    if (which(stream)) affected.push_back(partition);
  }
  // Not all gateways in the same order.
  if (!affected.empty()) {
    const auto first = static_cast<std::ptrdiff_t>(view_.random.below(affected.size()));
    std::rotate(affected.begin(), affected.begin() + first, affected.end());
  }
  const bool idle = to_follow_.empty();
  for (const auto partition : affected) {
    if (to_follow_set_.insert(partition).second) to_follow_.push_back(partition);
  }
  if (idle) follow_some();
}

void Feeds::follow_some() {
  for (std::size_t n = 0; n < kFollowsAtOnceMax && !to_follow_.empty(); ++n) {
    const PartitionId partition = to_follow_.front();
    to_follow_.pop_front();
    to_follow_set_.erase(partition);
    follow(partition);
  }
  if (to_follow_.empty()) return;
  const Duration rest = kFollowRest / 2 + Duration(view_.random.below(kFollowRest.count()));
  follow_timer_ = view_.loop.after(rest, [this] { follow_some(); });
}

void Feeds::receive(const NodeId& from, const Push& push) {
  if (!view_.same_count(from, push.partitions)) return;
  for (const auto& pushed : push.streams) {
    auto stream = streams_.find(pushed.partition);
    if (stream == streams_.end() || stream->second.number != pushed.stream) continue;
    if (stream->second.owner != from) continue;
    for (const auto* changes : {&pushed.changes, &pushed.regained}) {
      const bool again = changes == &pushed.regained;
      for (const auto& item : *changes) {
        const auto change = storage::decode(item.change.data, item.dot);
        if (!change) {
          view_.bad_notice("change", from, Method::kPush, change.error());
        } else if (Feed* feed = find(change->mailbox)) {
          fan_out(change->mailbox, *feed, item.dot, *change, again);
        }
      }
    }
  }
}

void Feeds::fan_out(const MailboxId& mailbox, Feed& feed, const Dot& dot, const storage::ChangeView& change,
                    bool again) {
  if (!again) feed.pushed.raise(dot.writer, dot.n);
  if (!again && feed.has_joined) feed.resume_from.raise(dot.writer, dot.n);
  const std::string address = feed.address;  // The feed may go with its last session.
  const Delivery delivery(address, dot, change);
  std::vector<FeedSubscriber*> joined;
  joined.reserve(feed.listeners.size());
  for (const auto& listener : feed.listeners) {
    if (listener.joined) joined.push_back(listener.subscriber);
  }
  for (auto* subscriber : joined) {
    again ? subscriber->on_regained(mailbox, delivery) : subscriber->on_change(mailbox, delivery);
  }
}

}  // namespace starling::node
