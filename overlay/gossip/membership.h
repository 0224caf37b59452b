// Membership: who is in the cluster and how they are, for the rest of the node; the driver of Swim.
//
// Seals and opens the datagrams, carries push-pulls over the links, keeps the one timer, and hands
// out what Swim found.
// Invariants: (1) a packet not sealed by this cluster's keyring and lineage is dropped and counted;
//             (2) watchers are called at the end of the turn, in the order of the events.
// A joiner learns the lineage over a link (Method::kJoin) and only then opens its Membership.
// Thread: one loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "crypto/access/identity.h"
#include "crypto/access/keyring.h"
#include "crypto/random.h"
#include "overlay/gossip/swim.h"
#include "overlay/links/rpc.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/transport.h"

namespace starling::overlay {

inline constexpr Duration kPushPullDeadline = 5s;
inline constexpr std::size_t kExchangesMax =
    8;  // Push-pulls under way. Above: skipped, they recur.

struct MembershipOptions {
  SwimConfig swim = SwimConfig::lan();
  Endpoint bind;      // Where datagrams are received; port 0 takes a free one.
  LineageId lineage;  // Never zero.
  // What the node says about itself. `gossip` empty: the address bound; with port 0: that port.
  MemberRecord self;
};

// A member as others see it; ourselves included.
struct MemberView {
  NodeId id;
  MemberState state = MemberState::kAlive;
  MemberRecord record;
  Heartbeat heartbeat;  // Newer than the record.
};

struct MembershipStats {
  SwimStats swim;
  // Dropped before Swim saw them.
  std::uint64_t foreign =
      0;  // Sealed by a key we do not have: another cluster, or a rotation missed.
  std::uint64_t corrupt = 0;  // Altered, or of another lineage.
  // Push-pulls.
  std::uint64_t exchanges = 0;
  std::uint64_t exchanges_failed = 0;
  // Now.
  std::size_t alive = 0;  // Suspects included, ourselves too.
  std::size_t suspect = 0;
  std::size_t dead = 0;
  std::size_t left = 0;
  int health_score = 0;  // 0 is healthy (Lifeguard).
  std::size_t gossip_queued = 0;
};

class Membership {
 public:
  using Watcher = std::function<void(const MemberEvent&)>;

  // kAddressInUse, kIo; kTooLarge, kInvalid for a record or address that cannot be said. Everything
  // passed by reference outlives the Membership.
  static Result<std::unique_ptr<Membership>> open(Loop& loop, Transport& transport, Rpc& rpc,
                                                  const Keyring& keyring, const Identity& identity,
                                                  Random& random, MembershipOptions options);
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;
  ~Membership();

  // Begins to probe and gossip. `seeds` are link endpoints, host names resolved; they are tried
  // again for as long as nobody answers. Once.
  void start(std::vector<Endpoint> seeds);
  // A link to it came up. Who is not known to be alive, and speaks, is asked at once: by gossip the
  // news of a newcomer may take seconds, in which its fellow owners would write without it.
  void meet(const NodeId& peer);
  // Tells the others, lingers for SwimConfig::leave_linger, then a kLeft event of ourselves comes.
  void leave();

  [[nodiscard]] std::vector<MemberView> members() const;  // Sorted by id.
  [[nodiscard]] std::optional<MemberView> find(const NodeId& id) const;
  [[nodiscard]] bool is_alive(const NodeId& id) const;  // Alive or suspect.
  // Also of the dead: whoever wants to reconnect has to know where. kNotFound.
  [[nodiscard]] Result<Endpoint> link_endpoint(const NodeId& id) const;

  // As Swim::UpdateSelf. kTooLarge, kInvalid.
  Status update_self(const MemberRecord& record);
  [[nodiscard]] const MemberRecord& self() const { return swim_.self(); }
  // Rides on every packet from now on; `wall_ms` is filled in here.
  void set_heartbeat(const Heartbeat& heartbeat) { swim_.set_heartbeat(heartbeat); }
  // As Swim::set_members: whoever is no member of the ring is neither heard nor spoken of.
  void set_members(std::set<NodeId> members, std::set<NodeId> gone = {}) {
    swim_.set_members(std::move(members), std::move(gone));
  }
  // As Swim::set_known_runs, and what it is told of.
  void set_known_runs(std::set<std::uint32_t> runs) { swim_.set_known_runs(std::move(runs)); }
  [[nodiscard]] bool was_told() const { return swim_.was_told(); }
  // After `remove --force` started a new lineage: packets of the old one are refused from now on.
  void set_lineage(const LineageId& lineage);

  // Watchers are never removed; each outlives the Membership.
  void on_event(Watcher watcher) { watchers_.push_back(std::move(watcher)); }

  // Nothing while no other clock is known.
  [[nodiscard]] std::optional<ClockStanding> clock_standing() const;
  [[nodiscard]] MembershipStats stats() const;
  [[nodiscard]] Endpoint gossip_endpoint() const { return datagrams_->local(); }

 private:
  Membership(Loop& loop, Rpc& rpc, const Keyring& keyring, const Identity& identity, Random& random,
             const MembershipOptions& options, std::unique_ptr<Datagrams> datagrams);

  void on_packet(const Endpoint& from, View packet);
  void on_push_pull(const NodeId& from, View body, Reply reply);
  void step(const Swim::Input& input);
  void perform(Swim::Output output);
  void exchange(const Swim::Exchange& exchange);
  void exchange_with(const NodeId& peer);
  void exchange_done(bool ok);
  void tell(std::vector<MemberEvent> events);
  void arm(Instant wake_at);

  // Set at construction.
  Loop& loop_;
  Rpc& rpc_;
  const Keyring& keyring_;
  Random& random_;

  // Loop state.
  LineageId lineage_;
  bool started_ = false;
  Swim swim_;
  std::vector<Watcher> watchers_;
  MembershipStats stats_;
  std::size_t exchanges_running_ = 0;
  Instant armed_at_ = kNever;
  Timer timer_;
  std::unique_ptr<Datagrams> datagrams_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // For callbacks that outlive us.
};

}  // namespace starling::overlay
