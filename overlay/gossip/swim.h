// Swim: who is there and who has failed (SWIM, DSN 2002; Lifeguard, arXiv 1707.00788), as a pure
// machine.
//
// Each interval one member, in a random round-robin order, is pinged; if it is silent, three others
// are asked to ping it; if all are silent it is suspected, and dead unless it refutes in time. News
// rides on the packets and is gossiped. Push-pulls with members, dead ones and seeds mend what
// gossip missed, so a healed split merges by itself.
// Swim decides; it never sends, sleeps or reads a clock: the caller performs the outputs, and calls
// again no later than wake_at.
// Invariants: (1) no member is believed alive without a record that it signed;
//             (2) of a sender's datagrams each is heeded once, and only those of its newest run, with its proof;
//             (3) a datagram never exceeds kPacketSizeMax;
//             (4) after leaving it is silent.
// Liveness only moves traffic: who belongs to the cluster is the ring's decision.
// Thread: one loop; pure.   On the wire: swim_wire.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "crypto/access/identity.h"
#include "crypto/random.h"
#include "overlay/loop/hlc.h"
#include "overlay/gossip/awareness.h"
#include "overlay/gossip/gossip_queue.h"
#include "overlay/gossip/member_table.h"
#include "overlay/gossip/suspicion.h"
#include "overlay/gossip/swim_config.h"
#include "overlay/gossip/swim_wire.h"
#include "overlay/loop/transport.h"

namespace starling::overlay {

inline constexpr Duration kRingReminder = 1s;
// How often a run of our identity has to outbid the very incarnation that we had chosen to go above it: records of
// former runs, which others may still have, do not. Of two that run at once the newcomer gives way.
inline constexpr int kRivalBidsOfNewcomer = 3;
inline constexpr int kRivalBids = 12;
inline constexpr Duration kNewcomerFor = 60s;
inline constexpr std::size_t kRelaysMax = 256;  // Probes made for others at once. Above: not made.

struct MemberEvent {
  enum class Kind : std::uint8_t {
    kJoined,      // First heard of, and alive.
    kChanged,     // A new record of a member whose state stays as it was.
    kSuspected,   // Still counts as alive.
    kAliveAgain,  // After suspect, dead or left.
    kDied,
    kLeft,              // Of its own will; of ourselves: our leave is done.
    kSelfDeclaredDead,  // Others took us for dead (it is refuted): we may have missed things.
    kNewerRing,         // `node` knows ring version `ring`, newer than ours. Repeated while it is.
    kRival,             // Another process runs under our identity: a data folder was copied, and both were started.
    kUnknownRun,        // An earlier run under our writer that set_known_runs() did not name (hazards F3).
  };
  Kind kind;
  NodeId node;
  RingNumber ring;
};

struct SwimStats {
  std::uint64_t packets_sent = 0;
  std::uint64_t packets_received = 0;
  // Dropped packets by reason.
  std::uint64_t malformed = 0;
  std::uint64_t own = 0;        // Our own id as sender: a reflection, or a copied disk.
  std::uint64_t outsider = 0;   // From or about a node that is no member of the ring.
  std::uint64_t stranger = 0;   // No record of the sender yet.
  std::uint64_t stale_run = 0;  // Of an earlier run of the sender, or one not heard of yet.
  std::uint64_t unproven = 0;   // Of somebody else than it says, who holds the secret or held it.
  std::uint64_t replayed = 0;
  std::uint64_t misdirected = 0;  // A ping meant for another node that had our address.
  // Dropped news.
  std::uint64_t forged = 0;  // A record with a wrong id or signature.
  std::uint64_t table_full = 0;
  // Events of the protocol.
  std::uint64_t probes_failed = 0;
  std::uint64_t indirect_probes = 0;
  std::uint64_t suspicions = 0;
  std::uint64_t deaths = 0;
  std::uint64_t refutations = 0;
  std::uint64_t overslept = 0;
};

// How our wall clock stands among those that are known.
struct ClockStanding {
  std::int64_t median_ms = 0;  // How far the others are ahead, by their median.
  // A majority of all clocks, ours among them, is within kClocksApartMax of ours. Where no majority agrees
  // nobody can say who is right, so everybody is off (falsetickers of Marzullo 1985, RFC 5905 section 11.2.1).
  bool agrees = false;
  bool near = false;  // The same within kClocksNearMax: good enough to tell what expired by now (decision 0018).
};

class Swim {
 public:
  struct Tick {};
  struct Start {
    std::vector<Endpoint> seeds;  // Link endpoints of nodes to join through; our own does no harm.
  };
  struct Packet {
    Endpoint from;
    Bytes plain;  // Opened: it comes from someone with the cluster's secret.
  };
  struct Merge {
    NodeId from;  // Proven by the link.
    PushPull body;
  };
  // Replaces what the node says about itself. Id, key, writer, run and incarnation stay Swim's; ring,
  // catching_up and sessions are those of the heartbeat. REQUIRES: check_record(record).
  struct UpdateSelf {
    MemberRecord record;
  };
  struct Leave {};
  using Input = std::variant<Tick, Start, Packet, Merge, UpdateSelf, Leave>;

