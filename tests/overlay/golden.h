// Frozen bytes: tests/golden/<name>.hex, decoded for ever.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "crypto/text.h"

namespace starling::overlay {

// White space in the file is for people.
inline Bytes golden(const std::string& name) {
  const char* folder = std::getenv("STARLING_GOLDEN");
  std::ifstream file(std::string(folder != nullptr ? folder : "tests/golden") + "/" + name +
                     ".hex");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  const auto bytes = parse_hex(text);
  EXPECT_TRUE(bytes.ok() && !bytes->empty()) << "no golden file " << name;
  return bytes.ok() ? *bytes : Bytes();
}

}  // namespace starling::overlay
