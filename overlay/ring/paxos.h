// Paxos: one value, chosen once by a majority of voters (Lamport, Paxos Made Simple, 2001).
//
// Written once, used for ring versions and for names. One instance decides one value; the caller
// names instances, keeps their AcceptorState and moves the messages (paxos_wire.h).
// Invariants: (1) an acceptor grants a ballot at most once, so two proposals of one node, or a
//                 proposer that lost its memory, cannot both carry a ballot through;
//             (2) an acceptor never accepts below its promise;
//             (3) once a majority accepted a value, every higher ballot carries that value.
// All three rest on the caller: a changed AcceptorState is synced to disk BEFORE its reply leaves,
// and voters that lost it never vote again (a wiped disk is a new node).
// Thread: one loop per object; pure.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/msgpack.h"
#include "crypto/random.h"
#include "crypto/result.h"
#include "overlay/loop/clock.h"
#include "storage/ids.h"

namespace starling::overlay {

// A broken peer could exhaust the rounds of an instance with one message; far below the type's end
// there is still a number to refuse it with.
inline constexpr std::uint64_t kPaxosRoundMax = std::uint64_t{1} << 48;

struct Ballot {
  std::uint64_t round = 0;  // From 1; 0 is "none".
  NodeId node;              // Of the proposer.
  [[nodiscard]] bool is_none() const { return round == 0; }
  friend bool operator==(const Ballot&, const Ballot&) = default;
  friend auto operator<=>(const Ballot&, const Ballot&) = default;
  FIELDS(round, node)
};

// --- Acceptor ---

struct AcceptorState {
  Ballot promised;
  Ballot accepted;
  std::optional<Blob> value;  // Of `accepted`, or the decision.
  bool decided = false;       // `value` is chosen, for ever.
  friend bool operator==(const AcceptorState&, const AcceptorState&) = default;
  FIELDS(promised, accepted, value, decided)
};

enum class Verdict : std::uint8_t {
  kGranted = 1,    // Promised, or accepted.
  kRefused = 2,    // `promised` is at or above the ballot.
  kDecided = 3,    // `value` is the decision.
  kSealed = 4,     // The voter does not vote here, now: the caller refuses before prepare() and accept().
  kUndecided = 5,  // Answer to a query: no decision is known here.
};

struct PrepareReply {
  Ballot ballot;  // Repeats the request's.
  Verdict verdict = Verdict::kRefused;
  Ballot promised;
  Ballot accepted;            // None when nothing was accepted yet.
  std::optional<Blob> value;  // Of `accepted`, or the decision.
};

struct AcceptReply {
  Ballot ballot;  // Repeats the request's.
  Verdict verdict = Verdict::kRefused;
  Ballot promised;
  std::optional<Blob> value;  // The decision.
};

// Each may change `state`; sync it before the reply leaves.
PrepareReply prepare(AcceptorState& state, const Ballot& ballot);
AcceptReply accept(AcceptorState& state, const Ballot& ballot, const Blob& value);
// kCorrupt when another decision is known here: the invariant is broken, raise an alarm.
Status learn(AcceptorState& state, const Blob& decision);
std::optional<Blob> query(const AcceptorState& state);

// For a change of voters: the first state of a new voter. It holds whatever the previous ones chose when
// `states` are those of a majority of them, of whom none votes any more (node/ring/tenure.h).
AcceptorState inherit(const std::vector<AcceptorState>& states);

// --- Proposer ---

struct Prepare {
  Ballot ballot;
};
struct Accept {
  Ballot ballot;
  Blob value;
};
struct Decided {
  Blob value;
};

// Carries one proposal through, against loss and rivals. It never sends or reads a clock: the
// caller performs the sends (those to itself too) and calls again with each reply and at wake_at.
class Proposer {
 public:
  struct Options {
    Duration round_timeout = 1s;  // Without a majority by then: a new round.
    Duration backoff_min = 20ms;  // After refusals, doubling; the wait is drawn from [0, backoff).
    Duration backoff_max = 2s;
  };

  struct Tick {};
  struct Answer {
    NodeId from;
    std::variant<PrepareReply, AcceptReply> reply;
  };
  using Input = std::variant<Tick, Answer>;

  struct Send {
    NodeId to;
    std::variant<Prepare, Accept, Decided> message;
  };
  struct Output {
    std::vector<Send> sends;
    std::optional<Blob> decided;  // Once; it may be a rival's value.
    std::optional<Error> failed;  // Once; kUnavailable (outcome unknown) or kStaleRing (sealed).
    Instant wake_at = kNever;
  };

  // REQUIRES: voters are not empty, sorted and distinct. `self` need not be among them.
  // `first_round` from 1: a hint from an earlier attempt; safety does not depend on it.
  Proposer(std::vector<NodeId> voters, const NodeId& self, Blob value, std::uint64_t first_round,
           Instant deadline, Random& random, Options options);
  Proposer(std::vector<NodeId> voters, const NodeId& self, Blob value, std::uint64_t first_round,
           Instant deadline, Random& random);

  // The first Tick starts it. After `decided` or `failed` nothing more comes out.
  Output step(const Input& input, Instant now);

  [[nodiscard]] bool done() const { return phase_ == Phase::kDone; }
  [[nodiscard]] std::uint64_t round() const { return ballot_.round; }

 private:
  enum class Phase { kIdle, kPreparing, kAccepting, kBackingOff, kDone };
  enum class Vote : std::uint8_t { kNone, kGranted, kRefused, kSealed };

  void begin_round(Instant now, Output& out);
  void begin_accepting(Instant now, Output& out);
  void on_prepare_reply(std::size_t voter, const PrepareReply& reply, Instant now, Output& out);
  void on_accept_reply(std::size_t voter, const AcceptReply& reply, Instant now, Output& out);
  void on_refusal(std::size_t voter, Verdict verdict, const Ballot& promised, Instant now,
                  Output& out);
  void decide(const Blob& value, Output& out);
  void fail(Errc code, std::string text, Output& out);
  void send_all(const std::variant<Prepare, Accept, Decided>& message, Output& out) const;
  [[nodiscard]] std::size_t count(Vote vote) const;
  [[nodiscard]] std::size_t majority() const { return voters_.size() / 2 + 1; }
  Duration jitter(Duration bound);

  // Set at construction.
  const std::vector<NodeId> voters_;
  const NodeId self_;
  const Blob own_value_;
  const Instant deadline_;
  const Options options_;
  Random& random_;

  // State of the proposal.
  Phase phase_ = Phase::kIdle;
  Ballot ballot_;
  std::uint64_t round_floor_;  // The next round is above it.
  Duration backoff_;
  Instant wake_at_ = Instant::min();

  // State of the round.
  std::vector<Vote> votes_;  // Like voters_.
  Ballot best_;              // Highest accepted ballot among the promises.
  Blob value_;               // Its value, or ours.
};

}  // namespace starling::overlay
