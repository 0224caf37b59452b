// starling user ... and group ...: accounts and groups, over the admin socket.
#include <algorithm>
#include <iostream>

#include "crypto/init.h"
#include "crypto/random.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/names.h"
#include "node/cli/terminal/prompt.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kBatch = 50;   // Users created by one call: each hashes a password.
constexpr std::size_t kPage = 1000;  // Rows asked for at once.

// One answer per name; the exit code of the first that failed.
int report(const Json& results, const char* done) {
  int exit = kExitOk;
  for (const Json& result : results) {
    const std::string name = text_of(result, "name");
    const auto error = result.find("error");
    if (error == result.end() || error->is_null()) {
      std::cout << name << " " << done << "\n";
      continue;
    }
    const std::string text = error->is_object() ? text_of(*error, "text") : text_of(result, "error");
    const auto code = error->is_object() ? static_cast<Errc>(number_of(*error, "code")) : Errc::kInvalid;
    const bool named = text.find(name) != std::string::npos;
    const int failed = complain(exit_code({code, text}), named ? text : name + ": " + text);
    if (exit == kExitOk) exit = failed;
  }
  return exit;
}

Json all_or_nothing(Json all, const Json& part, const char* field) {
  for (const Json& item : list_of(part, field)) all.push_back(item);
  return all;
}

// Pages through a list until its end.
int list_all(const Arguments& arguments, const std::string& method, Json question, const char* field,
             Json& rows) {
  rows = Json::array();
  question["limit"] = kPage;
  for (bool more = true; more;) {
    Json page;
    if (const int code = admin_call(arguments, method, question, page); code != kExitOk) return code;
    rows = all_or_nothing(std::move(rows), page, field);
    more = flag_of(page, "more") && !list_of(page, field).empty();
    if (more) question["after"] = text_of(rows.back(), "name");
  }
  return kExitOk;
}

constexpr int kTriesMax = 3;  // Of what timed out, under one nonce: whichever try created it, it is ours.

bool worth_a_retry(const Json& result) {
  const auto error = result.find("error");
  if (error == result.end() || !error->is_object()) return false;
  const auto code = static_cast<Errc>(number_of(*error, "code"));
  return code == Errc::kTimeout || code == Errc::kUnavailable || code == Errc::kOverloaded;
}

// Creates a batch of users; asks again for those whose outcome is unknown.
int create(const Arguments& arguments, Json users, Json& results) {
  std::map<std::string, std::size_t> at;  // In the results.
  for (int attempt = 1; !users.empty(); ++attempt) {
    Json answer;
    if (const int code = admin_call(arguments, "user.add", {{"users", users}}, answer); code != kExitOk) return code;
    Json again = Json::array();
    for (const Json& result : list_of(answer, "results")) {
      const auto [place, fresh] = at.try_emplace(text_of(result, "name"), results.size());
      if (fresh) {
        results.push_back(result);
      } else {
        results[place->second] = result;
      }
      if (attempt == kTriesMax || !worth_a_retry(result)) continue;
      for (const Json& user : users) {
        if (text_of(user, "name") == place->first) again.push_back(user);
      }
    }
    users = std::move(again);
  }
  return kExitOk;
}

int user_add(const Arguments& arguments) {
  if (auto ready = crypto_init(); !ready) return complain(ready.error());
  const bool generate = arguments.flag("generate");
  std::string password;
  if (!generate) {
    auto read = read_password(arguments, "password for the new user", true);
    if (!read) return complain(kExitUsage, read.error().text);
    password = *read;
  }
  Json users = Json::array();
  Json results = Json::array();
  std::map<std::string, std::string> generated;
  const auto names = arguments.list("name");
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string name = user_name(names[i]);
    if (generate) generated[name] = password = random_password();
    users.push_back({{"name", name}, {"password", password}, {"nonce", SystemRandom().u64()}});
    if (users.size() < kBatch && i + 1 < names.size()) continue;
    if (const int code = create(arguments, std::exchange(users, Json::array()), results); code != kExitOk) {
      return code;
    }
  }
  if (arguments.flag("json")) {
    for (Json& result : results) {
      if (generate && !result.contains("error")) result["password"] = generated[text_of(result, "name")];
    }
    std::cout << Json{{"results", results}}.dump(2) << "\n";
    return kExitOk;
  }
  const int exit = report(results, "created");
  for (const Json& result : results) {
    const std::string name = text_of(result, "name");
    if (generate && !result.contains("error")) std::cout << name << " password " << generated[name] << "\n";
  }
  return exit;
}