  struct Send {
    Endpoint to;
    Bytes plain;
  };
  // Send push_pull() to a node, or to whoever is at a seed, and step(Merge) with the answer.
  struct Exchange {
    std::variant<NodeId, Endpoint> with;
  };
  struct Output {
    std::vector<Send> sends;
    std::vector<Exchange> exchanges;
    std::vector<MemberEvent> events;
    Instant wake_at = kNever;
  };

  // `self.incarnation` is best the wall clock in milliseconds, so that a restarted node is newer
  // than its former run; where it is not, Swim learns so from the others and goes above. REQUIRES:
  // check_record(self); self.key and self.node are those of `identity`.
  Swim(const SwimConfig& config, const Identity& identity, Random& random, MemberRecord self);

  Output step(const Input& input, Instant now, std::int64_t now_wall_ms);

  // The whole table, for a push-pull; the answering side merges first. REQUIRES: started.
  // `to` is told of its earlier runs, too.
  [[nodiscard]] PushPull push_pull(Instant now, std::int64_t now_wall_ms, const NodeId& to = {}) const;

  // Rides on everything sent from now on; `wall_ms` is filled in when it is sent.
  void set_heartbeat(const Heartbeat& heartbeat) { heartbeat_ = heartbeat; }
  // Who is heard and spoken of: the members of the ring version known here; the others are forgotten.
  // Until it is said, by a joiner that knows no ring yet, everybody who has the secret. Those in
  // `gone` left or were removed: while they are dead nobody looks for them, they come by themselves.
  void set_members(std::set<NodeId> members, std::set<NodeId> gone = {});
  [[nodiscard]] bool hears(const NodeId& id) const { return !members_ || members_->contains(id); }

  // The runs under our writer that this node's folder knows of, when it kept that writer. Empty: nothing is compared.
  void set_known_runs(std::set<std::uint32_t> runs) { known_runs_ = std::move(runs); }
  // Somebody told us of everybody whom it knows, ourselves as it knew us included.
  [[nodiscard]] bool was_told() const { return was_told_; }

  [[nodiscard]] const MemberRecord& self() const { return self_; }
  [[nodiscard]] const Heartbeat& heartbeat() const { return heartbeat_; }
  [[nodiscard]] const MemberTable& table() const { return table_; }
  [[nodiscard]] const SwimStats& stats() const { return stats_; }
  [[nodiscard]] int health_score() const { return awareness_.score(); }
  [[nodiscard]] std::size_t gossip_queued() const { return queue_.size(); }

  // What the clocks of the live members say of ours: of each what it said itself in the last `kClockHeardMax`. Nothing
  // when none was heard. Who left has no say.
  [[nodiscard]] std::optional<ClockStanding> clock_standing(Instant now, std::int64_t now_wall_ms) const;
  static constexpr Duration kClockHeardMax = 10min;

 private:
  enum class Phase : std::uint8_t { kIdle, kRunning, kLeaving, kGone };
  struct Probe {
    NodeId target;
    std::uint64_t seq;
    std::uint64_t told;  // The incarnation of ours that the ping told of.
    Instant ask_others_at;
    Instant ends_at;
    bool asked = false;
    bool had_helpers = false;
    std::set<NodeId> silent_helpers;  // Asked, and not nacked yet.
  };
  struct Relay {  // A probe that we make for another node, under our own number.
    NodeId requester;
    Endpoint reply_to;
    std::uint64_t reply_seq;
    NodeId target;
    Instant nack_at;
    Instant ends_at;
    bool nacked = false;
  };

