#include "overlay/links/link.h"

#include <algorithm>
#include <cassert>

namespace starling::overlay {
namespace {

constexpr std::size_t kSizeBytes = 2;
constexpr std::size_t kBufferKept = 256 << 10;  // A buffer that grew beyond this is given back.

std::size_t size_at(View bytes) {
  return static_cast<std::uint8_t>(bytes[0]) |
         static_cast<std::size_t>(static_cast<std::uint8_t>(bytes[1])) << 8;
}

void append_size(Bytes& out, std::size_t size) {
  BytesWriter(out).u16le(static_cast<std::uint16_t>(size));
}

void give_back(Bytes& buffer) {
  buffer.clear();
  if (buffer.capacity() > kBufferKept) Bytes().swap(buffer);
}

std::string range_text(const Hello& hello) {
  return std::to_string(hello.version_min) + ".." + std::to_string(hello.version_max);
}

NoiseConfig noise_config(const LinkConfig& config) {
  NoiseConfig out;
  out.role = config.role;
  out.prologue = kLinkPrologue;
  out.static_keys = config.identity.dh_keys();
  // A responder learns from message 1 which secret it is.
  out.psk = config.secret ? config.secret->key : SecretKey();
  return out;
}

}  // namespace

Result<std::uint16_t> common_version(const Hello& ours, const Hello& theirs) {
  const std::uint16_t version = std::min(ours.version_max, theirs.version_max);
  if (version >= ours.version_min && version >= theirs.version_min) return version;
  return Error{Errc::kUnsupported, "the peer speaks node wire versions " + range_text(theirs) +
                                       " and we speak " + range_text(ours) +
                                       ": upgrade the older node"};
}

Link::Link(LinkConfig config, Random& random)
    : config_(std::move(config)), noise_(noise_config(config_), random) {
  if (config_.role == NoiseRole::kResponder) return;
  assert(config_.secret);
  named_ = true;
  const Status sent = send_handshake(config_.secret->name);
  assert(sent.ok());
}

Status Link::send_handshake(View payload) {
  TRY_ASSIGN(const Bytes message, noise_.write(payload));
  assert(message.size() <= kHandshakeMessageSizeMax);
  append_size(output_, message.size());
  output_.append(message);
  return ok_status();
}

void Link::send_sealed(View plain) {
  append_size(output_, plain.size() + kNoiseTagSize);
  const Status sealed = transport_->seal_into(output_, plain);
  assert(sealed.ok());
}

Status Link::receive(View bytes) {
  assert(state_ != State::kFailed);
  plain_.erase(0, parsed_);
  parsed_ = 0;
  if (plain_.empty()) give_back(plain_);
  while (!bytes.empty()) {
    View whole = bytes;
    if (!partial_.empty()) {
      const std::size_t wanted =
          partial_.size() < kSizeBytes ? kSizeBytes : kSizeBytes + size_at(partial_);
      const View piece = bytes.substr(0, wanted - partial_.size());
      partial_.append(piece);
      bytes.remove_prefix(piece.size());
      whole = partial_;
    }
    const bool sized = whole.size() >= kSizeBytes;
    const std::size_t size = sized ? size_at(whole) : 0;
    if (sized && !transport_ && size > kHandshakeMessageSizeMax) {
      state_ = State::kFailed;
      return Error{Errc::kCorrupt, "the first bytes are not a handshake: another protocol?"};
    }
    if (!sized || whole.size() < kSizeBytes + size) {
      if (partial_.empty()) {
        partial_.assign(bytes);
        return ok_status();
      }
      continue;
    }
    const Status taken = message(whole.substr(kSizeBytes, size));
    if (!taken.ok()) {
      state_ = State::kFailed;
      return taken;
    }
    if (partial_.empty()) {
      bytes.remove_prefix(kSizeBytes + size);
    } else {
      give_back(partial_);
    }
  }
  return ok_status();
}

Status Link::message(View bytes) {
  switch (state_) {
    case State::kHandshake: return handshake(bytes);
    case State::kAwaitWelcome: return welcomed(bytes);
    case State::kUp: return data(bytes);
    case State::kFailed: break;
  }
  return Error{Errc::kCorrupt, "the link has failed"};
}

Status Link::handshake(View bytes) {
  const bool is_last = named_ && config_.role == NoiseRole::kResponder;
  const auto payload = noise_.read(bytes);
  if (!payload && is_last) {
    return Error{Errc::kUnauthenticated,
                 "the peer could not prove the cluster secret: give both nodes the same one"};
  }
  if (!payload) {
    return Error{Errc::kCorrupt, "handshake: " + payload.error().text};
  }
  return named_ ? introduced(*payload) : first_message(*payload);
}

Status Link::first_message(View payload) {
  named_ = true;
  const auto secret = config_.find_secret(payload);
  if (!secret) {
    return Error{
        Errc::kUnauthenticated,
        "the peer uses a cluster secret that we do not have: give both nodes the same one"};
  }
  noise_.use_psk(*secret);
  return send_handshake(pack(Introduction{config_.hello, config_.identity.public_key()}));
}

Status Link::introduced(View payload) {
  const Status known = identify(payload);
  if (config_.role == NoiseRole::kInitiator) {
    TRY(known);
    TRY(send_handshake(pack(Introduction{config_.hello, config_.identity.public_key()})));
    transport_.emplace(noise_.split());
    state_ = State::kAwaitWelcome;
    return ok_status();
  }
  transport_.emplace(noise_.split());
  if (!known) {
    const auto& error = known.error();
    send_sealed(pack(WireError{static_cast<std::uint8_t>(error.code), error.text.substr(0, 1024)}));
    return known;
  }
  send_sealed(pack(WireError{}));
  state_ = State::kUp;
  return ok_status();
}

Status Link::identify(View payload) {
  TRY_ASSIGN(const Introduction peer, unpack<Introduction>(payload));
  const auto expected = config_.dh_form(peer.key);
  if (!expected || !noise_.remote_static() || *expected != *noise_.remote_static()) {
    return Error{Errc::kUnauthenticated, "the peer showed a public key that is not its own"};
  }
  peer_.id = fingerprint(peer.key);
  peer_.key = peer.key;
  peer_.hello = peer.hello;
  TRY_ASSIGN(peer_.version, common_version(config_.hello, peer.hello));
  return config_.admit ? config_.admit(peer_) : ok_status();
}

Status Link::welcomed(View bytes) {
  TRY(open_behind(bytes));
  const auto answer = unpack<WireError>(plain_);
  plain_.clear();
  TRY(answer);
  if (answer->code != 0) {
    const auto code = static_cast<Errc>(answer->code);
    const bool known = name(code) != "unknown";
    return Error{known ? code : Errc::kUnavailable, "the peer refused the link: " + answer->text};
  }
  state_ = State::kUp;
  return ok_status();
}

Status Link::data(View bytes) { return open_behind(bytes); }

// Opens in place at the end of plain_, so a message is copied once.
Status Link::open_behind(View bytes) {
  const std::size_t before = plain_.size();
  plain_.append(bytes);
  const auto opened = transport_->open({plain_.data() + before, bytes.size()});
  plain_.resize(before + (opened.ok() ? opened->size() : 0));
  if (!opened) return opened.error();
  return ok_status();
}

Result<bool> Link::next_frame(FrameView& frame) {
  if (state_ != State::kUp) return false;
  const auto parsed = parse_frame(View(plain_).substr(parsed_));
  if (!parsed) {
    state_ = State::kFailed;
    return parsed.error();
  }
  if (!*parsed) return false;
  frame = **parsed;
  parsed_ += kFrameHeaderSize + frame.body.size();
  return true;
}

Bytes Link::seal(FrameQueue& queue, std::size_t budget, Instant now) {
  assert(up());
  queue.pop_into(scratch_, budget, now);
  Bytes out;
  const std::size_t messages = scratch_.size() / kNoisePlainSizeMax + 1;
  out.reserve(scratch_.size() + messages * (kSizeBytes + kNoiseTagSize));
  for (View left = scratch_; !left.empty();) {
    const View piece = left.substr(0, kNoisePlainSizeMax);
    append_size(out, piece.size() + kNoiseTagSize);
    const Status sealed = transport_->seal_into(out, piece);
    assert(sealed.ok());
    left.remove_prefix(piece.size());
  }
  give_back(scratch_);
  return out;
}

}  // namespace starling::overlay
