#include "node/replication/coordinator.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Task;
using protocol::Grade;
using storage::ChangeKind;

namespace {

constexpr Duration kAskDeadline = 500ms;

bool is_copy(const AppendRequest& request) { return (request.flags & kAppendCopy) != 0; }
bool is_void(const AppendRequest& request) { return (request.flags & kAppendVoid) != 0; }
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
Status check(const AppendRequest& request, View body) {
  TRY(check_address(request.to));
  TRY(check_address(request.from));
  const bool type_known = request.type >= 1 && request.type <= 2;
  if (!type_known || request.grade > 3 || request.seq == 0 || body.size() > storage::kBodySizeMax) {
    return Error{Errc::kInvalid, "a send with a type, grade, number or size that cannot be"};
  }
  return ok_status();
}

Status check(const WriteRegisterRequest& request) {
  if (request.merge < 1 || request.merge > 3 || request.key.empty() ||
      request.key.size() > storage::kRegisterKeySizeMax ||
      request.value.data.size() > storage::kRegisterValueSizeMax) {
    return Error{Errc::kInvalid, "a register with a merge kind or size that cannot be"};
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

// What an answer waits for: the copies here and, where one is implied, those of the other mailbox.
struct Coordinator::Both {
  int left = 1;
  std::uint8_t copies = 0;
  std::optional<Error> error;
  std::function<void(Result<std::uint8_t>)> done;

  void part(const Result<std::uint8_t>& result) {
    if (result) copies = std::max(copies, *result);
    if (!result && !error) error = result.error();
    if (--left > 0) return;
    if (error) return done(*error);
    done(copies);
  }
};

Coordinator::Coordinator(ClusterView& view, Replicator& replicator, CatchUp& catch_up,
                         MaySend may_send, Implies implies, DriveCopy drive_copy)
    : view_(view),
      replicator_(replicator),
      catch_up_(catch_up),
      may_send_(std::move(may_send)),
      implies_(implies),
      drive_copy_(std::move(drive_copy)),
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
    if (!view_.is_owner(view_.store.partition_of(request->mailbox))) {
      return reply(Error{Errc::kNotOwner, "this node does not own the mailbox"});
    }
    const auto state = view_.store.find_key(request->mailbox, request->key);
    reply(pack(FindKeyReply{state.has_value(), state ? state->dot : Dot{}}));
  });
  view_.rpc.serve(Method::kLane, overlay::Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto query = unpack<LaneQuery>(body);
    if (!query) return reply(query.error());
    if (!view_.is_owner(view_.store.partition_of(query->mailbox))) {
      return reply(Error{Errc::kNotOwner, "this node does not own the mailbox"});
    }
    reply(pack(LaneAnswer{view_.store.lane_high(query->mailbox, query->device, query->lane)}));
  });
}

Status Coordinator::may_store(PartitionId partition, std::uint8_t flags, bool quorum) const {
  if (!view_.is_owner(partition)) {
    return Error{Errc::kNotOwner, "this node does not own the partition in ring version " +
                                      std::to_string(view_.in_ring() ? view_.ring().number().value : 0)};
  }
  if (view_.catching_up && (flags & kAppendForce) == 0) {
    return Error{Errc::kCatchingUp, "this owner is behind the others; ask the next one"};
  }
  if (!view_.clock_trusted()) {
    return Error{Errc::kUnavailable, "this node's clock is off, so it does not coordinate"};
  }
  if (view_.read_only) return Error{Errc::kFull, "no disk space left on this node; it is read-only"};
  if (quorum && view_.reachable_owners(partition) < view_.ring().w()) {
    return Error{Errc::kUnavailable, "fewer owners reachable than copies needed; kept pending by you, "
                                     "accepted again when they return"};
  }
  if (view_.store.stats().pending > kPendingChangesMax) {
    return Error{Errc::kOverloaded, "the disk does not keep up; try again in a moment"};
  }
  if (replicator_.overloaded()) return Error{Errc::kOverloaded, "too many sends wait for their copies"};
  return ok_status();
}

