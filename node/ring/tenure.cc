#include "node/ring/tenure.h"

#include <algorithm>

#include "node/mailbox/registers.h"

namespace starling::node {

using overlay::AcceptorState;
using overlay::Method;
using overlay::Reply;
using overlay::Ring;
using overlay::Task;
using storage::Store;

namespace {

constexpr View kRowPrefix = "tenure/";
constexpr View kAtKey = "tenure";  // The version that the rows are as of.
constexpr Duration kSealDeadline = 2s;
constexpr Duration kRetryEvery = 200ms;
constexpr std::size_t kRingsKeptMax = 8;

Bytes row_key(PartitionId partition) {
  Bytes key(kRowPrefix);
  BytesWriter(key).u16be(partition.value);
  return key;
}

std::vector<NodeId> sorted(const overlay::NodeList& nodes) {
  auto out = nodes.to_vector();
  std::sort(out.begin(), out.end());
  return out;
}

bool same_owners(const Ring& a, const Ring& b, PartitionId partition) {
  if (partition.value >= a.partitions() || partition.value >= b.partitions()) return false;
  return sorted(a.owners(partition)) == sorted(b.owners(partition));
}

}  // namespace

Tenures::Tenures(ClusterView& view, Recall recall)
    : view_(view), recall_(std::move(recall)), scope_(view.loop) {
  load();
  serve();
  view_.on_ring([this] { wake(); });
}

Status Tenures::may_vote(PartitionId partition) const {
  const auto row = rows_.find(partition);
  if (!view_.is_owner(partition)) return Error{Errc::kNotOwner, "only owners vote on a name"};
  const bool ready = at_ && at_->number() == view_.ring().number() && row != rows_.end() &&
                     row->second.from == row->second.term;
  if (!ready) return Error{Errc::kCatchingUp, "earlier claims on this name are being handed over"};
  return ok_status();
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
    SealReply answer;
    answer.ring = at_ ? at_->number() : RingNumber{};
    for (const auto& item : request->items) {
      // Sealed means that we know the version, so that we vote under no older one.
      if (answer.ring < item.term) {
        return reply(Error{Errc::kStaleRing, "this node has not heard of the ring version yet"});
      }
      if (unreadable_.contains(item.partition)) {
        return reply(Error{Errc::kCorrupt, "what this node voted on in the partition cannot be read"});
      }
      const auto row = rows_.find(item.partition);
      const bool voted = row != rows_.end();
      answer.items.push_back({item.partition, voted ? row->second.from : RingNumber{},
                              voted ? row->second.until : RingNumber{}, !has_names(item.partition)});
    }
    auto shared = std::make_shared<Reply>(std::move(reply));
    view_.store.when_durable([shared, body = pack(answer)] { (*shared)(body); });
  });
  view_.rpc.serve(Method::kHandOver, overlay::Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto request = unpack<HandOverRequest>(body);
    if (!request) return reply(request.error());
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

// A partition is a range of mailbox ids, and an instance begins with the mailbox id of its name.
Result<HandOverReply> Tenures::page(PartitionId partition, View after, std::size_t limit) const {
  if (!view_.in_ring() || partition.value >= view_.ring().partitions()) {
    return Error{Errc::kInvalid, "no such partition"};
  }
  const std::uint32_t slots = 65536 / view_.ring().partitions();
  const std::uint32_t first = partition.value * slots;
  Bytes start(kNameInstances);
  BytesWriter(start).u16be(static_cast<std::uint16_t>(first));
  HandOverReply out;
  std::size_t bytes = 0;
  const auto rows = view_.store.scan(Store::Family::kPaxos, kNameInstances,
                                     std::max(View(start), after), limit);
  for (const auto& [instance, state] : rows) {
    BytesReader in(View(instance).substr(kNameInstances.size()));
    if (in.u16be() >= first + slots) return out;
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
  for (const auto& [key, value] : view_.store.scan(Store::Family::kPaxos, kRowPrefix, "", kRowsMax)) {
    BytesReader in(View(key).substr(kRowPrefix.size()));
    const PartitionId partition{in.u16be()};
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
    if (done) continue;
    view_.log.debug("claims on names are not handed over yet", {{"cause", done.error()}});
    co_await overlay::sleep(view_.loop, kRetryEvery, timer);
  }
  running_ = false;
  co_return Done{};
}

// One version after the other: a set of owners may have come and gone while we were away.
Task<Status> Tenures::follow_ring() {
  if (!at_) {
    const auto stored = view_.store.get(Store::Family::kPaxos, kAtKey);
    RingNumber begin;
    if (stored) {
      BytesReader in(*stored);
      begin.value = in.u64be();
    } else {
      // The version that made us an owner; before it we voted on nothing.
      const auto* self = view_.ring().version().find(view_.self);
      begin = self != nullptr && self->owns() ? self->since : view_.ring().number();
      if (begin.value <= 1) {
        auto first = ring_at(RingNumber{1});
        CO_TRY_ASSIGN(const RingPtr founded, co_await first);
        step(nullptr, *founded);
        at_ = founded;
        begin.value = 1;
      } else {
        --begin.value;
      }
    }
    if (!at_) {
      auto finding = ring_at(begin);
      CO_TRY_ASSIGN(at_, co_await finding);
    }
  }
  while (at_->number() < view_.ring().number()) {
    auto finding = ring_at(RingNumber{at_->number().value + 1});
    CO_TRY_ASSIGN(const RingPtr next, co_await finding);
    if (next->lineage() == at_->lineage()) {
      CO_TRY(overlay::follows(at_->version(), next->version()));
    }
    step(at_.get(), *next);
    at_ = next;
  }
  co_return ok_status();
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

// Removed by the version that began a lineage.
Task<bool> Tenures::forced_out(NodeId node) {
  const auto* member = view_.ring().member(node);
  if (member == nullptr || member->state != overlay::RingMemberState::kRemoved) co_return false;
  auto finding = ring_at(member->since);
  const auto ring = co_await finding;
  co_return ring && (*ring)->version().lineage != (*ring)->version().previous_lineage;
}

// Terms begin and end. All rows of a version are written at once, with the number of the version.
void Tenures::step(const Ring* before, const Ring& after) {
  for (std::uint32_t i = 0; i < after.partitions(); ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    const bool ours = after.is_owner(partition, view_.self);
    const auto found = rows_.find(partition);
    if (!ours && (found == rows_.end() || found->second.term.value == 0)) continue;
    if (before != nullptr && same_owners(*before, after, partition)) continue;
    Row row = found == rows_.end() ? Row{} : found->second;
    // The last version in which we could vote, where we could.
    if (row.from.value != 0 && row.until.value == 0) row.until = before->number();
    row.term = ours ? after.number() : RingNumber{};
    if (before == nullptr) row.from = row.term;  // Nobody voted before version 1.
    put(partition, row);
    if (ours && row.from != row.term) {
      pending_[partition] = row.term;
    } else {
      pending_.erase(partition);
    }
  }
  Bytes number;
  BytesWriter(number).u64be(after.number().value);
  view_.store.put(Store::Family::kPaxos, kAtKey, number);
}

void Tenures::put(PartitionId partition, const Row& row) {
  rows_[partition] = row;
  view_.store.put(Store::Family::kPaxos, row_key(partition), pack(row));
}

// --- Taking over. ---

// Asks the owners of now and of the term before about a batch of partitions, then takes over each that
// enough of them answered for.
Task<Status> Tenures::take_over_some() {
  std::vector<std::pair<PartitionId, RingNumber>> batch;
  std::map<NodeId, std::vector<SealRequest::Item>> asked;
  // Round and round, so that partitions that must wait hold up no others.
  auto next = pending_.upper_bound(last_tried_);
  while (batch.size() < std::min(kSealPartitionsMax, pending_.size())) {
    if (next == pending_.end()) next = pending_.begin();
    batch.emplace_back(*next++);
  }
  last_tried_ = batch.back().first;
  for (const auto& [partition, term] : batch) {
    auto finding = ring_at(RingNumber{term.value - 1});
    CO_TRY_ASSIGN(const RingPtr before, co_await finding);
    std::set<NodeId> nodes;
    for (const auto& node : before->owners(partition)) nodes.insert(node);
    for (const auto& node : at_->owners(partition)) nodes.insert(node);
    for (const auto& node : nodes) asked[node].push_back({partition, term});
  }
  auto sealing = seal(std::move(asked));
  const auto replies = co_await sealing;
  std::map<PartitionId, Answers> answers;
  for (const auto& [node, reply] : replies) {
    for (const auto& item : reply.items) answers[item.partition].emplace(node, item);
  }
  Status failed = ok_status();
  for (const auto& [partition, term] : batch) {
    auto finding = find_sources(partition, term, std::move(answers[partition]));
    auto sources = co_await finding;
    if (!sources) {
      failed = sources.error();
      continue;
    }
    auto taking = take_over(partition, term, std::move(*sources));
    if (const auto taken = co_await taking; !taken) failed = taken;
  }
  co_return failed;
}

Task<std::map<NodeId, SealReply>> Tenures::seal(
    std::map<NodeId, std::vector<SealRequest::Item>> asked) {
  std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
  for (auto& [node, items] : asked) {
    const SealRequest request{view_.ring().number(), std::move(items)};
    calls.emplace(node, overlay::call(view_.loop, view_.rpc, node, Method::kSeal, pack(request),
                                      kSealDeadline));
  }
  std::map<NodeId, SealReply> replies;
  for (auto& [node, call] : calls) {
    const auto body = co_await call;
    if (!body) continue;
    auto reply = unpack<SealReply>(*body);
    if (!reply) continue;
    view_.heard_of_ring(node, reply->ring);
    replies.emplace(node, std::move(*reply));
  }
  co_return replies;
}

// Whose states together hold all that was ever chosen. kUnavailable: too few answered.
Task<Result<std::vector<Tenures::Source>>> Tenures::find_sources(PartitionId partition, RingNumber term,
                                                                 Answers answers) {
  std::vector<Source> sources;
  bool forced = false;
  for (const auto& [node, answer] : answers) {
    if (answer.from > term) co_return Error{Errc::kStaleRing, "the owners have changed once more"};
    if (answer.from != term) continue;
    sources.push_back({node, answer.empty});
    co_return sources;
  }
  for (RingNumber last{term.value - 1}; last.value > 0;) {
    auto finding = ring_at(last);
    CO_TRY_ASSIGN(const RingPtr ring, co_await finding);
    std::map<NodeId, std::vector<SealRequest::Item>> missing;
    for (const auto& owner : ring->owners(partition)) {
      const bool asked = last.value + 1 == term.value;  // With the batch.
      if (!asked && !answers.contains(owner)) missing[owner].push_back({partition, term});
    }
    if (!missing.empty()) {
      auto sealing = seal(std::move(missing));
      const auto replies = co_await sealing;
      for (const auto& [node, reply] : replies) {
        if (reply.items.size() == 1) answers.emplace(node, reply.items.front());
      }
    }
    std::size_t sealed = 0, lost = 0;
    for (const auto& owner : ring->owners(partition)) {
      const auto answer = answers.find(owner);
      if (answer == answers.end()) {
        auto asking = forced_out(owner);
        lost += co_await asking ? 1 : 0;
        continue;
      }
      ++sealed;
      // It could vote then; or in a later term that chose nothing, and it holds what came before that.
      if (answer->second.until >= last) sources.push_back({owner, answer->second.empty});
    }
    const std::size_t owners = ring->owners(partition).size();
    forced = forced || lost > 0;
    if (sealed <= owners / 2 && (lost == 0 || sealed + lost < owners)) {
      co_return Error{Errc::kUnavailable, "no majority of the previous owners of partition " +
                                              std::to_string(partition.value) + " can be reached"};
    }
    if (!sources.empty()) co_return sources;
    // Nobody of a majority could vote then: nothing was chosen. The term before that one.
    for (;;) {
      if (--last.value == 0) break;
      auto older = ring_at(last);
      CO_TRY_ASSIGN(const RingPtr before, co_await older);
      if (!same_owners(*before, *ring, partition)) break;
    }
  }
  if (forced) co_return sources;
  co_return Error{Errc::kUnavailable, "nobody could ever vote on partition " + std::to_string(partition.value)};
}

Task<Status> Tenures::take_over(PartitionId partition, RingNumber term, std::vector<Source> from) {
  overlay::Timer timer;
  for (const auto& source : from) {
    if (source.node == view_.self || source.empty) continue;  // Our own states are in place.
    HandOverRequest request{view_.ring().number(), partition, term, {}};
    for (bool more = true; more;) {
      auto asking = overlay::call(view_.loop, view_.rpc, source.node, Method::kHandOver, pack(request),
                                  kSealDeadline);
      CO_TRY_ASSIGN(const Bytes body, co_await asking);
      CO_TRY_ASSIGN(const HandOverReply page, unpack<HandOverReply>(body));
      CO_TRY(merge(partition, page));
      more = page.more && !page.items.empty();
      if (!more) break;
      request.after = page.items.back().instance;
      co_await overlay::sleep(view_.loop, kHandOverRest, timer);
    }
  }
  if (!still(partition, term)) co_return ok_status();  // The next term is pending by now.
  put(partition, {term, term, {}});
  pending_.erase(partition);
  co_return ok_status();
}

// While we do not vote in the partition, whatever others hold may be added to what we hold.
Status Tenures::merge(PartitionId partition, const HandOverReply& page) {
  for (const auto& item : page.items) {
    const View name = View(item.instance.data);
    MailboxId mailbox;
    if (!name.starts_with(kNameInstances) || name.size() > overlay::kPaxosInstanceSizeMax ||
        !MailboxId::from(name.substr(kNameInstances.size()).substr(0, MailboxId::kSize), mailbox) ||
        view_.store.partition_of(mailbox) != partition) {
      return Error{Errc::kCorrupt, "a name of another partition was handed over"};
    }
    TRY_ASSIGN(auto theirs, unpack<AcceptorState>(item.state.data));
    std::vector<AcceptorState> states{std::move(theirs)};
    if (const auto stored = view_.store.get(Store::Family::kPaxos, item.instance.data)) {
      TRY_ASSIGN(auto own, unpack<AcceptorState>(*stored));
      states.push_back(std::move(own));
    }
    view_.store.put(Store::Family::kPaxos, item.instance.data, pack(overlay::inherit(states)));
  }
  return ok_status();
}

bool Tenures::still(PartitionId partition, RingNumber term) const {
  const auto row = rows_.find(partition);
  return row != rows_.end() && row->second.term == term;
}

}  // namespace starling::node
