#include "overlay/loop/uv_transport.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <list>

#include <gtest/gtest.h>

#include "crypto/random.h"
#include "tests/overlay/uv_runner.h"
#include "tests/temp_folder.h"

namespace starling::overlay {
namespace {

const Endpoint kAnyPort{"127.0.0.1", 0};

class UvTransportTest : public ::testing::Test {
 protected:
  // One end of a connection and what happened to it.
  struct End {
    std::unique_ptr<Stream> stream;
    Bytes got;
    int closes = 0;
    std::string close_text;
    int drains = 0;

    void start() {
      stream->start({[this](View bytes) { got.append(bytes); },
                     [this](const Error& error) {
                       ++closes;
                       close_text = error.text;
                     },
                     [this] { ++drains; }});
    }
  };

  void listen(const Endpoint& at) {
    auto listener = transport_.listen(at, [this](std::unique_ptr<Stream> stream) {
      accepted_.emplace_back().stream = std::move(stream);
      accepted_.back().start();
    });
    ASSERT_TRUE(listener.ok()) << listener.error().text;
    listener_ = std::move(*listener);
  }
  // A connection that is up on both sides.
  void connect(End& client) {
    const std::size_t before = accepted_.size();
    auto connecting = transport_.connect(listener_->local(), 5s, [&](auto stream) {
      ASSERT_TRUE(stream.ok()) << stream.error().text;
      client.stream = std::move(*stream);
      client.start();
    });
    ASSERT_TRUE(run_until(loop_, [&] { return client.stream && accepted_.size() > before; }));
  }

  UvLoop loop_;
  UvTransport transport_{loop_};
  std::list<End> accepted_;
  std::unique_ptr<Listener> listener_;
};

Endpoint socket_in(const TempFolder& folder) { return {"unix:" + folder.path() + "/socket", 0}; }

TEST_F(UvTransportTest, CarriesTenMegabytesInOddSizesUnchanged) {
  listen(kAnyPort);
  End client;
  connect(client);
  SeededRandom random(1);
  Bytes sent;
  while (sent.size() < (10 << 20)) {
    Bytes piece(1 + random.below(70'001), '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(piece.data()), piece.size()});
    sent += piece;
    client.stream->write(random.below(2) == 0 ? std::make_shared<const Bytes>(piece)
                                              : std::make_shared<const Bytes>(std::move(piece)));
  }
  EXPECT_EQ(client.stream->queued(), sent.size());
  End& server = accepted_.front();
  ASSERT_TRUE(run_until(loop_, [&] { return server.got.size() >= sent.size(); }));
  EXPECT_TRUE(server.got == sent);
  server.stream->write(std::make_shared<const Bytes>(server.got));
  ASSERT_TRUE(run_until(loop_, [&] { return client.got.size() >= sent.size(); }));
  EXPECT_TRUE(client.got == sent);
  EXPECT_EQ(client.stream->queued(), 0u);
  EXPECT_GE(client.drains, 1);
}

TEST_F(UvTransportTest, SendsNothingInsideTheCallerAndGathersAWholeTurn) {
  listen(kAnyPort);
  End client;
  connect(client);
  for (int i = 0; i < 200; ++i) client.stream->write(Bytes("ab"));
  EXPECT_EQ(client.stream->queued(), 400u);
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.front().got.size() == 400; }));
  EXPECT_EQ(client.drains, 1);
}

TEST_F(UvTransportTest, CountsExactlyWhatASlowReaderLeavesBehind) {
  listen(kAnyPort);
  End client;
  connect(client);
  End& server = accepted_.front();
  server.stream->pause();
  constexpr std::size_t kSize = 32 << 20;
  client.stream->write(Bytes(kSize, 'x'));
  run_for(loop_, 50ms);
  const std::size_t waiting = client.stream->queued();
  EXPECT_GT(waiting, 0u);
  EXPECT_LT(waiting, kSize);
  EXPECT_EQ(client.drains, 0);
  EXPECT_TRUE(server.got.empty());
  client.stream->write(Bytes(1000, 'y'));
  EXPECT_EQ(client.stream->queued(), waiting + 1000);
  server.stream->resume();
  ASSERT_TRUE(run_until(loop_, [&] { return server.got.size() == kSize + 1000; }));
  EXPECT_EQ(server.got.back(), 'y');
  ASSERT_TRUE(run_until(loop_, [&] { return client.drains > 0; }));
  EXPECT_EQ(client.stream->queued(), 0u);
}

