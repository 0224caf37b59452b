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
constexpr Duration kAskWhoIsSafeEvery = 5s;
constexpr Duration kLookAroundEvery = 10s;

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

// Of an owner of a term before one that was lost by force, while no answer comes: does it hold nothing that was not
// taken over, or given up, before? Where it was safe under a version before our term, a majority of the owners of then
// had what it had, and the walk met those that are left of them.
bool Tenures::given_up(const NodeId& node, RingNumber term) const {
  const auto* member = view_.ring().member(node);
  if (member == nullptr || member->state == overlay::RingMemberState::kRemoved) return true;
  const auto safe = safe_.find(node);
  return member->gone() && safe != safe_.end() && safe->second < term;
}

// No member knows the version: whoever owned something then is gone. Behind a loss by force the others who are gone are
// given up, too, or the version is waited for.
bool Tenures::given_up(const Error& unknown, RingNumber term) const {
  const auto& members = view_.ring().members();
  return unknown.code == Errc::kNotFound && std::all_of(members.begin(), members.end(), [&](const auto& member) {
    return !member.gone() || given_up(member.id, term);
  });
}

std::vector<NodeId> Tenures::others_there() const {
  std::vector<NodeId> nodes;
  for (const auto& member : view_.ring().members()) {
    const bool other = !member.gone() && member.id != view_.self;
    if (other && view_.alive(member.id)) nodes.push_back(member.id);
  }
  return nodes;
}

// Those who know may be lost by the time when it matters.
void Tenures::look_around() {
  look_ = view_.loop.after(kLookAroundEvery, [this] { look_around(); });
  if (!view_.in_ring() || view_.is_holder()) return;
  const auto members = view_.ring().members();
  const bool wonders = std::any_of(members.begin(), members.end(), [this](const auto& member) {
    return member.state == overlay::RingMemberState::kLeft && !safe_.contains(member.id);
  });
  const auto there = others_there();
  if (!wonders || there.empty()) return;
  std::vector<NodeId> one{there[view_.random.below(there.size())]};
  scope_.spawn(ask_who_is_safe(std::move(one)));
}

// Who was away when it was said has not heard it: one that was there will do.
Task<Done> Tenures::ask_who_is_safe(std::vector<NodeId> nodes) {
  Questions asked;
  for (const auto& node : nodes) asked[node];
  auto asking = ask(std::move(asked));
  const auto replies = co_await asking;
  for (const auto& [node, reply] : replies) {
    for (const auto& safe : reply.safe) {
      const auto* member = view_.ring().member(safe.node);
      if (member != nullptr && member->gone()) note_safe(safe.node, safe.ring);
    }
  }
  co_return Done{};
}

// Sorted. A version is made into a ring once for the whole batch.
Task<Result<std::vector<NodeId>>> Tenures::home_at(RingNumber number, PartitionId partition, Batch& batch) {
  auto known = batch.homes.find(number);
  if (known == batch.homes.end()) {
    auto finding = ring_at(number);
    CO_TRY_ASSIGN(const RingPtr ring, co_await finding);
    known = batch.homes.try_emplace(number).first;
    for (const auto& item : batch.items) {
      known->second[item.partition] = home_in(*ring, item.partition);
    }
  }
  const auto home = known->second.find(partition);
  co_return home == known->second.end() ? std::vector<NodeId>{} : home->second;
}

// Asks the owners of now and of the term before about a batch of partitions, then takes over each that
// enough of them answered for. When the partitions are doubled meanwhile, this begins anew.
Task<Status> Tenures::take_over_some() {
  Batch batch;
  const std::uint32_t count = view_.partitions();
  // Round and round, so that partitions that must wait hold up no others.
  auto next = pending_.upper_bound(last_tried_);
  while (batch.items.size() < std::min(kSealPartitionsMax, pending_.size())) {
    if (next == pending_.end()) next = pending_.begin();
    batch.items.push_back({next->first, next->second});
    ++next;
  }
  last_tried_ = batch.items.back().partition;
  Questions asked;
  for (const auto& item : batch.items) {
    const RingNumber last{item.term.value - 1};
    std::set<NodeId> nodes;
    if (!is_forgotten(last)) {
      auto finding = home_at(last, item.partition, batch);
      const auto before = co_await finding;
      if (!before && before.code() != Errc::kNotFound) co_return before.error();
      if (before) nodes.insert(before->begin(), before->end());
    }
    for (const auto& node : at_->home(item.partition)) nodes.insert(node);
    for (const auto& node : nodes) asked[node].push_back(item);
  }
  auto sealing = seal(std::move(asked), batch);
  co_await sealing;
  Status failed = ok_status();
  left_silent_ = false;
  for (const auto& item : batch.items) {
    auto finding = find_sources(item, batch);
    auto sources = co_await finding;
    CO_TRY(view_.same_count(count));
    if (!sources) {
      failed = sources.error();
      continue;
    }
    auto taking = take_over(item.partition, item.term, std::move(*sources));
    if (const auto taken = co_await taking; !taken) failed = taken;
  }
  const Instant now = view_.loop.now();
  const bool lately = asked_who_is_safe_ != Instant{} && now - asked_who_is_safe_ < kAskWhoIsSafeEvery;
  if (left_silent_ && !lately) {
    asked_who_is_safe_ = now;
    auto asking = ask_who_is_safe(others_there());
    co_await asking;
  }
  co_return failed;
}