void Coordinator::append(AppendRequest request, Bytes body, Done done) {
  if (!view_.in_ring()) return done(Error{Errc::kNotOwner, "this node is not in a ring yet"});
  if (auto valid = check(request, body); !valid) return done(valid.error());
  const MailboxId target = mailbox_of(request.to);
  Pending send{std::move(request), std::move(body), std::move(done), target, {}, {}};
  if (is_copy(send.request)) send.mailbox = mailbox_of(send.request.from);
  send.key = {send.request.device, lane_to(target), send.request.seq};
  send.partition = view_.store.partition_of(send.mailbox);
  send.content = storage::content_hash(entry_of(send.request, send.body), kind_of(send.request));
  if (auto floor = overlay::HlcClock::check(send.request.floor.time, view_.loop.wall_ms()); !floor) {
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
  if (auto may = may_store(send.partition, send.request.flags, quorum); !may) {
    return refuse(send, may.error());
  }
  const KeyIn key{send.mailbox, send.key};
  if (auto it = in_flight_.find(key); it != in_flight_.end()) {
    if (supersedes(send.request, it->second.is_void, it->second.id)) {
      return refuse(send, {Errc::kOverloaded, "this number is in flight; send it again in a moment"});
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
  } else if (!is_copy(send.request) && seq > high + 1 && send.request.acked + 1 < seq) {
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
  // A void closes a number of a lane that exists, whatever the sender may by now; it opens none.
  if (!is_copy(send.request) && !(is_void(send.request) && high > 0)) {
    if (auto may = may_send_(send.mailbox, send.request.to, send.request.from); !may) {
      return refuse(send, may.error());
    }
  }
  mint(std::move(send));
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
    return refuse(send, {Errc::kSequenceReused, "this number was closed by a void"});
  }
  if (!state.is_void && state.content != send.content) {
    return refuse(send, {Errc::kSequenceReused, "this number was used for another message"});
  }
  ++view_.counters.dedup_hits;
  const KeyIn key{send.mailbox, send.key};
  auto& flight = in_flight_[key];
  const auto grade = static_cast<Grade>(send.request.grade);
  flight = {state.dot, state.id, send.content, state.is_void, grade, {}};
  flight.waiters.push_back(std::move(send.done));
  scope_.spawn(redrive(key, send.partition, state.dot, grade));
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
    change.entry.flags = storage::kEntryIsCopy;
    change.entry.conversation = mailbox_of(request.to);
    view_.hlc.observe_repair(request.id.time, view_.loop.wall_ms());
  } else {
    change.entry.id = {view_.hlc.next(view_.loop.wall_ms(), request.floor.time),
                       view_.store.writer()};
    if (direct) change.entry.flags = storage::kEntryImpliesCopy;
    change.entry.conversation = direct ? mailbox_of(request.from) : send.mailbox;
  }
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
  replicate(key, appended.partition, appended.dot, static_cast<Grade>(request.grade),
            appended.bytes);
}

// Waits for the copies of this mailbox and, where one is implied, for the sender's own.
void Coordinator::replicate(const KeyIn& key, PartitionId partition, const Dot& dot, Grade grade,
                            Shared change) {
  auto both = std::make_shared<Both>();
  both->done = [this, key](Result<std::uint8_t> copies) { finish(key, std::move(copies)); };
  const auto decoded = storage::decode(*change, dot);
  assert(decoded.ok());
  if (implies_(*decoded)) drive_implied(partition, dot, change, both);
  auto part = [both](Result<std::uint8_t> copies) { both->part(copies); };
  switch (grade) {
    case Grade::kMemory: return part(std::uint8_t{0});
    case Grade::kLocal:
      return view_.store.when_durable([part] { part(std::uint8_t{1}); });
    case Grade::kQuorum:
    case Grade::kAll:
      replicator_.when_replicated(partition, dot.n, grade == Grade::kAll, part);
  }
}

void Coordinator::drive_implied(PartitionId partition, const Dot& dot, Shared change,
                                const std::shared_ptr<Both>& both) {
  ++both->left;
  drive_copy_(partition, dot, std::move(change), [both](Status done) {
    // Stored here, so the sender may not take it for refused: it retries, and that completes the rest.
    if (!done) {
      return both->part(Error{Errc::kTimeout, "stored, but what it implies is not acknowledged yet: " +
                                                  done.error().text});
    }
    both->part(std::uint8_t{0});
  });
}

void Coordinator::finish(const KeyIn& key, Result<std::uint8_t> copies) {
  auto it = in_flight_.find(key);
  if (it == in_flight_.end()) return;
  auto flight = std::move(it->second);
  in_flight_.erase(it);
  if (!copies) ++view_.counters.append_errors;
  for (auto& done : flight.waiters) {
    if (copies) {
      done(AppendReply{view_.ring().number(), flight.id, *copies});
    } else {
      done(copies.error());
    }
  }
}

// Any owner may hold what we lack: a retry, or a number below the lane's end that we do not have.
Task<starling::Done> Coordinator::ask_owners(Pending send, LaneId lane) {
  send.asked = true;
  const auto owners = view_.candidates(send.partition);
  for (const auto& owner : owners) {
    if (owner == view_.self || !view_.alive(owner)) continue;
    Bytes body = pack(FindKeyRequest{send.mailbox, send.key});
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kFindKey, std::move(body),
                                kAskDeadline);
    const auto answer = co_await asking;
    if (!answer) {
      send.all_answered = false;
      continue;
    }
    const auto reply = unpack<FindKeyReply>(*answer);
    if (!reply || !reply->found) continue;
    auto fetching = catch_up_.fetch_until(owner, send.partition, reply->dot.writer, reply->dot.n);
    const auto fetched = co_await fetching;
    send.all_answered = fetched.ok();
    break;
  }
  admit(std::move(send));
  resume_lane(lane);
  co_return starling::Done{};
}

