// Story: everything that a history says about some messages, in the order of time.
//
// For a second reading of the files, once a Checker has named what is wrong.
// Thread: value type, pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "node/check/checker.h"

namespace starling::node::check {

inline constexpr std::size_t kStoryLinesMax = 20;  // Of a message; the last line counts the rest.

class Story {
 public:
  explicit Story(const std::vector<MessageName>& messages);
  // REQUIRES: a Checker took it.
  void feed(const Event& event);
  // "+1.204331 s  @bob/phone shows it at 01K3..."
  [[nodiscard]] std::vector<std::string> of(const MessageName& message) const;

 private:
  struct Line {
    std::int64_t us = 0;  // On the wall.
    std::string text;
  };
  struct Lines {
    std::vector<Line> kept;
    std::size_t more = 0;
  };
  struct Device {
    std::string text;
    DeviceId id;
  };
  std::int64_t started_us_ = 0;
  std::map<std::uint32_t, Device> devices_;  // Of the file at hand.
  std::map<MessageName, Lines> lines_;
};

}  // namespace starling::node::check
