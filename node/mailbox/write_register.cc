#include "node/mailbox/write_register.h"

#include <algorithm>

#include "node/mailbox/read_registers.h"

namespace starling::node {

using overlay::Task;
using storage::MemberValue;

namespace {

constexpr Duration kReadAgainAfter = 200ms;

// By enough owners to know it; as patient as the write that follows.
Task<Result<std::optional<RegisterItem>>> what_stands(ClusterView& view, MailboxId mailbox, std::string key) {
  overlay::Timer timer;
  const Instant until = view.loop.now() + kForwardDeadline;
  for (;;) {
    auto reading = read_registers(view, mailbox, key, "", 1, /*versioned=*/false, Answers::kSure);
    const auto found = co_await reading;
    if (found && found->of_all) {
      if (found->items.empty() || found->items.front().key != key) co_return std::optional<RegisterItem>{};
      co_return std::optional<RegisterItem>{found->items.front()};
    }
    if (view.loop.now() + kReadAgainAfter >= until) {
      co_return found ? Error{Errc::kUnavailable,
                              "an owner that may know better how it stands did not answer; try again in a moment"}
                      : found.error();
    }
    co_await overlay::sleep(view.loop, kReadAgainAfter, timer);
  }
}

bool wins(const WriteRegisterRequest& request, const RegisterItem& stands) {
  const auto kind = storage::MergeKind::kMember;
  return storage::wins({kind, request.stamp, request.key, request.value.data},
                       {kind, stands.stamp, stands.key, stands.value.data});
}

MemberValue follow_from(const std::optional<MemberValue>& present, MemberValue wanted) {
  wanted.generation = 1;
  if (!present) return wanted;
  wanted.generation = present->generation + (present->removed && !wanted.removed ? 1 : 0);
  if (!present->removed) wanted.role = std::max(wanted.role, present->role);
  return wanted;
}

}  // namespace

EntryId stamp_after(ClusterView& view, const EntryId& present) {
  if (!view.clock_trusted()) return {};
  view.observe_repair(present.time);
  return {view.hlc.next(view.loop.wall_ms()), view.store.writer()};
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
    if (auto read = unpack<MemberValue>(stands->value.data)) present = std::move(*read);  // Else it loses to any.
  }
  WriteRegisterRequest request;
  request.mailbox = mailbox;
  request.merge = static_cast<std::uint8_t>(storage::MergeKind::kMember);
  request.key = std::move(key);
  request.value.data = pack(follow_from(present, std::move(wanted)));
  if (stands && stands->value.data == request.value.data) {
    request.stamp = stands->stamp;  // As it is: only what was acknowledged of it is waited for.
  } else {
    request.stamp = stamp_after(view, stands ? stands->stamp : EntryId{});
    if (stands && !request.stamp.is_zero() && !wins(request, *stands)) co_return written_ahead();
  }
  auto writing = write_register(view, forwarder, std::move(request));
  auto written = co_await writing;
  co_return written;
}

Task<Done> change_member_for(ClusterView& view, Forwarder& forwarder, WriteRegisterRequest request,
                             std::function<void(Status)> done) {
  auto wanted = unpack<MemberValue>(request.value.data);
  if (!wanted) {
    done(wanted.error());
    co_return Done{};
  }
  auto changing = change_member(view, forwarder, request.mailbox, std::move(request.key), std::move(*wanted));
  done(co_await changing);
  co_return Done{};
}

}  // namespace starling::node
