// What a node and a device find on their own disks beside the store's rows: rows of `node` and `paxos`, values of
// registers, keyrings, the state of a device.
#include "crypto/access/keyring.h"
#include "crypto/init.h"
#include "node/client/lane.h"
#include "node/client/state.h"
#include "node/layout.h"
#include "node/mailbox/registers.h"
#include "node/replication/messages.h"
#include "overlay/ring/paxos.h"
#include "storage/rocks/damage.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::node;

namespace {

// A key of that prefix: the input, or the prefix and the input behind it.
template <class Parse, class Write>
void same_key(View in, View prefix, Parse parse, Write write) {
  const Bytes key = in.starts_with(prefix) ? Bytes(in) : Bytes(prefix).append(in);
  fuzz::same_bytes(View(key), parse, write);
}

void node_rows(View in) {
  fuzz::same_bytes(in, parse_row_number, row_number);
  fuzz::same_bytes(in, parse_gone_issuer, gone_issuer_value);
  same_key(in, kRingHistoryPrefix, parse_ring_history_key, ring_history_key);
  same_key(in, kSettledPrefix, parse_settled_key, [](const auto& run) { return settled_key(run.first, run.second); });
  same_key(in, kLanesOwedPrefix, parse_lanes_owed_key, [](const auto& owed) { return lanes_owed_key(owed.first, owed.second); });
  same_key(in, kTenurePrefix, [](View key) { return parse_partition_of(key, kTenurePrefix); },
           [](PartitionId partition) { return row_key(kTenurePrefix, partition); });
  same_key(in, kFarewellPrefix, [](View key) { return parse_node_of(key, kFarewellPrefix); },
           [](const NodeId& node) { return row_key(kFarewellPrefix, node); });
  (void)parse_name_slot(Bytes(kNameInstances).append(in));
  fuzz::round_trips<SpentRow, SpentRows, TenureRow, PeersRow, RunsRow, MoveSettings, overlay::AcceptorState, CreationRecord,
                    AccountValue, storage::MemberValue>(in);
}

// Names that are handed over are merged with ours.
void names(View in) {
  const auto theirs = unpack<overlay::AcceptorState>(in);
  if (!theirs) return;
  (void)pack(overlay::inherit({*theirs, overlay::AcceptorState{}}));
  (void)pack(overlay::inherit({overlay::AcceptorState{}, *theirs}));
}

void keyrings(View in) {
  const auto ring = fuzz::bounded(in, Keyring::parse);
  if (!ring) return;
  const auto again = Keyring::parse(ring->serialise());
  fuzz::require(again && again->serialise() == ring->serialise(), "a keyring does not survive writing");
  const auto ids = ring->ids();
  fuzz::require(!ids.empty() && ids.size() <= kKeyringKeysMax, "a keyring of too many keys");
  Keyring ours{SecretKey{}}, other = *ring;
  (void)ours.merge(*ring);
  (void)other.merge(Keyring{SecretKey{}});
  fuzz::require(ours.serialise() == other.serialise(), "merging is not commutative");
  fuzz::require(!ours.merge(*ring), "what was merged is merged");
}

void damage(View in) {
  storage::DamageTable table;
  const std::size_t cut = std::min<std::size_t>(in.size(), 18);
  if (!table.load(in.substr(0, cut), in.substr(cut))) return;
  fuzz::require(table.damaged_count() + table.lost_count() + table.refill_slots().size() == 1, "one row is one thing");
}

void device(View in) {
  fuzz::round_trips<ClientState, SavedLane, SavedCursor, SavedSend, KeyIndex::Row, KeyIndex::Interval,
                    KeyIndex::Position>(in);
  auto state = unpack<ClientState>(in);
  if (!state) return;
  const auto once = KeyIndex::from(state->seen).rows();
  fuzz::require(pack(KeyIndex::from(once).rows()) == pack(once), "what a device has seen does not survive writing");
  for (auto& saved : state->lanes) {
    const auto lane = Lane(saved).save();
    fuzz::require(pack(Lane(lane).save()) == pack(lane), "a lane does not survive writing");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool ready = crypto_init().ok();
  fuzz::require(ready, "crypto_init");
  const View in = fuzz::view(data, size);
  node_rows(in);
  names(in);
  keyrings(in);
  damage(in);
  device(in);
  return 0;
}
