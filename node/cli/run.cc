// starling run, init and join: the three ways to start a node.
#include <filesystem>
#include <iostream>

#include <sys/time.h>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "node/cli/commands.h"
#include "node/cli/loops.h"
#include "node/cli/node_options.h"

namespace starling::node::cli {
namespace {

bool has_node(const std::string& data) {
  std::error_code error;
  return std::filesystem::exists(data + "/store", error);
}

// Something is in the folder, and none of it is a node's.
bool has_other_files(const std::string& data) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const char* ours : {"store", "starling.conf", "join-token"}) {
    if (fs::exists(data + "/" + ours, error)) return false;
  }
  for (const auto& entry : fs::directory_iterator(data, error)) {
    if (entry.path().extension() != ".log") return true;
  }
  return false;
}

int in_use(const Config& config) {
  return complain(kExitFailed, "the folder " + config.data +
                                   " is in use for something else: give an empty or a new one with --data");
}

int start(const Arguments& arguments) {
  auto config = make_config(arguments);
  if (!config) return complain(kExitUsage, config.error().text);
  if (has_other_files(config->data)) return in_use(*config);
  return run_node(*config);
}

int init(const Arguments& arguments) {
  auto config = make_config(arguments);
  if (!config) return complain(kExitUsage, config.error().text);
  if (auto made = create_folder(config->data); !made) return complain(kExitFailed, made.error().text);
  std::error_code error;
  if (!std::filesystem::is_empty(config->data, error)) {
    return complain(kExitFailed, config->data + " is not empty" + (error ? ": " + error.message() : "") +
                                     "; choose an empty folder with --data, or start the node that is in "
                                     "it: starling run --data " + config->data);
  }
  const std::string path = config->data + "/starling.conf";
  if (auto written = write_file(path, config_text(*config), 0644); !written) {
    return complain(kExitFailed, written.error().text);
  }
  std::cout << "Wrote " << path << ". Start the node with: starling run --data " << config->data << "\n";
  return kExitOk;
}

std::int64_t wall_ms() {
  timeval now{};
  gettimeofday(&now, nullptr);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_usec / 1000;
}

// A member goes on without it, so the same command starts it again when the token is over. What is kept in its folder has to
// be a token all the same.
Status check_token(const std::string& token, bool member) {
  TRY(crypto_init());
  TRY_ASSIGN(const Invite invite, parse_invite(token));
  return member ? ok_status() : check_time(invite, wall_ms());
}

int join(const Arguments& arguments) {
  auto config = make_config(arguments);
  if (!config) return complain(kExitUsage, config.error().text);
  if (arguments.has("node")) {
    const auto dead = parse_node_id(arguments.text("node"));
    if (!dead) {
      return complain(kExitUsage, "'" + arguments.text("node") + "' is no whole id of a node: `starling ring --json` "
                                  "on a member shows them");
    }
    config->replaces = *dead;
  }
  config->join_token = arguments.text("token");
  if (config->join_token == "-") std::cin >> config->join_token;
  if (auto good = check_token(config->join_token, has_node(config->data)); !good) {
    return complain(kExitFailed, "this token cannot be used: " + good.error().text +
                                     "\n  A member gives a new one with: starling invite");
  }
  if (auto made = create_folder(config->data); !made) return complain(kExitFailed, made.error().text);
  // A member's folder is started as by `run`; one that left is emptied (Node::open).
  if (has_other_files(config->data)) return in_use(*config);
  const std::string path = config->data + "/starling.conf";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    if (auto written = write_file(path, config_text(*config), 0644); !written) {
      return complain(kExitFailed, written.error().text);
    }
  }
  if (auto kept = keep_join_token(*config); !kept) return complain(kExitFailed, kept.error().text);
  std::cout << "Joining the cluster that gave the token." << std::endl;
  return run_node(*config);
}

}  // namespace

Command run_command() {
  return {
      .name = "run",
      .summary = "start a node; on an empty data folder, a new cluster of one",
      .usage = "run [--data FOLDER] [options]",
      .about = "Starts the node in the data folder and runs it until Ctrl-C or SIGTERM. An empty folder\n"
               "becomes a new cluster with this node as its only member; others come with `starling join`.\n"
               "The addresses in use are written to <data>/addresses.json.\n\n"
               "With --loops 4 the process runs four nodes, each on a core: the others get ports 10, 20 and 30 higher,\n"
               "live in <data>/loops and join by themselves. Give the balancer all of them.\n\n"
               "Examples:\n"
               "  starling run\n"
               "  starling run --data /var/lib/starling --client 0.0.0.0:7400 \\\n"
               "               --link 0.0.0.0:7401 --advertise 192.0.2.7\n\n"
               "When the disk fails, the node stops before anything is lost and starts itself again; when that fails\n"
               "within half a minute, it ends with exit code 70.\n",
      .options = add_node_options,
      .run = start,
      .words = {},
      .starts_node = true,
  };
}

Command init_command() {
  return {
      .name = "init",
      .summary = "write the settings of a node without starting it",
      .usage = "init [--data FOLDER] [options]",
      .about = "Checks the choices and writes them to <data>/starling.conf, for `starling run` to read. The\n"
               "folder must be empty or absent.\n\n"
               "Examples:\n"
               "  starling init --data /var/lib/starling --zone cellar --copies 3\n",
      .options = add_node_options,
      .run = init,
      .words = {},
      .starts_node = true,
  };
}

Command join_command() {
  return {
      .name = "join",
      .summary = "start a node that joins a cluster, with a token from `starling invite`",
      .usage = "join TOKEN|- [--data FOLDER] [options]",
      .about = "Starts a new node in an empty data folder and asks the cluster that gave the token to take\n"
               "it in. It copies its share of the data, says when it serves, and keeps running. Later, and\n"
               "also when it was stopped before it served, start it with `starling run`. The token holds the\n"
               "secret of the cluster, and others on the machine can see command lines: - reads it from\n"
               "standard input.\n\n"
               "Examples:\n"
               "  ssh first-node starling invite | starling join - --link 192.0.2.8:7401\n",
      .options =
          [](po::options_description& options) {
            add_node_options(options);
            options.add_options()("token", po::value<std::string>());
          },
      .run = join,
      .words = {"token"},
      .starts_node = true,
  };
}

Command replace_command() {
  return {
      .name = "replace",
      .summary = "start a node that takes the place of a dead one",
      .usage = "replace NODE TOKEN|- [--data FOLDER] [options]",
      .about = "As `starling join`, on the new machine, with the whole id of the dead node: one change of the ring\n"
               "removes that and lets this one in, so the data moves once. Refused while the node is alive, and when\n"
               "what only it holds would be lost.\n\n"
               "Examples:\n"
               "  ssh first-node starling invite | starling replace 7XK2... - --link 192.0.2.8:7401\n",
      .options =
          [](po::options_description& options) {
            add_node_options(options);
            options.add_options()("node", po::value<std::string>())("token", po::value<std::string>());
          },
      .run = join,
      .words = {"node", "token"},
      .starts_node = true,
  };
}

}  // namespace starling::node::cli
