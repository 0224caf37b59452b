// What people hand over: invites, tokens, addresses, ids.
#include "crypto/access/invite.h"
#include "crypto/access/paseto.h"
#include "crypto/access/password.h"
#include "crypto/access/token.h"
#include "crypto/hash.h"
#include "crypto/init.h"
#include "crypto/text.h"
#include "overlay/loop/transport.h"
#include "storage/ids.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool ready = crypto_init().ok();
  fuzz::require(ready, "crypto_init");
  static SeededRandom random(1);
  static const Identity identity = Identity::generate(random);
  const View in = fuzz::view(data, size);
  if (const auto invite = fuzz::bounded(in, parse_invite)) {
    const auto text = format_invite(*invite);
    fuzz::require(text && parse_invite(*text).value() == *invite, "an invite that is read cannot be written");
  }
  // The body of an invite, with the checksum set right.
  struct ChecksumTag;
  Bytes body(in);
  body += blake2b_id<Fixed<ChecksumTag, 16>>({in}).view().substr(0, 4);
  const auto forged_invite = fuzz::bounded(in, [&](View) { return parse_invite("starling1-" + base64url(body)); });
  if (forged_invite) fuzz::require(format_invite(*forged_invite).ok(), "an invite that is read cannot be written");
  // A hash may ask for seconds of work, which is what they are for: one that asks for more than a little is left out.
  const bool cheap = in.find("m=8,t=1,") != View::npos;
  fuzz::require(!cheap || !verify_password("a guess", in), "a guess is the password");
  (void)paseto_claimed_footer(in);
  (void)paseto_verify(identity.public_key(), in, "implicit");
  const auto forged = verify_token(in, [](const NodeId&) { return std::optional(identity.public_key()); }, 0);
  fuzz::require(!forged, "a token that nobody issued is good");
  if (const auto claims = claims_from_json(in)) {
    const auto again = claims_from_json(claims_to_json(*claims));
    fuzz::require(again && *again == *claims, "claims do not survive writing");
  }
  if (const auto bytes = parse_hex(in)) fuzz::require(hex(*bytes).size() == size, "hex");
  (void)parse_base64url(in);
  (void)parse_base32(in, 16);
  (void)is_utf8(in);
  if (const auto id = parse_entry_id(in)) fuzz::require(parse_entry_id(to_text(*id)).value() == *id, "entry id");
  if (const auto id = parse_node_id(in)) fuzz::require(parse_node_id(to_text(*id)).value() == *id, "node id");
  (void)check_address(in);
  if (const auto endpoint = overlay::Endpoint::parse(in)) {
    const auto again = overlay::Endpoint::parse(endpoint->text());
    fuzz::require(again && *again == *endpoint, "an address does not survive writing");
  }
  if (const auto identity_of = Identity::from_seed(in)) {
    fuzz::require(identity_of->seed().view() == in, "the seed of an identity");
  }
  return 0;
}
