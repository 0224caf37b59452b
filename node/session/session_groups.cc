#include <algorithm>

#include "node/session/session.h"

namespace starling::node {

using overlay::Task;
using protocol::Type;

void Session::group(Type type, std::uint64_t number, View body) {
  auto request = unpack<protocol::GroupRequest>(body);
  if (!request) return refuse_frame(number, request.error());
  if (type == Type::kGroups || type == Type::kGroupMembers) {
    if (begin_page(number)) in_hand().scope.spawn(list(type, std::move(*request)));
  } else if (begin_request(number)) {
    in_hand().scope.spawn(change_group(type, std::move(*request)));
  }
}

Task<Done> Session::list(Type type, protocol::GroupRequest request) {
  const std::uint64_t number = request.request;
  auto listing = type == Type::kGroups ? list_groups(number) : list_members(std::move(request));
  co_await listing;
  --pages_;
  co_return Done{};
}

// Everybody may leave. Moderators add members and remove them; owners may do everything.
Task<Status> Session::may_manage(protocol::GroupRequest request, bool removing) {
  if (request.role > static_cast<std::uint8_t>(Role::kOwner)) {
    co_return Error{Errc::kInvalid, "a role is 0 (member), 1 (moderator) or 2 (owner)"};
  }
  auto asking = services_.groups.role_of(request.group, user_);
  CO_TRY_ASSIGN(const Role ours, co_await asking);
  if (ours == Role::kOwner || (removing && request.user == user_)) co_return ok_status();
  auto asking_theirs = services_.groups.role_of(request.group, request.user);
  const auto theirs = co_await asking_theirs;
  const bool plain = request.role == 0 && (!theirs || *theirs == Role::kMember);
  if (ours == Role::kModerator && plain) co_return ok_status();
  co_return Error{Errc::kDenied, "your role in " + request.group + " does not allow that"};
}

Task<Done> Session::list_groups(std::uint64_t number) {
  auto reading = services_.groups.of_user(user_);
  auto groups = co_await reading;
  if (!groups) {
    finish_request(number, groups.error());
    co_return Done{};
  }
  --in_flight_;
  protocol::GroupList message;
  message.request = number;
  message.groups = std::move(groups->groups);
  answer(message);
  co_return Done{};
}

// Members see who is in their group.
Task<Done> Session::list_members(protocol::GroupRequest request) {
  auto asking = services_.groups.role_of(request.group, user_);
  if (const auto role = co_await asking; !role) {
    finish_request(request.request, role.error());
    co_return Done{};
  }
  const auto limit = std::clamp<std::uint32_t>(request.limit, 1, kPageSizeMax);
  auto reading = services_.groups.members(request.group, request.user, limit, request.known);
  auto roster = co_await reading;
  if (!roster) {
    finish_request(request.request, roster.error());
    co_return Done{};
  }
  --in_flight_;
  protocol::Members message;
  message.request = request.request;
  message.more = roster->members.size() == limit;
  message.version = roster->version;
  for (auto& member : roster->members) message.members.push_back({std::move(member.user), member.role});
  answer(message);
  co_return Done{};
}

Task<Done> Session::change_group(Type type, protocol::GroupRequest request) {
  const std::uint64_t number = request.request;
  if (type == Type::kGroupCreate) {
    auto creating = services_.groups.create(request.group, user_, request.nonce);
    finish_request(number, co_await creating);
    co_return Done{};
  }
  const bool removing = type == Type::kGroupRemove;
  if (request.user.empty()) request.user = user_;
  auto checking = may_manage(request, removing);
  const auto may = co_await checking;
  if (!may) {
    finish_request(number, may);
    co_return Done{};
  }
  auto setting = services_.groups.set_member(request.group, request.user, request.role, removing);
  finish_request(number, co_await setting);
  co_return Done{};
}

void Session::password(std::uint64_t number, View body) {
  auto request = unpack<protocol::PasswordChange>(body);
  if (!request) return refuse_frame(number, request.error());
  if (begin_request(number)) in_hand().scope.spawn(change_password(std::move(*request)));
}

Task<Done> Session::change_password(protocol::PasswordChange request) {
  auto checking = services_.accounts.log_in(user_, device_name_, request.old_password, door_.address());
  const auto login = co_await checking;
  if (!login) {
    finish_request(request.request, login.error());
    co_return Done{};
  }
  auto setting = services_.accounts.set_password(user_, request.new_password, door_.address());
  finish_request(request.request, co_await setting);
  co_return Done{};
}

}  // namespace starling::node
