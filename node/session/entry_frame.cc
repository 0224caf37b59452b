#include "node/session/entry_frame.h"

namespace starling::node {
namespace {

std::uint8_t content_of(const storage::ChangeView& change) {
  return change.kind == storage::ChangeKind::kVoid ? 0 : static_cast<std::uint8_t>(change.entry.type);
}

}  // namespace

Bytes entry_frame(const std::string& mailbox, const Dot& dot, const storage::ChangeView& change) {
  const auto& entry = change.entry;
  Bytes out;
  out.reserve(128 + entry.body.size());
  out.resize(protocol::kFrameHeaderSize);
  msgpack_detail::Sink sink{out};
  msgpack::packer<msgpack_detail::Sink> packer(sink);
  // The order of protocol::EntryMessage; a test holds the two together.
  packer.pack_array(14);
  packer.pack(static_cast<std::uint8_t>(protocol::Type::kEntry));
  packer.pack(std::uint64_t{0});
  packer.pack(mailbox);
  packer.pack(dot.writer.value);
  packer.pack(dot.n);
  packer.pack(to_text(entry.id));
  packer.pack(entry.key.device);
  packer.pack(entry.key.lane);
  packer.pack(entry.key.seq);
  packer.pack(entry.from);
  packer.pack(entry.to);
  packer.pack(content_of(change));
  packer.pack(BlobView{entry.body});
  packer.pack(entry.expires_ms);
  const auto size = static_cast<std::uint32_t>(out.size() - protocol::kFrameHeaderSize);
  for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<char>(size >> (8 * i));
  return out;
}

protocol::EntryMessage entry_message(const std::string& mailbox, const Dot& dot,
                                     const storage::ChangeView& change) {
  protocol::EntryMessage message;
  message.mailbox = mailbox;
  message.writer = dot.writer.value;
  message.n = dot.n;
  message.id = to_text(change.entry.id);
  message.device = change.entry.key.device;
  message.lane = change.entry.key.lane;
  message.seq = change.entry.key.seq;
  message.from = Bytes(change.entry.from);
  message.to = Bytes(change.entry.to);
  message.content = content_of(change);
  message.body.data = Bytes(change.entry.body);
  message.expires_wall_ms = change.entry.expires_ms;
  return message;
}

protocol::LostMessage lost_message(const std::string& mailbox, const storage::Trace& trace) {
  protocol::LostMessage message;
  message.mailbox = mailbox;
  message.writer = trace.dot.writer.value;
  message.n = trace.dot.n;
  message.id = to_text(trace.id);
  message.device = trace.key.device;
  message.lane = trace.key.lane;
  message.seq = trace.key.seq;
  message.conversation = trace.conversation;
  return message;
}

}  // namespace starling::node
