#include "overlay/ring/paxos.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace starling::overlay {

PrepareReply prepare(AcceptorState& state, const Ballot& ballot) {
  PrepareReply reply{ballot, Verdict::kGranted, state.promised, {}, {}};
  if (state.decided) {
    reply.verdict = Verdict::kDecided;
    reply.value = state.value;
    return reply;
  }
  // An equal ballot is refused too (invariant 1): a proposer whose reply was lost takes a new
  // round.
  if (ballot <= state.promised) {
    reply.verdict = Verdict::kRefused;
    return reply;
  }
  state.promised = ballot;
  reply.promised = ballot;
  reply.accepted = state.accepted;
  reply.value = state.value;
  return reply;
}

AcceptReply accept(AcceptorState& state, const Ballot& ballot, const Blob& value) {
  AcceptReply reply{ballot, Verdict::kGranted, state.promised, {}};
  if (state.decided) {
    reply.verdict = Verdict::kDecided;
    reply.value = state.value;
    return reply;
  }
  // One ballot has one value; a second one comes from a broken peer.
  const bool contradicts = ballot == state.accepted && state.value != value;
  if (ballot < state.promised || contradicts) {
    reply.verdict = Verdict::kRefused;
    return reply;
  }
  state.promised = ballot;
  state.accepted = ballot;
  state.value = value;
  reply.promised = ballot;
  return reply;
}

Status learn(AcceptorState& state, const Blob& decision) {
  if (state.decided && state.value != decision) {
    return Error{Errc::kCorrupt,
                 "a peer reports another decision than the one known here: "
                 "stop both nodes and compare their data"};
  }
  state.decided = true;
  state.value = decision;
  return ok_status();
}

std::optional<Blob> query(const AcceptorState& state) {
  return state.decided ? state.value : std::nullopt;
}

AcceptorState inherit(const std::vector<AcceptorState>& states) {
  AcceptorState out;
  for (const auto& state : states) {
    out.promised = std::max(out.promised, state.promised);
    if (out.decided) continue;
    if (state.decided || state.accepted > out.accepted) {
      out.accepted = state.accepted;
      out.value = state.value;
      out.decided = state.decided;
    }
  }
  return out;
}

Proposer::Proposer(std::vector<NodeId> voters, const NodeId& self, Blob value,
                   std::uint64_t first_round, Instant deadline, Random& random)
    : Proposer(std::move(voters), self, std::move(value), first_round, deadline, random,
               Options{}) {}

Proposer::Proposer(std::vector<NodeId> voters, const NodeId& self, Blob value,
                   std::uint64_t first_round, Instant deadline, Random& random, Options options)
    : voters_(std::move(voters)),
      self_(self),
      own_value_(std::move(value)),
      deadline_(deadline),
      options_(options),
      random_(random),
      round_floor_(first_round - 1),
      backoff_(options.backoff_min),
      votes_(voters_.size(), Vote::kNone) {
  assert(!voters_.empty() && first_round >= 1 && first_round <= kPaxosRoundMax);
  assert(std::adjacent_find(voters_.begin(), voters_.end(), std::greater_equal<>()) ==
         voters_.end());
}

Proposer::Output Proposer::step(const Input& input, Instant now) {
  Output out;
  if (const auto* answer = std::get_if<Answer>(&input); answer != nullptr && !done()) {
    const auto at = std::lower_bound(voters_.begin(), voters_.end(), answer->from);
    if (at != voters_.end() && *at == answer->from) {
      const auto voter = static_cast<std::size_t>(at - voters_.begin());
      if (const auto* promise = std::get_if<PrepareReply>(&answer->reply)) {
        on_prepare_reply(voter, *promise, now, out);
      } else {
        on_accept_reply(voter, std::get<AcceptReply>(answer->reply), now, out);
      }
    }
  }
  if (!done() && now >= deadline_) {
    fail(Errc::kUnavailable,
         "no majority of " + std::to_string(voters_.size()) +
             " voters answered in time; the outcome is unknown: look whether it was done, then try again",
         out);
  }
  if (!done() && now >= wake_at_) begin_round(now, out);
  if (!done()) out.wake_at = std::min(wake_at_, deadline_);
  return out;
}

