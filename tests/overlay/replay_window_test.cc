#include "overlay/gossip/replay_window.h"

#include <gtest/gtest.h>

#include <set>

#include "crypto/random.h"

namespace starling::overlay {
namespace {

constexpr std::uint64_t kWindow = ReplayWindow::kWindow;

TEST(ReplayWindow, AcceptsEachNumberOnceInAnyOrder) {
  ReplayWindow window;
  for (std::uint64_t n : {5u, 1u, 3u, 64u, 63u, 65u, 2u}) {
    EXPECT_TRUE(window.accept(n)) << n;
    EXPECT_FALSE(window.accept(n)) << n;
  }
  EXPECT_FALSE(window.accept(0)) << "counters begin at 1";
}

TEST(ReplayWindow, RefusesWhatIsTooOldToTell) {
  ReplayWindow window;
  EXPECT_TRUE(window.accept(10'000));
  EXPECT_FALSE(window.accept(10'000 - kWindow));
  EXPECT_TRUE(window.accept(10'000 - kWindow + 1));
  EXPECT_FALSE(window.accept(1));
}

TEST(ReplayWindow, AJumpForgetsNothingItStillCovers) {
  ReplayWindow window;
  EXPECT_TRUE(window.accept(100));
  EXPECT_TRUE(window.accept(100 + kWindow - 1));
  EXPECT_FALSE(window.accept(100));
  EXPECT_TRUE(window.accept(101));
  EXPECT_TRUE(window.accept(ReplayWindow::kJumpMax));
  EXPECT_FALSE(window.accept(ReplayWindow::kJumpMax));
  EXPECT_FALSE(window.accept(101));
}

TEST(ReplayWindow, RefusesAJumpThatNoSenderMakes) {
  ReplayWindow window;
  EXPECT_FALSE(window.accept(~std::uint64_t{0}));
  EXPECT_TRUE(window.accept(7));
  EXPECT_FALSE(window.accept(8 + ReplayWindow::kJumpMax));
  EXPECT_EQ(window.newest(), 7u);
  EXPECT_TRUE(window.accept(8));
}

TEST(ReplayWindow, AgreesWithASetOnRandomTraffic) {
  ReplayWindow window;
  SeededRandom random(3);
  std::set<std::uint64_t> seen;
  std::uint64_t newest = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t base = newest + random.below(random.below(50) == 0 ? 3'000 : 4);
    const std::uint64_t back = random.below(1'200);
    const std::uint64_t n = base > back && random.below(2) == 0 ? base - back : base;
    const bool fresh = n > 0 && (n > newest || newest - n < kWindow) && !seen.contains(n);
    ASSERT_EQ(window.accept(n), fresh) << n << " after " << newest;
    if (fresh) seen.insert(n);
    newest = std::max(newest, fresh ? n : 0);
  }
}

}  // namespace
}  // namespace starling::overlay
