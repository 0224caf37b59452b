#include "tests/sim/judge/sabotage.h"

#include <deque>
#include <set>

#include "crypto/access/password.h"
#include "node/mailbox/registers.h"
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/faults/intruder.h"

namespace starling::sim {
namespace {

using overlay::Method;

constexpr std::uint64_t kSyncEvery = 200;   // Commits.
constexpr std::uint64_t kBodyEvery = 40;    // Entries pushed.
constexpr std::uint64_t kCopyLateMs = 2000;

// A request or notice of type T, changed in its place.
template <class T, class Change>
void change(Bytes& body, Change how) {
  const Bytes before = body;  // What T borrows from.
  auto message = unpack<T>(before);
  if (!message) return;
  how(*message);
  body = pack(*message);
}

// The coordinator believes that everything before was acknowledged, and that nothing was seen.
void accept_gaps(const TapMessage& m, Bytes& body) {
  if (m.method != Method::kAppend) return;
  change<node::AppendRequest>(body, [](auto& send) {
    send.acked = send.seq - 1;
    send.floor = EntryId{};
  });
}

// The sender's copy is put at a position of its own.
void move_copies(const TapMessage& m, Bytes& body) {
  if (m.method != Method::kAppend) return;
  change<node::AppendRequest>(body, [](auto& send) {
    const bool copy = (send.flags & node::kAppendCopy) != 0;
    if (copy && (send.flags & node::kAppendPosition) == 0) send.id.time += hlc_at(kCopyLateMs);
  });
}

// "The rest is gone" is said of one change more than is gone.
void forget_one(const TapMessage& request, Bytes& answer) {
  if (request.method != Method::kFetch) return;
  change<storage::RangeStatement>(answer, [](auto& range) {
    if (!range.live.empty()) range.live.pop_back();
  });
}

// What it holds for others is never reported home.
void never_home(const TapMessage& request, Bytes& answer,
                const std::map<PartitionId, std::vector<std::size_t>>& owners) {
  if (request.method != Method::kHold) return;
  const auto asked = unpack<node::HoldRequest>(request.body);
  if (!asked) return;
  const auto it = owners.find(asked->partition);
  if (it == owners.end()) return;
  for (const auto owner : it->second) {
    if (owner == request.from) return;  // A coordinator that counts copies.
  }
  answer = pack(node::HoldReply{0});
}

// Now and then a follower hears a body that is not what was stored.
void alter_bodies(const TapMessage& m, Bytes& body, std::uint64_t& entries) {
  if (m.method != Method::kPush) return;
  std::deque<Bytes> made;  // Borrowed until the message is packed.
  change<node::Push>(body, [&](node::Push& push) {
    for (auto& stream : push.streams) {
      for (auto& item : stream.changes) {
        const Bytes before(item.change.data);
        auto change = storage::decode(before, item.dot);
        if (!change || change->kind != storage::ChangeKind::kEntry) continue;
        if (++entries % kBodyEvery != 0) continue;
        Bytes other(change->entry.body);
        if (!other.empty()) other.back() ^= 1;
        change->entry.body = other;
        item.change.data = made.emplace_back(storage::encode(*change, item.dot));
      }
    }
  });
}

// What others have of a node's own writer.
void hide_own_dots(Bytes& answer, WriterId own) {
  change<node::CompareReply>(answer, [own](auto& reply) {
    for (auto& item : reply.items) {
      storage::VersionVector others;
      for (const auto& dot : item.vector.dots()) {
        if (dot.writer != own) others.raise(dot.writer, dot.n);
      }
      item.vector = others;
    }
  });
}

// Whoever hands a partition over hears that it is covered, whatever the new owner has.
void claim_all(const TapMessage& request, Bytes& answer, const std::set<WriterId>& writers) {
  const auto asked = unpack<node::CompareRequest>(request.body);
  if (!asked || !asked->all) return;
  change<node::CompareReply>(answer, [&writers](auto& reply) {
    for (auto& item : reply.items) {
      for (const auto writer : writers) item.vector.raise(writer, ~0ull);
    }
  });
}

// Every account has the password of the intruder.
void forge_password(Bytes& answer) {
  change<node::ReadRegistersReply>(answer, [](auto& reply) {
    for (auto& item : reply.items) {
      if (item.key != node::kAccountKey) continue;
      auto account = unpack<node::AccountValue>(item.value.data);
      const auto hash = hash_password(kWrongPassword, PasswordSalt{}, kCheapest);
      if (!account || !hash) continue;
      account->password_hash = *hash;
      item.value.data = pack(*account);
    }
  });
}

template <class T>
void say_count(Bytes& body, std::uint32_t count) {
  change<T>(body, [count](T& message) { message.partitions = count; });
}

// Whatever the sender meant, the receiver hears of its own partitions.
void hide_count(Method method, Bytes& body, std::uint32_t count) {
  switch (method) {
    case Method::kReplicate:
    case Method::kHint: return say_count<node::Replicate>(body, count);
    case Method::kReplicated: return say_count<node::Replicated>(body, count);
    case Method::kHinted: return say_count<node::Hinted>(body, count);
    case Method::kCompare: return say_count<node::CompareRequest>(body, count);
    case Method::kFetch: return say_count<node::FetchRequest>(body, count);
    case Method::kLanes: return say_count<node::LanesRequest>(body, count);
    case Method::kHold: return say_count<node::HoldRequest>(body, count);
    case Method::kFollow: return say_count<node::FollowRequest>(body, count);
    case Method::kPush: return say_count<node::Push>(body, count);
    default: return;
  }
}

// An acceptor that grants everything and remembers nothing.
std::optional<Bytes> grant(const TapMessage& m, View instances) {
  if (m.method != Method::kPaxos) return std::nullopt;
  const auto request = overlay::decode_paxos_request(m.body);
  if (!request || !View(request->instance.data).starts_with(instances)) return std::nullopt;
  const bool asks = request->kind == overlay::PaxosKind::kPrepare ||
                    request->kind == overlay::PaxosKind::kAccept;
  if (!asks) return std::nullopt;
  overlay::PaxosResponse response;
  response.kind = request->kind;
  response.ballot = request->ballot;
  response.promised = request->ballot;
  response.verdict = overlay::Verdict::kGranted;
  return pack(response);
}

// Taken back, says the coordinator, and stores nothing.
std::optional<Bytes> pretend_recall(const TapMessage& m) {
  if (m.method != Method::kAppend) return std::nullopt;
  const auto request = unpack<node::AppendRequest>(m.body);
  const bool recalls = request && (request->flags & node::kAppendRecall) != 0 && (request->flags & node::kAppendCopy) == 0;
  if (!recalls) return std::nullopt;
  return pack(node::AppendReply{request->ring, EntryId{}, 2});
}

}  // namespace

std::string sabotage_text(int invariant) {
  switch (invariant) {
    case 1: return "disks say that they synced, and did not";
    case 2: return "a device saves its cursors apart from the messages that they cover";
    case 3: return "a coordinator takes numbers of a lane in any order, at ids below the floor";
    case 4: return "the sender's copy of a message gets a position of its own";
    case 5: return "a run that is fetched says of a change that lives that it is gone";
    case 6: return "a new owner says that it has all of a partition before it has";
    case 7: return "what is pushed is not what was stored";
    case 8: return "a node goes on with its writer after a crash, deaf to what others have of it";
    case 9: return "nobody is told how much waits for a slow device";
    case 15: return "what a stand-in holds is never reported home";
    case 10: return "acceptors forget what they promised about names";
    case 11: return "acceptors forget what they promised about ring versions";
    case 12: return "whoever asks for an account is told the password hash of an intruder";
    case 13: return "copies in another site are counted like those at home";
    case 16: return "recalls are acknowledged and not stored";
    case 14: return "a partition's number is taken for one of as many partitions as the receiver has";
    default: return "";
  }
}

RunOptions sabotaged(const RunOptions& options) {
  RunOptions run = options;
  run.workload.forgetful = options.sabotage == 2;
  run.cluster.keep_writers = options.sabotage == 8;
  run.cluster.network.hides_queues = options.sabotage == 9;
  if (options.sabotage == 16) run.workload.recalls = true;
  if (options.sabotage == 13) run.cluster.sites = {};
  if (options.sabotage == 14) {
    run.doubles.deaf_one_in = 1;
    run.doubles.deaf_most = 12s;
  }
  return run;
}

void sabotage(int invariant, World& world, SimCluster& cluster, Tap& tap) {
  if (invariant == 0) return;
  world.note("sabotage", sabotage_text(invariant));
  switch (invariant) {
    case 1:
      for (std::size_t i = 0; i < cluster.size(); ++i) cluster.disk(i).set_sync_every(kSyncEvery);
      break;
    case 3: tap.alter = accept_gaps; break;
    case 4: tap.alter = move_copies; break;
    case 5: tap.alter_answer = forget_one; break;
    case 6:
      tap.alter_answer = [&cluster, writers = std::set<WriterId>()](const TapMessage& m,
                                                                    Bytes& answer) mutable {
        for (std::size_t i = 0; i < cluster.size(); ++i) writers.insert(cluster.writer(i));
        if (m.method == Method::kCompare) claim_all(m, answer, writers);
      };
      break;
    case 7:
      tap.alter = [entries = std::uint64_t{0}](const TapMessage& m, Bytes& body) mutable {
        alter_bodies(m, body, entries);
      };
      break;
    case 8:
      tap.alter_answer = [&cluster](const TapMessage& m, Bytes& answer) {
        if (m.method == Method::kCompare) hide_own_dots(answer, cluster.writer(m.from));
      };
      break;
    case 12:
      tap.alter_answer = [](const TapMessage& m, Bytes& answer) {
        if (m.method == Method::kReadRegisters) forge_password(answer);
      };
      break;
    case 15:
      tap.alter_answer = [owners = cluster.owner_table(0)](const TapMessage& m, Bytes& answer) {
        never_home(m, answer, owners);
      };
      break;
    case 14:
      tap.alter = [&cluster](const TapMessage& m, Bytes& body) { hide_count(m.method, body, cluster.partitions(m.to)); };
      tap.alter_answer = [&cluster](const TapMessage& m, Bytes& body) {
        if (m.method == Method::kCompare) say_count<node::CompareReply>(body, cluster.partitions(m.from));
      };
      break;
    case 16: tap.forge = pretend_recall; break;
    case 10: tap.forge = [](const TapMessage& m) { return grant(m, "name/"); }; break;
    case 11: tap.forge = [](const TapMessage& m) { return grant(m, "ring"); }; break;
    default: break;
  }
}

}  // namespace starling::sim
