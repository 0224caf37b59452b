// Raw peers: hosts that speak the wires byte by byte, so that a test can also say what no honest
// client or node would.
//
// RawStream carries bytes, RawClient frames of the client protocol, RawNode the handshake and the
// frames of a link. Each is a process on a host of its own.
// Thread: the world's; call them from outside of all loops.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "crypto/access/identity.h"
#include "crypto/access/keyring.h"
#include "crypto/noise/noise.h"
#include "node/session/protocol.h"
#include "overlay/links/link.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/sim_network.h"
#include "tests/sim/world/world.h"

namespace starling::sim {

// As a frame of a link says it.
constexpr std::uint16_t method_number(overlay::Method method) { return static_cast<std::uint16_t>(method); }

class RawStream {
 public:
  // Connects; refused() tells when nobody listens there.
  RawStream(World& world, SimNetwork& network, const overlay::Endpoint& to);
  ~RawStream();
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  void on_data(std::function<void(View)> fn) { on_data_ = std::move(fn); }
  void send(Bytes bytes);
  void pause();
  void resume();
  // Bytes that the other side has not let through.
  [[nodiscard]] std::size_t queued() const { return stream_ ? stream_->queued() : 0; }
  [[nodiscard]] bool refused() const { return refused_; }
  [[nodiscard]] bool closed() const { return closed_; }
  bool wait_closed(Duration limit = 30s);
  [[nodiscard]] const Bytes& sent() const { return sent_; }
  World& world() { return world_; }

 private:
  World& world_;
  SimNetwork& network_;
  const std::string ip_;
  bool refused_ = false;
  bool closed_ = false;
  Bytes sent_;  // All of it.
  std::function<void(View)> on_data_;
  // Destroyed from the bottom up.
  SimLoop loop_;
  std::unique_ptr<overlay::Transport> transport_;
  std::unique_ptr<overlay::Transport::Connecting> connecting_;
  std::unique_ptr<overlay::Stream> stream_;
};

class RawClient {
 public:
  RawClient(World& world, SimNetwork& network, const overlay::Endpoint& to);

  RawStream& stream() { return stream_; }
  // A body behind its length.
  void send_body(View body);
  // Waits for an answer to `request`; an error message becomes its error. kTimeout for silence, kIo
  // when the node closed without a word.
  Result<Bytes> answer(std::uint64_t request, Duration limit = 30s);
  // Gives the message a number of its own and waits.
  template <class T>
  Result<Bytes> ask(T message) {
    message.request = next_request_++;
    stream_.send(node::protocol::frame(message));
    return answer(message.request);
  }
  Result<node::protocol::LoggedIn> log_in(const std::string& user, const std::string& device,
                                          const std::string& password,
                                          const std::string& token = "");
  Result<node::protocol::Ack> say(const std::string& to, std::uint64_t seq,
                                  const std::string& body);
  // Every frame so far, in order.
  [[nodiscard]] const std::vector<Bytes>& bodies() const { return bodies_; }
  [[nodiscard]] std::size_t count(node::protocol::Type type) const;

 private:
  RawStream stream_;
  node::protocol::FrameReader reader_{node::protocol::kFrameSizeToClientMax};
  std::vector<Bytes> bodies_;
  std::size_t answered_ = 0;  // Bodies before are spent.
  std::uint64_t next_request_ = 1;
};

// What a node says of itself in the handshake of a link, to be bent by the test.
struct RawIntroduction {
  overlay::Hello hello;
  std::optional<Bytes> payload;      // Instead of an Introduction.
  std::optional<PublicKey> claimed;  // Instead of its own key.
};

class RawNode {
 public:
  RawNode(World& world, SimNetwork& network, const overlay::Endpoint& to, const Identity& identity);

  RawStream& stream() { return stream_; }
  // Shakes hands. The node's refusal, or kIo when it closes without a word.
  Status link(const Keyring& keyring, RawIntroduction introduction);
  // REQUIRES: linked.
  Result<Bytes> call(std::uint16_t method, View body, Duration limit = 30s);
  void notify(std::uint16_t method, View body);
  void send_plain(View frames);
  // Methods that the node asked of us, as far as call() has read.
  [[nodiscard]] const std::vector<std::uint16_t>& asked() const { return asked_; }

 private:
  void send_message(View message);
  std::optional<Bytes> message(Duration limit);

  RawStream stream_;
  const Identity& identity_;
  SeededRandom random_;
  Bytes in_;
  std::optional<NoiseTransport> transport_;
  Bytes plain_;
  std::vector<std::uint16_t> asked_;
  std::uint64_t next_request_ = 1;
};

// Changes one to four bytes or bits of `bytes`, or cuts or lengthens them.
Bytes mutated(Bytes bytes, Random& random);
Bytes random_bytes(std::size_t size, Random& random);

// Refused with this code, and a text that has `named` in it.
template <class T>
::testing::AssertionResult refused(const Result<T>& result, Errc code,
                                   const std::string& named = "") {
  if (result.ok()) return ::testing::AssertionFailure() << "was accepted";
  const auto& error = result.error();
  if (error.code == code && !error.text.empty() && error.text.find(named) != std::string::npos) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << name(error.code) << " (" << error.text << "), not "
                                       << name(code) << " naming '" << named << "'";
}

}  // namespace starling::sim
