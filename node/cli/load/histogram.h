// Histogram: many latencies in little room, with percentiles that are off by less than 1 %.
//
// Log-linear, as HdrHistogram: below 128 every value has its own bucket; above, every power of two is
// cut into 64 equal parts. Recording is a shift and an increment. Histograms add up.
// Invariant: percentile(p) is at least the exact one and less than 1/64 above it; max() is exact.
// Thread: value type.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace starling::node::cli {

class Histogram {
 public:
  static constexpr std::uint64_t kLinear = 128;  // Also twice the parts of a power of two.
  static constexpr std::size_t kBuckets = kLinear + (64 - 7) * (kLinear / 2);

  void record(std::uint64_t value) {
    if (buckets_.empty()) buckets_.resize(kBuckets);
    ++buckets_[index_of(value)];
    ++count_;
    sum_ += static_cast<double>(value);
    max_ = std::max(max_, value);
    min_ = std::min(min_, value);
  }
  void merge(const Histogram& other) {
    if (other.count_ == 0) return;
    if (buckets_.empty()) buckets_.resize(kBuckets);
    for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    max_ = std::max(max_, other.max_);
    min_ = std::min(min_, other.min_);
  }

  // The value that `p` percent of the records do not exceed; 0 without records.
  [[nodiscard]] std::uint64_t percentile(double p) const {
    if (count_ == 0) return 0;
    const auto rank = static_cast<std::uint64_t>(
        std::max(1.0, std::ceil(p / 100.0 * static_cast<double>(count_))));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen >= rank) return std::min(highest_in(i), max_);
    }
    return max_;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  [[nodiscard]] std::uint64_t min() const { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] double mean() const {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
  }

 private:
  static std::size_t index_of(std::uint64_t value) {
    if (value < kLinear) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 7;  // 1..57
    return static_cast<std::size_t>(kLinear + (shift - 1) * (kLinear / 2) + (value >> shift) -
                                    kLinear / 2);
  }
  static std::uint64_t highest_in(std::size_t index) {
    if (index < kLinear) return index;
    const std::uint64_t above = index - kLinear;
    const std::uint64_t shift = above / (kLinear / 2) + 1;
    const std::uint64_t part = above % (kLinear / 2) + kLinear / 2;
    return ((part + 1) << shift) - 1;  // The topmost wraps to the largest number, as it should.
  }

  std::vector<std::uint64_t> buckets_;  // Empty until the first record.
  std::uint64_t count_ = 0;
  double sum_ = 0;
  std::uint64_t max_ = 0;
  std::uint64_t min_ = UINT64_MAX;
};

}  // namespace starling::node::cli
