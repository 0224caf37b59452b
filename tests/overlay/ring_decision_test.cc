// Changes of the ring as its voters decide them: rival proposals over a network that loses and
// reorders, acceptors that accept only what follows.
#include <map>
#include <optional>

#include <gtest/gtest.h>

#include "overlay/ring/paxos.h"
#include "overlay/ring/paxos_wire.h"
#include "tests/overlay/ring_fixture.h"

namespace starling::overlay {
namespace {

// Decides the version after `before`, of which each member of `proposals` has its own idea.
class Decision {
 public:
  Decision(const RingVersion& before, const std::vector<RingVersion>& proposals, std::uint64_t seed)
      : before_(before), random_(seed) {
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      rivals_.emplace_back(voters(before), voters(before)[i], Blob{encode(proposals[i])}, 1,
                           now_ + 1h, random_);
    }
    decided.resize(rivals_.size());
  }

  // What each proposer learned.
  std::vector<std::optional<RingVersion>> decided;

  void run() {
    for (int turn = 0; turn < 10'000 && !all_know(); ++turn) {
      if (flying_.empty()) now_ += 100ms;
      for (std::size_t i = 0; i < rivals_.size(); ++i) {
        if (flying_.empty() || now_ >= wake_at_[i]) step(i, Proposer::Tick{});
      }
      deliver_one();
    }
  }

 private:
  struct Flying {
    std::size_t rival;
    NodeId voter;
    std::optional<PaxosRequest> request;
    std::optional<PaxosResponse> response;
  };

  bool all_know() const {
    for (const auto& version : decided) {
      if (!version) return false;
    }
    return true;
  }
  void step(std::size_t i, const Proposer::Input& input) {
    const auto out = rivals_[i].step(input, now_);
    for (const auto& send : out.sends) {
      auto request = to_request(next_instance(before_), before_.number, send.message);
      flying_.push_back({i, send.to, std::move(request), std::nullopt});
    }
    wake_at_[i] = out.wake_at;
    if (out.decided) decided[i] = must(decode_ring_version(out.decided->data));
  }
  void deliver_one() {
    if (flying_.empty()) return;
    const auto at = flying_.begin() + static_cast<std::ptrdiff_t>(random_.below(flying_.size()));
    Flying flying = std::move(*at);
    flying_.erase(at);
    if (random_.below(10) == 0) return;  // Lost.
    if (flying.response) {
      if (const auto input = to_input(flying.voter, *flying.response)) step(flying.rival, *input);
      return;
    }
    const auto& request = *flying.request;
    if (request.kind == PaxosKind::kAccept) {
      const auto version = decode_ring_version(request.value->data);
      if (!version || !follows(before_, *version)) return;
    }
    flying.response = must(answer(acceptors_[flying.voter], request));
    flying_.push_back(std::move(flying));
  }

  const RingVersion before_;
  SeededRandom random_;
  Instant now_{};
  std::vector<Proposer> rivals_;
  std::map<std::size_t, Instant> wake_at_;
  std::map<NodeId, AcceptorState> acceptors_;
  std::vector<Flying> flying_;
};

std::size_t admitted_by(const RingVersion& version, const InviteId& invite) {
  std::size_t n = 0;
  for (const auto& member : version.members) n += member.invite == invite ? 1 : 0;
  return n;
}

// Two nodes show the same invite to two members at the same moment.
TEST(RingDecision, OneInviteAdmitsOneNodeWhicheverMembersItIsShownTo) {
  const auto before = test_ring(3);
  std::vector<NewMember> joiners = {test_member(8), test_member(9)};
  joiners[1].invite = joiners[0].invite;
  std::vector<RingVersion> proposals;
  for (const auto& joiner : joiners) {
    proposals.push_back(must(next_intent_join(before, {&joiner, 1})));
  }
  std::size_t wins[2] = {};
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Decision decision(before, proposals, seed);
    decision.run();
    ASSERT_TRUE(decision.decided[0] && decision.decided[1]);
    ASSERT_EQ(*decision.decided[0], *decision.decided[1]);
    const RingVersion intent = *decision.decided[0];
    const std::size_t winner = intent.find(test_id(8)) != nullptr ? 0 : 1;
    ++wins[winner];
    // The one who lost asks again, now and when the change is through.
    const auto& late = joiners[1 - winner];
    EXPECT_FALSE(next_intent_join(intent, {&late, 1}).ok());
    const auto after = must(next_complete(intent));
    EXPECT_EQ(next_intent_join(after, {&late, 1}).code(), Errc::kDenied);
    EXPECT_EQ(admitted_by(after, late.invite), 1u);
  }
  EXPECT_GT(wins[0], 0u);
  EXPECT_GT(wins[1], 0u);
}

}  // namespace
}  // namespace starling::overlay
