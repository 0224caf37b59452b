// What the disk lost around a doubling: a bit flips in the row of an upper child, before it, while it is settled, and
// after. It is found, is not mistaken for gone in either child, and comes back from the others.
#include "storage/engine/engine.h"
#include "storage/layout.h"
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

using storage::ColumnFamily;

class DoublingDamage : public Doubling {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubling::SetUp());
    upper = of(slot("#g"), 2 * before()).value % 2 == 1 ? "#g" : sibling;
    bob->close();
    messages = say_both(4, 20'000);
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  // On the disk of c, which is down: of a message to the upper child. Where it lay.
  Slot flip() {
    auto engine = storage::Engine::open({cluster.folder(c) + "/store", cluster.disk(c).env(), false});
    EXPECT_TRUE(engine.ok());
    Bytes found, value;
    {
      storage::Engine::Scan rows(**engine, ColumnFamily::kLog, {});
      for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
        const auto dot = storage::parse_dot_key(rows.key(), sizeof(Slot));
        const auto change = dot ? storage::decode(rows.value(), *dot) : Result<storage::ChangeView>(Error{});
        const bool fits = change && change->kind == storage::ChangeKind::kEntry && change->mailbox == mailbox_of(upper);
        if (!fits || body_hash(change->entry.body) != record(one()).hash) continue;
        found = Bytes(rows.key());
        value = Bytes(rows.value());
      }
    }
    EXPECT_FALSE(found.empty());
    value[value.size() / 2] ^= 1;
    rocksdb::WriteBatch batch;
    (*engine)->put(batch, ColumnFamily::kLog, found, value);
    EXPECT_TRUE((*engine)->write_synced(batch).ok());
    return BytesReader(found).u16be();
  }
  // The second message to the upper child.
  [[nodiscard]] SendIndex one() const { return messages[upper == "#g" ? 2 : 3]; }
  Json repair() {
    auto answer = cluster.admin(c, "repair", {{"start", true}});
    for (int turn = 0; answer && turn < 600; ++turn) {
      if (answer->at("busy") == false && answer->at("damaged") == 0) return *answer;
      world.run_for(100ms);
      answer = cluster.admin(c, "repair", Json::object());
    }
    return answer ? *answer : Json::object();
  }
  // c has it again, and nothing was written off; a device that asks c alone finds it.
  void expect_mended() {
    const Json answer = repair();
    EXPECT_EQ(answer.at("damaged"), 0) << answer;
    EXPECT_EQ(answer.at("lost"), 0) << answer;
    ASSERT_NO_FATAL_FAILURE(settle_all());
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    const auto& store = cluster.store(c);
    EXPECT_TRUE(store.damaged_partitions().empty());
    start(*bob, c);
    all_shown(messages);
  }

  std::string upper;
  std::vector<SendIndex> messages;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingDamage, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(DoublingDamage, BeforeItAndNotFoundYet) {
  ASSERT_TRUE(cluster.stop(c));
  flip();
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  say_both();
  ASSERT_NO_FATAL_FAILURE(expect_mended());
  finish();
}

// Nobody can mend it before the doubling; then it is damaged in both children, and gone in one.
TEST_P(DoublingDamage, BeforeItAndFound) {
  ASSERT_TRUE(cluster.stop(c));
  flip();
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kFetch && m.from == c ? Fate::kLose : Fate::kPass;
  };
  auto& store = cluster.store(c);
  (void)cluster.admin(c, "repair", {{"start", true}});
  ASSERT_TRUE(until([&] { return !store.damaged_partitions().empty(); }, 30s));
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  EXPECT_EQ(store.damaged_partitions().size(), 2u);
  tap.clear();
  ASSERT_NO_FATAL_FAILURE(expect_mended());
  finish();
}

// The row lies under the slot of its parent, and may be of either child.
TEST_P(DoublingDamage, BeforeItsRowHasMoved) {
  cluster.disk(c).on_commit([&](std::uint64_t) {  // In the first commit behind that of the version, or in that.
    if (cluster.partitions(c) == before()) return;
    cluster.disk(c).on_commit(nullptr);
    crash_soon(c, Crash::kProcess);
  });
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return !cluster.up(c); }, 30s));
  EXPECT_EQ(flip(), first_slot(of(slot("#g"), before()), before()));
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  ASSERT_NO_FATAL_FAILURE(expect_mended());
  finish();
}

TEST_P(DoublingDamage, AfterItsRowHasMoved) {
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  ASSERT_NO_FATAL_FAILURE(settle_all());
  ASSERT_TRUE(cluster.stop(c));
  EXPECT_EQ(flip(), first_slot(of(slot(upper), 2 * before()), 2 * before()));
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_NO_FATAL_FAILURE(expect_mended());
  finish();
}

}  // namespace
}  // namespace starling::sim
