#include "node/mailbox/names.h"

#include <algorithm>

namespace starling::node {

using overlay::Completer;
using overlay::Future;
using overlay::Method;
using overlay::Task;
using storage::MergeKind;

namespace {

constexpr View kInstancePrefix = "name/";
constexpr Duration kDecideDeadline = 5s;

View address_of(View instance) { return instance.substr(kInstancePrefix.size()); }

}  // namespace

Names::Names(ClusterView& view, PaxosService& paxos, Forwarder& forwarder)
    : view_(view), paxos_(paxos), forwarder_(forwarder) {
  PaxosService::Kind kind;
  kind.may_vote = [this](const NodeId& from, const overlay::PaxosRequest& request) -> Status {
    if (!view_.in_ring()) return Error{Errc::kStaleRing, "this node knows no ring version yet"};
    view_.heard_of_ring(from, request.ring);
    const View address = address_of(request.instance.data);
    TRY(check_address(address));
    const PartitionId partition = view_.store.partition_of(mailbox_of(address));
    if (request.ring != view_.ring().number()) {
      return Error{Errc::kStaleRing, "the ring is at another version"};
    }
    if (!view_.is_owner(partition)) return Error{Errc::kNotOwner, "only owners vote on a name"};
    return ok_status();
  };
  kind.known = [this](View instance) -> std::optional<Blob> {
    auto created = view_.store.find_register(mailbox_of(address_of(instance)), kCreatedKey);
    if (!created) return std::nullopt;
    return Blob{std::move(created->value)};
  };
  kind.decided = [](View, const Blob&) {};
  paxos_.add_kind(std::string(kInstancePrefix), std::move(kind));
}

Task<Status> Names::create(CreationRecord record) {
  CO_TRY(check_address(record.address));
  const MailboxId mailbox = mailbox_of(record.address);
  auto reading = read_registers(view_, forwarder_, mailbox, kCreatedKey, "", 1);
  const auto present = co_await reading;
  if (present && !present->items.empty()) {
    co_return Error{Errc::kExists, record.address + " exists already"};
  }
  if (!view_.in_ring()) co_return Error{Errc::kUnavailable, "this node is still joining"};
  // A stamp of a wrong clock would push ours, and with it every id of this run, into the future.
  if (!view_.clock_trusted()) {
    co_return Error{Errc::kUnavailable, "this node's clock is off, so it decides no names"};
  }
  record.nonce = view_.random.u64();
  record.stamp = {view_.hlc.next(view_.loop.wall_ms()), view_.store.writer()};
  const auto owners = view_.ring().owners(view_.store.partition_of(mailbox));
  std::vector<NodeId> voters(owners.begin(), owners.end());
  std::sort(voters.begin(), voters.end());
  auto proposing = paxos_.propose(Bytes(kInstancePrefix) + record.address, view_.ring().number(),
                                  std::move(voters), {pack(record)}, kDecideDeadline);
  CO_TRY_ASSIGN(const Blob decision, co_await proposing);
  CO_TRY_ASSIGN(CreationRecord chosen, unpack<CreationRecord>(decision.data));
  const bool ours = chosen.nonce == record.nonce && chosen.stamp == record.stamp;
  auto writing = write_registers(std::move(chosen));
  CO_TRY(co_await writing);
  if (!ours) co_return Error{Errc::kExists, record.address + " exists already"};
  co_return ok_status();
}

Task<Status> Names::write_registers(CreationRecord record) {
  auto created = write(record.address, kCreatedKey, MergeKind::kLww, record.stamp, pack(record));
  CO_TRY(co_await created);
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

Future<Result<ReadRegistersReply>> read_registers(ClusterView& view, Forwarder& forwarder,
                                                  const MailboxId& mailbox, View prefix, View after,
                                                  std::uint32_t limit) {
  auto [done, future] = Completer<Result<ReadRegistersReply>>::make(view.loop);
  ReadRegistersRequest request{mailbox, Bytes(prefix), Bytes(after), limit};
  forwarder.read(view.store.partition_of(mailbox), Method::kReadRegisters, pack(request),
                 kReadDeadline, [done = std::move(done)](Result<Bytes> body) mutable {
                   if (!body) return done.set(body.error());
                   done.set(unpack<ReadRegistersReply>(*body));
                 });
  return std::move(future);
}

}  // namespace starling::node
