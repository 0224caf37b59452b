#include <algorithm>

#include "node/admin/admin_api.h"
#include "node/node_impl.h"
#include "overlay/loop/at_once.h"

namespace starling::node {

using overlay::Reply;
using overlay::Task;

namespace {

constexpr std::size_t kUsersAtOnceMax = 10'000;  // In one call,
constexpr std::size_t kChangesAtOnce = 64;       // of which so many are under way,
constexpr std::size_t kHashesAtOnce = 2 * kHashesAtOnceMax;  // and so many passwords: logins need some, too.
constexpr std::uint32_t kListMax = 10'000;
constexpr std::uint32_t kDirectoryPage = 1000;
constexpr Duration kDirectoryDeadline = 5s;

std::string with_sigil(std::string name, char sigil) {
  if (!name.empty() && name.front() != '@' && name.front() != '#') name.insert(0, 1, sigil);
  return name;
}

Json error_json(const Error& error) {
  return {{"code", static_cast<int>(error.code)}, {"name", name(error.code)}, {"text", error.text}};
}

using Places = std::map<NodeId, std::size_t>;

// Of a partition's owners, those at home if any, the one that is asked first lists it. Who coordinates is an opinion:
// while owners are in doubt of each other a mailbox would be listed by two of them, or by none.
bool lists(const ClusterView& view, PartitionId partition, const Places& asked) {
  if (asked.empty()) return view.coordinates(partition);
  const auto mine = asked.find(view.self);
  if (mine == asked.end()) return false;
  const auto home = view.ring().home(partition);
  const bool at_home = std::any_of(home.begin(), home.end(), [&](const NodeId& node) { return asked.contains(node); });
  const auto owners = at_home ? home : view.ring().owners(partition);
  return owners.contains(view.self) && std::all_of(owners.begin(), owners.end(), [&](const NodeId& owner) {
    const auto place = asked.find(owner);
    return place == asked.end() || place->second >= mine->second;
  });
}

// Who has caught up knows most, so it comes first.
std::vector<NodeId> whom_to_ask(const ClusterView& view) {
  std::vector<NodeId> nodes;
  for (const auto& member : view.ring().version().members) {
    if (!member.gone() && view.reachable(member.id)) nodes.push_back(member.id);
  }
  std::stable_sort(nodes.begin(), nodes.end(),
                   [&](const NodeId& a, const NodeId& b) { return !view.behind(a) && view.behind(b); });
  return nodes;
}

}  // namespace

void AdminApi::serve() {
  node_.links_->serve(overlay::Method::kNodeInfo, overlay::Access::kMembers,
                      [this](const NodeId&, View body, Reply reply) {
    const auto request = unpack<DirectoryRequest>(body);
    if (!request) return reply(request.error());
    Places asked;
    for (const auto& node : request->asked) asked.emplace(node, asked.size());
    DirectoryReply answer;
    auto& store = *node_.store_;
    const auto found = store.find_mailboxes(kCreatedKey, request->after,
                                            std::min(request->limit, kDirectoryPage));
    answer.more = found.size() == std::min(request->limit, kDirectoryPage);
    for (const auto& [mailbox, value] : found) {
      answer.last = mailbox;
      const auto record = unpack<CreationRecord>(value.value);
      if (!record || record->address.front() != static_cast<char>(request->sigil)) continue;
      if (!lists(*node_.view_, store.partition_of(mailbox), asked)) continue;
      DirectoryReply::Item item;
      item.address = record->address;
      item.created_ms = hlc_ms(record->stamp.time);
      const bool user = request->sigil == '@';
      if (const auto account = account_of(store, mailbox); user && account) item.disabled = account->disabled;
      for (const auto& reg : store.scan_registers(mailbox, user ? kGroupPrefix : kMemberPrefix, "",
                                                  kListMax)) {
        const auto member = unpack<storage::MemberValue>(reg.value);
        if (member && !member->removed) ++item.count;
      }
      answer.items.push_back(std::move(item));
    }
    reply(pack(answer));
  });
}

Task<Result<Json>> AdminApi::list(char sigil, Json arguments) {
  const auto limit = std::min<std::uint32_t>(arguments.value("limit", 1000u), kListMax);
  const std::string after = with_sigil(arguments.value("after", std::string()), sigil);
  std::map<std::string, DirectoryReply::Item> all;
  const auto asked = whom_to_ask(*node_.view_);
  for (const auto& node : asked) {
    DirectoryRequest request{static_cast<std::uint8_t>(sigil), {}, kDirectoryPage, asked};
    for (bool more = true; more;) {
      auto asking = overlay::call(node_.leaves_.loop, *node_.links_, node, overlay::Method::kNodeInfo,
                                  pack(request), kDirectoryDeadline);
      CO_TRY_ASSIGN(const Bytes body, co_await asking);
      CO_TRY_ASSIGN(DirectoryReply page, unpack<DirectoryReply>(body));
      for (auto& item : page.items) {
        if (item.address > after) all.insert_or_assign(item.address, std::move(item));
      }
      more = page.more && request.after < page.last;  // Who answers in pages that do not advance is asked no more.
      request.after = page.last;
    }
  }
  Json items = Json::array();
  for (const auto& [address, item] : all) {
    if (items.size() >= limit) break;
    Json out{{"name", address}, {"created_ms", item.created_ms}};
    if (sigil == '@') {
      out["disabled"] = item.disabled;
      out["groups"] = item.count;
    } else {
      out["members"] = item.count;
    }
    items.push_back(std::move(out));
  }
  const bool more = all.size() > items.size();
  co_return Json{{sigil == '@' ? "users" : "groups", std::move(items)}, {"more", more}};
}

Task<Result<Json>> AdminApi::user_list(Json arguments) {
  auto listing = list('@', std::move(arguments));
  auto listed = co_await listing;
  co_return listed;
}

Task<Result<Json>> AdminApi::group_list(Json arguments) {
  auto listing = list('#', std::move(arguments));
  auto listed = co_await listing;
  co_return listed;
}

Task<Result<Json>> AdminApi::user_add(Json arguments) {
  const Json& users = arguments.at("users");
  if (!users.is_array() || users.size() > kUsersAtOnceMax) {
    co_return Error{Errc::kInvalid, "users is an array of at most " + std::to_string(kUsersAtOnceMax)};
  }
  std::vector<NewUser> wanted;
  bool hashes = false;
  for (const auto& user : users) {
    wanted.push_back({with_sigil(user.at("name").get<std::string>(), '@'), user.value("password", std::string()),
                      user.value("nonce", std::uint64_t{0})});
    hashes = hashes || !wanted.back().password.empty();
  }
  std::vector<Json> results(wanted.size());
  const std::size_t window = hashes ? kHashesAtOnce : kChangesAtOnce;
  auto adding = overlay::at_once(node_.leaves_.loop, wanted.size(), window, [&](std::size_t i) {
    return add_one(wanted[i], results[i]);
  });
  co_await adding;
  co_return Json{{"results", std::move(results)}};
}

Task<Done> AdminApi::add_one(const NewUser& user, Json& result) {
  auto creating = node_.accounts_->create(user.address, user.password, user.nonce);
  const auto created = co_await creating;
  result = {{"name", user.address}, {"created", created.ok()}};
  if (!created && created.code() == Errc::kExists && !user.password.empty()) {
    // Typed anew after an answer that did not come: what was asked for is there.
    auto trying = node_.accounts_->log_in(user.address, "user.add", user.password, "");
    const auto fits = co_await trying;
    result["existed"] = fits.ok();
  }
  if (!created && !result.value("existed", false)) result["error"] = error_json(created.error());
  co_return Done{};
}

Task<Result<Json>> AdminApi::user_passwd(Json arguments) {
  auto setting = node_.accounts_->set_password(
      with_sigil(arguments.at("name").get<std::string>(), '@'),
      arguments.at("password").get<std::string>(), "");
  CO_TRY(co_await setting);
  co_return Json::object();
}

Task<Result<Json>> AdminApi::user_disable(Json arguments) {
  auto setting = node_.accounts_->set_disabled(
      with_sigil(arguments.at("name").get<std::string>(), '@'), arguments.value("disabled", true));
  CO_TRY(co_await setting);
  co_return Json::object();
}

Task<Result<Json>> AdminApi::user_logout(Json arguments) {
  auto ending = node_.accounts_->log_out(with_sigil(arguments.at("name").get<std::string>(), '@'));
  CO_TRY(co_await ending);
  co_return Json::object();
}

Task<Result<Json>> AdminApi::token(Json arguments) {
  const std::int64_t seconds = arguments.value("expires_s", kTokenLifeMs / 1000);
  if (seconds < 1 || seconds > kTokenLifeMs / 1000) {
    co_return Error{Errc::kInvalid, "expires_s is 1 to " + std::to_string(kTokenLifeMs / 1000)};
  }
  auto issuing = node_.accounts_->issue(with_sigil(arguments.at("user").get<std::string>(), '@'),
                                        arguments.at("device").get<std::string>(), seconds * 1000);
  CO_TRY_ASSIGN(const Accounts::Login login, co_await issuing);
  co_return Json{{"token", login.token}, {"expires_ms", login.expires_ms}};
}

Task<Result<Json>> AdminApi::group_create(Json arguments) {
  const std::string group = with_sigil(arguments.at("group").get<std::string>(), '#');
  std::string owner = arguments.value("owner", std::string());
  if (!owner.empty()) owner = with_sigil(std::move(owner), '@');
  auto creating = node_.groups_->create(group, owner, arguments.value("nonce", std::uint64_t{0}));
  CO_TRY(co_await creating);
  Json added = Json::array();
  if (arguments.contains("members")) {
    Json adding_arguments{{"group", group}, {"members", arguments["members"]}};
    auto adding = group_add(std::move(adding_arguments));
    CO_TRY_ASSIGN(Json answer, co_await adding);
    added = std::move(answer["results"]);
  }
  co_return Json{{"created", true}, {"results", std::move(added)}};
}

Task<Result<Json>> AdminApi::group_add(Json arguments) {
  const std::string group = with_sigil(arguments.at("group").get<std::string>(), '#');
  const auto role = static_cast<std::uint8_t>(arguments.value("role", 0));
  std::vector<std::string> users;
  for (const auto& member : arguments.at("members")) users.push_back(with_sigil(member.get<std::string>(), '@'));
  std::vector<Status> set(users.size(), ok_status());
  if (!users.empty()) {  // One first: it tells whether there is such a group.
    auto setting = set_one(group, users.front(), role, set.front());
    co_await setting;
    const auto& first = set.front();
    if (!first && first.code() == Errc::kNotFound && first.error().text.ends_with(group)) co_return first.error();
  }
  auto setting = overlay::at_once(node_.leaves_.loop, users.size() - std::min<std::size_t>(1, users.size()),
                                  kChangesAtOnce, [&](std::size_t i) {
    return set_one(group, users[i + 1], role, set[i + 1]);
  });
  co_await setting;
  Json results = Json::array();
  for (std::size_t i = 0; i < users.size(); ++i) {
    Json result{{"name", users[i]}};
    if (!set[i]) result["error"] = error_json(set[i].error());
    results.push_back(std::move(result));
  }
  co_return Json{{"results", std::move(results)}};
}

Task<Done> AdminApi::set_one(const std::string& group, const std::string& user, std::uint8_t role, Status& status) {
  auto setting = node_.groups_->set_member(group, user, role, false);
  status = co_await setting;
  co_return Done{};
}

Task<Result<Json>> AdminApi::group_members(Json arguments) {
  const std::uint32_t limit = std::min<std::uint32_t>(arguments.value("limit", 1000u), kListMax);
  std::string after = arguments.value("after", std::string());
  if (!after.empty()) after = with_sigil(std::move(after), '@');
  auto listing = node_.groups_->members(
      with_sigil(arguments.at("group").get<std::string>(), '#'), after, limit, /*known=*/0);
  CO_TRY_ASSIGN(const auto roster, co_await listing);
  Json items = Json::array();
  for (const auto& member : roster.members) {
    constexpr const char* kRoles[] = {"member", "moderator", "owner"};
    items.push_back({{"name", member.user}, {"role", member.role < 3 ? kRoles[member.role] : "?"}});
  }
  const bool more = items.size() == limit;
  co_return Json{{"members", std::move(items)}, {"more", more}};
}

}  // namespace starling::node
