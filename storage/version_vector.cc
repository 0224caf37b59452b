#include "storage/version_vector.h"

#include <algorithm>

#include <xxhash.h>

#include "crypto/bytes.h"

namespace starling::storage {
namespace {

bool before(const Dot& dot, WriterId writer) { return dot.writer < writer; }

}  // namespace

std::uint64_t VersionVector::get(WriterId writer) const {
  const auto it = std::lower_bound(dots_.begin(), dots_.end(), writer, before);
  return it != dots_.end() && it->writer == writer ? it->n : 0;
}

bool VersionVector::covers(const VersionVector& other) const {
  return std::all_of(other.dots_.begin(), other.dots_.end(),
                     [this](const Dot& dot) { return covers(dot); });
}

void VersionVector::raise(WriterId writer, std::uint64_t n) {
  if (n == 0) return;  // Unknown and 0 are the same; only one of them has bytes.
  const auto it = std::lower_bound(dots_.begin(), dots_.end(), writer, before);
  if (it != dots_.end() && it->writer == writer) {
    it->n = std::max(it->n, n);
  } else {
    dots_.insert(it, Dot{writer, n});
  }
}

void VersionVector::merge(const VersionVector& other) {
  if (other.dots_.empty()) return;
  std::vector<Dot> all;
  all.reserve(dots_.size() + other.dots_.size());
  std::merge(dots_.begin(), dots_.end(), other.dots_.begin(), other.dots_.end(),
             std::back_inserter(all));
  assign_sorted(all);
}

void VersionVector::assign(std::vector<Dot> dots) {
  std::sort(dots.begin(), dots.end());
  assign_sorted(dots);
}

// Of each writer the last dot is the largest.
void VersionVector::assign_sorted(const std::vector<Dot>& dots) {
  dots_.clear();
  dots_.reserve(dots.size());
  for (const Dot& dot : dots) {
    if (dot.n == 0) continue;
    if (!dots_.empty() && dots_.back().writer == dot.writer) {
      dots_.back().n = dot.n;
    } else {
      dots_.push_back(dot);
    }
  }
}

std::uint64_t VersionVector::digest() const {
  Bytes bytes;
  bytes.reserve(dots_.size() * 16);
  BytesWriter out(bytes);
  for (const Dot& dot : dots_) {
    out.u64le(dot.writer.value);
    out.u64le(dot.n);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace starling::storage
