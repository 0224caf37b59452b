// The client wire: frozen bytes of every message that clients depend on, and the cutting of frames.
#include "node/session/protocol.h"

#include <gtest/gtest.h>

#include "node/session/entry_frame.h"
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

TEST(ClientProtocol, KeepsItsBytes) {
  EXPECT_EQ(hex(protocol::frame(login())), hex(golden("client_login.v1")));
  EXPECT_EQ(hex(protocol::frame(send())), hex(golden("client_send.v1")));
  EXPECT_EQ(hex(entry_frame("@bob", {WriterId{42}, 17}, change("hello"))),
            hex(golden("client_entry.v1")));
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

}  // namespace
}  // namespace starling::node
