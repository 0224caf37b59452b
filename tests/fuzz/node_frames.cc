// What nodes send each other on a link that is up: frames, and every message in them.
#include "crypto/access/keyring.h"
#include "node/replication/append/append_messages.h"
#include "node/replication/follow/follow_messages.h"
#include "node/replication/messages.h"
#include "node/ring/messages.h"
#include "overlay/links/frame.h"
#include "overlay/links/link.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::node;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  View body = in;
  if (const auto frame = fuzz::bounded(in, overlay::parse_frame); frame && *frame) {
    body = (*frame)->body;
    Bytes again;
    overlay::append_frame(again, {(*frame)->type, (*frame)->flags, (*frame)->method, (*frame)->request,
                                  kNever, Bytes(body)});
    fuzz::require(in.starts_with(again), "a frame that is read is not what was written");
  }
  std::vector<View> bodies{in};
  if (body.data() != in.data()) bodies.push_back(body);
  for (const View each : bodies) {
    fuzz::round_trips<storage::RangeStatement, LanesRequest, LanesReply, MoveSettings, VerifyRequest, VerifyReply,
                      FindCopyRequest, FindCopyReply, HeadsRequest, HeadsReply, RingGetRequest, KeysExchange,
                      SealRequest, SealReply, HandOverRequest, HandOverReply, overlay::Introduction,
                      overlay::Hello>(each);
    if (const auto exchange = unpack<KeysExchange>(each)) (void)Keyring::parse(exchange->keyring.data);
    fuzz::round_trips<Replicate, Replicated, Hinted, CompareRequest, CompareReply, FetchRequest, HoldRequest,
                      HoldReply, FindKeyRequest, FindKeyReply, AppendRequest, AppendReply,
                      WriteRegisterRequest, ReadRegistersRequest, ReadRegistersReply, FollowRequest,
                      FollowReply, Unfollow, Push, ReadRequest, ReadReply, LaneQuery, LaneAnswer,
                      DirectoryRequest, DirectoryReply, HistoryRequest, JoinRequest, JoinReply, RingAnswer,
                      RingProgress, StandingReply, MovementReply, overlay::WireError>(each);
  }
  return 0;
}
