// Stamp: what the body of a measured message says, so that whoever gets it knows when it was due,
// whose it is and which; the rest of the body follows from it and is checked.
//
// body := due:u64le sender:u32le number:u32le filler
// Thread: any.
#pragma once

#include <optional>

#include "crypto/bytes.h"
#include "overlay/loop/clock.h"

namespace starling::node::cli {

inline constexpr std::size_t kBenchPayloadMin = 16;

struct Stamp {
  Instant due;
  std::uint32_t sender = 0;
  std::uint32_t number = 0;
};

// Nothing that a store could compress: a row of one letter would measure LZ4.
Bytes stamped_body(const Stamp& stamp, std::size_t size);
// Nothing when a single byte is not as it was written.
std::optional<Stamp> read_stamp(View body);

}  // namespace starling::node::cli
