#include "node/replication/append/coordinator.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Task;
using protocol::Grade;
using storage::ChangeKind;

namespace {

bool is_copy(const AppendRequest& request) { return (request.flags & kAppendCopy) != 0; }
bool is_position(const AppendRequest& request) { return (request.flags & kAppendPosition) != 0; }
bool is_void(const AppendRequest& request) { return (request.flags & kAppendVoid) != 0; }
bool is_recall(const AppendRequest& request) { return (request.flags & kAppendRecall) != 0; }
// Of copies only those that ask for it.
bool is_in_order(const AppendRequest& request) {
  return !is_copy(request) || (request.flags & kAppendInOrder) != 0;
}
ChangeKind kind_of(const AppendRequest& request) {
  return is_void(request) ? ChangeKind::kVoid : ChangeKind::kEntry;
}

int strength(Grade grade) {
  switch (grade) {
    case Grade::kMemory: return 0;
    case Grade::kLocal: return 1;
    case Grade::kQuorum: return 2;
    case Grade::kAll: return 3;
  }
  return 3;
}

// What peers send is checked like what clients send: it goes to disk.
Status check_send(const AppendRequest& request, View body) {
  TRY(check_address(request.to));
  TRY(check_address(request.from));
  const bool recalls = is_recall(request) && !is_copy(request);
  const bool type_known = recalls ? request.type == 0 && is_void(request) : request.type >= 1 && request.type <= 2;
  if (!type_known || request.grade > 3 || request.seq == 0 || body.size() > storage::kBodySizeMax) {
    return Error{Errc::kInvalid, "a send with a type, grade, number or size that cannot be"};
  }
  return ok_status();
}

storage::EntryView entry_of(const AppendRequest& request, View body) {
  storage::EntryView entry;
  entry.type = static_cast<storage::EntryType>(request.type);
  entry.from = request.from;
  entry.to = request.to;
  entry.body = is_void(request) ? View{} : body;
  return entry;
}

}  // namespace

Coordinator::Coordinator(ClusterView& view, Replicator& replicator, CatchUp& catch_up,
                         Permissions permissions, Implies implies, DriveCopy drive_copy,
                         std::uint64_t retention_ms)
    : view_(view),
      replicator_(replicator),
      catch_up_(catch_up),
      permissions_(std::move(permissions)),
      implies_(implies),
      drive_copy_(std::move(drive_copy)),
      retention_ms_(retention_ms),
      holding_(view, replicator),
      scope_(view.loop) {
  serve();
}

void Coordinator::serve() {
  view_.rpc.serve(Method::kAppend, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<AppendRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    Bytes content(request->body.data);
    auto shared = std::make_shared<Reply>(std::move(reply));
    append(std::move(*request), std::move(content), [shared](Result<AppendReply> answer) {
      if (!answer) return (*shared)(answer.error());
      (*shared)(pack(*answer));
    });
  });
  view_.rpc.serve(Method::kWriteRegister, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<WriteRegisterRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    auto shared = std::make_shared<Reply>(std::move(reply));
    write_register(*request, [shared](Status done) {
      if (!done) return (*shared)(done.error());
      (*shared)(Bytes());
    });
  });
  view_.rpc.serve(Method::kFindKey, overlay::Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto request = unpack<FindKeyRequest>(body);
    if (!request) return reply(request.error());
    if (auto may = view_.answers_for(request->mailbox); !may) return reply(may.error());
    const auto state = view_.store.find_key(request->mailbox, request->key);
    if (state) return reply(pack(FindKeyReply{true, state->dot}));
    reply(pack(FindKeyReply{false, written_off(request->mailbox, request->key).value_or(Dot{})}));
  });
  view_.rpc.serve(Method::kLane, overlay::Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto query = unpack<LaneQuery>(body);
    if (!query) return reply(query.error());
    if (auto may = view_.answers_for(query->mailbox); !may) return reply(may.error());
    reply(pack(LaneAnswer{view_.store.lane_high(query->mailbox, query->device, query->lane)}));
  });
}

