#include "node/replication/follow/follow_messages.h"
#include "node/replication/messages.h"
#include "node/session/entry_frame.h"
#include "node/session/protocol.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_input.h"

namespace starling::bench {
namespace {

constexpr std::size_t kBatch =
    16;  // Changes in one Replicate or Push; a count is of the whole batch.

std::vector<Bytes> changes() {
  static const Bytes body(kBodyBytes, 'x');
  std::vector<Bytes> out;
  for (std::uint64_t i = 0; i < kBatch; ++i)
    out.push_back(storage::encode(message(i, body), {kWriter, i + 1}));
  return out;
}

template <class Message>
Micro::Operation packing(Message value, std::shared_ptr<std::vector<Bytes>> held) {
  return [value = std::move(value), held](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i)
      require(pack(value).size() > kBatch * kBodyBytes, "nothing was packed");
  };
}

Micro::Operation encode_replicate() {
  auto held = std::make_shared<std::vector<Bytes>>(changes());
  node::Replicate out;
  out.writer = kWriter;
  out.runs.push_back({PartitionId{3}, 1, 0, {}});
  for (const auto& change : *held) out.runs[0].changes.push_back({change});
  return packing(std::move(out), held);
}

Micro::Operation decode_replicate() {
  auto held = changes();
  node::Replicate value;
  value.writer = kWriter;
  value.runs.push_back({PartitionId{3}, 1, 0, {}});
  for (const auto& change : held) value.runs[0].changes.push_back({change});
  return [bytes = pack(value)](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      const auto read = unpack<node::Replicate>(bytes);
      require(read && read->runs[0].changes.size() == kBatch, "a Replicate was not read");
    }
  };
}

Micro::Operation encode_push() {
  auto held = std::make_shared<std::vector<Bytes>>(changes());
  node::Push out;
  out.streams.push_back({PartitionId{3}, 9, {}});
  for (std::size_t i = 0; i < kBatch; ++i) {
    out.streams[0].changes.push_back({{kWriter, i + 1}, BlobView{(*held)[i]}});
  }
  return packing(std::move(out), held);
}

Micro::Operation decode_change() {
  return [held = changes()](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      const auto read = storage::decode(held[i % kBatch], {kWriter, i % kBatch + 1});
      require(read && read->entry.body.size() == kBodyBytes, "a change was not read");
    }
  };
}

Micro::Operation encode_entry_frame() {
  return [held = changes()](std::size_t times) {
    const std::string mailbox = "@bob";
    const auto change = storage::decode(held[0], {kWriter, 1});
    require(change.ok(), "a change was not read");
    for (std::size_t i = 0; i < times; ++i) {
      require(node::entry_frame(mailbox, {kWriter, 1}, *change).size() > kBodyBytes, "no frame");
    }
  };
}

Micro::Operation decode_send() {
  node::protocol::Send send;
  send.request = 4711;
  send.to = "@bob";
  send.seq = 1234;
  send.acked = 1200;
  send.floor = std::string(26, '0');
  send.body.data = Bytes(kBodyBytes, 'x');
  return [bytes = pack(send)](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      const auto head = unpack<node::protocol::Head>(bytes);
      const auto read = unpack<node::protocol::Send>(bytes);
      require(head && read && read->seq == 1234, "a Send was not read");
    }
  };
}

}  // namespace

std::vector<Micro> codec_micros() {
  return {{"replicate encode", 64, encode_replicate},
          {"replicate decode", 64, decode_replicate},
          {"push encode", 64, encode_push},
          {"change decode", 256, decode_change},
          {"entry frame encode", 256, encode_entry_frame},
          {"client send decode", 256, decode_send}};
}

}  // namespace starling::bench
