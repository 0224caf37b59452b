// Names as people type them: a bare word means a user, or a group where only groups are asked for.
#pragma once

#include <string>

namespace starling::node::cli {

inline std::string user_name(const std::string& text) { return text.starts_with('@') ? text : "@" + text; }
inline std::string group_name(const std::string& text) { return text.starts_with('#') ? text : "#" + text; }
// "@alice", "#ops", or a bare word for a user.
inline std::string address_name(const std::string& text) {
  return text.starts_with('#') ? text : user_name(text);
}

}  // namespace starling::node::cli
