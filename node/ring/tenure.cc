#include "node/ring/tenure.h"

#include <algorithm>

#include "node/replication/children.h"

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Ring;
using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kTenureRetryEvery = 200ms;
constexpr std::size_t kRingsKeptMax = 8;

Bytes tenure_key(PartitionId partition) { return node::row_key(kTenurePrefix, partition); }
Bytes safe_key(const NodeId& node) { return node::row_key(kFarewellPrefix, node); }

}  // namespace

Tenures::Tenures(ClusterView& view, Recall recall, KeptAfter kept_after)
    : view_(view), recall_(std::move(recall)), kept_after_(std::move(kept_after)), scope_(view.loop) {
  load();
  serve();
  view_.on_doubled([this] { partitions_doubled(); });
  view_.on_ring([this] { wake(); });
  look_around();
}

Status Tenures::may_vote(PartitionId partition) const {
  const auto row = rows_.find(partition);
  if (!view_.is_home(partition)) return Error{Errc::kNotOwner, "only owners at home vote on a name"};
  const bool ready = at_ && at_->number() == view_.ring().number() && row != rows_.end() &&
                     row->second.from == row->second.term;
  if (!ready) return Error{Errc::kCatchingUp, "earlier claims on this name are being handed over"};
  return ok_status();
}

Status Tenures::settled() const {
  const bool follows = at_ && at_->number() == view_.ring().number();
  if (follows && pending_.empty()) return ok_status();
  return Error{Errc::kOverloaded, "node " + short_text(view_.self) + " still takes over names" +
                                      (waits_for_.empty() ? "" : ": " + waits_for_)};
}

std::vector<NodeId> Tenures::needs() const {
  std::set<NodeId> needed;
  for (const auto& [partition, nodes] : silent_) {
    for (const auto& node : nodes) {
      if (pending_.contains(partition) && !view_.alive(node)) needed.insert(node);
    }
  }
  return {needed.begin(), needed.end()};
}

std::vector<PartitionId> Tenures::voted() const {
  std::vector<PartitionId> voted(unreadable_.begin(), unreadable_.end());
  for (const auto& [partition, row] : rows_) {
    if (row.from.value != 0) voted.push_back(partition);
  }
  return voted;
}

// --- What is asked of us. ---

void Tenures::serve() {
  view_.rpc.serve(Method::kSeal, overlay::Access::kHolders,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<SealRequest>(body);
    if (!request) return reply(request.error());
    if (request->items.size() > kSealPartitionsMax) {
      return reply(Error{Errc::kTooLarge, "too many partitions in one request"});
    }
    view_.heard_of_ring(from, request->ring);
    const bool same_lineage = view_.in_ring() && request->lineage == view_.ring().lineage();
    if (request->safe) {
      if (!same_lineage) return reply(Error{Errc::kDenied, "the asker left another lineage of the cluster"});
      const auto* member = view_.in_ring() ? view_.ring().member(from) : nullptr;
      if (member == nullptr || !member->gone()) {
        return reply(Error{Errc::kStaleRing, "this node has not heard that the asker left"});
      }
      note_safe(from, request->ring);
    }
    if (!request->items.empty()) {
      if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    }
    SealReply answer;
    answer.ring = at_ ? at_->number() : RingNumber{};
    answer.partitions = view_.partitions();
    if (request->items.empty() && same_lineage) {
      for (const auto& [node, ring] : safe_) answer.safe.push_back({node, ring});
    }
    for (const auto& item : request->items) {
      // Sealed means that we know the version, so that we vote under no older one.
      if (answer.ring < item.term) {
        return reply(Error{Errc::kStaleRing, "this node has not heard of the ring version yet"});
      }
      if (unreadable_.contains(item.partition)) continue;  // No answer, of this one.
      const auto row = rows_.find(item.partition);
      const bool voted = row != rows_.end();
      answer.items.push_back({item.partition, voted ? row->second.from : RingNumber{},
                              voted ? row->second.until : RingNumber{}, !has_names(item.partition)});
    }
    auto shared = std::make_shared<Reply>(std::move(reply));
    view_.store.when_durable([shared, body = pack(answer)] { (*shared)(body); });
  });
  view_.rpc.serve(Method::kHandOver, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<HandOverRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (!at_ || at_->number() < request->term) {
      return reply(Error{Errc::kStaleRing, "this node has not heard of the ring version yet"});
    }
    if (unreadable_.contains(request->partition)) {
      return reply(Error{Errc::kCorrupt, "what this node voted on in the partition cannot be read"});
    }
    auto states = page(request->partition, request->after.data, kHandOverNamesMax);
    if (!states) return reply(states.error());
    auto shared = std::make_shared<Reply>(std::move(reply));
    view_.store.when_durable([shared, body = pack(*states)] { (*shared)(body); });
  });
}

