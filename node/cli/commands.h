// Commands: the table of everything that `starling` can do.
//
// One function per command, in node/cli/<command>.cc, returns its row; commands.cc lists them in the
// order in which `starling --help` shows them.
// Thread: any; constant.
#pragma once

#include <vector>

#include "node/cli/options.h"

namespace starling::node::cli {

// A node.
Command run_command();
Command init_command();
Command join_command();
Command replace_command();
Command invite_command();

// Who may speak.
Command key_list_command();
Command key_rotate_command();
Command revoke_command();

// Looking at it.
Command status_command();
Command ring_command();
Command where_command();
Command verify_command();
Command repair_command();

// Changing it.
Command leave_command();
Command remove_command();
Command weight_command();
Command rebalance_command();
Command ring_double_command();
Command sites_command();
Command abort_command();
Command pause_command();
Command resume_command();
Command throttle_command();
Command drain_command();
Command undrain_command();

// Users and groups.
Command user_add_command();
Command user_list_command();
Command user_passwd_command();
Command user_disable_command();
Command user_logout_command();
Command group_create_command();
Command group_add_command();
Command group_list_command();
Command group_members_command();

// As a user.
Command send_command();
Command tail_command();
Command chat_command();

// Workloads.
Command replay_command();
Command bench_command();
Command check_command();

std::vector<Command> all_commands();

}  // namespace starling::node::cli
