// Random: the one source of chance, injected, so that a simulation is a function of its seed.
//
// Thread: one loop per object.
#pragma once

#include <cstdint>
#include <span>

namespace starling {

class Random {
 public:
  virtual ~Random() = default;
  // Fills `out` with unpredictable bytes (predictable only in a simulation).
  virtual void fill(std::span<std::uint8_t> out) = 0;

  std::uint64_t u64() {
    std::uint64_t v = 0;
    fill({reinterpret_cast<std::uint8_t*>(&v), sizeof v});
    return v;
  }
  // Uniform in [0, bound). REQUIRES: bound > 0. The bias of the modulo is under 2^-32 for bounds
  // below 2^32, which is all that callers use.
  std::uint64_t below(std::uint64_t bound) { return u64() % bound; }
  // Uniform in [0, 1).
  double unit() { return static_cast<double>(u64() >> 11) * 0x1.0p-53; }
};

// The kernel's generator through libsodium.
class SystemRandom final : public Random {
 public:
  void fill(std::span<std::uint8_t> out) override;
};

// xoshiro256** (Blackman and Vigna 2018) from one seed: for simulation, workloads and tests only.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed);
  void fill(std::span<std::uint8_t> out) override;

 private:
  std::uint64_t next();
  std::uint64_t state_[4];
};

}  // namespace starling
