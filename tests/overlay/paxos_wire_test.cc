#include "overlay/ring/paxos_wire.h"

#include <functional>
#include <map>

#include <gtest/gtest.h>

#include "tests/overlay/golden.h"

namespace starling::overlay {
namespace {

NodeId node_at(std::uint8_t i) {
  NodeId out;
  out.raw.fill(i);
  return out;
}

PaxosRequest accept_request() {
  return {{"ring-7"}, {6}, PaxosKind::kAccept, {300, node_at(2)}, Blob{"value"}};
}
PaxosResponse promise_response() {
  return {PaxosKind::kPrepare, {300, node_at(2)}, Verdict::kGranted,
          {300, node_at(2)},      {5, node_at(1)},   Blob{"older"}};
}

TEST(PaxosWire, FrozenBytesStayTheSame) {
  EXPECT_EQ(hex(pack(accept_request())), hex(golden("paxos_request.v1")));
  EXPECT_EQ(*decode_paxos_request(golden("paxos_request.v1")), accept_request());
  EXPECT_EQ(hex(pack(promise_response())), hex(golden("paxos_response.v1")));
  EXPECT_EQ(*decode_paxos_response(golden("paxos_response.v1")), promise_response());
  const AcceptorState state{{300, node_at(2)}, {5, node_at(1)}, Blob{"older"}, true};
  EXPECT_EQ(hex(pack(state)), hex(golden("paxos_acceptor.v1")));
  EXPECT_EQ(*unpack<AcceptorState>(golden("paxos_acceptor.v1")), state);
}

TEST(PaxosWire, RefusesRequestsThatContradictTheTable) {
  const std::vector<std::function<void(PaxosRequest&)>> breaks = {
      [](auto& r) { r.kind = static_cast<PaxosKind>(0); },
      [](auto& r) { r.kind = static_cast<PaxosKind>(5); },
      [](auto& r) { r.instance = {}; },
      [](auto& r) { r.instance.data.resize(kPaxosInstanceSizeMax + 1); },
      [](auto& r) { r.value->data.resize(kPaxosValueSizeMax + 1); },
      [](auto& r) { r.ballot = {}; },
      [](auto& r) { r.ballot.round = kPaxosRoundMax + 1; },
      [](auto& r) { r.value.reset(); },
      [](auto& r) { r.kind = PaxosKind::kPrepare; },               // With a value.
      [](auto& r) { r.kind = PaxosKind::kDecided; },               // With a ballot.
      [](auto& r) { r.kind = PaxosKind::kQuery; },                 // With both.
      [](auto& r) { r.kind = PaxosKind::kQuery, r.ballot = {}; },  // With a value.
  };
  ASSERT_TRUE(decode_paxos_request(pack(accept_request())).ok());
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto request = accept_request();
    breaks[i](request);
    const auto decoded = decode_paxos_request(pack(request));
    ASSERT_FALSE(decoded.ok()) << i;
    EXPECT_EQ(decoded.code(), Errc::kCorrupt) << i;
  }
}

TEST(PaxosWire, RefusesResponsesThatContradictTheTable) {
  const std::vector<std::function<void(PaxosResponse&)>> breaks = {
      [](auto& r) { r.kind = static_cast<PaxosKind>(9); },
      [](auto& r) { r.verdict = static_cast<Verdict>(0); },
      [](auto& r) { r.verdict = static_cast<Verdict>(6); },
      [](auto& r) { r.promised.round = ~std::uint64_t{0}; },
      [](auto& r) { r.accepted.round = ~std::uint64_t{0}; },
      [](auto& r) { r.accepted = {}; },                // A value without its ballot.
      [](auto& r) { r.value.reset(); },                // A ballot without its value.
      [](auto& r) { r.verdict = Verdict::kRefused; },  // With an accepted ballot.
      [](auto& r) { r.kind = PaxosKind::kAccept; },    // With an accepted ballot.
      [](auto& r) { r.verdict = Verdict::kDecided, r.accepted = {}, r.value.reset(); },
      [](auto& r) { r.value->data.resize(kPaxosValueSizeMax + 1); },
  };
  ASSERT_TRUE(decode_paxos_response(pack(promise_response())).ok());
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto response = promise_response();
    breaks[i](response);
    const auto decoded = decode_paxos_response(pack(response));
    ASSERT_FALSE(decoded.ok()) << i;
    EXPECT_EQ(decoded.code(), Errc::kCorrupt) << i;
  }
}

TEST(PaxosWire, RefusesEveryCutAndSurvivesEveryFlippedByte) {
  const auto request = pack(accept_request());
  const auto response = pack(promise_response());
  for (std::size_t n = 0; n < request.size(); ++n) {
    EXPECT_FALSE(decode_paxos_request(View(request).substr(0, n)).ok());
  }
  for (std::size_t n = 0; n < response.size(); ++n) {
    EXPECT_FALSE(decode_paxos_response(View(response).substr(0, n)).ok());
    for (int flip = 1; flip < 256; ++flip) {
      auto bytes = response;
      bytes[n] = static_cast<char>(bytes[n] ^ flip);
      if (auto decoded = decode_paxos_response(bytes)) {
        EXPECT_TRUE(decode_paxos_response(pack(*decoded)).ok());
      }
    }
  }
}

TEST(PaxosWire, OneRoundDecidesAndAQueryFindsIt) {
  SeededRandom random(1);
  std::vector<NodeId> voters = {node_at(1), node_at(2), node_at(3)};
  std::map<NodeId, AcceptorState> states;
  Proposer proposer(voters, node_at(2), {"value"}, 1, Instant{} + 10s, random);
  auto out = proposer.step(Proposer::Tick{}, Instant{});
  std::optional<Blob> decided;
  for (std::vector<Proposer::Send> sends = out.sends; !sends.empty();) {
    std::vector<Proposer::Send> next;
    for (const auto& send : sends) {
      const auto bytes = pack(to_request("name", {4}, send.message));
      const auto request = decode_paxos_request(bytes);
      ASSERT_TRUE(request.ok()) << request.error().text;
      const auto response = answer(states[send.to], *request);
      ASSERT_TRUE(response.ok());
      const auto heard = decode_paxos_response(pack(*response));
      ASSERT_TRUE(heard.ok()) << heard.error().text;
      if (const auto input = to_input(send.to, *heard)) {
        out = proposer.step(*input, Instant{});
        if (out.decided) decided = out.decided;
        next.insert(next.end(), out.sends.begin(), out.sends.end());
      }
    }
    sends = std::move(next);
  }
  EXPECT_EQ(decided, Blob{"value"});
  for (const auto& voter : voters) {
    const auto found = answer(states[voter], {{"name"}, {4}, PaxosKind::kQuery, {}, {}});
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->verdict, Verdict::kDecided);
    EXPECT_EQ(found->value, Blob{"value"});
    EXPECT_FALSE(to_input(voter, *found));
  }
  AcceptorState fresh;
  EXPECT_EQ(answer(fresh, {{"name"}, {4}, PaxosKind::kQuery, {}, {}})->verdict,
            Verdict::kUndecided);
  const PaxosRequest other{{"name"}, {4}, PaxosKind::kDecided, {}, Blob{"other"}};
  EXPECT_EQ(answer(states[node_at(1)], other).code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::overlay
