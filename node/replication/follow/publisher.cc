#include "node/replication/follow/publisher.h"

#include <algorithm>

namespace starling::node {

using overlay::Access;
using overlay::Loop;
using overlay::Method;
using overlay::Reply;

namespace {

constexpr std::size_t kPushBytesMax = 1 << 20;  // Of changes in one frame.

ReadReply page_reply(storage::MailboxPage page) {
  ReadReply reply;
  reply.changes.reserve(page.changes.size());
  for (auto& change : page.changes) reply.changes.push_back({change.dot, Blob{*change.bytes}});
  reply.cursor = std::move(page.cursor);
  reply.more = page.more;
  return reply;
}

// What was written off counts as read with the page that passes it. One that cannot hold them all ends, writer by
// writer, before the first that it does not tell of.
void add_lost(storage::Store& store, const ReadRequest& request, ReadReply& reply) {
  auto lost = store.lost_after(request.mailbox, request.cursor, reply.more ? &reply.cursor : nullptr, kReadChangesMax);
  reply.cursor.merge(lost.passed);
  reply.lost = std::move(lost.messages);
  if (lost.next.empty()) return;
  reply.more = true;
  storage::VersionVector end;
  for (const auto& dot : reply.cursor.dots()) {
    const auto next = std::find_if(lost.next.begin(), lost.next.end(), [&](const Dot& d) { return d.writer == dot.writer; });
    end.raise(dot.writer, next == lost.next.end() ? dot.n : std::min(dot.n, next->n - 1));
  }
  reply.cursor = std::move(end);
  std::erase_if(reply.changes, [&](const auto& item) { return !reply.cursor.covers(item.dot); });
}

EntryId position_of(const ReadReply::Item& item) {
  const auto change = storage::decode(item.change.data, item.dot);
  return change ? change->entry.id : EntryId{};
}

// The next younger position that there may be.
EntryId above(const EntryId& id) {
  return id.writer.value + 1 != 0 ? EntryId{id.time, {id.writer.value + 1}} : EntryId{id.time + 1, {0}};
}

// Of a page of a conversation: those between its end and its beginning. It ends before the first that it does not tell of,
// but not before everything: who asks goes on from the oldest that he was told of.
void add_lost(storage::Store& store, const HistoryRequest& request, ReadReply& reply) {
  const EntryId end = reply.more && !reply.changes.empty() ? position_of(reply.changes.back()) : EntryId{};
  storage::LostHistory lost;
  const auto tells = [&] {
    const bool shows = !reply.changes.empty() && position_of(reply.changes.front()) >= lost.next;
    return shows || !lost.messages.empty();
  };
  EntryId before = request.before;
  for (std::size_t round = 0; round < kLostRoundsMax; ++round) {
    lost = store.lost_before(request.mailbox, request.conversation, before, end, kReadChangesMax);
    if (lost.next.is_zero() || tells()) break;
    before = above(lost.next);  // Other copies of all of these stand.
  }
  if (!tells()) return;  // Rather what stands below than nothing.
  reply.lost = std::move(lost.messages);
  if (lost.next.is_zero()) return;
  reply.more = true;
  std::erase_if(reply.changes, [&](const auto& item) { return position_of(item) < lost.next; });
}

}  // namespace

Publisher::Publisher(ClusterView& view) : view_(view), versions_(view) {
  view_.rpc.serve(Method::kFollow, Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<FollowRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    reply(follow(from, *request));
  });
  view_.on_notice<Unfollow>(Method::kUnfollow, [this](const NodeId& from, const Unfollow& request) {
    if (view_.same_count(from, request.partitions)) unfollow(from, request);
  });
  view_.on_doubled([this] {
    streams_.clear();
    followers_.clear();
    outgoing_.clear();
  });
  serve_reads();
}

