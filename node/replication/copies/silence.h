// Silence: how long a peer that is taken for alive, and answers nothing, may hold up what waits for everybody.
//
// What is needed to be safe is counted by other rules (vouchers.h). To wait for all who are there brings home more
// than that, and may not last for ever: one of them may be unable to answer.
// Thread: value type; pure.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "crypto/result.h"
#include "overlay/loop/clock.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr Duration kSilencePatience = 60s;

class Silence {
 public:
  void answers(const NodeId& peer) { silent_.erase(peer); }
  // True while it is to be waited for.
  bool is_silent(const NodeId& peer, Instant now, const Error& why) {
    auto& silent = silent_.try_emplace(peer, Silent{now, {}}).first->second;
    silent.why = why.text;
    return now - silent.since <= kSilencePatience;
  }
  void clear() { silent_.clear(); }
  // Who is not there any more is not waited for, and begins anew when it comes back.
  void keep_only(const std::vector<NodeId>& there) {
    std::erase_if(silent_, [&](const auto& silent) {
      return std::find(there.begin(), there.end(), silent.first) == there.end();
    });
  }
  // Who it is, and why; empty when all answer.
  [[nodiscard]] std::string text() const {
    if (silent_.empty()) return "";
    const auto& [peer, silent] = *silent_.begin();
    return "node " + short_text(peer) + " is alive and gives no answer that counts: " + silent.why;
  }

 private:
  struct Silent {
    Instant since{};
    std::string why;
  };
  std::map<NodeId, Silent> silent_;
};

}  // namespace starling::node
