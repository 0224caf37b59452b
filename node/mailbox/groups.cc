#include "node/mailbox/groups.h"

#include <algorithm>

#include "node/mailbox/accounts.h"
#include "node/mailbox/write_register.h"

namespace starling::node {

using overlay::Completer;
using overlay::Task;
using storage::MemberValue;

namespace {
constexpr std::uint32_t kPage = 1000;
constexpr std::size_t kRegistersMax = 100 * kPage;  // Of one user, read for a list.
}  // namespace

Groups::Groups(ClusterView& view, Names& names, Forwarder& forwarder)
    : view_(view), names_(names), forwarder_(forwarder) {}

Task<Status> Groups::exists(std::string address) {
  CO_TRY(check_address(address));
  auto reading = find_registers(view_, mailbox_of(address), Bytes(kCreatedKey), 1);
  CO_TRY_ASSIGN(const ReadRegistersReply found, co_await reading);
  if (found.items.empty()) co_return Error{Errc::kNotFound, "there is no " + address};
  co_return ok_status();
}

Task<Status> Groups::create(std::string group, std::string owner, std::uint64_t nonce) {
  CO_TRY_ASSIGN(const AddressKind kind, check_address(group));
  if (kind != AddressKind::kGroup) co_return Error{Errc::kInvalid, "a group's name begins with #"};
  if (!owner.empty()) {
    auto checking = exists(owner);
    CO_TRY(co_await checking);
    auto listing = of_user(owner);
    CO_TRY_ASSIGN(const Listing listed, co_await listing);
    const bool known = std::binary_search(listed.in_all.begin(), listed.in_all.end(), group);  // A retry.
    if (!known && (listed.groups.size() >= kGroupsPerUserMax || listed.ever >= kGroupsOwnAndEverMax)) {
      co_return Error{Errc::kTooLarge, owner + " is, or was lately, in too many groups to create another"};
    }
  }
  CreationRecord record;
  record.nonce = nonce;
  record.address = std::move(group);
  record.owner = std::move(owner);
  auto creating = names_.create(std::move(record));
  auto created = co_await creating;
  co_return created;
}

Task<Status> Groups::set_member(std::string group, std::string user, std::uint8_t role,
                                bool removed) {
  CO_TRY_ASSIGN(const AddressKind kind, check_address(user));
  if (kind != AddressKind::kUser) co_return Error{Errc::kInvalid, "only users can be members"};
  auto group_exists = exists(group);
  CO_TRY(co_await group_exists);
  auto user_exists = exists(user);
  CO_TRY(co_await user_exists);
  if (!removed) {
    auto checking = may_join(group, user);
    CO_TRY(co_await checking);
  }
  auto changing = change_member(view_, forwarder_, mailbox_of(group), Bytes(kMemberPrefix) + user,
                                MemberValue{1, removed, role, group});
  auto changed = co_await changing;
  co_return changed;
}

// Two who add at once may both pass; of_user() then keeps the older. A change of role is no join.
Task<Status> Groups::may_join(std::string group, std::string user) {
  auto listing = of_user(user);
  CO_TRY_ASSIGN(const Listing listed, co_await listing);
  if (std::binary_search(listed.in_all.begin(), listed.in_all.end(), group)) co_return ok_status();
  if (listed.in_all.size() < kGroupsPerUserMax) {
    if (listed.ever < kGroupsEverMax) co_return ok_status();
    const std::string key = std::string(kGroupPrefix) + group;
    auto reading = read_registers(view_, mailbox_of(user), key, "", 1);
    CO_TRY_ASSIGN(const ReadRegistersReply found, co_await reading);
    if (!found.items.empty() && found.items.front().key == key) co_return ok_status();  // Was in it: no new register.
    co_return Error{Errc::kTooLarge, user + " was lately in too many groups to be added to another"};
  }
  co_return Error{Errc::kTooLarge, user + " is in " + std::to_string(kGroupsPerUserMax) +
                                       " groups, which is the limit, and has to leave one first"};
}

Task<Result<Groups::Roster>> Groups::members(std::string group, std::string after, std::uint32_t limit,
                                             std::uint64_t known) {
  auto checking = exists(group);
  CO_TRY(co_await checking);
  const MailboxId mailbox = mailbox_of(group);
  if (known != 0) {
    auto asking = read_registers(view_, mailbox, kMemberPrefix, "", 0, /*versioned=*/true);
    CO_TRY_ASSIGN(const ReadRegistersReply now, co_await asking);
    if (now.version == known) co_return Roster{{}, known};
  }
  Roster roster;
  std::string from = after.empty() ? std::string() : std::string(kMemberPrefix) + after;
  bool first = true;
  for (bool more = true; more && roster.members.size() < limit; first = false) {
    const auto want = static_cast<std::uint32_t>(limit - roster.members.size());
    auto reading = read_registers(view_, mailbox, kMemberPrefix, from, want, /*versioned=*/true);
    CO_TRY_ASSIGN(const ReadRegistersReply page, co_await reading);
    more = page.items.size() == want;
    roster.version = first || roster.version == page.version ? page.version : 0;
    for (const auto& item : page.items) {
      from = item.key;
      auto value = unpack<MemberValue>(item.value.data);
      if (!value || value->removed) continue;
      roster.members.push_back({item.key.substr(kMemberPrefix.size()), value->role});
    }
  }
  co_return roster;
}

Task<Result<Role>> Groups::role_of(std::string group, std::string user) {
  auto checking = exists(group);
  CO_TRY(co_await checking);
  const std::string key = std::string(kMemberPrefix) + user;
  auto reading = find_registers(view_, mailbox_of(group), key, 1);
  CO_TRY_ASSIGN(const ReadRegistersReply found, co_await reading);
  if (!found.items.empty() && found.items.front().key == key) {
    auto value = unpack<MemberValue>(found.items.front().value.data);
    if (value && !value->removed) co_return static_cast<Role>(value->role);
  }
  co_return Error{Errc::kDenied, user + " is not in " + group};
}

// Whoever adds a user to groups chooses their names, but not when that is.
Task<Result<Groups::Listing>> Groups::of_user(std::string user, bool of_all) {
  struct Membership {
    EntryId since;
    std::string group;
  };
  std::vector<Membership> in;
  Listing listing;
  std::string after;
  for (bool more = true; more;) {
    auto reading = read_registers(view_, mailbox_of(user), kGroupPrefix, after, kPage, /*versioned=*/false,
                                  of_all ? Answers::kAll : Answers::kEnough);
    CO_TRY_ASSIGN(const ReadRegistersReply page, co_await reading);
    more = page.items.size() == kPage;
    listing.sure &= page.of_all;
    listing.ever += page.items.size();
    for (const auto& item : page.items) {
      after = item.key;
      auto value = unpack<MemberValue>(item.value.data);
      if (!value) continue;
      std::string group = item.key.substr(kGroupPrefix.size());
      if (value->removed) {
        listing.left.push_back(std::move(group));
      } else {
        in.push_back({item.stamp, std::move(group)});
      }
    }
    if (more && listing.ever >= kRegistersMax) listing.read_all = more = false;
  }
  for (const auto& membership : in) listing.in_all.push_back(membership.group);
  std::sort(listing.in_all.begin(), listing.in_all.end());
  if (in.size() > kGroupsPerUserMax) {
    std::sort(in.begin(), in.end(), [](const auto& a, const auto& b) { return a.since < b.since; });
    in.resize(kGroupsPerUserMax);
  }
  for (auto& membership : in) listing.groups.push_back(std::move(membership.group));
  std::sort(listing.groups.begin(), listing.groups.end());
  co_return listing;
}

bool Groups::Listing::is_out_of(const std::string& group) const {
  if (!sure || std::binary_search(in_all.begin(), in_all.end(), group)) return false;
  return read_all || std::binary_search(left.begin(), left.end(), group);
}

bool Groups::Listing::names(const std::string& group) const {
  return std::binary_search(in_all.begin(), in_all.end(), group) ||
         std::binary_search(left.begin(), left.end(), group);
}

overlay::Future<bool> Groups::wait(const std::string& user, Duration at_most) {
  auto [done, future] = Completer<bool>::make(view_.loop);
  const std::uint64_t number = next_wait_++;
  Waiting& waiting = waiting_[number];
  waiting.list = mailbox_of(user);
  waiting.done = std::move(done);
  waiting.timer = view_.loop.after(at_most, [this, number] { end_wait(number); });
  return std::move(future);
}

void Groups::end_wait(std::uint64_t number) {
  auto ended = waiting_.extract(number);
  if (ended) ended.mapped().done.set(true);
}

// One reads at once; where many wait for the same owner, each by chance within a while.
void Groups::came_back(const NodeId& node) {
  if (!view_.in_ring()) return;
  const Duration over = std::min(kListsReadAgainOver, kListReadAgain * static_cast<std::int64_t>(waiting_.size()));
  for (auto& [number, waiting] : waiting_) {
    if (waiting.soon || !view_.ring().is_home(view_.store.partition_of(waiting.list), node)) continue;
    waiting.soon = true;
    const Duration delay(view_.random.below(static_cast<std::uint64_t>(over.count()) + 1));
    waiting.timer = view_.loop.after(delay, [this, number = number] { end_wait(number); });
  }
}

Status may_send(storage::Store& store, const MailboxId& mailbox, View to, View from) {
  if (to.starts_with('@')) {
    if (!store.find_register(mailbox, kAccountKey)) return Error{Errc::kNotFound, "there is no user " + Bytes(to)};
    const auto account = account_of(store, mailbox);
    if (account && account->disabled) return Error{Errc::kDenied, Bytes(to) + " is disabled"};
    return ok_status();
  }
  const auto member = store.find_register(mailbox, Bytes(kMemberPrefix) + Bytes(from));
  if (member) {
    const auto value = unpack<MemberValue>(member->value);
    if (value && !value->removed) return ok_status();
  }
  if (!store.find_register(mailbox, kCreatedKey)) {
    return Error{Errc::kNotFound, "there is no group " + Bytes(to)};
  }
  return Error{Errc::kDenied, "you are not in " + Bytes(to)};
}

bool might_send(storage::Store& store, const MailboxId& mailbox, View to, View from) {
  if (to.starts_with('@')) return store.find_register(mailbox, kAccountKey).has_value();
  return store.find_register(mailbox, Bytes(kMemberPrefix) + Bytes(from)).has_value();
}

}  // namespace starling::node
