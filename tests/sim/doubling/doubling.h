// Doubling: the fixture of cases in which the partitions are doubled step by step (docs/decisions/0025).
//
// #g and `sibling`, a group of the same people, are of one partition before and of two after it; a, b and c own both.
// alice writes through b, bob reads at c. Nodes are kept at their old count by being deaf to ring versions.
// Thread: one.
#pragma once

#include <string>
#include <vector>

#include "node/ring/messages.h"
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/faults/doublings.h"
#include "tests/sim/moves/moves.h"

namespace starling::sim {

class Doubling : public Moves {
 protected:
  explicit Doubling(std::size_t nodes = 3) : Moves(nodes) {}
  explicit Doubling(ClusterOptions with) : Moves(std::move(with)) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    sibling = name_where("#s", [this](Slot slot) {
      const Slot mine = slot_of(mailbox_of("#g"));
      return of(slot, before()) == of(mine, before()) && of(slot, 2 * before()) != of(mine, 2 * before());
    });
    ASSERT_TRUE(work.add_group(sibling, {"@alice", "@bob"}));
    say_both();
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }

  static PartitionId of(Slot slot, std::uint32_t partitions) { return starling::partition_of(slot, partitions); }
  static Slot slot(const std::string& address) { return slot_of(mailbox_of(address)); }
  static std::string name_where(const std::string& prefix, const std::function<bool(Slot)>& fits) {
    for (int i = 0;; ++i) {
      const std::string name = prefix + std::to_string(i);
      if (fits(slot(name))) return name;
    }
  }
  [[nodiscard]] std::uint32_t before() const { return options.partitions; }

  // To both groups in turn, each acknowledged.
  std::vector<SendIndex> say_both(int times = 1, std::size_t size = 0) {
    std::vector<SendIndex> said;
    for (int i = 0; i < times; ++i) {
      for (const auto& to : {std::string("#g"), sibling}) {
        said.push_back(alice->send(to, work.body(*alice, size)));
        EXPECT_TRUE(acked(said.back())) << world.trace().text("", 60);
      }
    }
    return said;
  }

  // --- The doubling. ---

  // Asked for, until it is agreed on. False: it never is.
  bool agree(std::size_t at) {
    for (int attempt = 0; attempt < 40; ++attempt) {
      const auto answer = std::make_shared<std::optional<Status>>();
      cluster.propose_doubled(at, [answer](Status status) { answer->emplace(std::move(status)); });
      if (!until([&] { return answer->has_value(); }, 30s)) return false;
      if (**answer || (*answer)->code() == Errc::kExists) return true;
      world.note("test", "not doubled: " + (*answer)->error().text);
      world.run_for(500ms);
    }
    return false;
  }
  bool has(std::size_t i, std::uint32_t partitions) { return cluster.up(i) && cluster.partitions(i) == partitions; }
  bool have(const std::vector<std::size_t>& nodes, std::uint32_t partitions) {
    return std::all_of(nodes.begin(), nodes.end(), [&](std::size_t i) { return has(i, partitions); });
  }
  // Those that are up.
  bool all_have(std::uint32_t partitions) { return have(up(), partitions); }
  bool all_settled() {
    const auto nodes = up();
    return std::all_of(nodes.begin(), nodes.end(), [&](std::size_t i) { return cluster.settled(i); });
  }
  // All that are up adopt it.
  void double_all(std::size_t at) {
    const std::uint32_t twice = 2 * cluster.partitions(at);
    ASSERT_TRUE(agree(at)) << world.trace().text("", 60);
    ASSERT_TRUE(until([&] { return all_have(twice); }, 30s)) << world.trace().text("", 60);
  }
  void settle_all() { ASSERT_TRUE(until([&] { return all_settled(); }, 60s)) << "a split is not settled"; }
  std::vector<std::size_t> up() {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.up(i) && !cluster.retired(i)) out.push_back(i);
    }
    return out;
  }

  // Node i learns of no ring version, until it hears.
  void deafen(std::size_t i) {
    tap.alter = [i](const TapMessage& m, Bytes& body) {
      if (m.to == i && m.from != i && m.method != Method::kRingGet && tells_of_ring(m)) body = "?";
    };
    tap.alter_answer = [i](const TapMessage& m, Bytes& body) {
      if (m.from == i && m.to != i && m.method == Method::kRingGet) body = "?";
    };
  }
  void hear() {
    tap.alter = nullptr;
    tap.alter_answer = nullptr;
  }

  // How far node i has synced the writer of `dot`, in the partition of the address as the node counts.
  std::uint64_t synced_of(std::size_t i, const std::string& address, WriterId writer) {
    return cluster.store(i).synced(of(slot(address), cluster.partitions(i)), writer);
  }
  // Of how many partitions a message of type T speaks.
  template <class T>
  static std::uint32_t count_said(const TapMessage& m) {
    const auto message = unpack<T>(m.body);
    return message ? message->partitions : 0;
  }
  // On every device that runs, but for that which sent it.
  void all_shown(const std::vector<SendIndex>& messages) {
    for (auto* device : {alice, alice2, bob, bob2}) {
      if (!device->running()) continue;
      for (const auto m : messages) {
        EXPECT_TRUE(record(m).device == device->index() || until([&] { return shown(*device, m) == 1; }, 60s))
            << device->identity().user << " lacks " << work.history().text(record(m));
      }
    }
  }

  std::string sibling;
};

}  // namespace starling::sim
