// Repair: the fixture of cases in which disks lose or change what they held. Rows of stopped nodes are altered
// behind their backs; the operator's commands mend, compare and give up.
// Thread: one.
#pragma once

#include <nlohmann/json.hpp>

#include "storage/engine/engine.h"
#include "storage/layout.h"
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {

class Repair : public Hazards {
 protected:
  explicit Repair(std::size_t nodes = 3) : Hazards(nodes) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, a);
    start(*bob, b);
  }
  // Acknowledged, and its dot.
  Dot say() {
    std::optional<Dot> dot;
    SendIndex said = kUnsent;
    tap.on_leave = [&](const TapMessage& m) {
      if (m.method == Method::kReplicate && said != kUnsent) {
        if (const auto x = find(m, said)) dot = x->dot;
      }
      return Fate::kPass;
    };
    said = send(*alice);
    EXPECT_TRUE(acked(said));
    EXPECT_TRUE(until([&] { return dot.has_value(); }));
    tap.on_leave = nullptr;
    messages.push_back(said);
    return dot.value_or(Dot{});
  }
  // The same, and c has not heard of it; it asks nobody for it before the tap is cleared and released.
  std::pair<SendIndex, std::optional<Carried>> say_without_c() {
    say();
    std::optional<Carried> change;
    SendIndex sent = kUnsent;
    const auto keep_from_c = [this](const TapMessage& m) {
      if (m.method == Method::kReplicate && m.to == c) return Fate::kLose;
      const bool repairs = m.method == Method::kCompare || m.method == Method::kFetch;
      return m.from == c && m.to != c && repairs ? Fate::kHold : Fate::kPass;
    };
    tap.on_leave = [&](const TapMessage& m) {
      if (const auto x = find(m, sent); x && m.method == Method::kReplicate && m.to != c) change = x;
      return keep_from_c(m);
    };
    sent = send(*alice);
    EXPECT_TRUE(acked(sent));
    tap.on_leave = keep_from_c;
    if (change && synced(c, change->dot) >= change->dot.n) change.reset();
    return {sent, change};
  }
  // What `starling repair --give-up` says in the end.
  Json give_up(std::size_t i) {
    Json answer;
    for (int turn = 0; turn < 20; ++turn) {
      answer = repair(i, {{"start", true}, {"give_up", true}});
      if (answer.at("damaged") == 0) break;
      world.run_for(1s);
    }
    return answer;
  }
  // Of nodes that are stopped for it.
  using Change = std::function<void(storage::Engine&, rocksdb::WriteBatch&)>;
  void alter(const std::vector<std::size_t>& nodes, const Change& change) {
    for (const auto i : nodes) ASSERT_TRUE(cluster.stop(i));
    for (const auto i : nodes) alter(i, change);
    for (const auto i : nodes) ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  }
  void alter(std::size_t stopped, const Change& change) {
    auto engine = storage::Engine::open({cluster.folder(stopped) + "/store", cluster.disk(stopped).env(), false});
    ASSERT_TRUE(engine.ok()) << engine.error().text;
    rocksdb::WriteBatch batch;
    change(**engine, batch);
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
  }
  // The first row behind `prefix`.
  void tamper(const std::vector<std::size_t>& nodes, storage::ColumnFamily family, View prefix,
              const std::function<void(Bytes&)>& to) {
    alter(nodes, [&](storage::Engine& engine, rocksdb::WriteBatch& batch) {
      storage::Engine::Scan rows(engine, family, prefix);
      rows->SeekToFirst();
      ASSERT_TRUE(rows.valid());
      Bytes value(rows.value());
      to(value);
      engine.put(batch, family, rows.key(), value);
    });
  }
  void rot(const std::vector<std::size_t>& nodes, const Dot& dot) { rot(nodes, {{partition, dot}}); }
  void rot(const std::vector<std::size_t>& nodes, const std::map<PartitionId, Dot>& dots) {
    alter(nodes, [&](storage::Engine& engine, rocksdb::WriteBatch& batch) {
      for (const auto& [of, dot] : dots) {
        const auto key = storage::log_key(first_slot(of, options.partitions), dot);
        rocksdb::PinnableSlice row;
        const auto found = engine.get(storage::ColumnFamily::kLog, key.view(), row);
        ASSERT_TRUE(found && *found);
        Bytes value(row.data(), row.size());
        value[value.size() / 2] ^= 1;
        engine.put(batch, storage::ColumnFamily::kLog, key.view(), value);
      }
    });
  }
  Json repair(std::size_t i, Json arguments) {
    auto answer = cluster.admin(i, "repair", arguments);
    EXPECT_TRUE(answer.ok()) << answer.error().text;
    for (int turn = 0; answer && answer->at("busy") == true && turn < 600; ++turn) {
      world.run_for(100ms);
      answer = cluster.admin(i, "repair", Json::object());
    }
    return answer.ok() ? *answer : Json::object();
  }
  Json verify(std::size_t i) {
    const auto answer = cluster.admin(i, "verify", {{"limit", 1024}}, 120s);
    EXPECT_TRUE(answer.ok()) << answer.error().text;
    return answer.ok() ? *answer : Json::object();
  }
  [[nodiscard]] std::string outcome_of(const Json& report) const {
    for (const auto& finding : report.at("findings")) {
      if (finding.at("partition") == partition.value) return finding.at("outcome");
    }
    return "";
  }

  // Changes that some owner of the partition of #g wrote off.
  std::size_t lost_of(const Json& report) const {
    for (const auto& finding : report.at("findings")) {
      if (finding.at("partition") == partition.value) return finding.at("lost").size();
    }
    return 0;
  }

  std::vector<SendIndex> messages;
};

}  // namespace starling::sim
