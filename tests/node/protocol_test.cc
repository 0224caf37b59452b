// The client wire: frozen bytes of every message that clients depend on, and the cutting of frames.
#include "node/session/protocol.h"

#include <gtest/gtest.h>

#include "node/session/entry_frame.h"
#include "node/session/frame_head.h"
#include "tests/overlay/golden.h"

namespace starling::node {
namespace {

using overlay::golden;

DeviceId device() {
  DeviceId id;
  for (std::size_t i = 0; i < DeviceId::kSize; ++i) id.raw[i] = static_cast<std::uint8_t>(i);
  return id;
}

protocol::Login login() {
  protocol::Login message;
  message.request = 1;
  message.client = "demo/1.0";
  message.user = "@alice";
  message.device = "laptop";
  message.password = "secret";
  return message;
}

protocol::Send send() {
  protocol::Send message;
  message.request = 7;
  message.to = "@bob";
  message.seq = 3;
  message.acked = 2;
  message.floor = "01M7Z1EBWS0001GEZGH8EQB5TC";
  message.flags = protocol::kSendRetry;
  message.body.data = "hello";
  return message;
}

storage::ChangeView change(const std::string& body) {
  storage::ChangeView view;
  view.mailbox = mailbox_of("@bob");
  view.entry.id = {hlc_at(1'700'000'000'000), WriterId{42}};
  view.entry.key = {device(), 99, 3};
  view.entry.conversation = mailbox_of("@alice");
  view.entry.from = "@alice";
  view.entry.to = "@bob";
  view.entry.body = body;
  return view;
}

storage::VersionVector cursor() {
  storage::VersionVector out;
  out.raise(WriterId{42}, 17);
  return out;
}

protocol::EntryMessage entry() {
  return {68,        0,  "@bob", 42, 17, "01M7Z1EBWS0001GEZGH8EQB5TC", device(), 99, 3, "@alice", "@bob", 1,
          {"hello"}, 1'700'086'400'123};
}

protocol::LostMessage lost() {
  return {80, 0, "@bob", 42, 17, "01M7Z1EBWS0001GEZGH8EQB5TC", device(), 99, 3, mailbox_of("@alice")};
}

// Calls `with(name, message)` for every message but those above; no field has its default.
template <class With>
void for_each_frame(With with) {
  using namespace protocol;
  LineageId lineage;
  lineage.raw.fill(5);
  with("logged_in", LoggedIn{65, 7, 1, "N3K7QA", lineage, device(), "v4.public.x", 1'700'000'000'123, 60,
                             1'700'000'000'000});
  with("error_message", ErrorMessage{66, 7, 6, "lane_gap", "number 3 is missing", 250});
  with("sync", Sync{2, 7, lineage, {{"@bob", cursor()}}});
  with("synced", Synced{69, 7, "@bob", cursor()});
  with("ack", Ack{67, 7, 3, "01M7Z1EBWS0001GEZGH8EQB5TC", 2});
  with("entry_message", entry());
  with("history_request", protocol::HistoryRequest{4, 7, "@bob", "01M7Z1EBWS0001GEZGH8EQB5TC", 20});
  with("history_page.v2", HistoryPage{71, 7, {entry()}, true, {lost()}});
  with("lost_message", lost());
  with("lane_request", LaneRequest{5, 7, "@bob"});
  with("recall", Recall{14, 7, "@bob", device(), 3});
  with("lane_state", LaneState{72, 7, 12});
  with("group_request.v2", GroupRequest{6, 7, "#ops", "@bob", 2, 20, 99, 0xFEDCBA9876543210});
  with("members.v2", Members{74, 7, {{"@bob", 2}}, true, 0xFEDCBA9876543210});
  with("group_list", GroupList{75, 7, {"#ops"}});
  with("password_change", PasswordChange{12, 7, "old", "new"});
  with("joined_or_left", JoinedOrLeft{78, 7, "#ops"});
  with("go_away", GoAway{79, 7, "draining", {"10.0.0.2:7400"}});
}

TEST(ClientProtocol, KeepsItsBytes) {
  EXPECT_EQ(hex(protocol::frame(login())), hex(golden("client_login.v1")));
  EXPECT_EQ(hex(protocol::frame(send())), hex(golden("client_send.v1")));
  EXPECT_EQ(hex(entry_frame("@bob", {WriterId{42}, 17}, change("hello"))),
            hex(golden("client_entry.v1")));
  for_each_frame([]<class T>(const std::string& name, const T& message) {
    // A message that was never changed is of its first version.
    const Bytes frozen = golden("client_" + name + (name.find('.') == std::string::npos ? ".v1" : ""));
    EXPECT_EQ(hex(protocol::frame(message)), hex(frozen)) << name;
    if (frozen.size() < protocol::kFrameHeaderSize) return;
    const auto read = unpack<T>(View(frozen).substr(protocol::kFrameHeaderSize));
    ASSERT_TRUE(read.ok()) << name << ": " << read.error().text;
    EXPECT_EQ(hex(protocol::frame(*read)), hex(frozen)) << name;
  });
}

// Of clients, and for clients, that have not grown with us.
TEST(ClientProtocol, OlderBytesAreReadAndWhatTheyLackHasItsDefault) {
  const auto body = [](const std::string& name) { return golden(name).substr(protocol::kFrameHeaderSize); };
  const auto request = unpack<protocol::GroupRequest>(body("client_group_request.v1"));
  ASSERT_TRUE(request.ok()) << request.error().text;
  EXPECT_EQ(request->nonce, 99u);
  EXPECT_EQ(request->known, 0u);
  const auto page = unpack<protocol::HistoryPage>(body("client_history_page.v1"));
  ASSERT_TRUE(page.ok()) << page.error().text;
  EXPECT_EQ(page->entries.size(), 1u);
  EXPECT_TRUE(page->lost.empty());
  const auto members = unpack<protocol::Members>(body("client_members.v1"));
  ASSERT_TRUE(members.ok()) << members.error().text;
  EXPECT_TRUE(members->more);
  EXPECT_EQ(members->version, 0u);
}

// The fast way and the struct are two spellings of one message.
TEST(ClientProtocol, AnEntryFrameIsTheEntryMessage) {
  for (const auto kind : {storage::ChangeKind::kEntry, storage::ChangeKind::kVoid}) {
    auto view = change(std::string(300, 'x'));
    view.kind = kind;
    const Dot dot{WriterId{0xFFFFFFFFFFFFFFFFULL}, 1};
    EXPECT_EQ(entry_frame("@bob", dot, view), protocol::frame(entry_message("@bob", dot, view)));
  }
}

TEST(ClientProtocol, AnOlderReaderIgnoresFieldsOfANewerWriter) {
  Bytes body;
  msgpack_detail::Sink sink{body};
  msgpack::packer<msgpack_detail::Sink> packer(sink);
  packer.pack_array(6);
  for (int i = 0; i < 5; ++i) packer.pack(i == 0 ? 67 : i);
  packer.pack(std::string("from the future"));
  EXPECT_EQ(unpack<protocol::Head>(body)->type, 67);
}

TEST(FrameReader, CutsFramesWhateverTheReads) {
  const Bytes stream = protocol::frame(login()) + protocol::frame(send());
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    protocol::FrameReader reader(1024);
    std::vector<Bytes> bodies;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      ASSERT_TRUE(reader.feed(View(stream).substr(at, step), [&](View body) {
        bodies.emplace_back(body);
        return true;
      }).ok());
    }
    ASSERT_EQ(bodies.size(), 2u) << "in steps of " << step;
    EXPECT_EQ(unpack<protocol::Login>(bodies[0])->user, "@alice");
    EXPECT_EQ(unpack<protocol::Send>(bodies[1])->seq, 3u);
  }
}