Status Coordinator::may_store(PartitionId partition, std::uint8_t flags, bool quorum) const {
  const auto answers = view_.answers_for(partition);
  if (!answers && answers.code() == Errc::kNotOwner) return answers.error();
  if (!view_.is_home(partition)) {
    return Error{Errc::kNotOwner, "this node keeps a copy away from the home site of partition " +
                                      std::to_string(partition.value) + " and accepts nothing for it"};
  }
  const bool behind = view_.catching_up || !answers;
  if (behind && (flags & kAppendForce) == 0) {
    return Error{Errc::kCatchingUp, "this owner is behind the others; ask the next one"};
  }
  TRY(may_use_own_run(partition));
  if (!view_.clock_trusted()) {
    // Like one that is behind: it stored nothing, and nodes of earlier programs ask the next one, too.
    return Error{Errc::kCatchingUp,
                 "this node's clock is off, or not compared with the others' yet, so it does not coordinate"};
  }
  if (view_.read_only) return Error{Errc::kFull, "no disk space left on this node; it is read-only"};
  if (quorum && view_.storing_nodes(partition) < view_.ring().w()) {
    return Error{Errc::kUnavailable,
                 "only " + std::to_string(view_.storing_nodes(partition)) + " of the " +
                     std::to_string(view_.ring().w()) +
                     " nodes that must store it can be reached; keep it, it is accepted when they are back "
                     "(see who is missing with `starling status`)"};
  }
  const auto stored = view_.store.stats();
  if (stored.pending > kPendingChangesMax || stored.gathered_bytes > storage::kGatheredBytesMax) {
    return Error{Errc::kOverloaded, "the disk does not keep up; try again in a moment"};
  }
  if (!replicator_.has_room(partition)) {
    return Error{Errc::kOverloaded, "the links to the other owners do not keep up; try again in a moment"};
  }
  if (replicator_.overloaded()) return Error{Errc::kOverloaded, "too many sends wait for their copies"};
  return ok_status();
}

Status Coordinator::may_use_own_run(PartitionId partition) const {
  // It gave the partition up and got it back: its own run must come home before it goes on.
  if (view_.store.held(partition, view_.store.writer()) < view_.store.issued(partition)) {
    return Error{Errc::kCatchingUp, "this owner has yet to fetch its own changes; ask the next one"};
  }
  if (view_.store.is_installing(partition)) {
    return Error{Errc::kCatchingUp, "this owner is still filling the partition; ask the next one"};
  }
  return ok_status();
}

Status Coordinator::may_make_anew(PartitionId partition) const {
  if (view_.read_only) return Error{Errc::kFull, "no disk space left on this node; it is read-only"};
  return may_use_own_run(partition);
}

void Coordinator::make_anew(const storage::ChangeView& copy) {
  const auto appended = view_.store.append(copy);
  replicator_.send(appended);
  if (implies_(copy)) drive_copy_(appended.partition, appended.dot, appended.bytes, [](const Status&) {});
}

void Coordinator::append(AppendRequest request, Bytes body, Done done) {
  if (!view_.in_ring()) return done(Error{Errc::kNotOwner, "this node is not in a ring yet"});
  if (auto valid = check_send(request, body); !valid) return done(valid.error());
  const MailboxId target = mailbox_of(request.to);
  Pending send{std::move(request), std::move(body), std::move(done), target, {}};
  if (is_copy(send.request) && !is_position(send.request)) send.mailbox = mailbox_of(send.request.from);
  send.key = {send.request.device, lane_to(target), send.request.seq};
  send.content = storage::content_hash(entry_of(send.request, send.body), kind_of(send.request));
  const auto floor = overlay::HlcClock::check(send.request.floor.time, view_.loop.wall_ms());
  if (is_recall(send.request) && !is_copy(send.request)) {
    if (recalling_ >= kRecallsMax) return refuse(send, {Errc::kOverloaded, "too many messages are being taken back"});
    ++recalling_;
    return scope_.spawn(take_back(std::move(send)));
  }
  // A clock that may be wrong itself judges none: the send is refused below, and another owner asked.
  if (!floor && view_.clock_trusted()) {
    ++view_.counters.clock_refused;
    return refuse(send, floor.error());
  }
  const LaneId lane{send.mailbox, send.request.device, send.key.lane};
  if (auto held = held_lanes_.find(lane); held != held_lanes_.end()) {
    if (held->second.size() >= kLaneQueueMax) {
      return refuse(send, {Errc::kOverloaded, "too many sends wait in this lane"});
    }
    held->second.push_back(std::move(send));
    return;
  }
  admit(std::move(send));
}

