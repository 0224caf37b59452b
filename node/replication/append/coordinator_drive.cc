// From a change that was minted, or met again, to W synced copies of all that it implies.
#include "node/replication/append/coordinator.h"

namespace starling::node {

using overlay::Task;
using protocol::Grade;
using storage::ChangeKind;

namespace {

Status check_register(const WriteRegisterRequest& request) {
  if (request.merge < 1 || request.merge > 3 || request.key.empty() ||
      request.key.size() > storage::kRegisterKeySizeMax ||
      request.value.data.size() > storage::kRegisterValueSizeMax) {
    return Error{Errc::kInvalid, "a register with a merge kind or size that cannot be"};
  }
  return ok_status();
}

storage::RegisterView held_by(const storage::RegisterValue& present) {
  return {present.merge, present.stamp, present.key, present.value};
}

// A role ends with the membership only, whoever asked last.
bool takes_a_role_away(const storage::RegisterView& write, const storage::RegisterView& held) {
  if (write.merge != storage::MergeKind::kMember || held.merge != write.merge) return false;
  const auto wanted = unpack<storage::MemberValue>(write.value);
  const auto stands = unpack<storage::MemberValue>(held.value);
  return wanted && stands && wanted->generation == stands->generation && !wanted->removed && !stands->removed &&
         wanted->role < stands->role;
}

// It says something else, and loses by its time alone.
bool is_late(const storage::RegisterView& write, const storage::RegisterView& held) {
  storage::RegisterView latest = write;
  latest.stamp.time = ~Hlc{0};
  return write.value != held.value && storage::wins(latest, held) && !storage::wins(write, held);
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

// Waits for the copies of this mailbox and, where one is implied, for the sender's own.
void Coordinator::replicate(const KeyIn& key, const Dot& dot, Grade grade, Shared change) {
  auto both = std::make_shared<Both>();
  both->done = [this, key](Result<std::uint8_t> copies) { finish(key, std::move(copies)); };
  const auto parsed = storage::parse(*change);
  assert(parsed.ok());
  if (implies_(*parsed)) drive_implied(key.mailbox, dot, change, both);
  auto part = [both](Result<std::uint8_t> copies) { both->part(copies); };
  switch (grade) {
    case Grade::kMemory: return part(std::uint8_t{0});
    case Grade::kLocal:
      return view_.store.when_durable([part] { part(std::uint8_t{1}); });
    case Grade::kQuorum:
    case Grade::kAll:
      replicator_.when_replicated(key.mailbox, dot.n, grade == Grade::kAll, part);
  }
}

void Coordinator::drive_implied(const MailboxId& mailbox, const Dot& dot, Shared change,
                                const std::shared_ptr<Both>& both) {
  ++both->left;
  drive_copy_(view_.store.partition_of(mailbox), dot, std::move(change), [both](Status done) {
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

Task<starling::Done> Coordinator::redrive(KeyIn key, Dot dot, Grade grade) {
  co_await view_.durable();
  auto stored = view_.store.read_change(view_.store.partition_of(key.mailbox), dot);
  if (!stored) {  // It was stored, so "not found" is never said for good: another owner has it, or this one in a moment.
    const auto& why = stored.error();
    const bool moved = why.code == Errc::kNotFound;
    finish(key, moved ? Error{Errc::kUnavailable, "what was stored under this number is not here: " + why.text} : why);
    co_return starling::Done{};
  }
  if (dot.writer == view_.store.writer()) {
    replicate(key, dot, grade == Grade::kAll ? grade : Grade::kQuorum, stored->bytes);
    co_return starling::Done{};
  }
  auto holding = holding_.hold(view_.store.partition_of(key.mailbox), dot, grade);
  const auto copies = co_await holding;
  if (!copies) {
    finish(key, copies.error());
    co_return starling::Done{};
  }
  const auto change = storage::decode(*stored->bytes, dot);
  if (change && implies_(*change)) {
    drive_copy_(view_.store.partition_of(key.mailbox), dot, stored->bytes, [this, key, copies = *copies](Status done) {
      if (!done) return finish(key, Error{Errc::kTimeout, done.error().text});
      finish(key, copies);
    });
    co_return starling::Done{};
  }
  finish(key, copies);
  co_return starling::Done{};
}

// The register stands already, under this dot: it is driven to its copies, and to what it implies.
Task<starling::Done> Coordinator::redrive_register(MailboxId mailbox, Dot dot, std::function<void(Status)> done) {
  auto [durable, synced] = overlay::Completer<bool>::make(view_.loop);
  view_.store.when_durable([durable = durable]() mutable { durable.set(true); });
  co_await synced;
  const PartitionId partition = view_.store.partition_of(mailbox);
  const auto stored = view_.store.read_change(partition, dot);
  if (!stored) {
    done(Error{Errc::kUnavailable, "the write that stands cannot be read here: " + stored.error().text});
    co_return starling::Done{};
  }
  auto both = std::make_shared<Both>();
  both->done = [done = std::move(done)](Result<std::uint8_t> copies) {
    done(copies ? ok_status() : Status(copies.error()));
  };
  const auto change = storage::decode(*stored->bytes, dot);
  if (change && implies_(*change)) drive_implied(mailbox, dot, stored->bytes, both);
  if (dot.writer == view_.store.writer()) {
    replicator_.when_replicated(mailbox, dot.n, false,
                                [both](Result<std::uint8_t> copies) { both->part(copies); });
    co_return starling::Done{};
  }
  auto holding = holding_.hold(partition, dot, Grade::kQuorum);
  both->part(co_await holding);
  co_return starling::Done{};
}

void Coordinator::write_register(const WriteRegisterRequest& request,
                                 std::function<void(Status)> done) {
  if (!view_.in_ring()) return done(Error{Errc::kNotOwner, "this node is not in a ring yet"});
  if (auto valid = check_register(request); !valid) return done(valid);
  const PartitionId partition = view_.store.partition_of(request.mailbox);
  if (auto may = may_store(partition, request.flags, true); !may) return done(may);
  if (request.derive) return change_member(request, std::move(done));
  const auto present = view_.store.find_register(request.mailbox, request.key);
  const bool is_as_asked = !request.stamp.is_zero() && present && present->stamp == request.stamp;  // A retry.
  if (!request.expected.is_zero() && present && present->stamp != request.expected && !is_as_asked) {
    return done(Error{Errc::kExists, "somebody else changed it in the same moment; try again"});
  }
  storage::ChangeView change;
  change.kind = ChangeKind::kRegister;
  change.mailbox = request.mailbox;
  change.reg.merge = static_cast<storage::MergeKind>(request.merge);
  change.reg.key = request.key;
  change.reg.stamp = request.stamp;
  if (request.stamp.is_zero()) {
    if (present) view_.observe_repair(present->stamp.time);
    change.reg.stamp = {view_.hlc.next(view_.loop.wall_ms()), view_.store.writer()};
  }
  change.reg.value = request.value.data;
  // The same write again, one that lost to a later, or a membership as it is: a change that says nothing new.
  const bool old = present && !request.stamp.is_zero() && present->merge == change.reg.merge &&
                   !storage::wins(change.reg, held_by(*present));
  if (old || (present && takes_a_role_away(change.reg, held_by(*present)))) {
    return scope_.spawn(redrive_register(request.mailbox, present->dot, std::move(done)));
  }
  // What stands may be further ahead of us than anything pulls our clock: in some seconds ours is above it.
  if (present && request.stamp.is_zero() && is_late(change.reg, held_by(*present))) {
    return done(Error{Errc::kOverloaded,
                      "what stands was written by a clock ahead of this node's; try again in some seconds"});
  }
  const auto appended = view_.store.append(change);
  replicator_.send(appended);
  auto both = std::make_shared<Both>();
  both->done = [done = std::move(done)](Result<std::uint8_t> copies) {
    if (!copies) return done(copies.error());
    done(ok_status());
  };
  if (implies_(change)) drive_implied(request.mailbox, appended.dot, appended.bytes, both);
  replicator_.when_replicated(request.mailbox, appended.dot.n, false,
                              [both](Result<std::uint8_t> copies) { both->part(copies); });
}

}  // namespace starling::node
