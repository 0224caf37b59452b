// Taking over: who asks the owners of the terms before, and merges what they hold.
#include <algorithm>

#include "node/ring/tenure.h"

namespace starling::node {

using overlay::AcceptorState;
using overlay::Method;
using overlay::Ring;
using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kSealDeadline = 2s;

// Of `owners`, `sealed` vote no more. Then the others are no majority, and of every majority that chose
// something one is sealed: owners - majority + 1 of them.
bool meets_every_majority(std::size_t sealed, std::size_t owners) {
  const std::size_t majority = owners / 2 + 1;
  return sealed + majority > owners;
}

}  // namespace

// Removed by the version that began a lineage.
Task<bool> Tenures::forced_out(NodeId node) {
  const auto* member = view_.ring().member(node);
  if (member == nullptr || member->state != overlay::RingMemberState::kRemoved) co_return false;
  auto finding = ring_at(member->since);
  const auto ring = co_await finding;
  co_return ring && (*ring)->version().lineage != (*ring)->version().previous_lineage;
}

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
    const RingNumber last{term.value - 1};
    std::set<NodeId> nodes;
    if (!is_forgotten(last)) {
      auto finding = ring_at(last);
      CO_TRY_ASSIGN(const RingPtr before, co_await finding);
      for (const auto& node : before->home(partition)) nodes.insert(node);
    }
    for (const auto& node : at_->home(partition)) nodes.insert(node);
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
  std::map<NodeId, bool> maybe;  // They voted, and may have seen a term begin and not end: empty?
  bool forced = false;
  silent_.erase(partition);
  for (const auto& [node, answer] : answers) {
    // Who was forced out counts versions of its own.
    if (!at_->is_owner(partition, node)) continue;
    if (answer.from > at_->number()) co_return Error{Errc::kStaleRing, "the owners have changed once more"};
    // Whoever skipped versions calls the present term by the first of it that it knows: any of its versions.
    const bool goes_on = answer.from.value != 0 && answer.until.value == 0;
    if (answer.from < term && !goes_on) continue;
    sources.push_back({node, answer.empty, answer.from});
    co_return sources;
  }
  const auto with_maybe = [&] {
    for (const auto& [node, empty] : maybe) {
      const auto same = [node = node](const Source& source) { return source.node == node; };
      if (std::none_of(sources.begin(), sources.end(), same)) sources.push_back({node, empty, {}});
    }
    return sources;
  };
  for (RingNumber last{term.value - 1}; last.value > 0;) {
    auto finding = ring_at(last);
    CO_TRY_ASSIGN(const RingPtr ring, co_await finding);
    std::map<NodeId, std::vector<SealRequest::Item>> missing;
    for (const auto& owner : ring->home(partition)) {
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
    std::size_t sealed = 0, lost = 0, late = 0;
    std::vector<NodeId> away;
    for (const auto& owner : ring->home(partition)) {
      const auto answer = answers.find(owner);
      auto asking = forced_out(owner);
      const bool out = co_await asking;
      if (answer == answers.end() || out) {
        lost += out ? 1 : 0;
        late += !out && view_.alive(owner) ? 1 : 0;
        if (!out && !view_.alive(owner)) away.push_back(owner);
        continue;
      }
      ++sealed;
      // It could vote then; or in a later term that chose nothing, and it holds what came before that.
      const bool could_vote = answer->second.until >= last;
      if (could_vote) {
        sources.push_back({owner, answer->second.empty, {}});
      } else if (answer->second.from.value != 0) {
        maybe.emplace(owner, answer->second.empty);
      }
    }
    const std::size_t owners = ring->home(partition).size();
    forced = forced || lost > 0;
    const auto enough = [owners, lost](std::size_t of) {
      return meets_every_majority(of, owners) || (lost > 0 && of + lost >= owners);
    };
    if (!enough(sealed)) {
      std::string why = "too few of the previous owners of partition " + std::to_string(partition.value) +
                        " can be reached";
      if (!enough(sealed + late)) {
        why += ", no answer from";
        for (const auto& node : away) why += " " + short_text(node);
        why += ": start them again, or, when they are gone for good with what only they held, `starling remove --force`";
        silent_[partition] = std::move(away);
      }
      co_return Error{Errc::kUnavailable, std::move(why)};
    }
    if (!sources.empty()) co_return with_maybe();
    // None of them could vote then: nothing was chosen. The term before that one.
    for (;;) {
      if (--last.value == 0) break;
      auto older = ring_at(last);
      CO_TRY_ASSIGN(const RingPtr before, co_await older);
      if (!same_owners(*before, *ring, partition)) break;
    }
  }
  if (forced) co_return with_maybe();
  co_return Error{Errc::kUnavailable, "nobody could ever vote on partition " + std::to_string(partition.value)};
}

Task<Status> Tenures::take_over(PartitionId partition, RingNumber term, std::vector<Source> from) {
  overlay::Timer timer;
  RingNumber name = term;
  for (const auto& source : from) {
    if (source.votes.value != 0) name = source.votes;
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
  put(partition, {name, name, {}});
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