TEST(FrameReader, RefusesALengthBeforeItsBytes) {
  protocol::FrameReader reader(100);
  const auto fed = reader.feed(View("\x65\0\0\0", 4), [](View) { return true; });
  ASSERT_FALSE(fed.ok());
  EXPECT_EQ(fed.code(), Errc::kTooLarge);
}

TEST(FrameReader, StopsWhenTheReceiverIsDone) {
  protocol::FrameReader reader(1024);
  int bodies = 0;
  const Bytes frame = protocol::frame(send());
  ASSERT_TRUE(reader.feed(frame + frame, [&](View) {
    ++bodies;
    return false;
  }).ok());
  EXPECT_EQ(bodies, 1);
}

// As unpacking it would say, in every form that a number may have.
TEST(Protocol, TheHeadOfAFrameIsReadWithoutTheRest) {
  using std::string_literals::operator""s;
  for (const Bytes& type : {"\x07"s, "\xcc\x07"s, "\xcc\xff"s, "\xcd\x00\x07"s, "\xcd\x01\x07"s, "\xd0\x07"s,
                            "\xd0\xf7"s, "\xff"s, "\xc0"s, "\xa1x"s, "\xca\x3f\x80\x00\x00"s, "\x90"s}) {
    for (const Bytes& request : {"\x09"s, "\xce\x00\x00\x00\x09"s, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"s,
                                 "\xd1\x00\x09"s, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00"s, "\xc3"s, "\x80"s}) {
      for (const Bytes& start : {"\x93"s, "\xdc\x00\x03"s, "\xdd\x00\x00\x00\x03"s, "\x83"s, "\x92"s}) {
        const Bytes body = start + type + request + "\x91\xa4rest";
        const auto whole = unpack<protocol::Head>(body);
        const auto head = protocol::read_head(body);
        ASSERT_EQ(head.ok(), whole.ok()) << hex(body);
        if (!whole) continue;
        EXPECT_EQ(head->type, whole->type) << hex(body);
        EXPECT_EQ(head->request, whole->request) << hex(body);
      }
    }
  }
  for (const Bytes& body : {"\x90"s, "\x91\x07"s}) {
    EXPECT_EQ(protocol::read_head(body)->type, unpack<protocol::Head>(body)->type);
  }
}

}  // namespace
}  // namespace starling::node