void Publisher::serve_reads() {
  view_.rpc.serve(Method::kRead, Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<ReadRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    if (auto may = view_.answers_for(request->mailbox); !may) return reply(may.error());
    using Kinds = storage::Store::Kinds;
    auto page = view_.store.read_mailbox(request->mailbox, request->cursor, kReadChangesMax, kReadBytesMax,
                                         request->entries_only ? Kinds::kEntries : Kinds::kAll);
    if (!page) return reply(page.error());
    std::vector<Dot> ahead;
    for (const auto& dot : request->cursor.dots()) {
      if (dot.n > page->covered.get(dot.writer)) ahead.push_back(dot);
    }
    // Whatever there is up to `covered` was in the pages: what is in none of them is gone.
    for (const auto& dot : page->more ? std::vector<Dot>() : request->pushed) {
      if (dot.n <= page->covered.get(dot.writer)) page->cursor.raise(dot.writer, dot.n);
    }
    ReadReply answer = page_reply(std::move(*page));
    add_lost(view_.store, *request, answer);
    answer.ahead = std::move(ahead);
    reply(pack(answer));
  });
  view_.rpc.serve(Method::kHistory, Access::kMembers, [this](const NodeId&, View body, Reply reply) {
    auto request = unpack<HistoryRequest>(body);
    if (!request) return reply(request.error());
    if (auto may = view_.answers_for(request->mailbox); !may) return reply(may.error());
    const std::size_t limit = std::min<std::size_t>(request->limit, kReadChangesMax);
    auto found = view_.store.history(request->mailbox, request->conversation, request->before, limit);
    if (!found) return reply(found.error());
    storage::MailboxPage page;
    page.more = found->size() == limit;
    std::size_t bytes = 0;
    for (auto& change : *found) {
      bytes += change.bytes->size();
      if (bytes > kReadBytesMax && !page.changes.empty()) {
        page.more = true;
        break;
      }
      page.changes.push_back(std::move(change));
    }
    ReadReply answer = page_reply(std::move(page));
    add_lost(view_.store, *request, answer);
    reply(pack(answer));
  });
  view_.rpc.serve(Method::kReadRegisters, Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto request = unpack<ReadRegistersRequest>(body);
    if (!request) return reply(request.error());
    if (auto may = view_.answers_for(request->mailbox); !may) return reply(may.error());
    // What W others have synced is acknowledged before our own disk has it, and who asks next may build on it.
    auto shared = std::make_shared<Reply>(std::move(reply));
    view_.store.when_durable([this, request = std::move(*request), shared] {
      if (!request.versioned) return read_registers(request, 0, *shared);
      versions_.ask(request.mailbox, request.prefix, [this, request, shared](std::uint64_t version) {
        read_registers(request, version, *shared);
      });
    });
  });
}

void Publisher::read_registers(const ReadRegistersRequest& request, std::uint64_t version, Reply& reply) {
  ReadRegistersReply answer;
  answer.version = version;
  for (auto& value : view_.store.scan_registers(request.mailbox, request.prefix, request.after, request.limit)) {
    answer.items.push_back({std::move(value.key), {std::move(value.value)}, value.stamp,
                            static_cast<std::uint8_t>(value.merge)});
  }
  reply(pack(answer));
}

Result<Bytes> Publisher::follow(const NodeId& gateway, const FollowRequest& request) {
  TRY(view_.answers_for(request.partition));
  if (followers_.size() + request.items.size() > kFollowedMailboxesMax) {
    return Error{Errc::kOverloaded, "too many mailboxes are followed here"};
  }
  const StreamAt at{gateway, request.partition};
  auto it = streams_.find(at);
  if (it != streams_.end() && it->second.number != request.stream) {
    drop(it);
    it = streams_.end();
  }
  if (it == streams_.end()) it = streams_.emplace(at, Stream{request.stream, {}}).first;
  for (const auto& item : request.items) {
    if (view_.store.partition_of(item.mailbox) != request.partition) {
      return Error{Errc::kInvalid, "a mailbox of another partition"};
    }
    if (it->second.mailboxes.insert(item.mailbox).second) followers_[item.mailbox].push_back(at);
  }
  FollowReply answer{view_.store.vector(request.partition), {}};
  for (const auto& item : request.items) {
    if (!item.resume) continue;
    TRY_ASSIGN(const bool sent, send_backlog(gateway, request, item));
    if (!sent) answer.behind.push_back(item.mailbox);
  }
  return pack(answer);
}

// Reads see exactly what is synced, and what syncs later is pushed: nothing falls between.
Result<bool> Publisher::send_backlog(const NodeId& gateway, const FollowRequest& request,
                                     const FollowRequest::Item& item) {
  auto& backlog = backlogs_[gateway];
  if (const Instant now = view_.loop.now(); now - backlog.since >= 1s) backlog = {now, 0, 0};
  std::vector<storage::StoredChange> changes;
  std::size_t bytes = 0;
  storage::VersionVector cursor = item.vector;
  for (bool more = true; more;) {
    TRY_ASSIGN(auto page,
               view_.store.read_mailbox(item.mailbox, cursor, kReadChangesMax, kReadBytesMax));
    for (auto& change : page.changes) {
      bytes += change.bytes->size();
      changes.push_back(std::move(change));
    }
    if (backlog.bytes + bytes > kBacklogBytesMax) return false;
    cursor = std::move(page.cursor);
    more = page.more;
    if (more && ++backlog.pages >= kBacklogPagesMax) return false;
  }
  backlog.bytes += bytes;
  for (auto& change : changes) {
    queue(gateway, {request.partition, request.stream, change.dot, std::move(change.bytes)});
  }
  return true;
}

