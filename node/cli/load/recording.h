// Recording: what `replay` and `bench` say about their run, to a Checker at once and, with --record,
// to a file for `starling check`.
//
// Thread: the loop's.
#pragma once

#include <optional>
#include <string>

#include "node/check/checker.h"
#include "node/check/recorder.h"

namespace starling::node::cli {

class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  // Before anything else. An empty path writes no file.
  Status open(const std::string& cluster, const std::string& by, const std::string& path);
  // Whether the Checker took everything and the file has it.
  Status close();

  [[nodiscard]] check::Recorder& recorder() { return *recorder_; }
  [[nodiscard]] const check::Checker& checker() const { return checker_; }

 private:
  check::Checker checker_;
  check::HistoryWriter writer_;
  Status state_ = ok_status();  // The first error.
  std::optional<check::Recorder> recorder_;
};

}  // namespace starling::node::cli
