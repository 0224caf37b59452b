// The fixture of the operator's commands: a node that answers from a script, over a real socket.
// Thread: the test's; the node has one of its own.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "node/admin/admin_door.h"
#include "node/cli/commands.h"
#include "overlay/loop/uv_transport.h"
#include "tests/temp_folder.h"

namespace starling::node::cli {

class AdminCliTest : public ::testing::Test {
 protected:
  struct Output {
    int code;
    std::string out;
    std::string err;
  };

  void SetUp() override {
    thread_ = std::thread([this] { serve(); });
    while (!std::filesystem::exists(folder_ + "/ready")) std::this_thread::yield();
  }
  void TearDown() override {
    loop_->stop();
    thread_.join();
  }

  void serve() {
    overlay::UvLoop loop;
    overlay::UvTransport transport(loop);
    loop_ = &loop;
    AdminHooks hooks;
    hooks.metrics = [] { return std::string(); };
    hooks.ready = [] { return true; };
    hooks.call = [this](const std::string& method, const Json& arguments, AdminDone done) {
      calls_.push_back(method + " " + arguments.dump());
      auto answer = answers_.find(method);
      if (answer == answers_.end()) return done(Error{Errc::kUnsupported, "no method " + method});
      if (answer->second.empty()) return;  // Never answers.
      if (answer->second.size() == 1) return done(answer->second[0]);
      const Result<Json> next = answer->second.front();
      answer->second.erase(answer->second.begin());
      done(next);
    };
    auto door = AdminDoor::open(loop, transport, {"127.0.0.1", 0},
                                {"unix:" + folder_ + "/admin.sock", 0}, std::move(hooks));
    EXPECT_TRUE(door.ok()) << door.error().text;
    auto ready = loop.after(0ms, [this] { std::filesystem::create_directory(folder_ + "/ready"); });
    loop.run();
  }

  Output run(std::vector<std::string> words) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Output output{};
    output.code = run_command_line(all_commands(), words, [this](const std::string& name) {
      return name == "STARLING_DATA" ? folder_.c_str() : nullptr;
    });
    output.out = ::testing::internal::GetCapturedStdout();
    output.err = ::testing::internal::GetCapturedStderr();
    return output;
  }

  const TempFolder temp_;
  const std::string& folder_ = temp_.path();
  std::thread thread_;
  // Set before the loop's thread uses them: a command is over when its answer has come.
  overlay::UvLoop* loop_ = nullptr;
  std::map<std::string, std::vector<Result<Json>>> answers_;
  std::vector<std::string> calls_;
};

}  // namespace starling::node::cli
