// Cursors that no honest device has, told from those that are merely ahead of an owner (decision 0067).
#include <algorithm>

#include "node/session/session.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {
constexpr Duration kClaimsGatherFor = 20ms;  // Claims that come meanwhile are asked about together.
}  // namespace

// What can be told without asking anybody. The counters say why.
std::optional<Error> Session::bent(const protocol::Sync& request) const {
  auto& refused = services_.view.counters.cursors_refused;
  bool some = false;
  for (const auto& item : request.mailboxes) {
    const auto& dots = item.cursor.dots();
    some = some || !dots.empty();
    if (dots.size() > kCursorWritersMax) {
      ++refused["oversized"];
      return Error{Errc::kReset, "a cursor of more than " + std::to_string(kCursorWritersMax) +
                                     " writers; drop the cursors and sync anew"};
    }
    if (std::any_of(dots.begin(), dots.end(), [](const Dot& dot) { return dot.n > storage::kRunLengthMax; })) {
      ++refused["future"];
      return Error{Errc::kReset, "a cursor with a number that no run comes to; drop the cursors and sync anew"};
    }
  }
  // Without cursors there is nothing to drop: a device that was logged in before nodes were forced out would go on for ever.
  if (!some || request.lineage == services_.view.ring().lineage()) return std::nullopt;
  ++refused["lineage"];
  return Error{Errc::kReset, "the cursors are of another lineage; drop them and sync anew"};
}

// By what it says of itself: a writer of an earlier run has none, and makes no more numbers that could be missed.
std::optional<NodeId> Session::runner_of(WriterId writer) const {
  const auto& runner = services_.view.liveness.runner;
  return runner ? runner(writer) : std::nullopt;
}

void Session::doubt(const MailboxId& mailbox, const std::vector<Dot>& ahead) {
  if (ahead.empty()) return;
  auto& claims = in_hand().claims;
  bool fresh = false;
  for (const auto& dot : ahead) {
    if (!runner_of(dot.writer)) continue;
    auto claim = claims.find({mailbox, dot.writer});
    if (claim == claims.end()) {
      if (claims.size() >= kClaimsMax) return;
      claim = claims.try_emplace({mailbox, dot.writer}).first;
    }
    if (claim->second.n >= dot.n) continue;
    claim->second = {dot.n, false};
    fresh = true;
  }
  if (fresh) recheck_claims();
}

void Session::recheck_claims() {
  InHand& hand = in_hand();
  const bool open = std::any_of(hand.claims.begin(), hand.claims.end(),
                                [](const auto& claim) { return !claim.second.known; });
  if (!open || std::exchange(hand.gathering_claims, true)) return;
  hand.claims_timer = services_.view.loop.after(kClaimsGatherFor, [this, &hand] {
    hand.gathering_claims = false;
    if (closed_) return;
    hand.scope.spawn(check_claims());
  });
}

// Whoever cannot be asked now is asked again later (recheck_account); until then the device is served.
Task<Done> Session::check_claims() {
  auto& view = services_.view;
  InHand& hand = in_hand();
  ++hand.asking_claims;
  std::map<NodeId, HeadsRequest> questions;
  for (auto it = hand.claims.begin(); it != hand.claims.end();) {
    const auto claim = it++;
    if (claim->second.known) continue;
    const auto& [mailbox, writer] = claim->first;
    const auto runner = runner_of(writer);
    if (!runner) {
      hand.claims.erase(claim);
    } else if (view.alive(*runner)) {
      auto& question = questions[*runner];
      if (question.claims.size() < kHeadsMax) question.claims.push_back({mailbox, {writer, claim->second.n}});
    }
  }
  std::vector<std::pair<std::vector<HeadsRequest::Claim>, overlay::Future<Result<Bytes>>>> calls;
  for (auto& [node, question] : questions) {
    question.ring = view.ring().number();
    auto call = overlay::call(view.loop, view.rpc, node, Method::kHeads, pack(question), kHeadsDeadline);
    calls.emplace_back(std::move(question.claims), std::move(call));
  }
  for (auto& [asked, call] : calls) {
    const auto body = co_await call;
    const auto reply = body ? unpack<HeadsReply>(*body) : Result<HeadsReply>(body.error());
    if (closed_ || !reply) continue;
    if (!reply->unissued.empty()) {
      reset(reply->unissued.front().dot);
      continue;
    }
    for (const auto& claim : asked) {
      const auto known = hand.claims.find({claim.mailbox, claim.dot.writer});
      if (known != hand.claims.end() && known->second.n == claim.dot.n) known->second.known = true;
    }
  }
  --hand.asking_claims;
  if (!closed_ && tails_to_sync_ == 0 && !sync_done_) finish_sync();
  co_return Done{};
}

// The connection ends, so that no page that was read for those cursors is taken for the next ones.
void Session::reset(const Dot& unissued) {
  ++services_.view.counters.cursors_refused["future"];
  services_.view.log.warn("a cursor names a number that was never given out",
                          {{"dot", to_text(unissued)}});
  refuse_and_close(sync_done_ ? 0 : sync_request_,
                   {Errc::kReset, "a cursor names " + to_text(unissued) +
                                      ", which was never given out; drop the cursors and sync anew"});
}

}  // namespace starling::node
