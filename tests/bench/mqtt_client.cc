#include "tests/bench/mqtt_client.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace starling::bench {
namespace {

// Section 2.2 of the standard. The lower four bits are flags.
constexpr std::uint8_t kConnect = 0x10, kConnack = 0x20, kPublish = 0x30, kPuback = 0x40,
                       kSubscribe = 0x82, kSuback = 0x90, kDisconnect = 0xe0;
constexpr std::uint8_t kQos1 = 0x02;
constexpr std::uint8_t kCleanSession = 0x02, kHasPassword = 0x40, kHasUser = 0x80;
constexpr std::uint16_t kKeepAliveSeconds = 600;
constexpr std::size_t kReadSize = 256 << 10;
constexpr std::size_t kHeaderMax = 5;

void add_text(BytesWriter& out, View value) {
  out.u16be(static_cast<std::uint16_t>(value.size()));
  out.raw(value);
}

void add_length(BytesWriter& out, std::size_t value) {
  do {
    const auto low = static_cast<std::uint8_t>(value % 128);
    value /= 128;
    out.u8(value > 0 ? low | 0x80 : low);
  } while (value > 0);
}

std::uint16_t after(std::uint16_t packet) { return packet == 0xffff ? 1 : packet + 1; }

}  // namespace

MqttNetwork::MqttNetwork(uv_loop_t* loop) : loop_(loop), buffer_(kReadSize) {
  uv_prepare_init(loop_, &prepare_);
  uv_check_init(loop_, &check_);
  prepare_.data = check_.data = this;
  uv_prepare_start(&prepare_, [](uv_prepare_t* h) { static_cast<MqttNetwork*>(h->data)->flush(); });
  uv_check_start(&check_, [](uv_check_t* h) { static_cast<MqttNetwork*>(h->data)->flush(); });
}

MqttNetwork::~MqttNetwork() {
  assert(unsent_.empty());
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), nullptr);
  uv_run(loop_, UV_RUN_NOWAIT);
}

void MqttNetwork::flush() {
  for (auto* client : std::exchange(unsent_, {})) {
    client->queued_ = false;
    client->send();
  }
}

MqttClient::MqttClient(MqttNetwork& network, MqttHandler& handler, Options options)
    : network_(network), handler_(handler), options_(std::move(options)) {}

MqttClient::~MqttClient() { assert(!open_ && !queued_); }

void MqttClient::connect(bool clean) {
  assert(!open_);
  clean_ = clean;
  ready_ = ending_ = false;
  why_.clear();
  in_.clear();
  out_.clear();
  uv_tcp_init(network_.loop(), &socket_);
  open_ = true;
  socket_.data = connecting_.data = writing_.data = this;
  const int status =
      uv_tcp_connect(&connecting_, &socket_, reinterpret_cast<const sockaddr*>(&options_.server),
                     [](uv_connect_t* request, int result) {
                       auto* client = static_cast<MqttClient*>(request->data);
                       if (result == 0) return client->opened();
                       if (result != UV_ECANCELED) client->end(uv_strerror(result));
                     });
  if (status < 0) end(uv_strerror(status));
}

void MqttClient::opened() {
  uv_tcp_nodelay(&socket_, 1);
  uv_read_start(
      reinterpret_cast<uv_stream_t*>(&socket_),
      [](uv_handle_t* h, std::size_t, uv_buf_t* buf) {
        auto& shared = static_cast<MqttClient*>(h->data)->network_.buffer_;
        *buf = uv_buf_init(shared.data(), static_cast<unsigned>(shared.size()));
      },
      [](uv_stream_t* stream, ssize_t n, const uv_buf_t* buf) {
        auto* client = static_cast<MqttClient*>(stream->data);
        if (n == UV_EOF) return client->end("closed by the server");
        if (n < 0) return client->end(uv_strerror(static_cast<int>(n)));
        client->read({buf->base, static_cast<std::size_t>(n)});
      });
  Bytes body;
  BytesWriter out(body);
  add_text(out, "MQTT");
  out.u8(4);
  std::uint8_t flags = clean_ ? kCleanSession : 0;
  if (!options_.user.empty()) flags |= kHasUser | kHasPassword;
  out.u8(flags);
  out.u16be(kKeepAliveSeconds);
  add_text(out, options_.id);
  if (!options_.user.empty()) {
    add_text(out, options_.user);
    add_text(out, options_.password);
  }
  write(kConnect, body);
}

// Reading.

void MqttClient::read(View bytes) {
  if (in_.empty()) {
    in_.assign(bytes.substr(take_packets(bytes)));
    return;
  }
  in_.append(bytes);
  in_.erase(0, take_packets(in_));
}

