// The canonical export: equal for replicas that hold the same, different otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/storage/support.h"
#include "storage/export.h"

namespace starling::storage {
namespace {

using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::reg;
using testing::StoreBox;

constexpr std::uint64_t kDay = 86'400'000;

struct Exported {
  VersionVector vector;
  std::vector<Bytes> rows;
  Export::Digest digest{};
};
Exported export_of(StoreBox& box, std::uint64_t cutoff_ms = 0) {
  const auto out = box.store->export_partition(box.store->partition_of(kAlice), cutoff_ms);
  Exported all;
  all.vector = out->vector();
  while (true) {
    auto row = out->next();
    EXPECT_TRUE(row.ok()) << row.error().text;
    if (!row || !*row) break;
    all.rows.push_back(**row);
  }
  all.digest = out->digest();
  return all;
}

class StoreExport : public ::testing::Test {
 protected:
  StoreExport() {
    one.open();
    two.open();
  }
  void put(StoreBox& to, const Dot& dot, const ChangeView& change) {
    const auto done =
        to.store->apply(to.store->partition_of(change.mailbox), dot, encode(change, dot));
    ASSERT_TRUE(done.ok()) << done.error().text;
    to.sync();
  }
  StoreBox one, two;
};

TEST_F(StoreExport, HasKeysRegistersAndLanesOfThePartitionAndItsVector) {
  put(one, {WriterId{1}, 1}, entry(kAlice, 1, 10));
  put(one, {WriterId{1}, 2}, entry(kBob, 1, 11));
  put(one, {WriterId{1}, 3}, reg(kAlice, "k", "v", 12));
  put(one, {WriterId{1}, 1}, entry(kCarol, 1, 13));  // Another partition.
  const auto out = export_of(one);
  ASSERT_EQ(out.rows.size(), 5u);
  EXPECT_EQ(out.rows[0][0], 1);
  EXPECT_EQ(out.rows[2][0], 2);
  EXPECT_EQ(out.rows[4][0], 3);
  EXPECT_EQ(out.vector, one.store->vector(one.store->partition_of(kAlice)));
}

TEST_F(StoreExport, KeepsItsBytesForever) {
  put(one, {WriterId{1}, 1}, entry(kAlice, 1, 10, "hi"));
  put(one, {WriterId{1}, 2}, reg(kAlice, "k", "v", 12));
  const auto out = export_of(one);
  std::string text;
  for (const auto& row : out.rows) text += hex(row) + "/";
  text += hex({reinterpret_cast<const char*>(out.digest.data()), out.digest.size()});
  EXPECT_EQ(text, testing::read_golden("export"));
}

TEST_F(StoreExport, DoesNotDependOnTheOrderOfArrivalNorOnWhoWroteACopy) {
  put(one, {WriterId{1}, 1}, entry(kAlice, 1, 10));
  put(one, {WriterId{2}, 1}, entry(kAlice, 1, 20));  // A second copy of the key.
  put(one, {WriterId{2}, 2}, closing(kAlice, 2, 30));
  put(one, {WriterId{1}, 2}, entry(kAlice, 2, 15));
  put(two, {WriterId{2}, 1}, entry(kAlice, 1, 20));
  put(two, {WriterId{2}, 2}, closing(kAlice, 2, 30));
  put(two, {WriterId{1}, 1}, entry(kAlice, 1, 10));
  put(two, {WriterId{1}, 2}, entry(kAlice, 2, 15));
  const auto a = export_of(one), b = export_of(two);
  EXPECT_EQ(a.vector, b.vector);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.digest, b.digest);
}

TEST_F(StoreExport, ShowsEveryDifference) {
  const auto base = entry(kAlice, 1, 10, "one");
  const auto digest_with = [&](const ChangeView& change) {
    StoreBox box;
    box.open();
    put(box, {WriterId{1}, 1}, base);
    put(box, {WriterId{1}, 2}, change);
    return export_of(box).digest;
  };
  auto renamed = entry(kAlice, 2, 11, "two");
  renamed.entry.key.device = testing::device(9);
  std::set<Export::Digest> digests;
  const std::vector<ChangeView> others = {
      entry(kAlice, 2, 11, "two"), entry(kAlice, 2, 12, "two"), entry(kAlice, 2, 11, "TWO"),
      closing(kAlice, 2, 11),      renamed,                     entry(kBob, 2, 11, "two"),
      reg(kAlice, "k", "v", 11),   reg(kAlice, "k", "w", 11),   reg(kAlice, "l", "v", 11),
      reg(kAlice, "k", "v", 12),   closing(kAlice, 1, 11)};
  for (const auto& change : others) digests.insert(digest_with(change));
  EXPECT_EQ(digests.size(), others.size());
}

TEST_F(StoreExport, LeavesOutWhatIsExpiredAtTheCutOffErasedOrNot) {
  for (StoreBox* box : {&one, &two}) {
    for (std::uint64_t n = 1; n <= 4; ++n) {
      auto change = entry(kAlice, n, n);
      change.entry.expires_ms = n * kDay;
      put(*box, {WriterId{1}, n}, change);
    }
  }
  EXPECT_EQ(export_of(one).rows.size(), 5u);
  EXPECT_EQ(export_of(one, 2 * kDay).rows.size(), 3u);
  two.store->set_expiry_time(2 * kDay);
  two.close_cleanly();
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(2 * kDay);
  two.compact(expiry);
  two.open();
  EXPECT_EQ(export_of(one, 2 * kDay).digest, export_of(two, 2 * kDay).digest);
  EXPECT_NE(export_of(one).digest, export_of(two).digest);
}

TEST_F(StoreExport, IsOfOneMomentWhateverIsWrittenMeanwhile) {
  put(one, {WriterId{1}, 1}, entry(kAlice, 1, 10));
  const auto before = export_of(one);
  const auto out = one.store->export_partition(one.store->partition_of(kAlice), 0);
  put(one, {WriterId{1}, 2}, entry(kAlice, 2, 11));
  put(one, {WriterId{1}, 3}, reg(kAlice, "k", "v", 11));
  std::size_t rows = 0;
  while (*out->next()) ++rows;
  EXPECT_EQ(rows, before.rows.size());
  EXPECT_EQ(out->digest(), before.digest);
  EXPECT_EQ(out->vector(), before.vector);
}

TEST_F(StoreExport, ARowThatCannotBeReadIsSaid) {
  put(one, {WriterId{1}, 1}, entry(kAlice, 1, 10));
  one.close_cleanly();
  one.tamper(ColumnFamily::kKeys, 0, [](Bytes& value) { value.pop_back(); });
  one.open();
  const auto out = one.store->export_partition(one.store->partition_of(kAlice), 0);
  EXPECT_EQ(out->next().code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::storage