// The first word counts: it was safe then, and a version is sooner past an earlier one.
void Tenures::note_safe(const NodeId& node, RingNumber ring) {
  if (!safe_.emplace(node, ring).second) return;
  view_.store.put(Store::Family::kPaxos, safe_key(node), row_number(ring.value));
  // Of whom the ring knows no more nobody asks.
  std::erase_if(safe_, [this](const auto& known) {
    if (view_.ring().member(known.first) != nullptr) return false;
    view_.store.put(Store::Family::kPaxos, safe_key(known.first), "");
    return true;
  });
}

// A partition is a range of mailbox ids, and an instance begins with the mailbox id of its name.
Result<HandOverReply> Tenures::page(PartitionId partition, View after, std::size_t limit) const {
  if (!view_.exists(partition)) return Error{Errc::kInvalid, "no such partition"};
  const std::uint32_t slots = 65536 / view_.ring().partitions();
  const std::uint32_t first = partition.value * slots;
  Bytes start(kNameInstances);
  BytesWriter(start).u16be(static_cast<std::uint16_t>(first));
  HandOverReply out;
  std::size_t bytes = 0;
  const auto rows = view_.store.scan(Store::Family::kPaxos, kNameInstances,
                                     std::max(View(start), after), limit);
  for (const auto& [instance, state] : rows) {
    const auto slot = parse_name_slot(instance);
    if (slot && *slot >= first + slots) return out;
    bytes += instance.size() + state.size();
    if (bytes > kHandOverBytesMax && !out.items.empty()) {
      out.more = true;
      return out;
    }
    out.items.push_back({{instance}, {state}});
  }
  out.more = rows.size() == limit;
  return out;
}

bool Tenures::has_names(PartitionId partition) const {
  const auto states = page(partition, "", 1);
  return !states || !states->items.empty();
}

// --- Keeping up with the ring. ---

void Tenures::load() {
  constexpr std::size_t kRowsMax = overlay::kPartitionsMax;
  for (const auto& [key, value] : view_.store.scan(Store::Family::kPaxos, kTenurePrefix, "", kRowsMax)) {
    const auto named = parse_partition_of(key, kTenurePrefix);
    if (!named) continue;  // Of no partition that there could be.
    const PartitionId partition = *named;
    const auto row = unpack<Row>(value);
    if (!row) {
      // What cannot be read may not vote, nor say that it never did.
      unreadable_.insert(partition);
      view_.log.error("a row of the tenures is damaged", {{"cause", row.error()}});
      continue;
    }
    rows_[partition] = *row;
    if (row->term.value != 0 && row->from != row->term) pending_[partition] = row->term;
  }
  constexpr std::size_t kSafeMax = 2 * overlay::kRingGoneMembersMax;
  for (const auto& [key, value] : view_.store.scan(Store::Family::kPaxos, kFarewellPrefix, "", kSafeMax)) {
    const auto node = parse_node_of(key, kFarewellPrefix);
    const auto number = parse_row_number(value);
    if (node && number) safe_[*node] = RingNumber{*number};
  }
}

// Both children have the terms of their parent, with the split of the store. What is being taken over begins anew.
void Tenures::partitions_doubled() {
  std::map<PartitionId, Bytes> unreadable;
  for (const auto partition : unreadable_) {
    unreadable[partition] = view_.store.get(Store::Family::kPaxos, tenure_key(partition)).value_or("?");
  }
  for (const auto& [partition, row] : rows_) view_.store.put(Store::Family::kPaxos, tenure_key(partition), "");
  for (const auto& [partition, row] : unreadable) view_.store.put(Store::Family::kPaxos, tenure_key(partition), "");
  split_keys(rows_);
  split_keys(unreadable);
  split_keys(unreadable_);
  split_keys(pending_);
  silent_.clear();
  for (const auto& [partition, row] : rows_) view_.store.put(Store::Family::kPaxos, tenure_key(partition), pack(row));
  for (const auto& [partition, row] : unreadable) view_.store.put(Store::Family::kPaxos, tenure_key(partition), row);
}

void Tenures::wake() {
  if (std::exchange(running_, true)) return;
  // In a later turn: set_ring is in the middle of telling everybody.
  view_.loop.defer([this, here = std::weak_ptr<bool>(alive_)] {
    if (!here.expired()) scope_.spawn(run());
  });
}

Task<Done> Tenures::run() {
  overlay::Timer timer;
  for (;;) {
    auto following = follow_ring();
    auto done = co_await following;
    if (done && pending_.empty()) break;
    if (done) {
      auto taking = take_over_some();
      done = co_await taking;
    }
    waits_for_ = done ? "" : done.error().text;
    if (done) continue;
    view_.log.debug("claims on names are not handed over yet", {{"cause", done.error()}});
    co_await overlay::sleep(view_.loop, kTenureRetryEvery, timer);
  }
  running_ = false;
  co_return Done{};
}

