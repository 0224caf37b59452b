// starling user ...: accounts, over the admin socket.
#include <algorithm>
#include <iostream>
#include <map>

#include "crypto/init.h"
#include "crypto/random.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/names.h"
#include "node/cli/people.h"
#include "node/cli/terminal/prompt.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kBatch = 50;  // Users created by one call: each hashes a password.
bool worth_a_retry(const Json& result) {
  const auto error = result.find("error");
  if (error == result.end() || !error->is_object()) return false;
  const auto code = static_cast<Errc>(number_of(*error, "code"));
  return code == Errc::kTimeout || code == Errc::kUnavailable || code == Errc::kOverloaded || code == Errc::kCatchingUp;
}

// Created, or the answer was no clear one.
bool may_exist(const Json& result) { return !result.contains("error") || worth_a_retry(result); }

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
      if (generate && may_exist(result)) result["password"] = generated[text_of(result, "name")];
    }
    std::cout << Json{{"results", results}}.dump(2) << "\n";
    return kExitOk;
  }
  const int exit = report(results, "created");
  for (const Json& result : results) {
    const std::string name = text_of(result, "name");
    if (!generate || !may_exist(result)) continue;
    const bool unclear = result.contains("error");
    std::cout << name << (unclear ? ", if it was created all the same, has the password " : " password ")
              << generated[name] << "\n";
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

}  // namespace starling::node::cli
