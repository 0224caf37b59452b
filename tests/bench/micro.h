// Micro: one hot path of a node, alone, on tiny input: timed by hand, counted by callgrind, and run
// once by the suite so that it stays alive.
//
// prepare() builds the input and returns the operation. An operation checks its own result: a path
// that fails quickly would look fast. What it needs again and again it makes in rounds: `times`
// operations are asked for at once. Thread: one.
#pragma once

#include <functional>
#include <vector>

namespace starling::bench {

struct Micro {
  using Operation = std::function<void(std::size_t times)>;
  const char* name;
  std::size_t counted;  // Operations under callgrind; a multiple of the round.
  std::function<Operation()> prepare;
};

std::vector<Micro> codec_micros();  // Frames and bodies.
std::vector<Micro> state_micros();  // Vectors, clocks, the ring, tokens.
std::vector<Micro> store_micros();
std::vector<Micro> link_micros();

// Ends the program.
[[noreturn]] void failed(const char* what);
inline void require(bool good, const char* what) {
  if (!good) failed(what);
}

}  // namespace starling::bench
