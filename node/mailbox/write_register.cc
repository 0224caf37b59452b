#include "node/mailbox/write_register.h"

#include <algorithm>

#include "node/mailbox/read_registers.h"

namespace starling::node {

using overlay::Task;
using storage::MemberValue;

namespace {

constexpr int kReadTries = 3;
constexpr Duration kReadAgainAfter = 200ms;

// By enough owners to know it.
Task<Result<std::optional<RegisterItem>>> what_stands(ClusterView& view, MailboxId mailbox, std::string key) {
  overlay::Timer timer;
  for (int attempt = 1;; ++attempt) {
    auto reading = read_registers(view, mailbox, key, "", 1);
    CO_TRY_ASSIGN(const ReadRegistersReply found, co_await reading);
    if (found.of_all && (found.items.empty() || found.items.front().key != key)) co_return std::optional<RegisterItem>{};
    if (found.of_all) co_return std::optional<RegisterItem>{found.items.front()};
    if (attempt == kReadTries) break;
    co_await overlay::sleep(view.loop, kReadAgainAfter, timer);
  }
  co_return Error{Errc::kUnavailable, "an owner that may know better who is in it did not answer; try again in a moment"};
}

MemberValue follow_from(const std::optional<MemberValue>& present, MemberValue wanted) {
  wanted.generation = 1;
  if (!present) return wanted;
  wanted.generation = present->generation + (present->removed && !wanted.removed ? 1 : 0);
  if (!present->removed) wanted.role = std::max(wanted.role, present->role);
  return wanted;
}

}  // namespace

Result<EntryId> stamp_above(ClusterView& view, const EntryId& present) {
  if (!view.clock_trusted()) return EntryId{};
  view.observe_repair(present.time);
  const EntryId stamp{view.hlc.next(view.loop.wall_ms()), view.store.writer()};
  if (stamp > present) return stamp;
  return Error{Errc::kOverloaded,
               "what stands was written by a clock ahead of this node's; try again in some seconds"};
}

Task<Status> write_register(ClusterView& view, Forwarder& forwarder, WriteRegisterRequest request) {
  auto [done, future] = overlay::Completer<Status>::make(view.loop);
  forwarder.write_register(std::move(request), kForwardDeadline,
                           [done = std::move(done)](Status status) mutable { done.set(std::move(status)); });
  auto written = co_await future;
  co_return written;
}

Task<Status> change_member(ClusterView& view, Forwarder& forwarder, MailboxId mailbox, std::string key,
                           MemberValue wanted) {
  auto reading = what_stands(view, mailbox, key);
  CO_TRY_ASSIGN(const auto stands, co_await reading);
  std::optional<MemberValue> present;
  if (stands) {
    CO_TRY_ASSIGN(present, unpack<MemberValue>(stands->value.data));
  }
  WriteRegisterRequest request;
  request.mailbox = mailbox;
  request.merge = static_cast<std::uint8_t>(storage::MergeKind::kMember);
  request.key = std::move(key);
  request.value.data = pack(follow_from(present, std::move(wanted)));
  if (stands && stands->value.data == request.value.data) {
    request.stamp = stands->stamp;  // As it is: only what was acknowledged of it is waited for.
  } else {
    CO_TRY_ASSIGN(request.stamp, stamp_above(view, stands ? stands->stamp : EntryId{}));
  }
  auto writing = write_register(view, forwarder, std::move(request));
  auto written = co_await writing;
  co_return written;
}

}  // namespace starling::node
