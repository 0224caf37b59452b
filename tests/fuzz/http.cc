// Requests at the admin door.
#include "node/admin/http.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  node::HttpParser parser;
  std::size_t requests = 0;
  fuzz::in_pieces(fuzz::view(data, size), [&](View piece) {
    parser.feed(piece);
    while (const auto request = parser.next()) ++requests;
  });
  fuzz::require(requests <= size, "more requests than bytes");
  if (parser.refusal()) (void)node::serialize(*parser.refusal(), false, false);
  return 0;
}