  // swim.cc
  void on(const Tick&) {}
  void on(const Start& start);
  void on(const Packet& packet);
  void on(const Merge& merge);
  void on(const UpdateSelf& update);
  void on(const Leave& leave);
  void note_oversleep(Instant now);
  void run_timers();
  void run_gossip();
  void run_exchanges();
  [[nodiscard]] Instant wake_at() const;
  [[nodiscard]] std::size_t cluster_size() const { return table_.live() + 1; }
  [[nodiscard]] const SecretKey* key_with(const MemberRecord& peer);
  [[nodiscard]] bool is_of(const Member& sender, View plain);
  [[nodiscard]] std::vector<NodeId> pick(std::size_t n, std::vector<NodeId> from);
  void event(MemberEvent::Kind kind, const NodeId& node, RingNumber ring = {});
  void send(const Endpoint& to, const Member* member, MessageKind kind, std::uint64_t seq,
            const NodeId& about);
  void send(const Member& to, MessageKind kind, std::uint64_t seq, const NodeId& about);

  // swim_probe.cc
  void run_probe();
  void run_relays();
  void start_probe();
  void ask_others();
  void fail_probe();
  [[nodiscard]] const Member* next_target();
  void enter_round(const NodeId& id);
  void on_ping(const Packet& packet, const Datagram& datagram, const Member& sender);
  void on_ping_req(const Packet& packet, const Datagram& datagram, const Member& sender);
  void on_ack(const Datagram& datagram, Member& sender);
  void on_nack(const Datagram& datagram);

  // swim_news.cc
  std::optional<NodeId> take_record(View signed_bytes, bool spread, MemberState initial);
  void take_own_record(const MemberRecord& record, View signed_bytes);
  void look_for_rival(const MemberRecord& record);
  void take_claim(const Claim& claim);
  void take_heartbeat(Member& member, const Heartbeat& heartbeat);
  void take_rumour(Member& member, Heartbeat heartbeat, Instant heard);
  void mind_ring(const Member& member);
  void take_entry(const NodeId& from, const MemberEntry& entry, bool spread);
  void accuse(const Claim& claim);
  void refute(const Claim& claim);
  void run_suspicions();
  void sign_self();
  void spread(const Claim& claim);

  // Set at construction.
  const SwimConfig config_;
  const Identity& identity_;
  Random& random_;

  // Ourselves.
  Phase phase_ = Phase::kIdle;
  MemberRecord self_;
  const std::uint64_t born_as_;  // Its incarnation at first.
  Shared self_update_;  // self_, signed, as an update.
  Heartbeat heartbeat_;
  std::uint64_t died_at_ = 0;  // Up to this incarnation no death of ours is news.
  std::uint64_t counter_ = 0;
  std::uint64_t next_seq_;
  Instant started_at_;
  std::set<std::uint32_t> known_runs_;
  bool was_told_ = false;
  std::uint32_t rival_run_ = 0;  // The run of our identity that outbid us last,
  int rival_bids_ = 0;           // and how often it did, one after the other.

  // The others.
  MemberTable table_;
  std::map<NodeId, SecretKey> proof_keys_;
  std::map<NodeId, Suspicion> suspicions_;
  std::optional<std::set<NodeId>> members_;
  std::set<NodeId> gone_;
  std::vector<Endpoint> seeds_;
  Awareness awareness_;
  GossipQueue queue_;

  // Probing.
  std::vector<NodeId> round_;  // The order of this round; those before round_at_ had their turn.
  std::size_t round_at_ = 0;
  std::optional<Probe> probe_;
  std::map<std::uint64_t, Relay> relays_;

  // Timers.
  Instant probe_at_;
  Instant gossip_at_;
  Instant push_pull_at_;
  Instant reconnect_at_;
  Instant join_at_;
  Instant gone_at_ = kNever;
  Instant ring_told_at_;
  RingNumber ring_told_;

  // This step.
  Instant now_;
  std::int64_t wall_ms_ = 0;
  Instant due_ = kNever;  // wake_at of the step before.
  Output out_;
  SwimStats stats_;
};

}  // namespace starling::overlay