void Proposer::begin_round(Instant now, Output& out) {
  if (round_floor_ >= kPaxosRoundMax) {
    return fail(Errc::kUnavailable, "the rounds of this decision are used up by a broken peer",
                out);
  }
  ballot_ = {++round_floor_, self_};
  phase_ = Phase::kPreparing;
  std::fill(votes_.begin(), votes_.end(), Vote::kNone);
  best_ = {};
  value_ = own_value_;
  // Jitter here too: rivals that lose the same packets must not retry in step.
  wake_at_ = now + options_.round_timeout + jitter(options_.round_timeout / 2);
  send_all(Prepare{ballot_}, out);
}

void Proposer::begin_accepting(Instant now, Output& out) {
  phase_ = Phase::kAccepting;
  std::fill(votes_.begin(), votes_.end(), Vote::kNone);
  wake_at_ = now + options_.round_timeout + jitter(options_.round_timeout / 2);
  send_all(Accept{ballot_, value_}, out);
}

void Proposer::on_prepare_reply(std::size_t voter, const PrepareReply& reply, Instant now,
                                Output& out) {
  if (reply.verdict == Verdict::kDecided && reply.value) return decide(*reply.value, out);
  if (phase_ != Phase::kPreparing || reply.ballot != ballot_) return;
  if (reply.verdict != Verdict::kGranted) {
    return on_refusal(voter, reply.verdict, reply.promised, now, out);
  }
  if (votes_[voter] != Vote::kNone) return;
  votes_[voter] = Vote::kGranted;
  if (reply.value && reply.accepted > best_) {
    best_ = reply.accepted;
    value_ = *reply.value;
  }
  if (count(Vote::kGranted) >= majority()) begin_accepting(now, out);
}

void Proposer::on_accept_reply(std::size_t voter, const AcceptReply& reply, Instant now,
                               Output& out) {
  if (reply.verdict == Verdict::kDecided && reply.value) return decide(*reply.value, out);
  if (phase_ != Phase::kAccepting || reply.ballot != ballot_) return;
  if (reply.verdict != Verdict::kGranted) {
    return on_refusal(voter, reply.verdict, reply.promised, now, out);
  }
  if (votes_[voter] != Vote::kNone) return;
  votes_[voter] = Vote::kGranted;
  if (count(Vote::kGranted) >= majority()) decide(value_, out);
}

void Proposer::on_refusal(std::size_t voter, Verdict verdict, const Ballot& promised, Instant now,
                          Output& out) {
  if (verdict == Verdict::kRefused) {
    // At our own ballot it is the answer to a duplicate of a request that was granted.
    if (promised <= ballot_) return;
    round_floor_ = std::max(round_floor_, std::min(promised.round, kPaxosRoundMax));
  }
  if (votes_[voter] != Vote::kNone) return;
  votes_[voter] = verdict == Verdict::kSealed ? Vote::kSealed : Vote::kRefused;
  const std::size_t spare = voters_.size() - majority();
  if (count(Vote::kSealed) > spare) {
    return fail(Errc::kStaleRing,
                "the voters handed this decision over: catch up with the ring and ask the new ones",
                out);
  }
  if (count(Vote::kSealed) + count(Vote::kRefused) <= spare) return;
  phase_ = Phase::kBackingOff;
  wake_at_ = now + jitter(backoff_);
  backoff_ = std::min(backoff_ * 2, options_.backoff_max);
}

void Proposer::decide(const Blob& value, Output& out) {
  phase_ = Phase::kDone;
  out.decided = value;
  send_all(Decided{value}, out);
}

void Proposer::fail(Errc code, std::string text, Output& out) {
  phase_ = Phase::kDone;
  out.failed = Error{code, std::move(text)};
}

void Proposer::send_all(const std::variant<Prepare, Accept, Decided>& message, Output& out) const {
  for (const auto& voter : voters_) out.sends.push_back({voter, message});
}

std::size_t Proposer::count(Vote vote) const {
  return static_cast<std::size_t>(std::count(votes_.begin(), votes_.end(), vote));
}

Duration Proposer::jitter(Duration bound) {
  if (bound <= Duration::zero()) return Duration::zero();
  return Duration(random_.below(static_cast<std::uint64_t>(bound.count())));
}

}  // namespace starling::overlay