void Coordinator::refuse(const Pending& send, Error error) {
  ++view_.counters.append_errors;
  if (error.code == Errc::kLaneGap) ++view_.counters.lane_gaps;
  send.done(std::move(error));
}

void Coordinator::admit(Pending send) {
  const bool quorum = send.request.grade <= static_cast<std::uint8_t>(Grade::kAll);
  if (auto may = may_store(view_.store.partition_of(send.mailbox), send.request.flags, quorum); !may) {
    return refuse(send, may.error());
  }
  const KeyIn key{send.mailbox, send.key};
  if (auto it = in_flight_.find(key); it != in_flight_.end()) {
    if (supersedes(send.request, it->second.is_void, it->second.id)) {
      return refuse(send, {Errc::kOverloaded, "this number is in flight; send it again in a moment"});
    }
    if (it->second.is_void && !is_void(send.request) && !is_copy(send.request)) {
      return refuse(send, {Errc::kOverloaded, "a void of this number is in flight; send it again in a moment"});
    }
    if (!it->second.is_void && it->second.content != send.content) {
      return refuse(send, {Errc::kSequenceReused, "this number is in flight with other content"});
    }
    if (strength(static_cast<Grade>(send.request.grade)) > strength(it->second.grade)) {
      return refuse(send, {Errc::kOverloaded, "in flight at a weaker grade; send it again in a moment"});
    }
    ++view_.counters.dedup_hits;
    it->second.waiters.push_back(std::move(send.done));
    return;
  }
  const LaneId lane{send.mailbox, send.request.device, send.key.lane};
  const std::uint64_t high = view_.store.lane_high(send.mailbox, send.request.device, lane.lane);
  const std::uint64_t seq = send.request.seq;
  if (seq <= high) {
    if (auto state = view_.store.find_key(send.mailbox, send.key)) {
      return known(std::move(send), *state);
    }
  } else if (is_in_order(send.request) && seq > high + 1 && send.request.acked + 1 < seq) {
    return refuse(send, {Errc::kLaneGap, "number " + std::to_string(seq) + " came after " +
                                             std::to_string(high) +
                                             "; send again from the first unacknowledged one"});
  }
  const bool unsure = (send.request.flags & kAppendRetry) != 0 ||
                      (seq <= high && !is_copy(send.request));
  if (unsure && !send.asked) {
    held_lanes_[lane];
    return scope_.spawn(ask_owners(std::move(send), lane));
  }
  if (seq <= high && !is_copy(send.request) && !send.all_answered) {
    return refuse(send, {Errc::kUnavailable, "the owner that holds this number did not answer"});
  }
  if (seq <= high && !is_copy(send.request)) {
    return refuse(send, {Errc::kSequenceReused, "this number of the lane was used and is gone"});
  }
  if (!is_copy(send.request) && !closes_open(send, high)) {
    if (auto may = permissions_.may_send(send.mailbox, send.request.to, send.request.from); !may) {
      if (send.compared && !send.knows) {
        return refuse(send, {Errc::kUnavailable, "an owner that may know better did not answer: " +
                                                     may.error().text});
      }
      if (send.compared) return refuse(send, may.error());
      if (comparing_ >= kComparesMax) {
        return refuse(send, {Errc::kOverloaded, "too many refusals wait to be checked"});
      }
      held_lanes_[lane];
      return scope_.spawn(compare_first(std::move(send), lane));
    }
  }
  mint(std::move(send));
}

// A void closes a number of a lane that exists, or may exist elsewhere, whatever the sender may by now; whoever never
// might send opens none. Nor may who was removed go on for ever: what was on the wire by then is closed, number by
// number, and no more; what was taken back does not count.
bool Coordinator::closes_open(const Pending& send, std::uint64_t high) const {
  const std::uint64_t seq = send.request.seq;
  if (!is_void(send.request) || seq != high + 1) return false;
  if (high == 0 && !permissions_.might_send(send.mailbox, send.request.to, send.request.from)) return false;
  if (seq <= kVoidsOpenMax) return true;
  MessageKey before = send.key;
  before.seq -= kVoidsOpenMax;
  const auto state = view_.store.find_key(send.mailbox, before);
  return !state || !state->is_void || is_closed_by_recall(send.mailbox, *state);
}