// One version after the other: a set of owners may have come and gone while we were away.
Task<Status> Tenures::follow_ring() {
  RingNumber at = at_ ? at_->number() : RingNumber{};
  if (!at_) {
    CO_TRY_ASSIGN(at, begin());
  }
  if (!at_ && at.value != 0) {
    auto finding = ring_at(at);
    auto found = co_await finding;
    if (!found && !is_forgotten(at)) co_return found.error();
    if (found) at_ = std::move(*found);
  }
  while (at < view_.ring().number()) {
    auto finding = next_kept(at);
    CO_TRY_ASSIGN(const RingPtr next, co_await finding);
    const bool follows = next->number().value == at.value + 1;
    if (at_ && follows) CO_TRY(overlay::succeeds(at_->version(), next->version()));
    step(at, follows ? at_.get() : nullptr, *next);
    at_ = next;
    at = next->number();
  }
  co_return ok_status();
}

// The version that the rows are as of; zero before the first. kCorrupt: it cannot be read, so nothing is voted on: as of
// version zero this node would take partitions for its own that others have voted on.
Result<RingNumber> Tenures::begin() const {
  if (const auto stored = view_.store.get(Store::Family::kPaxos, kTenureKey)) {
    const auto number = parse_row_number(*stored);
    if (!number) return Error{Errc::kCorrupt, "the row that says which ring version the tenures are as of is damaged"};
    return RingNumber{*number};
  }
  // Before the version that made us an owner we voted on nothing.
  const auto* self = view_.ring().version().find(view_.self);
  const RingNumber first = self != nullptr && self->owns() ? self->since : view_.ring().number();
  return RingNumber{first.value == 0 ? 0 : first.value - 1};
}

// The next version, or the oldest behind it that is kept.
Task<Result<RingPtr>> Tenures::next_kept(RingNumber at) {
  const RingNumber next{at.value + 1};
  auto finding = ring_at(next);
  auto found = co_await finding;
  if (found || at.value == 0 || !is_forgotten(next)) co_return found;
  const auto kept = kept_after_(next);
  if (!kept) co_return found;
  auto finding_kept = ring_at(*kept);
  co_return co_await finding_kept;
}

bool Tenures::is_forgotten(RingNumber number) const {
  return number.value + kRingHistoryMax <= view_.ring().number().value;
}

Task<Result<RingPtr>> Tenures::ring_at(RingNumber number) {
  if (view_.ring().number() == number) co_return view_.ring_ptr();
  if (const auto known = rings_.find(number); known != rings_.end()) co_return known->second;
  auto recalling = recall_(number);
  CO_TRY_ASSIGN(overlay::RingVersion version, co_await recalling);
  if (version.number != number) co_return Error{Errc::kCorrupt, "another ring version than asked for"};
  CO_TRY_ASSIGN(RingPtr ring, Ring::make(std::move(version)));
  rings_[number] = ring;
  if (rings_.size() > kRingsKeptMax) rings_.erase(rings_.begin());
  co_return ring;
}

std::vector<NodeId> Tenures::home_in(const Ring& ring, PartitionId partition) const {
  const std::uint32_t count = view_.partitions();
  if (ring.partitions() > count) return {};
  auto out = ring.home(ring.covering(partition, count)).to_vector();
  std::sort(out.begin(), out.end());
  return out;
}

// Terms begin and end. All rows of a version are written at once, with the number of the version.
void Tenures::step(RingNumber last, const Ring* before, const Ring& after) {
  const std::uint32_t count = view_.partitions();
  for (std::uint32_t i = 0; i < count; ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    const bool ours = after.is_home(after.covering(partition, count), view_.self);
    const auto found = rows_.find(partition);
    if (!ours && (found == rows_.end() || found->second.term.value == 0)) continue;
    if (before != nullptr && home_in(*before, partition) == home_in(after, partition)) continue;
    Row row = found == rows_.end() ? Row{} : found->second;
    // The last version in which we could vote, where we could.
    if (row.from.value != 0 && row.until.value == 0) row.until = last;
    row.term = ours ? after.number() : RingNumber{};
    if (last.value == 0) row.from = row.term;  // Nobody voted before version 1.
    put(partition, row);
    if (ours && row.from != row.term) {
      pending_[partition] = row.term;
    } else {
      pending_.erase(partition);
    }
  }
  view_.store.put(Store::Family::kPaxos, kTenureKey, row_number(after.number().value));
}

void Tenures::put(PartitionId partition, const Row& row) {
  rows_[partition] = row;
  view_.store.put(Store::Family::kPaxos, tenure_key(partition), pack(row));
}

}  // namespace starling::node
