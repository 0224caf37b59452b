// Script: who says what, where and when; what `replay` plays.
//
// It comes from a file of JSON lines {"t": seconds, "room", "from", "text"} or from the generator.
// Rooms become groups and speakers become users. A line that begins with the nick of somebody who
// has spoken in the room ("nick: " or "nick, ") is also said to that user directly.
// Thread: value type; pure but for reading the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/result.h"

namespace starling::node::cli {

struct Line {
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  double t = 0;                    // Seconds from the start.
  std::uint32_t room = 0;          // Index into rooms.
  std::uint32_t from = 0;          // Index into speakers.
  std::uint32_t direct = kNobody;  // The speaker who is also told directly.
  std::string text;
};

struct Script {
  std::vector<std::string> rooms;     // "#ubuntu-2008-07-14"
  std::vector<std::string> speakers;  // "@nick"
  std::vector<Line> lines;            // Sorted by t.
  [[nodiscard]] double seconds() const { return lines.empty() ? 0 : lines.back().t; }
};

struct ScriptLimits {
  std::size_t lines = SIZE_MAX;
  std::size_t rooms = SIZE_MAX;  // The busiest ones.
};

// kIo: no such file. kInvalid names the line that is not such an object.
Result<Script> load_script(const std::string& path, const ScriptLimits& limits);
Result<Script> parse_script(View text, const ScriptLimits& limits);

struct GeneratorOptions {
  std::uint64_t seed = 1;
  std::size_t lines = 2'000;
  std::size_t rooms = 12;
  std::size_t speakers = 200;
  double seconds = 600;
};
// A made-up conversation shaped like a real one: few rooms and speakers say most of it (Zipf),
// sizes are log-normal (median 47 bytes, 99 % under 308, at most 4 KB), people answer each other in
// bursts, and some write in other scripts.
Script generate_script(const GeneratorOptions& options);

// A name with the characters that addresses do not allow written as "~hh", and "~" itself as well,
// so that different names stay different. `unescape_name` is the way back.
std::string escape_name(View name);
std::string unescape_name(View name);

}  // namespace starling::node::cli
