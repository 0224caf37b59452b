// Ring versions and Paxos.
#include "overlay/ring/paxos_wire.h"
#include "overlay/ring/ring_version.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::overlay;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  if (const auto version = fuzz::bounded(in, decode_ring_version)) {
    const auto again = decode_ring_version(encode(*version));
    fuzz::require(again && *again == *version, "a ring version does not survive encoding");
    (void)voters(*version);
    (void)version->needed();
  }
  if (const auto request = fuzz::bounded(in, decode_paxos_request)) {
    AcceptorState state;
    if (const auto response = answer(state, *request)) {
      fuzz::require(decode_paxos_response(pack(*response)).ok(), "our own answer is refused");
    }
    const auto again = decode_paxos_request(pack(*request));
    fuzz::require(again && *again == *request, "a request does not survive encoding");
  }
  if (const auto response = fuzz::bounded(in, decode_paxos_response)) {
    const auto again = decode_paxos_response(pack(*response));
    fuzz::require(again && *again == *response, "an answer does not survive encoding");
  }
  fuzz::round_trips<Ballot, AcceptorState, SitePolicy>(in);
  return 0;
}
