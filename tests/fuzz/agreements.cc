// Ring versions and Paxos.
#include "overlay/ring/paxos_wire.h"
#include "overlay/ring/ring_version.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::overlay;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  if (const auto version = decode_ring_version(in)) {
    const auto again = decode_ring_version(encode(*version));
    fuzz::require(again && *again == *version, "a ring version does not survive encoding");
    (void)voters(*version);
    (void)version->needed();
  }
  if (const auto request = decode_paxos_request(in)) {
    AcceptorState state;
    (void)answer(state, *request);
  }
  (void)decode_paxos_response(in);
  return 0;
}
