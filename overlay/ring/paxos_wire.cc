#include "overlay/ring/paxos_wire.h"

#include <cassert>
#include <initializer_list>
#include <string>
#include <utility>

namespace starling::overlay {
namespace {

Error corrupt(const char* why) { return {Errc::kCorrupt, std::string("paxos message: ") + why}; }

Status check_kind(PaxosKind kind) {
  if (kind < PaxosKind::kPrepare || kind > PaxosKind::kQuery) return corrupt("unknown kind");
  return ok_status();
}

Status check_value(const std::optional<Blob>& value) {
  if (value && value->data.size() > kPaxosValueSizeMax) return corrupt("value over the limit");
  return ok_status();
}

Status check_rounds(std::initializer_list<Ballot> ballots) {
  for (const auto& ballot : ballots) {
    if (ballot.round > kPaxosRoundMax) return corrupt("round over the limit");
  }
  return ok_status();
}

}  // namespace

Result<PaxosRequest> decode_paxos_request(View bytes) {
  TRY_ASSIGN(auto request, unpack<PaxosRequest>(bytes));
  TRY(check_kind(request.kind));
  TRY(check_value(request.value));
  TRY(check_rounds({request.ballot}));
  if (request.instance.data.empty()) return corrupt("no instance");
  if (request.instance.data.size() > kPaxosInstanceSizeMax)
    return corrupt("instance over the limit");
  const bool balloted = request.kind == PaxosKind::kPrepare || request.kind == PaxosKind::kAccept;
  if (balloted == request.ballot.is_none()) return corrupt("ballot does not fit the kind");
  const bool valued = request.kind == PaxosKind::kAccept || request.kind == PaxosKind::kDecided;
  if (valued != request.value.has_value()) return corrupt("value does not fit the kind");
  return request;
}

Result<PaxosResponse> decode_paxos_response(View bytes) {
  TRY_ASSIGN(auto response, unpack<PaxosResponse>(bytes));
  TRY(check_kind(response.kind));
  TRY(check_value(response.value));
  TRY(check_rounds({response.ballot, response.promised, response.accepted}));
  if (response.verdict < Verdict::kGranted || response.verdict > Verdict::kUndecided) {
    return corrupt("unknown verdict");
  }
  const bool promise =
      response.kind == PaxosKind::kPrepare && response.verdict == Verdict::kGranted;
  if (!promise && !response.accepted.is_none()) return corrupt("accepted ballot outside a promise");
  const bool decision =
      response.kind != PaxosKind::kDecided && response.verdict == Verdict::kDecided;
  const bool valued = decision || (promise && !response.accepted.is_none());
  if (valued != response.value.has_value()) return corrupt("value does not fit the verdict");
  return response;
}

Result<PaxosResponse> answer(AcceptorState& state, const PaxosRequest& request) {
  PaxosResponse response;
  response.kind = request.kind;
  response.ballot = request.ballot;
  switch (request.kind) {
    case PaxosKind::kPrepare: {
      auto reply = prepare(state, request.ballot);
      response.verdict = reply.verdict;
      response.promised = reply.promised;
      response.accepted = reply.accepted;
      response.value = std::move(reply.value);
      break;
    }
    case PaxosKind::kAccept: {
      assert(request.value);
      auto reply = accept(state, request.ballot, *request.value);
      response.verdict = reply.verdict;
      response.promised = reply.promised;
      response.value = std::move(reply.value);
      break;
    }
    case PaxosKind::kDecided:
      assert(request.value);
      TRY(learn(state, *request.value));
      response.verdict = Verdict::kDecided;
      break;
    case PaxosKind::kQuery:
      response.value = query(state);
      response.verdict = response.value ? Verdict::kDecided : Verdict::kUndecided;
      break;
  }
  return response;
}

PaxosRequest to_request(const Bytes& instance, RingNumber ring,
                        const std::variant<Prepare, Accept, Decided>& message) {
  PaxosRequest request{{instance}, ring, PaxosKind::kPrepare, {}, {}};
  if (const auto* prepare = std::get_if<Prepare>(&message)) {
    request.ballot = prepare->ballot;
  } else if (const auto* accept = std::get_if<Accept>(&message)) {
    request.kind = PaxosKind::kAccept;
    request.ballot = accept->ballot;
    request.value = accept->value;
  } else {
    request.kind = PaxosKind::kDecided;
    request.value = std::get<Decided>(message).value;
  }
  return request;
}

std::optional<Proposer::Input> to_input(const NodeId& from, const PaxosResponse& response) {
  switch (response.kind) {
    case PaxosKind::kPrepare:
      return Proposer::Answer{from,
                              PrepareReply{response.ballot, response.verdict, response.promised,
                                           response.accepted, response.value}};
    case PaxosKind::kAccept:
      return Proposer::Answer{
          from, AcceptReply{response.ballot, response.verdict, response.promised, response.value}};
    case PaxosKind::kDecided:
    case PaxosKind::kQuery: break;
  }
  return std::nullopt;
}

}  // namespace starling::overlay
