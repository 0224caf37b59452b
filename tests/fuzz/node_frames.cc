// What nodes send each other on a link that is up: frames, and every message in them.
#include "node/replication/append_messages.h"
#include "node/replication/follow_messages.h"
#include "node/replication/messages.h"
#include "node/ring/messages.h"
#include "overlay/links/frame.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::node;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  View body = in;
  if (const auto frame = overlay::parse_frame(in); frame && *frame) body = (*frame)->body;
  for (const View each : {in, body}) {
    fuzz::round_trips<Replicate, Replicated, Hinted, CompareRequest, CompareReply, FetchRequest, HoldRequest,
                      HoldReply, FindKeyRequest, FindKeyReply, AppendRequest, AppendReply,
                      WriteRegisterRequest, ReadRegistersRequest, ReadRegistersReply, FollowRequest,
                      FollowReply, Unfollow, Push, ReadRequest, ReadReply, LaneQuery, LaneAnswer,
                      DirectoryRequest, DirectoryReply, HistoryRequest, JoinRequest, JoinReply, RingAnswer,
                      RingProgress, StandingReply, MovementReply, overlay::WireError>(each);
  }
  return 0;
}
