// The HTTP door: what it takes, what it refuses, and when it hangs up. In virtual time.
#include "node/admin/http.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "node/admin/admin_door.h"
#include "tests/sim/world/sim_network.h"

namespace starling::node {
namespace {

std::string post(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

TEST(HttpParser, CutsRequestsAtAnyByte) {
  const std::string bytes = post("/v1/status?x=1", "{\"a\":1}") + "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    HttpParser parser;
    std::vector<HttpRequest> got;
    const auto feed = [&](View part) {
      parser.feed(part);
      while (auto request = parser.next()) got.push_back(std::move(*request));
    };
    feed(View(bytes).substr(0, cut));
    feed(View(bytes).substr(cut));
    ASSERT_FALSE(parser.refusal()) << cut;
    ASSERT_EQ(got.size(), 2U) << cut;
    EXPECT_EQ(got[0].method, "POST");
    EXPECT_EQ(got[0].path, "/v1/status");
    EXPECT_EQ(got[0].query, "x=1");
    EXPECT_EQ(got[0].body, "{\"a\":1}");
    EXPECT_EQ(got[1].path, "/healthz");
    EXPECT_FALSE(parser.in_request());
  }
}

TEST(HttpParser, ReadsChunkedBodies) {
  HttpParser parser;
  parser.feed("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  auto request = parser.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->body, "abcde");
}

TEST(HttpParser, RefusesWhatIsTooLargeOrNoHttp) {
  const std::string long_line = "GET / HTTP/1.1\r\nX: " + std::string(kHttpHeaderMax, 'x');
  const struct {
    std::string bytes;
    unsigned status;
  } cases[] = {
      {long_line + "\r\n\r\n", 431},
      {long_line, 431},  // Though its end has not come.
      {"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413},
      {"hello\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {std::string("GET /\0 HTTP/1.1\r\n\r\n", 20), 400},
  };
  for (const auto& c : cases) {
    HttpParser parser;
    parser.feed(c.bytes);
    EXPECT_FALSE(parser.next());
    ASSERT_TRUE(parser.refusal()) << c.bytes.substr(0, 30);
    EXPECT_EQ(parser.refusal()->status, c.status) << c.bytes.substr(0, 30);
    parser.feed("GET / HTTP/1.1\r\n\r\n");
    EXPECT_FALSE(parser.next()) << "a refused connection stays refused";
  }
}

class DoorTest : public ::testing::Test {
 protected:
  struct Caller {
    std::unique_ptr<overlay::Transport::Connecting> connecting;
    std::unique_ptr<overlay::Stream> stream;
    std::string answer;
    bool closed = false;
  };

  void SetUp() override {
    server_transport_ = net_.attach(server_loop_, "10.0.0.1");
    client_transport_ = net_.attach(client_loop_, "10.0.0.9");
    AdminHooks hooks;
    hooks.metrics = [] { return std::string("starling_x 1\n"); };
    hooks.ready = [this] { return ready_; };
    hooks.draining = [this] { return draining_; };
    hooks.call = [this](const std::string& method, const Json& arguments, AdminDone done) {
      calls_.push_back(method + arguments.dump());
      if (method == "wait") {
        held_.push_back(std::move(done));
      } else if (method == "fail") {
        done(Error{Errc::kUnavailable, "too few nodes"});
      } else {
        done(Json{{"echo", arguments}});
      }
    };
    server_loop_.enter([&] {
      auto door = AdminDoor::open(server_loop_, *server_transport_, kTcp, kSocket, std::move(hooks));
      ASSERT_TRUE(door.ok()) << door.error().text;
      door_ = std::move(*door);
    });
  }
  void TearDown() override {
    server_loop_.enter([&] { door_.reset(); });
  }

  std::unique_ptr<Caller> call(const overlay::Endpoint& to) {
    auto caller = std::make_unique<Caller>();
    Caller* c = caller.get();
    // The unix socket is of the server's own host.
    const bool local = to == kSocket;
    auto& loop = local ? server_loop_ : client_loop_;
    auto& transport = local ? *server_transport_ : *client_transport_;
    loop.enter([&, c] {
      c->connecting = transport.connect(to, 1s, [c](Result<std::unique_ptr<overlay::Stream>> stream) {
        ASSERT_TRUE(stream.ok()) << stream.error().text;
        c->stream = std::move(*stream);
        c->stream->start({.on_data = [c](View bytes) { c->answer += bytes; },
                          .on_close = [c](const Error&) { c->closed = true; },
                          .on_drained = {}});
      });
    });
    EXPECT_TRUE(world_.run_until([&] { return c->stream != nullptr; }, 5s));
    return caller;
  }
  void say(Caller& caller, const overlay::Endpoint& to, const std::string& bytes) {
    (to == kSocket ? server_loop_ : client_loop_).enter([&] { caller.stream->write(Bytes(bytes)); });
  }
  std::string ask(const overlay::Endpoint& to, const std::string& bytes) {
    auto caller = call(to);
    say(*caller, to, bytes);
    world_.run_for(1s);
    return caller->answer;
  }

  const overlay::Endpoint kTcp{"10.0.0.1", 7402};
  const overlay::Endpoint kSocket{"unix:/data/admin.sock", 0};
  sim::World world_{1};
  sim::SimNetwork net_{world_, {}};
  sim::SimLoop server_loop_{world_, "server"};
  sim::SimLoop client_loop_{world_, "client"};
  std::unique_ptr<overlay::Transport> server_transport_;
  std::unique_ptr<overlay::Transport> client_transport_;
  bool ready_ = false;
  bool draining_ = false;
  std::vector<std::string> calls_;
  std::vector<AdminDone> held_;
  std::unique_ptr<AdminDoor> door_;
};

TEST_F(DoorTest, TcpPortAnswersProbesAndNothingElse) {
  EXPECT_TRUE(ask(kTcp, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(ask(kTcp, "GET /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nstarling_x 1\n"));
  EXPECT_TRUE(ask(kTcp, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
  draining_ = true;
  EXPECT_TRUE(ask(kTcp, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
  ready_ = true;
  EXPECT_TRUE(ask(kTcp, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(ask(kTcp, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(ask(kTcp, post("/v1/status", "{}")).starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(calls_.empty()) << "an operator's call came in by the open port";
}

TEST_F(DoorTest, HeadHasNoBodyAndOtherMethodsAreNamed) {
  const std::string head = ask(kTcp, "HEAD /healthz HTTP/1.1\r\n\r\n");
  EXPECT_NE(head.find("Content-Length: 3"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  const std::string put = ask(kTcp, "PUT /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(put.starts_with("HTTP/1.1 405 "));
  EXPECT_NE(put.find("Allow: GET"), std::string::npos);
}

TEST_F(DoorTest, SocketCallsTheNodeAndCarriesItsErrors) {
  EXPECT_TRUE(ask(kSocket, post("/v1/user.add", "{\"a\":1}")).ends_with("{\"echo\":{\"a\":1}}\n"));
  EXPECT_TRUE(ask(kSocket, post("/v1/status", "")).ends_with("{\"echo\":{}}\n"));
  const std::string failed = ask(kSocket, post("/v1/fail", "{}"));
  EXPECT_TRUE(failed.starts_with("HTTP/1.1 503 "));
  EXPECT_NE(failed.find("\"name\":\"unavailable\""), std::string::npos);
  EXPECT_NE(failed.find("too few nodes"), std::string::npos);
  EXPECT_EQ(calls_.size(), 3U);
}

TEST_F(DoorTest, RefusesBodiesThatAreNoJsonObject) {
  for (const char* body : {"{", "[1]", "7", "{\"a\":\"\xff\"}"}) {
    EXPECT_TRUE(ask(kSocket, post("/v1/status", body)).starts_with("HTTP/1.1 400 ")) << body;
  }
  EXPECT_TRUE(calls_.empty());
}

TEST_F(DoorTest, AnswersPipelinedRequestsInOrder) {
  auto caller = call(kSocket);
  say(*caller, kSocket, post("/v1/wait", "{}") + post("/v1/b", "{\"n\":2}") + post("/v1/c", "{\"n\":3}"));
  world_.run_for(1s);
  EXPECT_EQ(caller->answer, "");
  EXPECT_EQ(calls_.size(), 1U) << "the next request is not begun before the first is answered";
  server_loop_.enter([&] { held_[0](Json{{"n", 1}}); });
  world_.run_for(1s);
  const auto first = caller->answer.find("{\"n\":1}");
  const auto second = caller->answer.find("{\"n\":2}");
  const auto third = caller->answer.find("{\"n\":3}");
  ASSERT_NE(third, std::string::npos);
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_FALSE(caller->closed);
}

TEST_F(DoorTest, SlowHeadersAreClosedByTheDeadline) {
  auto caller = call(kTcp);
  // One byte a second resets no deadline.
  const std::string bytes = "GET /healthz HTTP/1.1\r\n";
  for (std::size_t i = 0; i < 9; ++i) {
    say(*caller, kTcp, bytes.substr(i, 1));
    world_.run_for(1s);
  }
  EXPECT_FALSE(caller->closed);
  world_.run_for(2s);
  EXPECT_TRUE(caller->closed);
  EXPECT_TRUE(caller->answer.starts_with("HTTP/1.1 408 ")) << caller->answer;
}

TEST_F(DoorTest, IdleConnectionsAreClosedAndBusyOnesAreNot) {
  auto silent = call(kTcp);
  auto idle = call(kTcp);
  auto busy = call(kTcp);
  for (auto* caller : {idle.get(), busy.get()}) say(*caller, kTcp, "GET /healthz HTTP/1.1\r\n\r\n");
  world_.run_for(kHttpFirstRequest + 100ms);
  EXPECT_TRUE(silent->closed);
  EXPECT_FALSE(idle->closed);
  for (int i = 0; i < 4; ++i) {
    say(*busy, kTcp, "GET /healthz HTTP/1.1\r\n\r\n");
    world_.run_for(10s);
  }
  EXPECT_TRUE(idle->closed);
  EXPECT_EQ(silent->answer, "");
  EXPECT_FALSE(busy->closed);
  world_.run_for(kHttpIdle);
  EXPECT_TRUE(busy->closed);
}

TEST_F(DoorTest, AnAnswerThatComesTooLateGoesNowhere) {
  auto caller = call(kSocket);
  say(*caller, kSocket, post("/v1/wait", "{}"));
  world_.run_for(kHttpHandlerTimeout + 1s);
  EXPECT_TRUE(caller->answer.starts_with("HTTP/1.1 504 "));
  EXPECT_TRUE(caller->closed);
  const std::string before = caller->answer;
  server_loop_.enter([&] { held_[0](Json{{"n", 1}}); });
  world_.run_for(1s);
  EXPECT_EQ(caller->answer, before);
}

TEST_F(DoorTest, AnAnswerAfterTheDoorClosedGoesNowhere) {
  auto caller = call(kSocket);
  say(*caller, kSocket, post("/v1/wait", "{}"));
  world_.run_for(1s);
  server_loop_.enter([&] { door_.reset(); });
  world_.run_for(1s);
  EXPECT_TRUE(caller->closed);
  server_loop_.enter([&] { held_[0](Json{{"n", 1}}); });
  EXPECT_EQ(caller->answer, "");
}

// Whoever opens connections and says nothing does not keep the balancer's check out.
TEST_F(DoorTest, WhenThePlacesAreTakenTheOldestThatWaitsGivesWay) {
  std::vector<std::unique_ptr<Caller>> callers;
  for (std::size_t i = 0; i < kHttpConnectionsMax; ++i) callers.push_back(call(kTcp));
  EXPECT_FALSE(callers.front()->closed);
  EXPECT_TRUE(ask(kTcp, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(callers.front()->closed);
  EXPECT_FALSE(callers[1]->closed);
}

TEST_F(DoorTest, WhoseRequestIsBeingAnsweredDoesNotGiveWay) {
  std::vector<std::unique_ptr<Caller>> callers;
  for (std::size_t i = 0; i < kHttpConnectionsMax; ++i) {
    callers.push_back(call(kSocket));
    say(*callers.back(), kSocket, post("/v1/wait", "{}"));
  }
  world_.run_for(1s);
  ASSERT_EQ(calls_.size(), kHttpConnectionsMax);
  auto one_more = call(kSocket);
  world_.run_for(1s);
  EXPECT_TRUE(one_more->closed);
  EXPECT_FALSE(callers.front()->closed);
  EXPECT_TRUE(ask(kTcp, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 ")) << "the other door has its own";
}

}  // namespace
}  // namespace starling::node