void Publisher::unfollow(const NodeId& gateway, const Unfollow& request) {
  auto it = streams_.find({gateway, request.partition});
  if (it == streams_.end() || it->second.number != request.stream) return;
  if (request.mailboxes.empty()) return drop(it);
  for (const auto& mailbox : request.mailboxes) {
    if (it->second.mailboxes.erase(mailbox) > 0) remove(mailbox, it->first);
  }
  if (it->second.mailboxes.empty()) streams_.erase(it);
}

void Publisher::drop(std::map<StreamAt, Stream>::iterator stream) {
  for (const auto& mailbox : stream->second.mailboxes) remove(mailbox, stream->first);
  streams_.erase(stream);
}

void Publisher::remove(const MailboxId& mailbox, const StreamAt& at) {
  auto it = followers_.find(mailbox);
  if (it == followers_.end()) return;
  std::erase(it->second, at);
  if (it->second.empty()) followers_.erase(it);
}

std::vector<NodeId> Publisher::followers(const MailboxId& mailbox) const {
  std::vector<NodeId> gateways;
  const auto it = followers_.find(mailbox);
  if (it == followers_.end()) return gateways;
  for (const auto& at : it->second) gateways.push_back(at.first);
  return gateways;
}

void Publisher::forget(const NodeId& gateway) {
  backlogs_.erase(gateway);
  auto it = streams_.lower_bound({gateway, PartitionId{}});
  while (it != streams_.end() && it->first.first == gateway) drop(it++);
}

// In apply order its void may come first, with another owner's recall.
bool Publisher::is_closed(const storage::ChangeView& change) {
  if (change.kind != storage::ChangeKind::kEntry) return false;
  const auto state = view_.store.find_key(change.mailbox, change.entry.key);
  return state && state->is_void && view_.store.vector(view_.store.partition_of(change.mailbox)).covers(state->dot);
}

void Publisher::on_synced(std::span<const storage::SyncedChange> changes) {
  versions_.on_synced(changes);
  for (const auto& change : changes) {
    auto it = followers_.find(change.view.mailbox);
    if (it == followers_.end() || is_closed(change.view)) continue;
    for (const auto& at : it->second) {
      queue(at.first, {at.second, streams_.at(at).number, change.dot, change.bytes});
    }
  }
}

void Publisher::regained(const Dot& dot, Shared change) {
  const auto decoded = storage::decode(*change, dot);
  if (decoded) versions_.changed(*decoded);
  const auto it = decoded ? followers_.find(decoded->mailbox) : followers_.end();
  if (it == followers_.end() || is_closed(*decoded)) return;
  for (const auto& at : it->second) queue(at.first, {at.second, streams_.at(at).number, dot, change, true});
}

void Publisher::queue(const NodeId& gateway, Outgoing change) {
  ++view_.counters.pushes;
  outgoing_[gateway].push_back(std::move(change));
  if (std::exchange(flush_queued_, true)) return;
  view_.loop.defer(Loop::Stage::kCommit, [this] { flush(); });
}

// One frame per gateway and turn. Changes of a stream keep their order.
void Publisher::flush() {
  flush_queued_ = false;
  auto outgoing = std::exchange(outgoing_, {});
  for (auto& [gateway, changes] : outgoing) {
    for (std::size_t at = 0; at < changes.size();) {
      std::map<std::pair<PartitionId, std::uint64_t>, Push::Stream> streams;
      for (std::size_t bytes = 0; at < changes.size() && bytes < kPushBytesMax; ++at) {
        const auto& change = changes[at];
        auto& stream = streams[{change.partition, change.stream}];
        stream.partition = change.partition;
        stream.stream = change.stream;
        (change.regained ? stream.regained : stream.changes).push_back({change.dot, {*change.bytes}});
        bytes += change.bytes->size();
      }
      Push push{{}, view_.partitions()};
      for (auto& [key, stream] : streams) push.streams.push_back(std::move(stream));
      view_.rpc.notify(gateway, Method::kPush, pack(push));
    }
  }
}

}  // namespace starling::node