// A void beats a content, and the smaller of two ids is the position of a message (invariants 3 and 4):
// either is stored beside what is there. Whatever is closed by a void stays closed.
bool Coordinator::supersedes(const AppendRequest& request, bool stored_is_void,
                             const EntryId& stored_id) {
  if (is_void(request) != stored_is_void) return is_void(request);
  return is_copy(request) && request.id < stored_id;
}

// The key is held here already: same content, so drive it to its copies once more and say the same.
void Coordinator::known(Pending send, const storage::KeyState& state) {
  if (supersedes(send.request, state.is_void, state.id)) return mint(std::move(send));
  if (state.is_void && !is_void(send.request) && !is_copy(send.request)) {
    // Of what was taken back nobody knows the content any more: only who had no answer is believed to send the same.
    if ((send.request.flags & kAppendUnanswered) != 0) return scope_.spawn(answer_closed(std::move(send)));
    return refuse(send, {Errc::kSequenceReused, "this number was closed by a void"});
  }
  if (!state.is_void && state.content != send.content) {
    return refuse(send, {Errc::kSequenceReused, "this number was used for another message"});
  }
  join(std::move(send), state);
}

void Coordinator::join(Pending send, const storage::KeyState& state) {
  ++view_.counters.dedup_hits;
  const KeyIn key{send.mailbox, send.key};
  auto& flight = in_flight_[key];
  const auto grade = static_cast<Grade>(send.request.grade);
  flight = {state.dot, state.id, send.content, state.is_void, grade, {}};
  flight.waiters.push_back(std::move(send.done));
  scope_.spawn(redrive(key, state.dot, grade));
}

void Coordinator::mint(Pending send) {
  const AppendRequest& request = send.request;
  storage::ChangeView change;
  change.kind = kind_of(request);
  change.mailbox = send.mailbox;
  change.entry = entry_of(request, send.body);
  change.entry.key = send.key;
  const bool direct = !request.to.empty() && request.to.front() == '@' && request.to != request.from;
  if (is_copy(request)) {
    change.entry.id = request.id;
    change.entry.expires_ms = request.expires_ms;
    change.entry.flags = storage::kEntryIsCopy;
    if (is_recall(request)) change.entry.flags |= storage::kEntryIsRecall;
    change.entry.conversation = mailbox_of(is_position(request) ? request.from : request.to);
    view_.observe_repair(request.id.time);
  } else {
    change.entry.id = {view_.hlc.next(view_.loop.wall_ms(), request.floor.time),
                       view_.store.writer()};
    change.entry.expires_ms = expiry_of(change.entry.id, request);
    if (direct) change.entry.flags = storage::kEntryImpliesCopy;
    change.entry.conversation = direct ? mailbox_of(request.from) : send.mailbox;
  }
  store(std::move(send), change);
}

void Coordinator::store(Pending&& send, const storage::ChangeView& change) {
  const AppendRequest& request = send.request;
  const auto appended = view_.store.append(change);
  ++view_.counters.appends;
  replicator_.send(appended);

  const KeyIn key{send.mailbox, send.key};
  auto& flight = in_flight_[key];
  flight.dot = appended.dot;
  flight.id = change.entry.id;
  flight.content = send.content;
  flight.is_void = is_void(request);
  flight.grade = static_cast<Grade>(request.grade);
  flight.waiters.push_back(std::move(send.done));
  replicate(key, appended.dot, static_cast<Grade>(request.grade), appended.bytes);
}

// Stamped once, so that all copies of a message go together (hazards F22).
std::uint64_t Coordinator::expiry_of(const EntryId& id, const AppendRequest& request) const {
  // What closes a message outlives it, also one that was minted where history is kept a little longer.
  if (is_void(request)) return hlc_ms(id.time) + 2 * retention_ms_;
  const std::uint64_t asked = request.lifetime_ms == 0 ? retention_ms_ : request.lifetime_ms;
  return hlc_ms(id.time) + std::min(asked, retention_ms_);
}

std::size_t Coordinator::longest_lane() const {
  std::size_t longest = 0;
  for (const auto& [lane, held] : held_lanes_) longest = std::max(longest, held.size());
  return longest;
}

}  // namespace starling::node
