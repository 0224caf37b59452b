// Bench: measures a cluster from outside, with real clients over the real protocol.
//
// Every scenario counts what it sent and what arrived, so a fast run that lost something is a
// failed run. With a rate, latency counts from the moment a message was due, not from when we got
// around to it (no coordinated omission). Without one, a message is under way until it is acknowledged and
// every receiver who is online has it. tests/bench/mqtt_bench.h measures others by the same definitions.
// Thread: the main thread; it runs the loop.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/cli/load/histogram.h"
#include "node/cli/load/pacer.h"
#include "node/cli/load/recording.h"
#include "node/cli/load/series.h"
#include "node/cli/load/stamp.h"
#include "node/cli/load/swarm.h"
#include "node/cli/load/tally.h"
#include "node/cli/load/use_meter.h"
#include "node/cli/terminal/progress.h"
#include "overlay/loop/uv_loop.h"
#include "overlay/loop/uv_transport.h"

namespace starling::node::cli {

class Crowd;

class Bench {
 public:
  Bench(const Arguments& arguments, Swarm swarm);
  int run();

 private:
  friend class Crowd;
  struct User : ClientHandler {
    Bench* bench = nullptr;
    std::uint32_t number = 0;       // Also in the recording.
    std::string address;
    std::unique_ptr<Client> client;
    std::size_t open = 0;           // Posts under way.
    std::vector<Post> posts;        // By the number in their stamps.
    Instant login_at{};
    bool came = false;              // Logged in, at least once (connect).
    std::int64_t owed = 0;          // Messages acknowledged and not delivered; below 0: the other way round.
    void on_entry(const protocol::EntryMessage& entry, bool live) override {
      bench->on_entry(*this, entry, live);
    }
    void on_moved(const protocol::EntryMessage& entry) override {
      if (bench->record_) bench->recording_.recorder().moved(number, entry, bench->loop_.clock_now());
    }
    void on_void(const protocol::EntryMessage& entry) override {
      if (!bench->record_) return;
      bench->recording_.recorder().taken_back(number, entry, bench->loop_.clock_now());
    }
    void on_phase(ClientPhase phase, const Error* why) override;
  };
  // Scenarios.
  Status pairs();
  Status group();
  Status idle();
  Status offline();
  Status connect();
  Status crowd();  // bench_crowd.cc

  [[nodiscard]] std::string user_name(std::size_t number) const;
  Status create_users(std::size_t count);
  // A device of a user that exists; the last of users_.
  Status add_device(const std::string& name, bool follow);
  Status make_users(std::size_t count, bool follow);
  Status log_in(std::vector<User*> users);
  // Sends for warm-up and duration, then waits for what is under way. `targets[i]`: whom sender i
  // writes to.
  void drive(const std::vector<User*>& senders, std::vector<std::string> targets);
  void tick();
  void follow_burst(Duration measured);
  void look_at_nodes();
  void send_from(std::size_t sender, const std::string& to, Instant due);
  void answered(User& sender, std::uint32_t number, bool counted, bool good);
  void settle(User& sender, const Post& post);
  void refill(std::size_t sender);
  void refill_store();
  void drain(const std::function<bool()>& done);
  void connected(User& user);
  void connect_next();
  void on_entry(User& user, const protocol::EntryMessage& entry, bool live);
  void begin_measuring();
  void end_measuring();
  void burn() const;
  void show();
  int report(const Status& outcome);
  void print(const nlohmann::json& json) const;

  [[nodiscard]] double seconds(const char* option) const { return arguments_.real(option); }

  const Arguments& arguments_;
  Swarm swarm_;
  overlay::UvLoop loop_;
  overlay::UvTransport transport_{loop_};
  SystemRandom random_;
  Pacer pacer_{loop_.uv()};
  Progress progress_;
  Recording recording_;
  bool record_ = false;              // --record: judging costs the client too much to do always.
  const std::string scenario_;
  const std::string tag_;
  std::vector<std::unique_ptr<User>> users_;

  // The run.
  std::vector<User*> senders_;
  std::vector<std::string> targets_;
  double rate_ = 0;                  // 0: as fast as `in_flight` allows.
  std::size_t in_flight_ = 0;
  std::size_t payload_ = 0;
  std::uint32_t lifetime_s_ = 0;
  Burst burst_;
  double paced_ = 0;                 // The rate now.
  std::uint64_t fan_out_ = 1;        // Deliveries due per acknowledged send.
  bool connecting_ = false;          // The connect scenario: a login is the unit of work,
  std::deque<User*> out_;            // and these are to log in next.
  bool by_ack_ = false;              // Receivers are away: acknowledged is settled.
  bool live_only_ = false;           // What waited for its receiver is not part of the latencies.
  std::uint64_t to_store_ = 0;       // The offline scenario.
  bool interrupted_ = false;
  bool sending_ = false;
  bool measuring_ = false;
  Instant start_{};
  Instant measure_from_{};
  std::uint64_t posted_ = 0;
  overlay::Timer timer_;
  std::function<bool()> drained_;
  Instant drain_until_{};

  // What was seen.
  Tally tally_;                      // Over the whole run.
  std::uint64_t altered_ = 0;
  std::uint64_t acked_ = 0;          // While measuring.
  std::uint64_t delivered_ = 0;
  std::uint64_t logins_ = 0;
  std::map<std::string, std::uint64_t> errors_;
  Histogram ack_;                    // Microseconds.
  std::optional<Series> series_;     // --every
  Instant looked_at_{};              // Of the last look.
  Histogram end_to_end_;
  Histogram login_;
  UseMeter meter_{loop_.uv()};
  nlohmann::json extra_ = nlohmann::json::object();
};

}  // namespace starling::node::cli
