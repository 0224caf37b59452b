// What the user's commands rest on: the state file, safe text, the progress line, bench stamps.
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "node/cli/chat/state_file.h"
#include "node/cli/load/pacer.h"
#include "node/cli/load/process_use.h"
#include "node/cli/load/stamp.h"
#include "node/cli/terminal/progress.h"
#include "node/cli/terminal/terminal.h"
#include "overlay/loop/uv_loop.h"
#include "tests/temp_folder.h"

namespace starling::node::cli {
namespace {

class StateFileTest : public ::testing::Test {
 protected:
  const TempFolder folder_;
  const std::string path_ = folder_.path() + "/deep/alice.msgpack";
};

TEST_F(StateFileTest, GivesBackWhatWasSaved) {
  auto file = StateFile::open(path_);
  ASSERT_TRUE(file.ok()) << file.error().text;
  EXPECT_EQ(file->load().code(), Errc::kNotFound);
  ClientState state;
  state.user = "@alice";
  state.device = "cli-1";
  state.lanes.push_back({"@bob", 4, true, "floor", {{Blob{"open"}, 1, 0, 1}}});
  state.cursors.push_back({"@alice", {}});
  state.cursors[0].cursor.raise(WriterId{3}, 9);
  ASSERT_TRUE(file->save(state).ok());
  const auto loaded = file->load();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(pack(*loaded), pack(state));
}

TEST_F(StateFileTest, HasOneOwnerAtATime) {
  auto first = StateFile::open(path_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(StateFile::open(path_).code(), Errc::kOverloaded);
  { const StateFile moved = std::move(*first); }
  EXPECT_TRUE(StateFile::open(path_).ok()) << "the lock goes with its owner";
}

TEST_F(StateFileTest, IsPrivateAndSaysWhenItIsDamaged) {
  auto file = StateFile::open(path_);
  ASSERT_TRUE(file->save(ClientState{}).ok());
  const auto mode = std::filesystem::status(path_).permissions();
  EXPECT_EQ(mode & std::filesystem::perms::others_all, std::filesystem::perms::none);
  EXPECT_EQ(mode & std::filesystem::perms::group_all, std::filesystem::perms::none);
  std::ofstream(path_) << "not msgpack";
  EXPECT_EQ(file->load().code(), Errc::kCorrupt);
}

TEST(Printable, TakesEverythingThatCouldMoveTheCursor) {
  EXPECT_EQ(printable("a\033[2Jb", false), "a\uFFFD[2Jb");
  EXPECT_EQ(printable("\x9b", false), "\uFFFD");
  EXPECT_EQ(printable("x\xC2\x9by", false), "x\uFFFDy") << "C1 as UTF-8";
  EXPECT_EQ(printable("a\u202Eb\u2066c", false), "a\uFFFDb\uFFFDc");
  EXPECT_EQ(printable("a\r\nb\tc", false), "a b c");
  EXPECT_EQ(printable("a\nb", true), "a\n  b");
  EXPECT_EQ(printable("grüße 你好 👩‍👩‍👧", false), "grüße 你好 👩‍👩‍👧");
  EXPECT_EQ(printable("\xff\xfe", false), "\uFFFD\uFFFD");
}

TEST(ColouredName, IsTheSameForTheSameNameAndPlainWhenAsked) {
  EXPECT_EQ(coloured_name("@a", true), coloured_name("@a", true));
  EXPECT_EQ(coloured_name("@a", false), "@a");
  EXPECT_TRUE(coloured_name("@a", true).ends_with("\033[0m"));
}

TEST(ProgressLine, SaysHowFarAndHowLongStill) {
  const std::string half = progress_line(0.5, "sent 10", 10s, 200);
  EXPECT_TRUE(half.starts_with("[############------------]  50 %  sent 10")) << half;
  EXPECT_NE(half.find("10 s left"), std::string::npos) << half;
  EXPECT_EQ(progress_line(0, "x", 10s, 200).find("left"), std::string::npos);
  EXPECT_EQ(progress_line(2.0, "x", 10s, 200).find("101"), std::string::npos);
  EXPECT_EQ(progress_line(0.5, "long text", 10s, 20).size(), 20u);
  // The bar gives way first, then the text: how long it takes is what people look for.
  const std::string narrow = progress_line(0.5, std::string(60, 'x'), 10s, 60);
  EXPECT_EQ(narrow.size(), 60u);
  EXPECT_TRUE(narrow.starts_with("[####----]  50 %  xxx")) << narrow;
  EXPECT_TRUE(narrow.ends_with("x  ~10 s left")) << narrow;
}

TEST(Stamp, IsCarriedAndShowsAlteredBytes) {
  const Stamp stamp{Instant{Duration(123'456'789)}, 7, 41};
  for (const std::size_t size : {16u, 17u, 100u, 4096u}) {
    const Bytes body = stamped_body(stamp, size);
    EXPECT_EQ(body.size(), size);
    const auto read = read_stamp(body);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->due, stamp.due);
    EXPECT_EQ(read->sender, stamp.sender);
    EXPECT_EQ(read->number, stamp.number);
    for (std::size_t at = kBenchPayloadMin; at < size; ++at) {
      Bytes altered = body;
      altered[at] ^= 1;
      ASSERT_FALSE(read_stamp(altered)) << size << " " << at;
    }
  }
  EXPECT_FALSE(read_stamp("short"));
}

TEST(Pacer, SaysEverySendOfTheScheduleAndHowLateItIs) {
  overlay::UvLoop loop;
  Pacer pacer(loop.uv());
  const Instant start = Pacer::clock();
  std::vector<Instant> due;
  pacer.start(1000, [&](std::uint64_t number, Instant at) {
    EXPECT_EQ(number, due.size());
    EXPECT_LE(at, Pacer::clock());
    due.push_back(at);
    if (due.size() < 50) return;
    pacer.stop();
    loop.stop();
  });
  loop.run();
  ASSERT_EQ(due.size(), 50u);
  EXPECT_EQ(due[49] - due[0], 49ms);
  EXPECT_GE(Pacer::clock() - start, 49ms);
  EXPECT_EQ(pacer.lateness().count(), 50u);
}

TEST(ProcessUse, OfThisProcessIsNotNothing) {
  EXPECT_GT(own_use().rss, 1u << 20);
  EXPECT_FALSE(use_of(0));
  EXPECT_FALSE(use_of(-1));
}

}  // namespace
}  // namespace starling::node::cli
