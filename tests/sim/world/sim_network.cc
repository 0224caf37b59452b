#include "tests/sim/world/sim_network.h"

#include <algorithm>
#include <cassert>
#include <cstdio>

#include <xxhash.h>

#include "tests/sim/world/sim_connection.h"

namespace starling::sim {

using network_detail::Connection;
using network_detail::Socket;
using overlay::Endpoint;
using overlay::Stream;

namespace {

constexpr std::uint16_t kFirstFreePort = 30'000;

std::string packet_text(const char* fate, const Endpoint& from, View packet) {
  char text[160];
  std::snprintf(text, sizeof text, "%s from %s:%u %zu bytes %016llx", fate, from.host.c_str(),
                from.port, packet.size(),
                static_cast<unsigned long long>(XXH3_64bits(packet.data(), packet.size())));
  return text;
}

}  // namespace

using NetworkKind = SimNetwork::Kind;

class SimDatagrams final : public overlay::Datagrams {
 public:
  SimDatagrams(SimNetwork& network, std::shared_ptr<Socket> socket)
      : network_(network), socket_(std::move(socket)) {}
  ~SimDatagrams() override {
    if (std::exchange(socket_->open, false)) {
      network_.packet_sockets_.erase({socket_->ip, socket_->at});
    }
  }
  void send(const Endpoint& to, View packet) override {
    if (socket_->open && packet.size() <= SimNetwork::kPacketSizeMax) {
      network_.send_packet(socket_->at, to, packet);
    }
  }
  [[nodiscard]] Endpoint local() const override { return socket_->at; }

 private:
  SimNetwork& network_;
  std::shared_ptr<Socket> socket_;
};

class SimListener final : public overlay::Listener {
 public:
  SimListener(SimNetwork& network, std::shared_ptr<Socket> socket)
      : network_(network), socket_(std::move(socket)) {}
  ~SimListener() override {
    if (std::exchange(socket_->open, false)) network_.listeners_.erase({socket_->ip, socket_->at});
  }
  [[nodiscard]] Endpoint local() const override { return socket_->at; }

 private:
  SimNetwork& network_;
  std::shared_ptr<Socket> socket_;
};

class SimTransport final : public overlay::Transport {
 public:
  SimTransport(SimNetwork& network, SimLoop& loop, std::string ip)
      : network_(network), loop_(loop), ip_(std::move(ip)) {}

  Result<std::unique_ptr<overlay::Datagrams>> bind(
      const Endpoint& at,
      std::function<void(const Endpoint& from, View packet)> on_packet) override {
    TRY_ASSIGN(auto socket, open(at, network_.packet_sockets_));
    socket->on_packet = std::move(on_packet);
    return std::unique_ptr<overlay::Datagrams>(
        std::make_unique<SimDatagrams>(network_, std::move(socket)));
  }

  Result<std::unique_ptr<overlay::Listener>> listen(
      const Endpoint& at, std::function<void(std::unique_ptr<Stream>)> on_accept) override {
    TRY_ASSIGN(auto socket, open(at, network_.listeners_));
    socket->on_accept = std::move(on_accept);
    return std::unique_ptr<overlay::Listener>(
        std::make_unique<SimListener>(network_, std::move(socket)));
  }

  [[nodiscard]] std::unique_ptr<Connecting> connect(
      const Endpoint& to, Duration timeout,
      std::function<void(Result<std::unique_ptr<Stream>>)> done) override;

 private:
  struct Attempt {
    bool finished = false;
    std::function<void(Result<std::unique_ptr<Stream>>)> done;
    void finish(Result<std::unique_ptr<Stream>> result) {
      if (std::exchange(finished, true)) return;  // A stream nobody waits for closes itself.
      auto tell = std::move(done);
      tell(std::move(result));
    }
  };
  class Handle final : public Connecting {
   public:
    explicit Handle(std::shared_ptr<Attempt> attempt) : attempt_(std::move(attempt)) {}
    ~Handle() override {
      attempt_->finished = true;
      attempt_->done = nullptr;
    }

   private:
    std::shared_ptr<Attempt> attempt_;
  };

