// starling group ...: groups and their members, over the admin socket.
#include <iostream>

#include "crypto/random.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/names.h"
#include "node/cli/people.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

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

}  // namespace

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
      .about = "Adds users to a group. A role is raised, never lowered.\n\n"
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
