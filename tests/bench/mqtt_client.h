// MqttClient: one session of MQTT 3.1.1 at QoS 1, with the session kept (clean session off): what a
// peer's promise is measured with.
//
// Writes are gathered and leave once per turn of the loop, reads go through one buffer that all
// clients share, so that a client costs little beside the server that is measured. Thread: the
// loop's. The handler and the network outlive the client.
#pragma once

#include <string>
#include <vector>

#include <uv.h>

#include "crypto/bytes.h"

namespace starling::bench {

class MqttClient;

class MqttHandler {
 public:
  virtual void on_connected(MqttClient& client) = 0;
  virtual void on_subscribed(MqttClient& client) = 0;
  // What publish() returned.
  virtual void on_ack(MqttClient& client, std::uint16_t packet) = 0;
  virtual void on_message(MqttClient& client, View body) = 0;
  // After close() with an empty text; else why the session is over.
  virtual void on_closed(MqttClient& client, const std::string& why) = 0;

 protected:
  ~MqttHandler() = default;
};

// What the clients of one loop share.
class MqttNetwork {
 public:
  explicit MqttNetwork(uv_loop_t* loop);
  ~MqttNetwork();  // Every client is closed.
  MqttNetwork(const MqttNetwork&) = delete;
  MqttNetwork& operator=(const MqttNetwork&) = delete;

  [[nodiscard]] uv_loop_t* loop() const { return loop_; }

 private:
  friend class MqttClient;
  void flush();

  uv_loop_t* loop_;
  uv_prepare_t prepare_{};
  uv_check_t check_{};
  std::vector<MqttClient*> unsent_;
  std::vector<char> buffer_;
};

class MqttClient {
 public:
  struct Options {
    sockaddr_in server{};
    std::string id;
    std::string user;  // Empty: none is said.
    std::string password;
  };
  MqttClient(MqttNetwork& network, MqttHandler& handler, Options options);
  ~MqttClient();  // Closed, or never connected.
  MqttClient(const MqttClient&) = delete;
  MqttClient& operator=(const MqttClient&) = delete;

  // `clean`: drop the session that the server keeps.
  void connect(bool clean);
  void subscribe(View topic);
  std::uint16_t publish(View topic, View body);
  // Says goodbye; on_closed follows.
  void close();
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] bool closed() const { return !open_; }

 private:
  friend class MqttNetwork;

  void opened();
  void read(View bytes);
  std::size_t take_packets(View bytes);  // How many bytes the whole ones took.
  void take(std::uint8_t head, View body);
  void take_message(std::uint8_t head, View body);
  void write(std::uint8_t head, View body);
  void touched();
  void send();
  void end(std::string why);

  MqttNetwork& network_;
  MqttHandler& handler_;
  const Options options_;
  uv_tcp_t socket_{};
  uv_connect_t connecting_{};
  uv_write_t writing_{};
  bool open_ = false;  // The socket is not closed yet.
  bool ready_ = false;
  bool ending_ = false;
  bool clean_ = false;
  bool queued_ = false;  // In the network's list.
  std::uint16_t next_packet_ = 1;
  std::string why_;
  Bytes in_;  // The beginning of a packet.
  Bytes out_;
  Bytes sending_;  // With libuv until it has been written.
};

}  // namespace starling::bench
