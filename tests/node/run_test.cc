// starling run when it cannot: each cause has its own words and next step.
#include <sys/socket.h>
#include <sys/stat.h>
#include <netinet/in.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/cli/commands.h"
#include "storage/engine/engine.h"
#include "tests/temp_folder.h"

namespace starling::node::cli {
namespace {

using ::testing::HasSubstr;

class RunTest : public ::testing::Test {
 protected:
  // The exit code and what it complained of.
  std::string run(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"run",    "--data",      folder_,   "--client",    "127.0.0.1:0",
                                      "--link", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level",
                                      "off"};
    for (std::size_t i = 0; i + 1 < more.size(); i += 2) {
      const auto at = std::find(words.begin(), words.end(), more[i]);
      if (at == words.end()) {
        words.insert(words.end(), {more[i], more[i + 1]});
      } else {
        *(at + 1) = more[i + 1];
      }
    }
    ::testing::internal::CaptureStderr();
    const int code = run_command_line(all_commands(), words, [](auto&) { return nullptr; });
    return std::to_string(code) + " " + ::testing::internal::GetCapturedStderr();
  }

  const TempFolder temp_;
  const std::string& folder_ = temp_.path();
};

// A port that somebody else listens on.
class TakenPort {
 public:
  TakenPort() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd_, 1) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      ADD_FAILURE() << "no port to take";
    }
    text_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~TakenPort() { ::close(fd_); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  int fd_;
  std::string text_;
};

TEST_F(RunTest, NamesThePortThatIsTaken) {
  const TakenPort taken;
  for (const char* door : {"--client", "--link", "--admin"}) {
    const std::string said = run({door, taken.text()});
    EXPECT_THAT(said, ::testing::StartsWith("1 starling: cannot start: ")) << door;
    EXPECT_THAT(said, HasSubstr(taken.text())) << door;
    EXPECT_THAT(said, HasSubstr("port 0")) << door;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/addresses.json")) << door;
  }
}

TEST_F(RunTest, LeavesFoldersOfOthersAlone) {
  std::ofstream(folder_ + "/thesis.tex") << "precious";
  EXPECT_THAT(run(), AllOf(::testing::StartsWith("1 "), HasSubstr("something else")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(RunTest, RefusesAFolderOfANewerFormat) {
  {
    auto engine = storage::Engine::open({.path = folder_ + "/store"});
    ASSERT_TRUE(engine.ok()) << engine.error().text;
    Bytes number;
    BytesWriter(number).u64le(4711);
    rocksdb::WriteBatch batch;
    (*engine)->put(batch, storage::ColumnFamily::kNode, storage::kNodeFormat, number);
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
  }
  EXPECT_THAT(run(), AllOf(::testing::StartsWith("1 "), HasSubstr("format 4711"), HasSubstr("newer")));
}

TEST_F(RunTest, SaysWhenTheDiskIsFull) {
  EXPECT_THAT(run({"--free-space-min", "1073741824"}),
              AllOf(::testing::StartsWith("1 "), HasSubstr("--free-space-min")));
}

TEST_F(RunTest, AFolderInUseIsNotOpenedTwice) {
  auto engine = storage::Engine::open({.path = folder_ + "/store"});
  ASSERT_TRUE(engine.ok()) << engine.error().text;
  EXPECT_THAT(run(), ::testing::StartsWith("1 starling: cannot start: "));
}

// Keys, hashes of passwords and messages lie in it, whoever made it and with which umask.
TEST_F(RunTest, WhatANodeWritesIsForItsUserOnly) {
  ::umask(022);
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  const TakenPort taken;
  run({"--admin", taken.text()});  // It ends when everything is written.
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms(077), std::filesystem::perms::none) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 3u);
  EXPECT_EQ(std::filesystem::status(folder_).permissions(), std::filesystem::perms(0700));
}

TEST_F(RunTest, AFileIsNoFolder) {
  std::ofstream(folder_ + "/file") << "x";
  EXPECT_THAT(run({"--data", folder_ + "/file"}), AllOf(::testing::StartsWith("1 "), HasSubstr("--data")));
}

}  // namespace
}  // namespace starling::node::cli
