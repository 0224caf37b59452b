// What clients send: frames, and every message in them.
#include "node/session/frame_head.h"
#include "node/session/protocol.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
namespace p = starling::node::protocol;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  const auto body = [](View frame) {
    fuzz::round_trips<p::Head, p::Login, p::LoggedIn, p::ErrorMessage, p::Sync, p::Synced, p::Send, p::Ack,
                      p::EntryMessage, p::HistoryRequest, p::HistoryPage, p::LaneRequest, p::LaneState,
                      p::GroupRequest, p::Members, p::GroupList, p::PasswordChange, p::JoinedOrLeft,
                      p::GoAway, p::LostMessage, p::Recall>(frame);
    const auto head = p::read_head(frame);
    const auto whole = unpack<p::Head>(frame);
    fuzz::require(head.ok() == whole.ok(), "a head is read where the whole decodes");
    fuzz::require(!head || (head->type == whole->type && head->request == whole->request), "and says the same");
    (void)p::count_mailboxes(frame);
    return true;
  };
  p::FrameReader reader(64 << 10);
  bool good = true;
  fuzz::in_pieces(in, [&](View piece) {
    if (good) good = reader.feed(piece, body).ok();
  });
  body(in);
  return 0;
}