int user_list(const Arguments& arguments) {
  Json users;
  if (const int code = list_all(arguments, "user.list", Json::object(), "users", users); code != kExitOk) {
    return code;
  }
  if (arguments.flag("json")) {
    std::cout << Json{{"users", users}}.dump(2) << "\n";
    return kExitOk;
  }
  Table table({"User", "State", ">Groups", "Created"});
  for (const Json& user : users) {
    const bool disabled = flag_of(user, "disabled");
    table.row({text_of(user, "name"), Cell(disabled ? "disabled" : "active", disabled ? Tone::kBad : Tone::kGood),
               std::to_string(number_of(user, "groups")),
               wall_text(static_cast<std::int64_t>(number_of(user, "created_ms")))});
  }
  if (table.empty()) {
    std::cout << "No users yet. Add some with: starling user add NAME\n";
  } else {
    table.print(std::cout, stdout_has_colour());
  }
  return kExitOk;
}

int user_passwd(const Arguments& arguments) {
  const std::string name = user_name(arguments.text("name"));
  auto password = read_password(arguments, "new password of " + name, true);
  if (!password) return complain(kExitUsage, password.error().text);
  Json answer;
  const Json question = {{"name", name}, {"password", *password}};
  if (const int code = admin_call(arguments, "user.passwd", question, answer); code != kExitOk) return code;
  std::cout << name << " has a new password\n";
  return kExitOk;
}

int user_disable(const Arguments& arguments) {
  const std::string name = user_name(arguments.text("name"));
  const bool disabled = !arguments.flag("undo");
  Json answer;
  const Json question = {{"name", name}, {"disabled", disabled}};
  if (const int code = admin_call(arguments, "user.disable", question, answer); code != kExitOk) return code;
  std::cout << name << (disabled ? " can no longer log in\n" : " can log in again\n");
  return kExitOk;
}

int user_logout(const Arguments& arguments) {
  const std::string name = user_name(arguments.text("name"));
  Json answer;
  if (const int code = admin_call(arguments, "user.logout", {{"name", name}}, answer); code != kExitOk) return code;
  std::cout << name << " is logged out everywhere\n";
  return kExitOk;
}

Json user_names(const Arguments& arguments, const std::string& option) {
  Json names = Json::array();
  for (const std::string& name : arguments.list(option)) names.push_back(user_name(name));
  return names;
}

int group_create(const Arguments& arguments) {
  const std::string group = group_name(arguments.text("group"));
  Json members = user_names(arguments, "member");
  if (!arguments.has("owner") && members.empty()) {
    return complain(kExitUsage, "a group needs an owner: name its first member, or give --owner USER");
  }
  const Json owner = arguments.has("owner") ? Json(user_name(arguments.text("owner"))) : members.front();
  members.erase(std::remove(members.begin(), members.end(), owner), members.end());
  Json answer;
  const Json question = {
      {"group", group}, {"members", members}, {"owner", owner}, {"nonce", SystemRandom().u64()}};
  if (const int code = admin_call(arguments, "group.create", question, answer, kTriesMax); code != kExitOk) {
    return code;
  }
  std::cout << group << " created, owned by " << owner.get<std::string>() << "\n";
  return kExitOk;
}

int group_add(const Arguments& arguments) {
  const std::string group = group_name(arguments.text("group"));
  static const std::vector<std::string> kRoles = {"member", "moderator", "owner"};
  const auto role = std::find(kRoles.begin(), kRoles.end(), arguments.text("role"));
  if (role == kRoles.end()) return complain(kExitUsage, "--role takes member, moderator or owner");
  Json answer;
  const Json question = {
      {"group", group}, {"members", user_names(arguments, "name")}, {"role", role - kRoles.begin()}};
  if (const int code = admin_call(arguments, "group.add", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  return report(list_of(answer, "results"), ("added to " + group).c_str());
}

int group_list(const Arguments& arguments) {
  Json groups;
  if (const int code = list_all(arguments, "group.list", Json::object(), "groups", groups); code != kExitOk) {
    return code;
  }
  if (arguments.flag("json")) {
    std::cout << Json{{"groups", groups}}.dump(2) << "\n";
    return kExitOk;
  }
  Table table({"Group", ">Members", "Created"});
  for (const Json& group : groups) {
    table.row({text_of(group, "name"), thousands(number_of(group, "members")),
               wall_text(static_cast<std::int64_t>(number_of(group, "created_ms")))});
  }
  if (table.empty()) {
    std::cout << "No groups yet. Create one with: starling group create NAME USER...\n";
  } else {
    table.print(std::cout, stdout_has_colour());
  }
  return kExitOk;
}

int group_members(const Arguments& arguments) {
  Json members;
  const Json question = {{"group", group_name(arguments.text("group"))}};
  if (const int code = list_all(arguments, "group.members", question, "members", members); code != kExitOk) {
    return code;
  }
  if (arguments.flag("json")) {
    std::cout << Json{{"members", members}}.dump(2) << "\n";
    return kExitOk;
  }
  Table table({"User", "Role"});
  for (const Json& member : members) {
    table.row({text_of(member, "name"), text_of(member, "role")});
  }
  table.print(std::cout, stdout_has_colour());
  return kExitOk;
}

void admin_and_json(po::options_description& options) {
  add_admin_options(options);
  add_json_option(options);
}

po::typed_value<std::vector<std::string>>* words() { return po::value<std::vector<std::string>>(); }

}  // namespace

Command user_add_command() {
  return {
      .name = "user add",
      .summary = "create users",
      .usage = "user add NAME... [--generate | --password-file FILE]",
      .about = "Creates users; a name may be written with or without its @. The password is asked for, read\n"
               "from a file, or generated: then it is printed, once. Names are unique in the cluster, and a\n"
               "majority of its nodes must be reachable. Exits with 1 when a name is taken; the others are\n"
               "created all the same.\n\n"
               "Examples:\n"
               "  starling user add alice\n"
               "  starling user add alice bob carol --generate\n"
               "  pass show alice | starling user add alice --password-file -\n",
      .options =
          [](po::options_description& options) {
            admin_and_json(options);
            add_password_options(options);
            options.add_options()("generate", po::bool_switch(), "make up a password for each and print it")(
                "name", words());
          },
      .run = user_add,
      .words = {"name..."},
  };
}

Command user_list_command() {
  return {
      .name = "user list",
      .summary = "list the users",
      .usage = "user list [--json]",
      .about = "Lists every user of the cluster by name.\n",
      .options = admin_and_json,
      .run = user_list,
      .words = {},
  };
}

Command user_passwd_command() {
  return {
      .name = "user passwd",
      .summary = "give a user a new password",
      .usage = "user passwd NAME [--password-file FILE]",
      .about = "Sets a new password, without asking for the old one, and ends the user's other logins.\n\n"
               "Examples:\n"
               "  starling user passwd alice\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_password_options(options);
            options.add_options()("name", po::value<std::string>());
          },
      .run = user_passwd,
      .words = {"name"},
  };
}

