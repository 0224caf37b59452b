// MqttBench: the scenarios of `starling bench`, with the same words and the same JSON, against a
// server that speaks MQTT 3.1.1. One thread plays all users.
//
// Users are sessions that the server keeps (clean session off) and every message is of QoS 1. A
// message is under way until it is acknowledged and, when its receivers are online, until each of
// them has it: so the server's queues stay as short as --in-flight says, and every single delivery
// is accounted for. Thread: the main thread; it runs the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/cli/load/histogram.h"
#include "node/cli/load/pacer.h"
#include "node/cli/load/use_meter.h"
#include "node/cli/load/stamp.h"
#include "tests/bench/mqtt_client.h"

namespace starling::bench {

// A second, where no schedule of sends shows how late we are ourselves.
inline constexpr double kMqttLagProbes = 200;

struct MqttBenchOptions {
  std::string scenario;
  std::vector<std::string> servers;  // HOST:PORT; users are dealt out in turn.
  std::vector<int> pids;             // Of the servers, to see what they use.
  std::string user, password;        // {} in the user's name stands for the number.
  std::size_t users = 200, posters = 10, writers = 10, in_flight = 8, messages = 100, payload = 100;
  double rate = 0, settle_s = 0.5, warm_up_s = 2, duration_s = 10, patience_s = 30;
  unsigned burn_us = 0;
};

class MqttBench {
 public:
  explicit MqttBench(MqttBenchOptions options);
  ~MqttBench();
  // The result; "failed" in it says what kept the scenario from its end.
  nlohmann::json run();

 private:
  struct Post {
    Instant due;
    std::size_t left = 0;  // Deliveries.
    bool acked = false;
    bool counted = false;  // Was due while we measured.
  };
  struct Device final : MqttHandler {
    Device(MqttBench& owner, std::uint32_t place) : bench(owner), number(place) {}
    MqttBench& bench;
    const std::uint32_t number;
    std::string topic;
    std::unique_ptr<MqttClient> client;
    bool subscribed = false;
    bool came = false;  // Connected, at least once (connect).
    Instant connect_at{};
    std::size_t open = 0;
    std::vector<Post> posts;                                      // By number.
    std::deque<std::pair<std::uint16_t, std::uint32_t>> unacked;  // Packet and post.
    std::vector<std::vector<bool>> seen;                          // By sender and number.

    void on_connected(MqttClient&) override { bench.connected(*this); }
    void on_subscribed(MqttClient&) override;
    void on_ack(MqttClient&, std::uint16_t packet) override { bench.acked(*this, packet); }
    void on_message(MqttClient&, View body) override { bench.message(*this, body); }
    void on_closed(MqttClient&, const std::string& why) override { bench.closed(*this, why); }
  };
  using Devices = std::vector<Device*>;
  // Scenarios; false when `failed_` says why.
  bool pairs();
  bool group();
  bool idle();
  bool offline();
  bool connect();

  Devices make(std::size_t count);
  bool come(const Devices& devices, bool subscribe);
  bool rest(double seconds);
  bool go(const Devices& devices);
  void forget_sessions();
  bool drive(Devices senders, std::vector<std::string> topics);
  bool wait_for_deliveries();
  void post(Device& device, View topic, Instant due);
  void refill(std::size_t sender);
  void settle(Device& sender, Post& post);
  // Runs the loop until then, at most as long as our patience since `progress_` last grew.
  bool wait(const std::function<bool()>& done, const char* what);

  void connected(Device& device);
  void acked(Device& device, std::uint16_t packet);
  void message(Device& device, View body);
  void closed(Device& device, const std::string& why);
  void connect_next();

  void begin_measuring();
  void end_measuring();
  void burn() const;
  nlohmann::json report() const;

  const MqttBenchOptions options_;
  const std::string tag_;
  uv_loop_t loop_{};
  uv_timer_t wake_{};  // So that a wait sees its end.
  std::unique_ptr<MqttNetwork> network_;
  std::unique_ptr<node::cli::Pacer> pacer_;
  std::unique_ptr<node::cli::UseMeter> meter_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::string failed_;

  // The run.
  bool subscribe_ = false;   // What comes also subscribes.
  bool clean_ = false;       // What connects gives its session up.
  bool leaving_ = false;     // A session that ends is as it should be.
  bool connecting_ = false;  // The connect scenario.
  bool sending_ = false;
  bool measuring_ = false;
  std::size_t fan_out_ = 1;  // Deliveries of a post.
  bool by_ack_ = false;      // Receivers are away: acknowledged is settled.
  Devices senders_;
  std::vector<std::string> topics_;
  std::deque<Device*> out_;  // Devices that may connect next (connect).
  std::size_t ready_ = 0;
  std::size_t gone_ = 0;
  std::uint64_t progress_ = 0;

  // What was seen.
  std::uint64_t logins_ = 0, posted_all_ = 0, acked_all_ = 0, settled_all_ = 0, delivered_all_ = 0;
  std::uint64_t acked_ = 0, delivered_ = 0, doubles_ = 0, altered_ = 0;
  std::map<std::string, std::uint64_t> errors_;
  node::cli::Histogram ack_, end_to_end_, login_;  // Microseconds.
  Instant from_{};
  nlohmann::json extra_ = nlohmann::json::object();
};

}  // namespace starling::bench