void Coordinator::resume_lane(const LaneId& lane) {
  auto it = held_lanes_.find(lane);
  if (it == held_lanes_.end()) return;
  auto waiting = std::move(it->second);
  held_lanes_.erase(it);
  while (!waiting.empty()) {
    Pending next = std::move(waiting.front());
    waiting.pop_front();
    admit(std::move(next));
    if (auto held = held_lanes_.find(lane); held != held_lanes_.end()) {
      held->second = std::move(waiting);  // The next one asks, too.
      return;
    }
  }
}

Task<starling::Done> Coordinator::redrive(KeyIn key, PartitionId partition, Dot dot, Grade grade) {
  auto [durable, synced] = overlay::Completer<bool>::make(view_.loop);
  view_.store.when_durable([durable = durable]() mutable { durable.set(true); });
  co_await synced;
  auto stored = view_.store.read_change(partition, dot);
  if (!stored) {
    finish(key, stored.error());
    co_return starling::Done{};
  }
  if (dot.writer == view_.store.writer()) {
    replicate(key, partition, dot, grade == Grade::kAll ? grade : Grade::kQuorum, stored->bytes);
    co_return starling::Done{};
  }
  std::uint8_t copies = 1;
  const RingNumber ring = view_.ring().number();
  const auto owners = view_.candidates(partition);
  const std::size_t needed = grade == Grade::kAll ? owners.size() : view_.ring().w();
  for (const auto& owner : owners) {
    if (owner == view_.self || !view_.alive(owner)) continue;
    if (copies >= needed) break;
    Bytes body = pack(HoldRequest{partition, dot.writer, dot.n});
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kHold, std::move(body),
                                kAppendDeadline / 2);
    const auto answer = co_await asking;
    if (!answer) continue;
    const auto reply = unpack<HoldReply>(*answer);
    if (reply && reply->synced >= dot.n) ++copies;
  }
  if (!view_.is_owner(partition) || view_.ring().number() != ring) copies = 0;  // Count again.
  if (copies < needed) {
    finish(key, Error{Errc::kTimeout, "too few owners hold the message yet; retry with the same key"});
    co_return starling::Done{};
  }
  const auto change = storage::decode(*stored->bytes, dot);
  if (change && implies_(*change)) {
    drive_copy_(partition, dot, stored->bytes, [this, key, copies](Status done) {
      if (!done) return finish(key, Error{Errc::kTimeout, done.error().text});
      finish(key, copies);
    });
    co_return starling::Done{};
  }
  finish(key, copies);
  co_return starling::Done{};
}

void Coordinator::write_register(const WriteRegisterRequest& request,
                                 std::function<void(Status)> done) {
  if (!view_.in_ring()) return done(Error{Errc::kNotOwner, "this node is not in a ring yet"});
  if (auto valid = check(request); !valid) return done(valid);
  const PartitionId partition = view_.store.partition_of(request.mailbox);
  if (auto may = may_store(partition, request.flags, true); !may) return done(may);
  storage::ChangeView change;
  change.kind = ChangeKind::kRegister;
  change.mailbox = request.mailbox;
  change.reg.merge = static_cast<storage::MergeKind>(request.merge);
  change.reg.key = request.key;
  change.reg.stamp = request.stamp;
  if (request.stamp.is_zero()) {
    change.reg.stamp = {view_.hlc.next(view_.loop.wall_ms()), view_.store.writer()};
  }
  Bytes value = request.value.data;
  if (request.member_change) {
    auto wanted = unpack<storage::MemberValue>(value);
    if (!wanted) return done(wanted.error());
    wanted->generation = 1;
    if (auto now = view_.store.find_register(request.mailbox, request.key)) {
      if (auto present = unpack<storage::MemberValue>(now->value)) {
        // Only a re-add raises the generation (invariant 5).
        wanted->generation = present->generation + (present->removed && !wanted->removed ? 1 : 0);
        // To add a member again does not take its role away.
        if (!present->removed) wanted->role = std::max(wanted->role, present->role);
      }
    }
    value = pack(*wanted);
  }
  change.reg.value = value;
  const auto appended = view_.store.append(change);
  replicator_.send(appended);
  auto both = std::make_shared<Both>();
  both->done = [done = std::move(done)](Result<std::uint8_t> copies) {
    if (!copies) return done(copies.error());
    done(ok_status());
  };
  if (implies_(change)) drive_implied(partition, appended.dot, appended.bytes, both);
  replicator_.when_replicated(partition, appended.dot.n, false,
                              [both](Result<std::uint8_t> copies) { both->part(copies); });
}

}  // namespace starling::node