Command user_logout_command() {
  return {
      .name = "user logout",
      .summary = "end a user's sessions on all devices",
      .usage = "user logout NAME",
      .about = "Ends the user's sessions and makes the tokens of all devices void; the password stays.\n\n"
               "Examples:\n"
               "  starling user logout alice\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            options.add_options()("name", po::value<std::string>());
          },
      .run = user_logout,
      .words = {"name"},
  };
}

Command user_disable_command() {
  return {
      .name = "user disable",
      .summary = "lock a user out, or let one in again",
      .usage = "user disable NAME [--undo]",
      .about = "Ends the user's sessions and refuses new ones. Messages stay; others are told that the user is disabled.\n\n"
               "Examples:\n"
               "  starling user disable mallory\n"
               "  starling user disable mallory --undo\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            options.add_options()("undo", po::bool_switch(), "let the user log in again")(
                "name", po::value<std::string>());
          },
      .run = user_disable,
      .words = {"name"},
  };
}

Command group_create_command() {
  return {
      .name = "group create",
      .summary = "create a group",
      .usage = "group create GROUP [USER...] [--owner USER]",
      .about = "Creates a group with these members; the first one owns it, unless --owner says who. Group\n"
               "names begin with #, which a shell takes for a comment unless quoted; here it may be left out.\n\n"
               "Examples:\n"
               "  starling group create ops alice bob --owner alice\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            options.add_options()("owner", po::value<std::string>()->value_name("USER"),
                                  "who may change the group")("group", po::value<std::string>())("member",
                                                                                                 words());
          },
      .run = group_create,
      .words = {"group", "[member...]"},
  };
}

Command group_add_command() {
  return {
      .name = "group add",
      .summary = "add users to a group",
      .usage = "group add GROUP USER... [--role member|moderator|owner]",
      .about = "Adds users to a group, or changes their role.\n\n"
               "Examples:\n"
               "  starling group add ops carol dave\n",
      .options =
          [](po::options_description& options) {
            admin_and_json(options);
            options.add_options()("role", po::value<std::string>()->value_name("ROLE")->default_value("member"),
                                  "member, moderator or owner")("group", po::value<std::string>())("name",
                                                                                                   words());
          },
      .run = group_add,
      .words = {"group", "name..."},
  };
}

Command group_list_command() {
  return {
      .name = "group list",
      .summary = "list the groups",
      .usage = "group list [--json]",
      .about = "Lists every group of the cluster by name.\n",
      .options = admin_and_json,
      .run = group_list,
      .words = {},
  };
}

Command group_members_command() {
  return {
      .name = "group members",
      .summary = "list the members of a group",
      .usage = "group members GROUP [--json]",
      .about = "Lists the members of a group and their roles.\n\n"
               "Examples:\n"
               "  starling group members ops\n",
      .options =
          [](po::options_description& options) {
            admin_and_json(options);
            options.add_options()("group", po::value<std::string>());
          },
      .run = group_members,
      .words = {"group"},
  };
}

}  // namespace starling::node::cli