  // The address as this host's own: what it binds and what "localhost" means to it.
  [[nodiscard]] Endpoint own(Endpoint at) const {
    if (at.host == "127.0.0.1" || at.host == "0.0.0.0" || at.host.empty()) at.host = ip_;
    return at;
  }
  Result<std::shared_ptr<Socket>> open(
      const Endpoint& where, std::map<SimNetwork::Key, std::shared_ptr<Socket>>& ports) {
    Endpoint at = own(where);
    const bool local = at.host.starts_with("unix:");
    if (!local && at.host != ip_) {
      return Error{Errc::kIo, at.text() + " is not an address of host " + ip_};
    }
    if (!local && at.port == 0) {
      auto& next = network_.next_port_.try_emplace(ip_, kFirstFreePort).first->second;
      do at.port = next++;
      while (network_.packet_sockets_.contains({ip_, at}) ||
             network_.listeners_.contains({ip_, at}));
    }
    auto socket = std::make_shared<Socket>();
    socket->loop = &loop_;
    socket->ip = ip_;
    socket->at = at;
    if (!ports.emplace(SimNetwork::Key{ip_, at}, socket).second) {
      return Error{Errc::kAddressInUse, at.text() + " is in use; stop whoever has it"};
    }
    return socket;
  }

  SimNetwork& network_;
  SimLoop& loop_;
  const std::string ip_;
};

std::unique_ptr<SimTransport::Connecting> SimTransport::connect(
    const Endpoint& where, Duration timeout,
    std::function<void(Result<std::unique_ptr<Stream>>)> done) {
  const Endpoint to = own(where);
  const std::string to_ip = to.host.starts_with("unix:") ? ip_ : to.host;
  auto attempt = std::make_shared<Attempt>();
  attempt->done = std::move(done);
  auto& world = network_.world_;
  loop_.turn_at(world.now() + timeout, [attempt, to] {
    attempt->finish(Error{Errc::kTimeout, "no answer from " + to.text()});
  });
  // The request travels there, the answer back; what a cut swallows ends in the timeout. A process
  // that ends destroys its handles, so the loop is there as long as the attempt is not finished.
  world.after(network_.latency(ip_, to_ip), [attempt, to, to_ip, loop = &loop_, ip = ip_,
                                             net = &network_] {
    if (attempt->finished || net->is_cut(ip, to_ip, NetworkKind::kStreams) || net->without_power_.contains(to_ip)) return;
    const Duration back = net->latency(to_ip, ip);
    const auto it = net->listeners_.find({to_ip, to});
    if (it == net->listeners_.end()) {
      if (net->is_cut(to_ip, ip, NetworkKind::kStreams)) return;
      loop->turn_at(net->world_.now() + back, [attempt, to] {
        attempt->finish(Error{Errc::kIo, "connecting to " + to.text() + ": connection refused"});
      });
      return;
    }
    const auto socket = it->second;
    const auto connection = std::make_shared<Connection>(*net, net->next_connection_++);
    connection->ends[0].loop = loop;
    connection->ends[0].ip = ip;
    connection->ends[0].address = Endpoint{ip, static_cast<std::uint16_t>(
                                                   40'000 + connection->id % 20'000)};
    connection->ends[1].loop = socket->loop;
    connection->ends[1].ip = to_ip;
    connection->ends[1].address = to;
    net->connections_.emplace(connection->id, connection);
    if (net->connections_.size() >= net->look_for_ended_at_) {
      std::erase_if(net->connections_, [](const auto& item) { return item.second.expired(); });
      net->look_for_ended_at_ = 2 * net->connections_.size() + 1;
    }
    auto dialled = network_detail::make_stream(connection, 0);
    socket->loop->enter([socket, connection] {
      auto accepted = network_detail::make_stream(connection, 1);
      if (socket->open) socket->on_accept(std::move(accepted));
    });
    if (net->is_cut(to_ip, ip, NetworkKind::kStreams)) return;
    auto holder = std::make_shared<std::unique_ptr<Stream>>(std::move(dialled));
    loop->turn_at(net->world_.now() + back,
                  [attempt, holder] { attempt->finish(std::move(*holder)); });
  });
  return std::make_unique<Handle>(std::move(attempt));
}

SimNetwork::SimNetwork(World& world, NetworkOptions options)
    : world_(world), options_(options), random_(world.fork()) {}

SimNetwork::~SimNetwork() = default;

std::unique_ptr<overlay::Transport> SimNetwork::attach(SimLoop& loop, const std::string& ip) {
  return std::make_unique<SimTransport>(*this, loop, ip);
}

void SimNetwork::drop_process(const std::string& ip, bool silent) {
  for (auto* ports : {&packet_sockets_, &listeners_}) {
    std::erase_if(*ports, [&](const auto& item) {
      if (item.first.first != ip) return false;
      item.second->open = false;
      return true;
    });
  }
  for (const auto& [id, weak] : connections_) {
    const auto connection = weak.lock();
    if (!connection) continue;
    for (int i : {0, 1}) {
      if (connection->ends[i].ip == ip) connection->drop(i, silent);
    }
  }
}

void SimNetwork::set_power(const std::string& ip, bool on) {
  if (!on) {
    without_power_.insert(ip);
  } else if (without_power_.erase(ip) > 0) {
    heal_streams();
  }
}

void SimNetwork::cut(const std::string& from, const std::string& to) { cuts_.emplace(from, to); }

void SimNetwork::heal(const std::string& from, const std::string& to) {
  if (cuts_.erase({from, to}) > 0) heal_streams();
}

void SimNetwork::partition(const std::vector<std::vector<std::string>>& sets) {
  for (const auto& one : sets) {
    for (const auto& other : sets) {
      if (&one == &other) continue;
      for (const auto& a : one) {
        for (const auto& b : other) cut(a, b);
      }
    }
  }
}

void SimNetwork::heal_all() {
  cuts_.clear();
  for (auto& silent : silent_) silent.clear();
  heal_streams();
}

bool SimNetwork::is_cut(const std::string& from, const std::string& to, NetworkKind kind) const {
  if (from == to) return false;
  const auto& silent = silent_[static_cast<std::size_t>(kind)];
  return cuts_.contains({from, to}) || silent.contains(from) || silent.contains(to);
}

void SimNetwork::silence(const std::string& ip, NetworkKind kind, bool on) {
  auto& silent = silent_[static_cast<std::size_t>(kind)];
  if (on) {
    silent.insert(ip);
  } else if (silent.erase(ip) > 0) {
    heal_streams();
  }
}

void SimNetwork::set_extra_latency(const std::string& ip, Duration extra) {
  extra_latency_[ip] = extra;
}

Duration SimNetwork::latency(const std::string& from, const std::string& to) {
  const auto span =
      static_cast<std::uint64_t>((options_.latency_max - options_.latency_min).count()) + 1;
  Duration delay = options_.latency_min + Duration(static_cast<Duration::rep>(random_.below(span)));
  for (const auto& ip : {from, to}) {
    if (auto it = extra_latency_.find(ip); it != extra_latency_.end()) delay += it->second;
  }
  if (sites_.empty()) return delay;
  const auto one = sites_.find(from), other = sites_.find(to);
  const bool far = one != sites_.end() && other != sites_.end() && one->second != other->second;
  if (far) delay += options_.between_sites;
  return delay;
}

void SimNetwork::send_packet(const Endpoint& from, const Endpoint& to, View packet) {
  ++stats_.packets;
  const auto chance = [this](double p) { return p > 0 && random_.unit() < p; };
  if (is_cut(from.host, to.host, NetworkKind::kDatagrams) || chance(options_.loss)) {
    ++stats_.packets_lost;
    world_.note(to.host, packet_text("lost packet", from, packet));
    return;
  }
  const int copies = chance(options_.duplicate) ? 2 : 1;
  const auto bytes = std::make_shared<const Bytes>(packet);
  for (int i = 0; i < copies; ++i) {
    Duration delay = latency(from.host, to.host);
    if (chance(options_.straggle)) {
      delay += Duration(static_cast<Duration::rep>(
          random_.below(static_cast<std::uint64_t>(options_.straggle_max.count()) + 1)));
    }
    world_.after(delay, [this, from, to, bytes] {
      const auto it = packet_sockets_.find({to.host, to});
      if (it == packet_sockets_.end() || is_cut(from.host, to.host, NetworkKind::kDatagrams)) return;
      world_.note(to.host, packet_text("packet", from, *bytes));
      it->second->loop->enter([socket = it->second, from, bytes] {
        if (socket->open) socket->on_packet(from, *bytes);
      });
    });
  }
}

// Held, so that none goes while one looks at them: what is done to one may end others.
std::vector<std::shared_ptr<Connection>> SimNetwork::connections() const {
  std::vector<std::shared_ptr<Connection>> all;
  for (const auto& [id, weak] : connections_) {
    if (auto connection = weak.lock()) all.push_back(std::move(connection));
  }
  return all;
}

void SimNetwork::heal_streams() {
  for (const auto& connection : connections()) connection->wake();
}

void SimNetwork::reset_streams(const std::string& a, const std::string& b) {
  for (const auto& connection : connections()) {
    const auto& one = connection->ends[0].ip;
    const auto& other = connection->ends[1].ip;
    if ((one != a || other != b) && (one != b || other != a)) continue;
    for (int i : {0, 1}) connection->fail(i, {Errc::kIo, "connection reset"});
  }
}

}  // namespace starling::sim
