// FrameHead: what a frame of a client or node says of itself, read without decoding the rest.
//
// A frame of 1 MiB may hold a million elements, and each takes 24 bytes once it is decoded. So what has to be known
// before, the type and the request, is read from the bytes; and a large frame is decoded only when it has no more
// elements than one that means something.
// Pure.   The messages themselves: node/session/protocol.h
#pragma once

#include <optional>

#include "node/session/protocol.h"

namespace starling::node::protocol {

inline constexpr std::size_t kFrameElementsMax = 300'000;  // Of one frame to the server, over all its arrays.
static_assert(kFrameSizeMax / 11 * 3 < kFrameElementsMax, "a writer in a cursor is 3 elements in 11 bytes or more");

// Nothing for bytes that do not begin like a frame. Missing fields are 0.
std::optional<Head> peek_head(View body);
// The head of a frame from a client. kCorrupt for bytes that are not one well-formed message, or too many elements.
Result<Head> read_head(View body);
// How many mailboxes a Sync names. REQUIRES: read_head() took it. 0 for what is no Sync.
std::size_t count_mailboxes(View sync);

}  // namespace starling::node::protocol
