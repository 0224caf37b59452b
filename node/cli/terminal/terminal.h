// Terminal: text of strangers made safe to print, colours, and asking for a password.
//
// Thread: any; asking blocks.
#pragma once

#include <string>

#include "crypto/bytes.h"
#include "crypto/result.h"

namespace starling::node::cli {

// Valid UTF-8 without control characters (also C1 and those that turn the direction of text):
// nobody can move our cursor or fake our lines. Line breaks become "\n  " when `lines`, else
// spaces.
std::string printable(View text, bool lines);

// The name in a colour of its own, the same in every run; plain without `colour`.
std::string coloured_name(const std::string& name, bool colour);
std::string dim(const std::string& text, bool colour);

std::string clock_text(std::int64_t wall_ms);  // "14:03:07", local time.

// Reads a line from the terminal without echo. kUnauthenticated when there is no terminal.
Result<std::string> ask_password(const std::string& prompt);

}  // namespace starling::node::cli
