#include "tests/sim/world/raw_peer.h"

namespace starling::sim {

using node::protocol::Type;
using overlay::FrameType;
using overlay::FrameView;

namespace {

// Apart from the hosts of clusters and workloads; no two peers of a process share one.
std::string fresh_ip() {
  static std::size_t n = 0;
  ++n;
  return "10." + std::to_string(100 + n / 62'500 % 100) + "." + std::to_string(n / 250 % 250) +
         "." + std::to_string(n % 250 + 1);
}

Error read_error(View body) {
  const auto error = unpack<node::protocol::ErrorMessage>(body);
  if (!error) return error.error();
  return {static_cast<Errc>(error->code), error->text};
}

}  // namespace

RawStream::RawStream(World& world, SimNetwork& network, const overlay::Endpoint& to)
    : world_(world),
      network_(network),
      ip_(fresh_ip()),
      loop_(world, "raw"),
      transport_(network.attach(loop_, ip_)) {
  loop_.enter([&] {
    connecting_ = transport_->connect(to, 5s, [this](auto stream) {
      if (!stream) {
        refused_ = closed_ = true;
        return;
      }
      stream_ = std::move(*stream);
      stream_->start({[this](View bytes) {
                        if (on_data_) on_data_(bytes);
                      },
                      [this](const Error&) { closed_ = true; }, nullptr});
    });
  });
  world_.run_until([&] { return stream_ != nullptr || refused_; }, 10s);
}

RawStream::~RawStream() {
  loop_.enter([&] {
    connecting_.reset();
    stream_.reset();
  });
  network_.drop_process(ip_, false);
  loop_.kill();
}

void RawStream::send(Bytes bytes) {
  sent_ += bytes;
  loop_.enter([&] {
    if (!closed_) stream_->write(std::move(bytes));
  });
}

void RawStream::pause() {
  loop_.enter([&] { stream_->pause(); });
}

void RawStream::resume() {
  loop_.enter([&] { stream_->resume(); });
}

bool RawStream::wait_closed(Duration limit) {
  return world_.run_until([&] { return closed_; }, limit);
}

RawClient::RawClient(World& world, SimNetwork& network, const overlay::Endpoint& to)
    : stream_(world, network, to) {
  stream_.on_data([this](View bytes) {
    (void)reader_.feed(bytes, [this](View body) {
      bodies_.emplace_back(body);
      return true;
    });
  });
}

void RawClient::send_body(View body) {
  Bytes out;
  BytesWriter(out).u32le(static_cast<std::uint32_t>(body.size()));
  out.append(body);
  stream_.send(std::move(out));
}

Result<Bytes> RawClient::answer(std::uint64_t request, Duration limit) {
  std::optional<Result<Bytes>> found;
  const auto look = [&] {
    for (; !found && answered_ < bodies_.size(); ++answered_) {
      const auto head = unpack<node::protocol::Head>(bodies_[answered_]);
      if (!head || head->request != request) continue;
      if (static_cast<Type>(head->type) == Type::kError) {
        found.emplace(read_error(bodies_[answered_]));
      } else if (request != 0) {  // 0 marks events, too.
        found.emplace(bodies_[answered_]);
      }
    }
    return found.has_value() || stream_.closed();
  };
  stream_.world().run_until(look, limit);
  if (found) return std::move(*found);
  if (stream_.closed()) return Error{Errc::kIo, "closed without an answer"};
  return Error{Errc::kTimeout, "no answer"};
}

Result<node::protocol::LoggedIn> RawClient::log_in(const std::string& user,
                                                   const std::string& device,
                                                   const std::string& password,
                                                   const std::string& token) {
  node::protocol::Login login;
  login.client = "raw";
  login.user = user;
  login.device = device;
  login.password = password;
  login.token = token;
  TRY_ASSIGN(const Bytes body, ask(login));
  return unpack<node::protocol::LoggedIn>(body);
}

Result<node::protocol::Ack> RawClient::say(const std::string& to, std::uint64_t seq,
                                           const std::string& body) {
  node::protocol::Send send;
  send.to = to;
  send.seq = seq;
  send.acked = seq - 1;
  send.body.data = body;
  TRY_ASSIGN(const Bytes answer, ask(send));
  return unpack<node::protocol::Ack>(answer);
}

std::size_t RawClient::count(Type type) const {
  std::size_t n = 0;
  for (const auto& body : bodies_) {
    const auto head = unpack<node::protocol::Head>(body);
    n += head && static_cast<Type>(head->type) == type;
  }
  return n;
}

RawNode::RawNode(World& world, SimNetwork& network, const overlay::Endpoint& to,
                 const Identity& identity)
    : stream_(world, network, to), identity_(identity), random_(world.fork()) {
  stream_.on_data([this](View bytes) { in_.append(bytes); });
}

void RawNode::send_message(View message) {
  Bytes out;
  BytesWriter(out).u16le(static_cast<std::uint16_t>(message.size()));
  out.append(message);
  stream_.send(std::move(out));
}

// The next message of the link, without its size.
std::optional<Bytes> RawNode::message(Duration limit) {
  const auto size = [this]() -> std::size_t {
    return static_cast<std::uint8_t>(in_[0]) | std::size_t{static_cast<std::uint8_t>(in_[1])} << 8;
  };
  const auto whole = [&] { return in_.size() >= 2 && in_.size() >= 2 + size(); };
  stream_.world().run_until([&] { return whole() || stream_.closed(); }, limit);
  if (!whole()) return std::nullopt;
  Bytes out = in_.substr(2, size());
  in_.erase(0, 2 + out.size());
  return out;
}

Status RawNode::link(const Keyring& keyring, RawIntroduction introduction) {
  const Error silent{Errc::kIo, "the node closed the handshake without a word"};
  NoiseConfig config;
  config.prologue = overlay::kLinkPrologue;
  config.static_keys = identity_.dh_keys();
  config.psk = keyring.link_psk();
  NoiseHandshake noise(config, random_);
  TRY_ASSIGN(const Bytes first, noise.write(key_id(keyring.primary()).view()));
  send_message(first);
  const auto second = message(15s);
  if (!second) return silent;
  TRY(noise.read(*second));
  if (!introduction.payload) {
    introduction.payload = pack(overlay::Introduction{
        introduction.hello, introduction.claimed.value_or(identity_.public_key())});
  }
  TRY_ASSIGN(const Bytes third, noise.write(*introduction.payload));
  send_message(third);
  transport_.emplace(noise.split());
  auto welcome = message(15s);
  if (!welcome) return silent;
  TRY_ASSIGN(const View plain, transport_->open({welcome->data(), welcome->size()}));
  TRY_ASSIGN(const auto said, unpack<overlay::WireError>(plain));
  if (said.code != 0) return Error{static_cast<Errc>(said.code), said.text};
  return ok_status();
}

void RawNode::send_plain(View frames) {
  while (!frames.empty()) {
    const View piece = frames.substr(0, kNoisePlainSizeMax);
    Bytes sealed;
    if (!transport_->seal_into(sealed, piece)) return;
    send_message(sealed);
    frames.remove_prefix(piece.size());
  }
}

void RawNode::notify(std::uint16_t method, View body) {
  Bytes out;
  overlay::append_frame(out,
                        {FrameType::kNotice, 0, overlay::Method{method}, 0, kNever, Bytes(body)});
  send_plain(out);
}

Result<Bytes> RawNode::call(std::uint16_t method, View body, Duration limit) {
  const auto request = next_request_++;
  const Instant end = stream_.world().now() + limit;
  Bytes out;
  overlay::append_frame(
      out, {FrameType::kRequest, 0, overlay::Method{method}, request, end, Bytes(body)});
  send_plain(out);
  while (stream_.world().now() < end) {
    auto sealed = message(end - stream_.world().now());
    if (!sealed) break;
    TRY_ASSIGN(const View plain, transport_->open({sealed->data(), sealed->size()}));
    plain_.append(plain);
    for (;;) {
      TRY_ASSIGN(const auto frame, overlay::parse_frame(plain_));
      if (!frame) break;
      const FrameView view = *frame;
      Bytes answer(view.body);
      if (view.type == FrameType::kRequest) {
        asked_.push_back(static_cast<std::uint16_t>(view.method));
      }
      const bool ours = view.type == FrameType::kResponse && view.request == request;
      const bool failed = (view.flags & overlay::kFrameFlagError) != 0;
      plain_.erase(0, overlay::kFrameHeaderSize + answer.size());
      if (!ours) continue;
      if (!failed) return answer;
      TRY_ASSIGN(const auto error, unpack<overlay::WireError>(answer));
      return Error{static_cast<Errc>(error.code), error.text};
    }
  }
  if (stream_.closed()) return Error{Errc::kIo, "the link was closed"};
  return Error{Errc::kTimeout, "no answer"};
}

Bytes random_bytes(std::size_t size, Random& random) {
  Bytes out(size, '\0');
  random.fill({reinterpret_cast<std::uint8_t*>(out.data()), out.size()});
  return out;
}

Bytes mutated(Bytes bytes, Random& random) {
  switch (random.below(8)) {
    case 0: bytes.resize(random.below(bytes.size() + 1)); return bytes;
    case 1: return bytes + random_bytes(1 + random.below(64), random);
    default: break;
  }
  for (auto changes = 1 + random.below(4); changes > 0 && !bytes.empty(); --changes) {
    char& at = bytes[random.below(bytes.size())];
    if (random.below(2) == 0) {
      at = static_cast<char>(at ^ (1 << random.below(8)));
    } else {
      at = static_cast<char>(random.below(256));
    }
  }
  return bytes;
}

}  // namespace starling::sim
