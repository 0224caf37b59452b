// What lies on disk beside the store's rows, and in the files of devices and operators: frozen bytes.
#include "node/layout.h"

#include <sstream>

#include <gtest/gtest.h>

#include "crypto/access/identity.h"
#include "crypto/access/invite.h"
#include "crypto/access/keyring.h"
#include "crypto/access/password.h"
#include "crypto/access/token.h"
#include "node/check/history.h"
#include "node/client/state.h"
#include "node/mailbox/registers.h"
#include "storage/change.h"
#include "tests/overlay/golden.h"

namespace starling::node {
namespace {

using overlay::golden;
using overlay::golden_id;
using overlay::golden_text;

SecretKey secret(std::uint8_t from) {
  SecretKey out;
  for (auto& byte : out.raw) byte = from++;
  return out;
}

constexpr PartitionId kRowPartition{4095};
constexpr WriterId kRowWriter{0x1122334455667788};
constexpr std::uint64_t kNumber = 0x0102030405060708;
const NodeId kNode = golden_id<NodeId>(1);
const EntryId kRowEntry{hlc_at(1'700'000'000'123) + 5, kRowWriter};
const Bytes kGone = gone_issuer_value(1'700'000'000'123);

SpentRows spent() { return {{{kRowWriter, 70'000, 1'700'000'000'123, true}, {WriterId{9}, 1, 2, false}}}; }
TenureRow tenure() { return {{300}, {200}, {298}}; }
RunsRow runs() { return {1, 70'000}; }
PeersRow peers() { return {"10.0.0.1:7401", "10.0.0.2:7401"}; }

struct Row {
  const char* name;
  Bytes key;
  Bytes value;
};
std::vector<Row> rows() {
  return {
      {"identity", Bytes(kIdentityKey), Bytes(secret(1).view())},
      {"keyring", Bytes(kKeyringKey), Keyring(secret(1)).serialise()},
      {"ring", Bytes(kRingKey), {}},                     // The value: ring_version.*.hex.
      {"ring_history", ring_history_key({kNumber}), {}},
      {"peers", Bytes(kPeersKey), pack(peers())},
      {"runs", Bytes(kRunsKey), pack(runs())},
      {"movement", Bytes(kMoveSettingsKey), {}},         // node_move_settings.*.hex
      {"covered", Bytes(kCoveredKey), row_number(kNumber)},
      {"settled", settled_key(kRowPartition, kRowWriter), row_number(kNumber)},
      {"lanes_owed", lanes_owed_key(kRowPartition, kNode), "1"},
      {"spent_period", Bytes(kSpentPeriodKey), row_number(kNumber)},
      {"spent", row_key(kSpentPrefix, kRowPartition), pack(spent())},
      {"gone_issuer", row_key(kGoneIssuerPrefix, kNode), kGone},
      {"farewell_own", Bytes(kFarewellKey), "1"},
      {"scrub", Bytes(kScrubKey), {}},                   // tests/storage/layout_test.cc
      {"scrubbed", Bytes(kScrubbedKey), row_number(kNumber)},
      {"tenure_at", Bytes(kTenureKey), row_number(kNumber)},
      {"tenure", row_key(kTenurePrefix, kRowPartition), pack(tenure())},
      {"farewell", row_key(kFarewellPrefix, kNode), row_number(kNumber)},
      {"name", name_instance(golden_id<MailboxId>(9), "@bob"), {}},  // paxos_acceptor.*.hex
  };
}

TEST(NodeLayout, KeepsItsBytesForever) {
  for (const auto& row : rows()) {
    EXPECT_EQ(hex(row.key) + "=" + hex(row.value), golden_text("row_node_" + std::string(row.name) + ".v1.hex")) << row.name;
  }
}

TEST(NodeLayout, ReadsBackWhatItWrote) {
  EXPECT_EQ(parse_ring_history_key(ring_history_key({kNumber})), RingNumber{kNumber});
  EXPECT_EQ(parse_settled_key(settled_key(kRowPartition, kRowWriter)), (std::pair{kRowPartition, kRowWriter}));
  EXPECT_EQ(parse_lanes_owed_key(lanes_owed_key(kRowPartition, kNode)), (std::pair{kRowPartition, kNode}));
  EXPECT_EQ(parse_partition_of(row_key(kTenurePrefix, kRowPartition), kTenurePrefix), kRowPartition);
  EXPECT_EQ(parse_node_of(row_key(kFarewellPrefix, kNode), kFarewellPrefix), kNode);
  EXPECT_EQ(parse_name_slot(name_instance(golden_id<MailboxId>(9), "@bob")), slot_of(golden_id<MailboxId>(9)));
  EXPECT_EQ(parse_row_number(row_number(kNumber)), kNumber);
  EXPECT_EQ(parse_gone_issuer(kGone), 1'700'000'000'123);
  EXPECT_EQ(pack(*unpack<SpentRows>(pack(spent()))), pack(spent()));
  EXPECT_EQ(pack(*unpack<TenureRow>(pack(tenure()))), pack(tenure()));
}

TEST(NodeLayout, RefusesEveryOtherLength) {
  for (const Bytes& value : {Bytes(), Bytes(7, 'x'), Bytes(9, 'x')}) {
    EXPECT_FALSE(parse_row_number(value)) << value.size();
    EXPECT_FALSE(parse_gone_issuer(value)) << value.size();
    EXPECT_FALSE(parse_ring_history_key(Bytes(kRingHistoryPrefix) + value)) << value.size();
    EXPECT_FALSE(parse_settled_key(Bytes(kSettledPrefix) + value)) << value.size();
    EXPECT_FALSE(parse_lanes_owed_key(Bytes(kLanesOwedPrefix) + value)) << value.size();
    EXPECT_FALSE(parse_partition_of(Bytes(kTenurePrefix) + value, kTenurePrefix)) << value.size();
    EXPECT_FALSE(parse_node_of(Bytes(kFarewellPrefix) + value, kFarewellPrefix)) << value.size();
    EXPECT_FALSE(parse_name_slot(Bytes(kNameInstances) + value)) << value.size();
  }
}

ClientState client_state() {
  storage::VersionVector cursor;
  cursor.raise(kRowWriter, 70'000);
  const SavedSend open{{"hello"}, 4, 2, 1, 86'400, false, 0, ""};
  const SavedSend closed{{}, 1, 3, 2, 0, true, 4, "no"};
  const KeyIndex::Row seen{golden_id<DeviceId>(100), 99, {{1, 70'000}, {70'002, 70'003}}, {{5, 5}}, {{70'000, kRowEntry}}, {{7, 8}}};
  return {kClientStateFormat, "@alice", "laptop", "v4.public.x", golden_id<LineageId>(5), false, {{"@bob", cursor}},
          {{"@bob", 2, false, "01M7Z1EBWS0001GEZGH8EQB5TC", {open, closed}}}, {seen}};
}

// No field has its default.
TEST(Records, KeepTheirBytes) {
  const auto frozen = []<class T>(const std::string& name, const T& value) {
    const Bytes bytes = golden(name);
    EXPECT_EQ(hex(pack(value)), hex(bytes)) << name;
    const auto read = unpack<T>(bytes);
    ASSERT_TRUE(read.ok()) << name << ": " << read.error().text;
    EXPECT_EQ(hex(pack(*read)), hex(bytes)) << name;
  };
  frozen("register_creation_record.v1", CreationRecord{"@bob", kNumber, kRowEntry, "$argon2id$x", "@alice"});
  frozen("register_account_value.v1", AccountValue{"$argon2id$x", 7, true});
  frozen("register_member_value.v1", storage::MemberValue{7, true, 2, "#ops"});
  frozen("file_client_state.v2", client_state());
}

// Of a device that has not been started since it could hear of recalls.
TEST(Records, AnOlderClientStateIsRead) {
  const auto read = unpack<ClientState>(golden("file_client_state.v1"));
  ASSERT_TRUE(read.ok()) << read.error().text;
  ASSERT_EQ(read->seen.size(), 1u);
  EXPECT_TRUE(read->seen[0].acked.empty());
  EXPECT_EQ(read->seen[0].positions.size(), 1u);
}

// Several keys, one of them never used, one to retire, one retired.
TEST(Records, ARotatedKeyringKeepsItsBytes) {
  Keyring ring(secret(1));
  ASSERT_TRUE(ring.add(secret(40)).ok());
  ASSERT_TRUE(ring.promote(key_id(secret(40)), 1'700'000'000'123).ok());
  ASSERT_TRUE(ring.add(secret(80)).ok());
  ASSERT_TRUE(ring.add(secret(120)).ok());
  ASSERT_TRUE(ring.remove(key_id(secret(120))).ok());
  EXPECT_EQ(hex(ring.serialise()), hex(golden("keyring.v2")));
  const auto read = Keyring::parse(golden("keyring.v2"));
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_EQ(read->infos(), ring.infos());
  EXPECT_EQ(read->serialise(), ring.serialise());
  EXPECT_EQ(hex(Keyring(secret(1)).serialise()), hex(golden("keyring.v1")));
}

// What operators and devices keep as text.
TEST(Records, TextsKeepTheirBytes) {
  const Invite invite{golden_id<Fixed<LineageTag, 16>>(5), {"10.0.0.1:7401", "node2:7401"}, secret(1), 1'700'000'000'123,
                      golden_id<InviteId>(50)};
  EXPECT_EQ(*format_invite(invite), golden_text("file_invite.v1.txt"));
  EXPECT_EQ(*parse_invite(golden_text("file_invite.v1.txt")), invite);

  EXPECT_EQ(*hash_password("secret", golden_id<PasswordSalt>(7), kCheapest), golden_text("file_password.v1.txt"));
  EXPECT_TRUE(verify_password("secret", golden_text("file_password.v1.txt")).ok());
  EXPECT_EQ(verify_password("Secret", golden_text("file_password.v1.txt")).code(), Errc::kUnauthenticated);

  const Identity issuer = *Identity::from_seed(secret(1).view());
  const TokenClaims claims{"@alice", "phone", 3, 1'700'000'000'000, 1'700'000'600'000};
  EXPECT_EQ(*issue_token(issuer, claims), golden_text("file_token.v1.txt"));
  const auto key = [&](const NodeId&) { return std::optional(issuer.public_key()); };
  EXPECT_EQ(*verify_token(golden_text("file_token.v1.txt"), key, 1'700'000'300'000), claims);
}

check::Event event(check::EventKind kind) {
  check::Event out;
  out.kind = kind;
  out.t = 1'017'120;
  out.device = 3;
  out.to = "#ops";
  out.number = 7;
  out.why = "denied";
  out.hash = kNumber;
  out.size = 100;
  out.id = kRowEntry;
  out.grade = "quorum";
  out.copies = 2;
  out.acked_as = 8;
  out.by = golden_id<DeviceId>(100);
  out.from = "@alice";
  out.strange_lane = true;
  out.dot = {kRowWriter, 17};
  out.user = "@alice";
  out.name = "phone";
  out.must_show = false;
  out.forgot = true;
  out.users = {"@alice", "@bob"};
  out.cluster = "N3K7QA";
  out.recorder = "replay";
  out.started_ms = 1'700'000'000'123;
  return out;
}

TEST(Records, AHistoryKeepsItsBytes) {
  std::string text;
  for (int kind = 0; kind <= static_cast<int>(check::EventKind::kRecalled); ++kind) {
    if (kind == static_cast<int>(check::EventKind::kEnd)) continue;  // The last line.
    text += check::encode(event(static_cast<check::EventKind>(kind))) + "\n";
  }
  text += check::encode(event(check::EventKind::kEnd)) + "\n";
  const std::string frozen = golden_text("file_history.v1.txt");
  EXPECT_EQ(text, frozen + "\n");
  std::istringstream lines(frozen);
  for (std::string line; std::getline(lines, line);) {
    const auto read = check::decode(line);
    ASSERT_TRUE(read.ok()) << line << ": " << read.error().text;
    EXPECT_EQ(check::encode(*read), line);
  }
}

}  // namespace
}  // namespace starling::node