TEST_F(UvTransportTest, TellsOnceThatThePeerClosed) {
  listen(kAnyPort);
  End client;
  connect(client);
  accepted_.clear();
  ASSERT_TRUE(run_until(loop_, [&] { return client.closes > 0; }));
  EXPECT_EQ(client.close_text, "closed by peer");
  client.stream->write(Bytes("into the void"));
  run_for(loop_, 5ms);
  EXPECT_EQ(client.closes, 1);
  EXPECT_EQ(client.stream->queued(), 0u);
}

TEST_F(UvTransportTest, CallsNothingAfterAStreamIsDestroyed) {
  listen(kAnyPort);
  End client;
  connect(client);
  accepted_.front().stream->write(Bytes("late"));
  client.stream.reset();
  run_for(loop_, 10ms);
  EXPECT_EQ(client.got, "");
  EXPECT_EQ(client.closes, 0);
}

TEST_F(UvTransportTest, LetsACallbackDestroyItsStream) {
  listen(kAnyPort);
  End client;
  connect(client);
  auto held = std::make_shared<int>(1);
  End& server = accepted_.front();
  std::unique_ptr<Stream> doomed;
  auto connecting = transport_.connect(listener_->local(), 5s, [&](auto stream) {
    doomed = std::move(*stream);
    doomed->start({[&doomed, held](View) {
                     doomed.reset();
                     *held = 2;
                   },
                   [](const Error&) {},
                   {}});
  });
  ASSERT_TRUE(run_until(loop_, [&] { return doomed && accepted_.size() == 2; }));
  accepted_.back().stream->write(Bytes("boo"));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.back().closes > 0; }));
  EXPECT_EQ(*held, 2);
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(server.closes, 0);
}

TEST_F(UvTransportTest, FlushesBeforeItClosesEvenWithoutAnOwner) {
  listen(kAnyPort);
  End client;
  connect(client);
  constexpr std::size_t kSize = 8 << 20;
  accepted_.front().stream->write(Bytes("unread by the one who closes"));
  client.stream->write(Bytes(kSize, 'z'));
  client.stream->close_after_flush();
  client.stream.reset();
  End& server = accepted_.front();
  ASSERT_TRUE(run_until(loop_, [&] { return server.closes > 0; }));
  EXPECT_EQ(server.got.size(), kSize);
  EXPECT_EQ(server.close_text, "closed by peer");
  EXPECT_EQ(client.closes, 0);
  accepted_.clear();
  ASSERT_TRUE(run_until(loop_, [&] { return transport_.open_streams() == 0; }));
}

TEST_F(UvTransportTest, GivesUpFlushingToAPeerThatDoesNotRead) {
  listen(kAnyPort);
  End client;
  connect(client);
  accepted_.front().stream->pause();
  client.stream->write(Bytes(64 << 20, 'z'));
  client.stream->close_after_flush();
  client.stream.reset();
  EXPECT_EQ(transport_.open_streams(), 2u);
  ASSERT_TRUE(run_until(loop_, [&] { return transport_.open_streams() == 1; }));
}

TEST_F(UvTransportTest, NamesThePortThatIsTaken) {
  listen(kAnyPort);
  const auto second = transport_.listen(listener_->local(), [](auto) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), Errc::kAddressInUse);
  EXPECT_NE(second.error().text.find(listener_->local().text()), std::string::npos);
  auto udp = transport_.bind(kAnyPort, [](auto&, View) {});
  ASSERT_TRUE(udp.ok());
  EXPECT_EQ(transport_.bind((*udp)->local(), [](auto&, View) {}).code(), Errc::kAddressInUse);
}

TEST_F(UvTransportTest, ReportsARefusedConnectionInALaterTurn) {
  listen(kAnyPort);
  const Endpoint gone = listener_->local();
  listener_.reset();
  run_for(loop_, 1ms);
  std::optional<Errc> code;
  auto connecting = transport_.connect(gone, 5s, [&](auto stream) { code = stream.code(); });
  EXPECT_FALSE(code.has_value());
  ASSERT_TRUE(run_until(loop_, [&] { return code.has_value(); }));
  EXPECT_EQ(*code, Errc::kIo);
}

TEST_F(UvTransportTest, ForgetsAConnectionAttemptThatIsDestroyed) {
  listen(kAnyPort);
  bool called = false;
  auto connecting = transport_.connect(listener_->local(), 5s, [&](auto) { called = true; });
  connecting.reset();
  run_for(loop_, 10ms);
  EXPECT_FALSE(called);
}

