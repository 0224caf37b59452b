// One part of a node at a time: a ClusterView with a real store, a ring of five nodes, links that only note what is
// said, and opinions about the others that the test holds. Time is virtual.
// Thread: one.
#pragma once

#include <map>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "node/replication/messages.h"
#include "node/replication/view.h"
#include "tests/overlay/ring_fixture.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/storage/support.h"

namespace starling::node {

using namespace std::chrono_literals;

class NotedRpc final : public overlay::Rpc {
 public:
  struct Call {
    NodeId to;
    overlay::Method method;
    Bytes body;
    Done done;
  };
  struct Notice {
    NodeId to;
    overlay::Method method;
    Bytes body;
  };

  void serve(overlay::Method method, overlay::Access, Handler handler) override {
    handlers[method] = std::move(handler);
  }
  void on_notice(overlay::Method method, NoticeHandler handler) override { listeners[method] = std::move(handler); }
  void call(const NodeId& to, overlay::Method method, Bytes body, Duration, Done done) override {
    calls.push_back({to, method, std::move(body), std::move(done)});
  }
  void notify(const NodeId& to, overlay::Method method, Bytes body) override {
    notices.push_back({to, method, std::move(body)});
  }
  void dial(const overlay::Endpoint&, Duration, std::function<void(Result<NodeId>)>) override {}
  [[nodiscard]] bool linked(const NodeId&) const override { return true; }
  void on_link(std::function<void(const NodeId&, const overlay::Hello*)>) override {}

  [[nodiscard]] std::size_t said(overlay::Method method) const {
    return static_cast<std::size_t>(
        std::count_if(notices.begin(), notices.end(), [=](const Notice& n) { return n.method == method; }));
  }

  std::map<overlay::Method, Handler> handlers;
  std::map<overlay::Method, NoticeHandler> listeners;
  std::vector<Call> calls;
  std::vector<Notice> notices;
};

class Parts : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kNodes = 5;
  static constexpr PartitionId kPartition{1};  // Of testing::kAlice and kBob.

  // We are the owner of kPartition at this place of the preference order, or none of them.
  explicit Parts(std::optional<std::size_t> place = 0) : place_(place) {}

  void SetUp() override {
    box.open();
    prepare();
    auto version = overlay::test_ring(kNodes, {.copies = 3, .synced = 0, .partitions = testing::kTestPartitions});
    const auto ring = overlay::must(overlay::Ring::make(version));
    owners = ring->owners(kPartition).to_vector();
    for (std::uint32_t i = 0; i < kNodes; ++i) {
      if (!ring->is_owner(kPartition, overlay::test_id(i))) others.push_back(overlay::test_id(i));
    }
    const NodeId self = place_ ? owners[*place_] : others[0];
    view = std::make_unique<ClusterView>(self, loop, rpc, *box.store, hlc, random, log);
    view->liveness.alive = [this](const NodeId& node) { return !dead.contains(node); };
    view->liveness.reachable = [this](const NodeId& node) { return !doubted.contains(node); };
    view->liveness.catching_up = [this](const NodeId& node) { return late.contains(node); };
    view->clock_compared = true;
    view->good_clock_ms = view->wall_minus_steady_ms();
    view->set_ring(ring);
    ASSERT_EQ(box.store->partition_of(testing::kAlice), kPartition);
  }
  // What the store holds before the node starts.
  virtual void prepare() {}
  // In turns of the loop; what was written is synced meanwhile.
  void run_for(Duration duration) {
    for (Duration done{}; done < duration; done += 50ms) {
      world.run_for(50ms);
      box.sync();
    }
  }
  void in_turn(const std::function<void()>& fn) { loop.enter(fn); }

  // What a peer that asks is told.
  template <class T>
  Result<Bytes> answer(overlay::Method method, const NodeId& from, const T& request) {
    class Kept final : public overlay::Reply::Sink {
     public:
      explicit Kept(std::optional<Result<Bytes>>& out) : out_(out) {}
      void reply(Result<Bytes> body) override { out_ = std::move(body); }

     private:
      std::optional<Result<Bytes>>& out_;
    };
    std::optional<Result<Bytes>> answer;
    in_turn([&] { rpc.handlers.at(method)(from, pack(request), overlay::Reply(std::make_unique<Kept>(answer))); });
    run_for(200ms);
    EXPECT_TRUE(answer) << "method " << static_cast<int>(method);
    return answer.value_or(Error{Errc::kTimeout, "no answer"});
  }
  // What it is refused with; nothing: it is answered.
  template <class T>
  std::optional<Errc> refusal(overlay::Method method, const NodeId& from, const T& request) {
    const auto told = answer(method, from, request);
    return told ? std::nullopt : std::optional(told.code());
  }

  static Bytes encoded(const storage::ChangeView& change, const Dot& dot) { return storage::encode(change, dot); }

  sim::World world{1};
  sim::SimLoop loop{world, "parts"};
  testing::StoreBox box;
  overlay::HlcClock hlc;
  SeededRandom random{5};
  overlay::Log log;
  NotedRpc rpc;
  std::set<NodeId> dead, doubted, late;
  std::vector<NodeId> owners, others;
  std::unique_ptr<ClusterView> view;

 private:
  const std::optional<std::size_t> place_;
};

}  // namespace starling::node
