#include "node/ring/paxos_service.h"

namespace starling::node {

using overlay::Method;
using overlay::Proposer;
using overlay::Reply;
using storage::Store;

namespace {
constexpr Duration kAnswerDeadline = 900ms;  // Of one voter; the proposer starts a new round after 1 s.
}  // namespace

struct PaxosService::Proposal {
  Proposal(std::vector<NodeId> voters, const NodeId& self, Blob value, Instant deadline,
           Random& random)
      : proposer(std::move(voters), self, std::move(value), 1, deadline, random) {}

  Proposer proposer;
  Bytes instance;
  RingNumber ring;
  overlay::Completer<Result<Blob>> done;
  overlay::Timer timer;
};

PaxosService::PaxosService(ClusterView& view) : view_(view) {
  view_.rpc.serve(Method::kPaxos, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
                    answer(from, body, std::move(reply));
                  });
}

const PaxosService::Kind* PaxosService::kind_of(View instance) const {
  for (const auto& [prefix, kind] : kinds_) {
    if (instance.starts_with(prefix)) return &kind;
  }
  return nullptr;
}

void PaxosService::answer(const NodeId& from, View body, Reply reply) {
  auto request = overlay::decode_paxos_request(body);
  if (!request) return reply(request.error());
  const Kind* kind = kind_of(request->instance.data);
  if (kind == nullptr) return reply(Error{Errc::kUnsupported, "an unknown kind of Paxos instance"});
  if (auto may = kind->may_vote(from, *request); !may) return reply(may.error());
  const Bytes instance = request->instance.data;
  overlay::AcceptorState state;
  if (auto stored = view_.store.get(Store::Family::kPaxos, instance)) {
    auto decoded = unpack<overlay::AcceptorState>(*stored);
    if (!decoded) return reply(decoded.error());
    state = std::move(*decoded);
  }
  const overlay::AcceptorState before = state;
  if (auto decision = kind->known(instance); decision && !state.decided) {
    if (auto learned = overlay::learn(state, *decision); !learned) return reply(learned.error());
  }
  auto response = overlay::answer(state, *request);
  if (!response) return reply(response.error());
  if (state != before) view_.store.put(Store::Family::kPaxos, instance, pack(state));
  if (state.decided && !before.decided) kind->decided(instance, *state.value);
  auto shared = std::make_shared<Reply>(std::move(reply));
  view_.store.when_durable([shared, response = pack(*response)] { (*shared)(response); });
}

overlay::Task<Result<Blob>> PaxosService::propose(Bytes instance, RingNumber ring,
                                                  std::vector<NodeId> voters, Blob value,
                                                  Duration deadline) {
  auto proposal = std::make_shared<Proposal>(std::move(voters), view_.self, std::move(value),
                                             view_.loop.now() + deadline, view_.random);
  proposal->instance = std::move(instance);
  proposal->ring = ring;
  auto [done, future] = overlay::Completer<Result<Blob>>::make(view_.loop);
  proposal->done = std::move(done);
  drive(proposal, Proposer::Tick{});
  auto decision = co_await future;
  co_return decision;
}

void PaxosService::drive(const std::shared_ptr<Proposal>& proposal, const Proposer::Input& input) {
  if (proposal->proposer.done()) return;
  if (view_.in_ring() && view_.ring().number() > proposal->ring) {
    proposal->timer.cancel();
    return proposal->done.set(Error{Errc::kStaleRing, "the ring has moved on; ask its members again"});
  }
  auto out = proposal->proposer.step(input, view_.loop.now());
  for (const auto& send : out.sends) {
    const auto request = overlay::to_request(proposal->instance, proposal->ring, send.message);
    view_.rpc.call(send.to, Method::kPaxos, pack(request), kAnswerDeadline,
                   [this, proposal, to = send.to, kind = request.kind,
                    ballot = request.ballot](Result<Bytes> body) {
      if (!body) return refused(proposal, to, kind, ballot, body.code());
      auto response = overlay::decode_paxos_response(*body);
      if (!response) return;
      if (auto answer = overlay::to_input(to, *response)) drive(proposal, *answer);
    });
  }
  if (out.decided) proposal->done.set(*out.decided);
  if (out.failed) proposal->done.set(*out.failed);
  if (proposal->proposer.done()) {
    proposal->timer.cancel();
  } else if (out.wake_at != kNever) {
    // The timer belongs to the proposal: a weak reference, so that the two do not keep each other.
    proposal->timer = view_.loop.after(out.wake_at - view_.loop.now(),
                                       [this, weak = std::weak_ptr(proposal)] {
      if (auto alive = weak.lock()) drive(alive, Proposer::Tick{});
    });
  }
}

void PaxosService::refused(const std::shared_ptr<Proposal>& proposal, const NodeId& voter,
                           overlay::PaxosKind request, const overlay::Ballot& ballot, Errc code) {
  if (code != Errc::kStaleRing && code != Errc::kCatchingUp) return;  // Lost: the round times out.
  if (code == Errc::kStaleRing && view_.on_newer_ring) view_.on_newer_ring(voter, {});
  const Kind* kind = kind_of(proposal->instance);
  if (kind == nullptr || !kind->fails_when_stale) return;
  overlay::PaxosResponse response;
  response.kind = request;
  response.ballot = ballot;
  response.verdict = overlay::Verdict::kSealed;
  if (auto answer = overlay::to_input(voter, response)) drive(proposal, *answer);
}

}  // namespace starling::node
