// SimNetwork: hosts with numeric addresses, packets between them, streams like TCP's, and faults.
//
// Datagrams are lost, doubled, delayed and reordered by chance. Streams keep order and lose nothing
// until they are reset. A cut is one-way (from, to): datagrams are dropped; a stream across it
// hangs (no data in the cut direction, no acknowledgements for the other) and is reset for the side
// that has something unacknowledged after kStreamTimeout. When a cut heals, what hung is delivered.
// A process that ends sends a reset on each of its streams; a host that loses power says nothing:
// its peers find out by the reset that answers their next bytes once it is up again, or by the
// timeout. Connecting: refused after one round trip when nobody listens, a timeout across a cut or
// to a host without power.
// Invariants: (1) nothing is delivered inside the call that sent it;
//             (2) callbacks run in turns of the loop of the process that owns the object.
// Thread: the world's.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "overlay/loop/transport.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/world.h"

namespace starling::sim {

struct NetworkOptions {
  Duration latency_min = 100us;   // One way.
  Duration latency_max = 600us;
  Duration between_sites{};       // More, one way, between hosts of different sites.
  double loss = 0;                // Of datagrams.
  double duplicate = 0;           // Of datagrams.
  double straggle = 0;            // Of datagrams: arrives up to straggle_max later.
  Duration straggle_max = 50ms;
  std::uint64_t bytes_per_second = 0;  // Per stream and direction; 0: no bound.
  bool hides_queues = false;      // Broken: who writes to a device is told that nothing waits.
};

struct NetworkStats {
  std::uint64_t packets = 0;
  std::uint64_t packets_lost = 0;
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;
  std::uint64_t resets = 0;
  std::size_t waits_for_device = 0;  // Bytes of one stream that a device was slow to take, at most.
};

namespace network_detail {
struct Connection;
struct Socket;
}  // namespace network_detail

class SimNetwork {
 public:
  static constexpr Duration kStreamTimeout = 10s;
  static constexpr std::size_t kWindow = 256 << 10;  // Bytes on the wire or unread, per direction.
  static constexpr std::size_t kSegment = 64 << 10;
  static constexpr std::size_t kPacketSizeMax = 65'507;
  static constexpr View kDevices = "10.1.";  // Hosts of devices begin so.

  SimNetwork(World& world, NetworkOptions options);
  ~SimNetwork();

  // The transport of one process. It must outlive what it makes; the loop outlives it. `ip` is the
  // address that 127.0.0.1 and 0.0.0.0 stand for on this host.
  std::unique_ptr<overlay::Transport> attach(SimLoop& loop, const std::string& ip);

  // Ends all streams and closes all ports of a host's process, in one stroke: `silent` for a loss
  // of power, otherwise as the kernel does for a killed process.
  void drop_process(const std::string& ip, bool silent);
  void set_power(const std::string& ip, bool on);

  void cut(const std::string& from, const std::string& to);
  void heal(const std::string& from, const std::string& to);
  // Cuts both ways between hosts of different sets. Hosts in no set are cut from nobody.
  void partition(const std::vector<std::vector<std::string>>& sets);
  void heal_all();
  // Every stream between the two ends now, for both, with what is on its way.
  void reset_streams(const std::string& a, const std::string& b);
  // One port only: a host whose datagrams, or whose streams to other hosts, come nowhere.
  enum class Kind { kDatagrams, kStreams };
  void silence(const std::string& ip, Kind kind, bool on);
  [[nodiscard]] bool is_cut(const std::string& from, const std::string& to, Kind kind) const;

  // Extra one-way delay of everything that leaves or reaches `ip`.
  void set_extra_latency(const std::string& ip, Duration extra);
  // Hosts of different sites are NetworkOptions::between_sites apart; one without a site is near all.
  void set_site(const std::string& ip, const std::string& site) { sites_[ip] = site; }
  NetworkOptions& options() { return options_; }
  [[nodiscard]] const NetworkStats& stats() const { return stats_; }

 private:
  friend struct network_detail::Connection;
  friend struct network_detail::Socket;
  friend class SimTransport;
  friend class SimDatagrams;
  friend class SimListener;
  using Key = std::pair<std::string, overlay::Endpoint>;  // Host, address on it.

  [[nodiscard]] Duration latency(const std::string& from, const std::string& to);
  void send_packet(const overlay::Endpoint& from, const overlay::Endpoint& to, View packet);
  void heal_streams();
  [[nodiscard]] std::vector<std::shared_ptr<network_detail::Connection>> connections() const;

  World& world_;
  NetworkOptions options_;
  SeededRandom random_;
  NetworkStats stats_;
  std::set<std::pair<std::string, std::string>> cuts_;
  std::array<std::set<std::string>, 2> silent_;  // By Kind.
  std::set<std::string> without_power_;
  std::map<std::string, Duration> extra_latency_;
  std::map<std::string, std::string> sites_;
  std::map<Key, std::shared_ptr<network_detail::Socket>> packet_sockets_;
  std::map<Key, std::shared_ptr<network_detail::Socket>> listeners_;
  std::map<std::uint64_t, std::weak_ptr<network_detail::Connection>> connections_;
  std::size_t look_for_ended_at_ = 0;  // When there are so many.
  std::map<std::string, std::uint16_t> next_port_;
  std::uint64_t next_connection_ = 1;
};

}  // namespace starling::sim
