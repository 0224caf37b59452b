// Datagrams and push-pulls of somebody who has the cluster's secret: the decoders, and what Swim makes of
// them; and sealed datagrams of somebody who has not.
#include "crypto/access/keyring.h"
#include "crypto/init.h"
#include "overlay/gossip/swim.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::overlay;

namespace {

struct Target {
  SeededRandom random{1};
  Identity identity = Identity::generate(random);
  Keyring keyring{SecretKey{}};
  MemberRecord record() const {
    MemberRecord record;
    record.node = identity.node_id();
    record.key = identity.public_key();
    record.incarnation = 1;
    record.gossip = "10.0.0.1:7400";
    record.link = "10.0.0.1:7401";
    record.writer = WriterId{1};
    return record;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool ready = crypto_init().ok();
  fuzz::require(ready, "crypto_init");
  static Target target;
  const View in = fuzz::view(data, size);
  (void)fuzz::bounded(in, decode_datagram);
  (void)fuzz::bounded(in, decode_claim);
  (void)fuzz::bounded(in, decode_push_pull);
  fuzz::round_trips<Datagram, Claim, PushPull, Heartbeat, MemberRecord, SignedRecord>(in);
  (void)target.keyring.open(in, "gossip");
  if (const auto record = read_record(in)) (void)verify_record(*record, in);
  Swim swim(SwimConfig::lan(), target.identity, target.random, target.record());
  Instant now{1000s};
  (void)swim.step(Swim::Start{{}}, now, 1'700'000'000'000);
  const auto from = Endpoint::parse("10.0.0.2:7400");
  (void)swim.step(Swim::Packet{*from, Bytes(in)}, now += 1ms, 1'700'000'000'000);
  if (auto body = decode_push_pull(in)) {
    (void)swim.step(Swim::Merge{target.identity.node_id(), std::move(*body)}, now += 1ms,
                    1'700'000'000'000);
  }
  (void)swim.step(Swim::Tick{}, now += 1s, 1'700'000'000'000);
  return 0;
}
