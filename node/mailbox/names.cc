#include "node/mailbox/names.h"

#include <algorithm>

#include "node/layout.h"

namespace starling::node {

using overlay::Completer;
using overlay::Future;
using overlay::Task;
using storage::MergeKind;

namespace {

constexpr Duration kDecideDeadline = 5s;
constexpr Duration kAgainAfter = 100ms;

// The mailbox id keeps the names of a partition together on disk.
Bytes instance_of(View address) { return name_instance(mailbox_of(address), address); }
View address_of(View instance) {
  const std::size_t head = kNameInstances.size() + MailboxId::kSize;
  return instance.size() < head ? View() : instance.substr(head);
}

}  // namespace

Names::Names(ClusterView& view, PaxosService& paxos, const Tenures& tenures, Forwarder& forwarder)
    : view_(view), paxos_(paxos), tenures_(tenures), forwarder_(forwarder) {
  PaxosService::Kind kind;
  kind.fails_when_stale = true;
  kind.may_vote = [this](const NodeId& from, const overlay::PaxosRequest& request) -> Status {
    if (!view_.in_ring()) return Error{Errc::kStaleRing, "this node knows no ring version yet"};
    view_.heard_of_ring(from, request.ring);
    const View address = address_of(request.instance.data);
    TRY(check_address(address));
    if (request.instance.data != instance_of(address)) {
      return Error{Errc::kInvalid, "a name beside its mailbox"};
    }
    if (request.ring != view_.ring().number()) {
      return Error{Errc::kStaleRing, "the ring is at version " +
                                         std::to_string(view_.ring().number().value)};
    }
    // After a site was lost nobody who voted before can be asked: names are known by the registers that had come,
    // and those are here once this node has caught up.
    if (view_.ring().version().sites.on() && view_.catching_up) {
      return Error{Errc::kCatchingUp, "this node fetches what it missed, names among it"};
    }
    return tenures_.may_vote(view_.store.partition_of(mailbox_of(address)));
  };
  kind.known = [this](View instance) -> std::optional<Blob> {
    auto created = view_.store.find_register(mailbox_of(address_of(instance)), kCreatedKey);
    if (!created) return std::nullopt;
    return Blob{std::move(created->value)};
  };
  kind.decided = [](View, const Blob&) {};
  paxos_.add_kind(std::string(kNameInstances), std::move(kind));
}

Task<Status> Names::create(CreationRecord record) {
  CO_TRY(check_address(record.address));
  if (record.nonce == 0) record.nonce = view_.random.u64();
  const Error exists{Errc::kExists, record.address + " exists already"};
  auto reading = read_registers(view_, mailbox_of(record.address), kCreatedKey, "", 1);
  const auto present = co_await reading;
  if (present && !present->items.empty()) {
    CO_TRY_ASSIGN(CreationRecord earlier, unpack<CreationRecord>(present->items.front().value.data));
    if (earlier.nonce != record.nonce || earlier.owner != record.owner) co_return exists;
    auto completing = write_registers(std::move(earlier));  // Our own, asked for again.
    auto completed = co_await completing;
    co_return completed;
  }
  auto deciding = decide(record);
  CO_TRY_ASSIGN(CreationRecord chosen, co_await deciding);
  const bool ours = chosen.nonce == record.nonce && chosen.owner == record.owner;
  auto writing = write_registers(std::move(chosen));
  CO_TRY(co_await writing);
  if (!ours) co_return exists;
  co_return ok_status();
}

// Proposes under one ring version after the other, until the voters of one decide.
Task<Result<CreationRecord>> Names::decide(CreationRecord record) {
  overlay::Timer timer;
  const Instant until = view_.loop.now() + kDecideDeadline;
  Error last{Errc::kUnavailable, "this node is still joining"};
  while (view_.in_ring() && view_.loop.now() < until) {
    // A stamp of a wrong clock would push ours, and with it every id of this run, into the future.
    if (!view_.clock_trusted()) {
      co_return Error{Errc::kUnavailable, "this node's clock is off, so it decides no names; set it right (NTP)"};
    }
    record.stamp = {view_.hlc.next(view_.loop.wall_ms()), view_.store.writer()};
    auto voters = view_.ring().home(view_.store.partition_of(mailbox_of(record.address))).to_vector();
    std::sort(voters.begin(), voters.end());
    auto proposing = paxos_.propose(instance_of(record.address), view_.ring().number(), std::move(voters),
                                    {pack(record)}, until - view_.loop.now());
    const auto decision = co_await proposing;
    if (decision) co_return unpack<CreationRecord>(decision->data);
    last = decision.error();
    if (last.code != Errc::kStaleRing) break;
    co_await overlay::sleep(view_.loop, kAgainAfter, timer);
  }
  // To the caller it is one thing: no majority voted.
  if (last.code == Errc::kStaleRing || last.code == Errc::kUnavailable) {
    last = {Errc::kUnavailable,
            "a name needs most of the " + std::to_string(view_.in_ring() ? view_.ring().home_copies() : 0) +
                " nodes that decide on it, and they did not answer in time; whether it was created is not "
                "known. See who is missing with `starling status`, then try again"};
  }
  co_return last;
}

// What says that the name exists comes last: where it stands the others do, whoever died between two of them (F24).
Task<Status> Names::write_registers(CreationRecord record) {
  if (record.address.front() == '@') {
    auto account = write(record.address, kAccountKey, MergeKind::kLww, record.stamp,
                         pack(AccountValue{record.password_hash, 1, false}));
    CO_TRY(co_await account);
  } else if (!record.owner.empty()) {
    constexpr std::uint8_t kOwnerRole = 2;
    auto member = write(record.address, Bytes(kMemberPrefix) + record.owner, MergeKind::kMember,
                        record.stamp,
                        pack(storage::MemberValue{1, false, kOwnerRole, record.address}));
    CO_TRY(co_await member);
  }
  auto created = write(record.address, kCreatedKey, MergeKind::kLww, record.stamp, pack(record));
  CO_TRY(co_await created);
  co_return ok_status();
}

Future<Status> Names::write(const std::string& address, View key, MergeKind merge,
                            const EntryId& stamp, Bytes value) {
  WriteRegisterRequest request;
  request.mailbox = mailbox_of(address);
  request.merge = static_cast<std::uint8_t>(merge);
  request.stamp = stamp;
  request.key = Bytes(key);
  request.value.data = std::move(value);
  auto [done, future] = Completer<Status>::make(view_.loop);
  forwarder_.write_register(std::move(request), kForwardDeadline,
                            [done = std::move(done)](Status status) mutable {
                              done.set(std::move(status));
                            });
  return std::move(future);
}

}  // namespace starling::node