Task<Done> Tenures::seal(Questions asked, Batch& batch) {
  auto asking = ask(std::move(asked));
  const auto replies = co_await asking;
  for (const auto& [node, reply] : replies) {
    for (const auto& item : reply.items) batch.answers[item.partition].emplace(node, item);
  }
  co_return Done{};
}

Task<std::map<NodeId, SealReply>> Tenures::ask(Questions asked) {
  std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
  for (auto& [node, items] : asked) {
    const SealRequest request{view_.ring().number(), std::move(items), /*safe=*/false, view_.ring().lineage(),
                              view_.partitions()};
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
    if (!reply->items.empty() && !view_.same_count(reply->partitions)) continue;
    replies.emplace(node, std::move(*reply));
  }
  co_return replies;
}

// Owners of an older term; asked about the whole batch, since they are likely to be wanted for the rest, too.
Task<Done> Tenures::seal_older(const std::vector<NodeId>& owners, PartitionId partition, Batch& batch) {
  Questions missing;
  for (const auto& owner : owners) {
    if (batch.answers[partition].contains(owner) || !view_.alive(owner)) continue;
    if (batch.asked.insert(owner).second) missing[owner] = batch.items;
  }
  if (missing.empty()) co_return Done{};
  auto sealing = seal(std::move(missing), batch);
  co_await sealing;
  co_return Done{};
}

// Whose states together hold all that was ever chosen. kUnavailable: too few answered.
Task<Result<std::vector<Tenures::Source>>> Tenures::find_sources(SealRequest::Item item, Batch& batch) {
  const PartitionId partition = item.partition;
  const RingNumber term = item.term;
  const Answers& answers = batch.answers[partition];
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
    // Who owned before what is kept is not known. Where force broke the chain, what is left of it will do.
    if (forced && is_forgotten(last)) break;
    auto finding = home_at(last, partition, batch);
    const auto found = co_await finding;
    if (!found && forced && given_up(found.error(), term)) break;
    if (!found) co_return found.error();
    const std::vector<NodeId>& owners = *found;
    const bool asked = last.value + 1 == term.value;  // With the batch.
    if (!asked) {
      auto sealing = seal_older(owners, partition, batch);
      co_await sealing;
    }
    std::set<NodeId> out;
    for (const auto& owner : owners) {
      auto asking = forced_out(owner);
      if (co_await asking) out.insert(owner);
    }
    forced = forced || !out.empty();
    std::size_t sealed = 0, lost = 0, late = 0;
    std::vector<NodeId> away;
    for (const auto& owner : owners) {
      const auto answer = answers.find(owner);
      if (answer == answers.end() || out.contains(owner)) {
        const bool there = view_.alive(owner);
        const bool is_lost = out.contains(owner) || (forced && !there && given_up(owner, term));
        lost += is_lost ? 1 : 0;
        late += !is_lost && there ? 1 : 0;
        if (!is_lost && !there) away.push_back(owner);
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
    const auto enough = [&owners, lost](std::size_t of) {
      return meets_every_majority(of, owners.size()) || (lost > 0 && of + lost >= owners.size());
    };
    if (!enough(sealed)) {
      co_return too_few(partition, enough(sealed + late) ? std::vector<NodeId>{} : std::move(away), forced);
    }
    if (!sources.empty()) co_return with_maybe();
    // None of them could vote then: nothing was chosen, or it is lost. The term before that one.
    for (;;) {
      if (--last.value == 0 || (forced && is_forgotten(last))) break;
      auto older = home_at(last, partition, batch);
      const auto before = co_await older;
      if (!before || *before != owners) break;  // Unknown: see above.
    }
  }
  if (forced) co_return with_maybe();
  co_return Error{Errc::kUnavailable, "nobody could ever vote on partition " + std::to_string(partition.value)};
}

// `away`: without one of these it never is enough.
Error Tenures::too_few(PartitionId partition, std::vector<NodeId> away, bool forced) {
  std::string why = "too few of the previous owners of partition " + std::to_string(partition.value) +
                    " can be reached";
  if (away.empty()) return {Errc::kUnavailable, std::move(why)};
  why += ", no answer from";
  for (const auto& node : away) {
    const auto* member = view_.ring().member(node);
    left_silent_ = left_silent_ || (forced && member != nullptr && member->gone());
    why += " " + short_text(node);
  }
  why += ": start them again, or, when they are gone for good with what only they held, `starling remove --force`";
  silent_[partition] = std::move(away);
  return {Errc::kUnavailable, std::move(why)};
}

Task<Status> Tenures::take_over(PartitionId partition, RingNumber term, std::vector<Source> from) {
  overlay::Timer timer;
  const std::uint32_t count = view_.partitions();
  RingNumber name = term;
  for (const auto& source : from) {
    if (source.votes.value != 0) name = source.votes;
    if (source.node == view_.self || source.empty) continue;  // Our own states are in place.
    HandOverRequest request{view_.ring().number(), partition, term, {}, count};
    for (bool more = true; more;) {
      auto asking = overlay::call(view_.loop, view_.rpc, source.node, Method::kHandOver, pack(request),
                                  kSealDeadline);
      CO_TRY_ASSIGN(const Bytes body, co_await asking);
      CO_TRY(view_.same_count(count));
      CO_TRY_ASSIGN(const HandOverReply page, unpack<HandOverReply>(body));
      CO_TRY(merge(partition, page));
      more = page.more && !page.items.empty();
      if (!more) break;
      request.after = page.items.back().instance;
      co_await overlay::sleep(view_.loop, kHandOverRest, timer);
    }
  }
  CO_TRY(view_.same_count(count));
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
