#include "node/cli/commands.h"

namespace starling::node::cli {

std::vector<Command> all_commands() {
  return {
      run_command(),
      init_command(),
      invite_command(),
      join_command(),
      replace_command(),
      status_command(),
      ring_command(),
      where_command(),
      verify_command(),
      repair_command(),
      leave_command(),
      remove_command(),
      weight_command(),
      rebalance_command(),
      ring_double_command(),
      sites_command(),
      abort_command(),
      pause_command(),
      resume_command(),
      throttle_command(),
      drain_command(),
      undrain_command(),
      key_list_command(),
      key_rotate_command(),
      revoke_command(),
      user_add_command(),
      user_list_command(),
      user_passwd_command(),
      user_disable_command(),
      user_logout_command(),
      group_create_command(),
      group_add_command(),
      group_list_command(),
      group_members_command(),
      send_command(),
      tail_command(),
      chat_command(),
      replay_command(),
      bench_command(),
      check_command(),
  };
}

}  // namespace starling::node::cli
