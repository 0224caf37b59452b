// Zipf: who is how busy, in a population where a few do most.
// Thread: any; pure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "crypto/random.h"

namespace starling::node::cli {

// Draws 0..n-1 so that rank r has weight 1 / (r + 1)^s.
class Zipf {
 public:
  Zipf(std::size_t n, double s) {
    double total = 0;
    for (std::size_t i = 0; i < n; ++i) {
      total += 1.0 / std::pow(static_cast<double>(i + 1), s);
      sums_.push_back(total);
    }
  }
  std::size_t draw(Random& random) const {
    const double at = random.unit() * sums_.back();
    const auto it = std::upper_bound(sums_.begin(), sums_.end(), at);
    return std::min(static_cast<std::size_t>(it - sums_.begin()), sums_.size() - 1);
  }

 private:
  std::vector<double> sums_;
};

}  // namespace starling::node::cli