TEST_F(UvTransportTest, GivesUpConnectingAtTheTimeout) {
  // A listener with a full backlog that nobody accepts from answers no further SYN.
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd, 0), 0);
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const Endpoint at{"127.0.0.1", ntohs(address.sin_port)};
  std::list<std::unique_ptr<Transport::Connecting>> attempts;
  std::list<std::unique_ptr<Stream>> streams;
  int timeouts = 0;
  int ends = 0;
  for (int i = 0; i < 8; ++i) {
    attempts.push_back(transport_.connect(at, 100ms, [&](auto stream) {
      ++ends;
      if (stream.ok())
        streams.push_back(std::move(*stream));
      else if (stream.code() == Errc::kTimeout)
        ++timeouts;
    }));
  }
  ASSERT_TRUE(run_until(loop_, [&] { return ends == 8; }));
  EXPECT_GT(timeouts, 0);
  close(fd);
}

TEST_F(UvTransportTest, SpeaksOverAUnixSocketOfItsOwnerOnly) {
  TempFolder folder;
  listen(socket_in(folder));
  struct stat found {};
  ASSERT_EQ(stat((folder.path() + "/socket").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  End client;
  connect(client);
  client.stream->write(Bytes("hello"));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.front().got == "hello"; }));
  EXPECT_EQ(client.stream->peer(), socket_in(folder));
  EXPECT_EQ(transport_.listen(socket_in(folder), [](auto) {}).code(), Errc::kAddressInUse);
}

TEST_F(UvTransportTest, ReplacesAUnixSocketThatNobodyAnswersOn) {
  TempFolder folder;
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder.path() + "/socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);
  listen(socket_in(folder));
  End client;
  connect(client);
}

TEST_F(UvTransportTest, LeavesAFileAloneThatIsNoSocket) {
  TempFolder folder;
  const std::string path = folder.path() + "/socket";
  fclose(fopen(path.c_str(), "w"));
  EXPECT_EQ(transport_.listen(socket_in(folder), [](auto) {}).code(), Errc::kAddressInUse);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
}

TEST_F(UvTransportTest, PausesAcceptingWhenDescriptorsRunLowAndResumes) {
  listen(kAnyPort);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const int used = dup(0);
  close(used);
  const rlimit low{static_cast<rlim_t>(used) + 100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  std::list<std::unique_ptr<Transport::Connecting>> attempts;
  std::list<std::unique_ptr<Stream>> clients;
  constexpr int kClients = 50;
  for (int i = 0; i < kClients; ++i) {
    attempts.push_back(transport_.connect(listener_->local(), 5s, [&](auto stream) {
      if (stream.ok()) clients.push_back(std::move(*stream));
    }));
  }
  EXPECT_TRUE(run_until(loop_, [&] { return clients.size() == kClients; }));
  run_for(loop_, 20ms);
  EXPECT_GT(accepted_.size(), 0u);
  EXPECT_LT(accepted_.size(), clients.size());
  // The ones accepted go; what waited in the backlog comes in.
  const std::size_t first = accepted_.size();
  accepted_.clear();
  EXPECT_TRUE(run_until(loop_, [&] { return accepted_.size() == kClients - first; }));
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(UvTransportTest, CarriesDatagramsWithTheirSender) {
  Bytes got;
  Endpoint from;
  auto a = transport_.bind(kAnyPort, [](auto&, View) {});
  auto b = transport_.bind(kAnyPort, [&](const Endpoint& sender, View packet) {
    from = sender;
    got = packet;
  });
  ASSERT_TRUE(a.ok() && b.ok());
  (*a)->send((*b)->local(), "ping");
  ASSERT_TRUE(run_until(loop_, [&] { return got == "ping"; }));
  EXPECT_EQ(from, (*a)->local());
}

TEST(Endpoint, ReadsWhatItWrites) {
  for (const char* text :
       {"127.0.0.1:7400", "[::1]:7400", "[fe80::1]:65535", "unix:/run/x", "0.0.0.0:0"}) {
    const auto endpoint = Endpoint::parse(text);
    ASSERT_TRUE(endpoint.ok()) << text;
    EXPECT_EQ(endpoint->text(), text);
  }
}

TEST(Endpoint, RefusesWhatIsNotANumericAddress) {
  const std::string long_path = "unix:/" + std::string(107, 'x');
  for (const std::string& text :
       {std::string(""), std::string("127.0.0.1"), std::string("localhost:80"),
        std::string("1.2.3.4:"), std::string("1.2.3.4:65536"), std::string("1.2.3.4:-1"),
        std::string("::1:80"), std::string("[::1]"), std::string("[1.2.3.4]:80"),
        std::string("1.2.3.4:80x"), std::string("unix:"), long_path,
        std::string("1.2.3.4\0:80", 11)}) {
    const auto endpoint = Endpoint::parse(text);
    ASSERT_FALSE(endpoint.ok()) << text;
    EXPECT_EQ(endpoint.code(), Errc::kInvalid);
  }
}

}  // namespace
}  // namespace starling::overlay
