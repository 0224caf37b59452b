// Tap: what the nodes of a cluster say to each other, seen by meaning and steered.
//
// It stands between the services of each node and its links. A hook sees a message before its
// bytes leave, when it arrives, and when its answer is back, and decides its fate. What is lost
// takes the link with it, so notices still arrive in order or the link goes down (overlay/links/rpc.h);
// what is held was slow, and ends with kTimeout at the deadline of its call.
// Hooks run in turns of nodes. They may cut the network; to crash a node they ask the world for a
// moment of its own.
// Thread: the world's.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "node/replication/append/append_messages.h"
#include "node/replication/follow/follow_messages.h"
#include "node/replication/messages.h"
#include "overlay/links/rpc.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/sim_network.h"

namespace starling::sim {

// kDamage, of an answer: as if what was asked for could not be read there. kLate, of what leaves: a random while
// later, so that what follows overtakes it, which the link itself never does.
enum class Fate { kPass, kHold, kLose, kDamage, kLate };

struct TapMessage {
  enum class Kind { kNotice, kRequest };
  Kind kind = Kind::kNotice;
  std::size_t from = 0;  // Indexes of nodes; equal when a node asks itself.
  std::size_t to = 0;
  overlay::Method method{};
  View body;
};

// A stored change on its way.
struct Carried {
  PartitionId partition;  // Zero where the message does not say it.
  Dot dot;
  storage::ChangeKind kind{};
  EntryId id;              // Of a register: its stamp.
  MessageKey key;
  std::uint64_t hash = 0;  // Of the body.
  MailboxId mailbox;
};

using IpOf = std::function<std::string(std::size_t host)>;

class Tap {
 public:
  // Before it leaves. A notice is not held: what follows would overtake it (kLate wants just that).
  std::function<Fate(const TapMessage&)> on_leave;
  // Before the handler sees it.
  std::function<void(const TapMessage&)> on_arrive;
  // A call has its answer, at the caller.
  std::function<Fate(const TapMessage& request, const Result<Bytes>& answer)> on_answer;

  // Of nodes that do not do what they should (sabotage.h). At the receiver: another body in the place
  // of what came, or an answer in the place of the handler's; at the caller: another answer.
  std::function<void(const TapMessage&, Bytes& body)> alter;
  std::function<std::optional<Bytes>(const TapMessage& request)> forge;
  std::function<void(const TapMessage& request, Bytes& answer)> alter_answer;

  // How late kLate is.
  Duration late_min = 1ms;
  Duration late_max = 100ms;

  // Lets go of what was held, in order.
  void release();
  [[nodiscard]] std::size_t held() const { return held_.size(); }
  // Forgets the hooks and lets go.
  void clear();

  // For SimCluster.
  std::unique_ptr<overlay::Rpc> wrap(std::size_t host, SimLoop& loop, SimNetwork& network,
                                     IpOf ip, overlay::Rpc& links);
  void know(const NodeId& node, std::size_t host) { hosts_[node] = host; }

 private:
  friend class TapRpc;
  std::map<NodeId, std::size_t> hosts_;
  std::list<std::function<void()>> held_;
};

// What a Replicate or a Push carries, or the answer to a fetch or a read.
std::vector<Carried> carried(const TapMessage& message);
std::vector<Carried> carried(const TapMessage& request, const Result<Bytes>& answer);

}  // namespace starling::sim
