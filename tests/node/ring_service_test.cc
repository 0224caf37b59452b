// How a node follows the ring when versions come out of order (parts.h).
#include "node/ring/ring_service.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::RingVersion;

class Following : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    identity = Identity::generate(random);
    in_turn([&] {
      paxos = std::make_unique<PaxosService>(*view);
      service = std::make_unique<RingService>(*view, *paxos, *identity, keyring);
      service->install = []() -> overlay::Task<Status> { co_return ok_status(); };
      service->covered = [] { return ok_status(); };
      service->names_settled = [] { return ok_status(); };
    });
    const auto now = view->ring().version();
    intent = overlay::must(overlay::next_intent_leave(now, std::vector{others[0]}, true));
    complete = overlay::must(overlay::next_complete(intent));
  }
  void hear(const RingVersion& version) {
    const Bytes body = pack(RingAnswer{{overlay::encode(version)}});
    in_turn([&] { rpc.listeners.at(Method::kRingDecided)(owners[1], body); });
  }
  // All that was asked of others about the ring, whoever is asked next included.
  void nobody_knows() {
    for (int turn = 0; turn < 20; ++turn) {
      run_for(50ms);
      for (auto& call : std::exchange(rpc.calls, {})) {
        in_turn([&] { call.done(Error{Errc::kTimeout, "no answer"}); });
      }
    }
  }

  std::optional<Identity> identity;
  Keyring keyring{SecretKey{}};
  std::unique_ptr<PaxosService> paxos;
  std::unique_ptr<RingService> service;
  RingVersion intent, complete;
};

TEST_F(Following, WhatCannotBeFollowedIsSaid) {
  hear(complete);
  nobody_knows();
  EXPECT_NE(service->stuck().find("ring version " + std::to_string(intent.number.value)), std::string::npos)
      << service->stuck();
}

// While members are asked for the version between, it comes by itself, and the next.
TEST_F(Following, WhatCameAnotherWayMeanwhileIsNotSaidToBeMissing) {
  hear(complete);
  hear(intent);
  hear(complete);
  ASSERT_EQ(view->ring().number(), complete.number);
  nobody_knows();
  EXPECT_EQ(service->stuck(), "");
}

}  // namespace
}  // namespace starling::node