std::size_t MqttClient::take_packets(View bytes) {
  std::size_t at = 0;
  while (!ending_) {
    std::size_t size = 0, header = 1;
    bool whole = false;
    for (unsigned shift = 0; !whole && header < kHeaderMax && at + header < bytes.size();
         shift += 7) {
      const auto byte = static_cast<std::uint8_t>(bytes[at + header++]);
      size |= static_cast<std::size_t>(byte & 0x7f) << shift;
      whole = (byte & 0x80) == 0;
    }
    if (!whole && header == kHeaderMax) end("a packet without a length");
    if (!whole || bytes.size() - at < header + size) break;
    take(static_cast<std::uint8_t>(bytes[at]), bytes.substr(at + header, size));
    at += header + size;
  }
  return ending_ ? bytes.size() : at;
}

void MqttClient::take(std::uint8_t head, View body) {
  BytesReader in(body);
  switch (head & 0xf0) {
    case kConnack: {
      in.u8();
      const auto code = in.u8();
      if (!in.ok() || code != 0) return end("CONNACK says " + std::to_string(code));
      ready_ = true;
      return handler_.on_connected(*this);
    }
    case kSuback:
      in.u16be();
      if (in.u8() != 1 || !in.ok()) return end("no subscription of QoS 1");
      return handler_.on_subscribed(*this);
    case kPuback: {
      const auto number = in.u16be();
      if (!in.ok()) return end("a PUBACK without a number");
      return handler_.on_ack(*this, number);
    }
    case kPublish: return take_message(head, body);
    default: return end("a packet of type " + std::to_string(head >> 4));
  }
}

void MqttClient::take_message(std::uint8_t head, View body) {
  BytesReader in(body);
  in.raw(in.u16be());
  if ((head & kQos1) != 0) {
    Bytes number;
    BytesWriter(number).u16be(in.u16be());
    write(kPuback, number);
  }
  if (!in.ok()) return end("a PUBLISH that is cut off");
  handler_.on_message(*this, in.rest());
}

// Writing.

void MqttClient::subscribe(View topic) {
  Bytes body;
  BytesWriter out(body);
  out.u16be(next_packet_);
  next_packet_ = after(next_packet_);
  add_text(out, topic);
  out.u8(1);
  write(kSubscribe, body);
}

std::uint16_t MqttClient::publish(View topic, View body) {
  const std::uint16_t number = next_packet_;
  next_packet_ = after(next_packet_);
  BytesWriter out(out_);
  out.u8(kPublish | kQos1);
  add_length(out, 2 + topic.size() + 2 + body.size());
  add_text(out, topic);
  out.u16be(number);
  out.raw(body);
  touched();
  return number;
}

void MqttClient::write(std::uint8_t head, View body) {
  BytesWriter out(out_);
  out.u8(head);
  add_length(out, body.size());
  out.raw(body);
  touched();
}

void MqttClient::touched() {
  if (std::exchange(queued_, true)) return;
  network_.unsent_.push_back(this);
}

void MqttClient::send() {
  if (!open_ || ending_ || out_.empty() || !sending_.empty()) return;
  auto* stream = reinterpret_cast<uv_stream_t*>(&socket_);
  auto buffer = uv_buf_init(out_.data(), static_cast<unsigned>(out_.size()));
  const int sent = uv_try_write(stream, &buffer, 1);
  if (sent < 0 && sent != UV_EAGAIN) return end(uv_strerror(sent));
  sending_.assign(out_, static_cast<std::size_t>(std::max(sent, 0)));
  out_.clear();
  if (sending_.empty()) return;
  buffer = uv_buf_init(sending_.data(), static_cast<unsigned>(sending_.size()));
  const int status = uv_write(&writing_, stream, &buffer, 1, [](uv_write_t* request, int result) {
    auto* client = static_cast<MqttClient*>(request->data);
    client->sending_.clear();
    if (result < 0 && result != UV_ECANCELED) client->end(uv_strerror(result));
    if (result == 0 && !client->out_.empty()) client->touched();
  });
  if (status < 0) end(uv_strerror(status));
}

void MqttClient::close() {
  if (!open_ || ending_) return;
  if (ready_) {
    write(kDisconnect, {});
    send();
  }
  end("");
}

void MqttClient::end(std::string why) {
  if (std::exchange(ending_, true)) return;
  ready_ = false;
  why_ = std::move(why);
  uv_close(reinterpret_cast<uv_handle_t*>(&socket_), [](uv_handle_t* h) {
    auto* client = static_cast<MqttClient*>(h->data);
    client->open_ = false;
    client->sending_.clear();
    client->handler_.on_closed(*client, client->why_);
  });
}

}  // namespace starling::bench
