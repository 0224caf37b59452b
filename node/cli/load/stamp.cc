#include "node/cli/load/stamp.h"

namespace starling::node::cli {
namespace {

constexpr unsigned kLettersPerDraw = 10;  // Six bits each.

// Calls `put` with the letters of the filler, in order, until it says no.
template <class Put>
void filler(const Stamp& stamp, Put put) {
  auto state = static_cast<std::uint64_t>(stamp.due.time_since_epoch().count()) << 8 | 1;
  state ^= stamp.sender ^ static_cast<std::uint64_t>(stamp.number) << 32;
  while (true) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    for (unsigned i = 0; i < kLettersPerDraw; ++i) {
      if (!put(static_cast<char>('0' + (state >> (6 * i)) % 64))) return;
    }
  }
}

}  // namespace

Bytes stamped_body(const Stamp& stamp, std::size_t size) {
  Bytes body;
  body.reserve(size);
  BytesWriter out(body);
  out.u64le(static_cast<std::uint64_t>(stamp.due.time_since_epoch().count()));
  out.u32le(stamp.sender);
  out.u32le(stamp.number);
  filler(stamp, [&](char letter) {
    if (body.size() >= size) return false;
    body.push_back(letter);
    return true;
  });
  return body;
}

std::optional<Stamp> read_stamp(View body) {
  BytesReader in(body);
  const auto due = static_cast<std::int64_t>(in.u64le());
  const auto sender = in.u32le();
  const Stamp stamp{Instant{Duration(due)}, sender, in.u32le()};
  if (!in.ok()) return std::nullopt;
  std::size_t at = kBenchPayloadMin;
  bool same = true;
  filler(stamp, [&](char letter) {
    if (at >= body.size() || !same) return false;
    same = body[at++] == letter;
    return true;
  });
  if (!same) return std::nullopt;
  return stamp;
}

}  // namespace starling::node::cli
