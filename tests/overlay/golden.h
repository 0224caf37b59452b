// Frozen bytes: tests/golden/<name>.hex, decoded for ever.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "crypto/text.h"

namespace starling::overlay {

// The whole file, without the end of its last line.
inline std::string golden_text(const std::string& file_name) {
  const char* folder = std::getenv("STARLING_GOLDEN");
  std::ifstream file(std::string(folder != nullptr ? folder : "tests/golden") + "/" + file_name);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(text.empty()) << "no golden file " << file_name;
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

// White space in the file is for people.
inline Bytes golden(const std::string& name) {
  std::string text = golden_text(name + ".hex");
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  const auto bytes = parse_hex(text);
  EXPECT_TRUE(bytes.ok() && !bytes->empty()) << "no golden file " << name;
  return bytes.ok() ? *bytes : Bytes();
}

// Bytes that count up from `from`.
template <class T>
T golden_id(std::uint8_t from) {
  T out;
  for (auto& byte : out.raw) byte = from++;
  return out;
}

}  // namespace starling::overlay
