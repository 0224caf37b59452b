// ClientTest: clients and a FakeCluster with two doors, in virtual time.
//
// Thread: one.
#pragma once

#include <gtest/gtest.h>

#include "node/client/client.h"
#include "tests/node/fake_cluster.h"
#include "tests/sim/world/sim_network.h"

namespace starling::node {

using Fate = FakeCluster::Fate;
using overlay::Endpoint;

// Writes down everything a client says.
struct Diary : ClientHandler {
  std::vector<std::string> messages;
  std::vector<std::string> backlog;
  std::vector<std::string> voids;
  std::vector<std::string> moves;  // "number id"
  std::vector<std::string> kept;   // "@to acked" or "@to denied"
  std::vector<std::string> groups;
  std::vector<Errc> troubles;
  void on_entry(const protocol::EntryMessage& entry, bool live) override {
    messages.push_back(entry.from + ">" + entry.to + " " + entry.body.data);
    if (!live) backlog.push_back(entry.body.data);
  }
  void on_void(const protocol::EntryMessage& entry) override {
    voids.push_back(std::to_string(entry.seq));
  }
  void on_moved(const protocol::EntryMessage& entry) override {
    moves.push_back(std::to_string(entry.seq) + " " + entry.id);
  }
  void on_kept_sent(const std::string& to, const Result<Sent>& sent) override {
    kept.push_back(to + (sent ? " acked" : " " + std::string(name(sent.code()))));
  }
  void on_joined(const std::string& group) override { groups.push_back("+" + group); }
  void on_left(const std::string& group) override { groups.push_back("-" + group); }
  void on_phase(ClientPhase, const Error* why) override {
    if (why) troubles.push_back(why->code);
  }
};

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    servers_ = net_.attach(server_loop_, "10.0.0.1");
    phones_ = net_.attach(client_loop_, "10.0.0.9");
    for (std::uint16_t port : {7400, 7401}) {
      doors_.push_back(cluster_.open_door(*servers_, {"10.0.0.1", port}));
    }
    for (const char* user : {"@a", "@b", "@c"}) cluster_.add_user(user, "secret");
  }

  struct Device {
    Diary diary;
    std::unique_ptr<Client> client;
    std::vector<std::string> results;  // "body acked" or "body denied"
    Client* operator->() { return client.get(); }
  };
  std::unique_ptr<Device> device(const std::string& user, const std::string& name = "phone",
                                 std::optional<ClientState> state = {}) {
    auto out = std::make_unique<Device>();
    ClientOptions options = options_;
    if (options.endpoints.empty()) options.endpoints = doors_;
    options.password = "secret";
    if (!state) {
      state.emplace();
      state->user = user;
      state->device = name;
    }
    out->client = std::make_unique<Client>(client_loop_, *phones_, random_, options, *state,
                                           out->diary);
    client_loop_.enter([&] { out->client->start(); });
    return out;
  }
  void send(Device& from, const std::string& to, const std::string& body) {
    client_loop_.enter([&] {
      const auto accepted = from->send(to, body, {}, [&from, body](Result<Sent> result) {
        from.results.push_back(body +
                               (result ? " acked" : " " + std::string(name(result.code()))));
      });
      ASSERT_TRUE(accepted.ok()) << accepted.error().text;
    });
  }
  void send_numbers(Device& from, const std::string& to, int first, int last) {
    for (int i = first; i <= last; ++i) send(from, to, std::to_string(i));
  }
  static std::vector<std::string> numbers(int last, const std::string& before = "",
                                          const std::string& after = "") {
    std::vector<std::string> out;
    for (int i = 1; i <= last; ++i) out.push_back(before + std::to_string(i) + after);
    return out;
  }
  bool until(const std::function<bool()>& done, Duration limit = 30s) {
    return world_.run_until(done, limit);
  }
  bool ready(Device& d) {
    return until([&] { return d->phase() == ClientPhase::kReady; });
  }
  void settle() { world_.run_for(3s); }

  sim::World world_{1};
  sim::SimNetwork net_{world_, {}};
  sim::SimLoop server_loop_{world_, "server"};
  sim::SimLoop client_loop_{world_, "client"};
  std::unique_ptr<overlay::Transport> servers_;
  std::unique_ptr<overlay::Transport> phones_;
  FakeCluster cluster_{server_loop_};
  std::vector<Endpoint> doors_;
  ClientOptions options_;
  SeededRandom random_{5};
};

}  // namespace starling::node
