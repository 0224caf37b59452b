// Groups: their rosters, as `member` registers in the group's mailbox. The same register appears in
// the user's own mailbox as an obligation, which is how a device learns what to follow.
//
// Thread: one loop.
#pragma once

#include <map>

#include "node/mailbox/names.h"

namespace starling::node {

// Lists that wait for an owner are read again when it comes back: spread by chance over so long for each of them,
inline constexpr Duration kListReadAgain = 1ms;
inline constexpr Duration kListsReadAgainOver = 10s;  // and not over more than this.

enum class Role : std::uint8_t { kMember = 0, kModerator = 1, kOwner = 2 };

class Groups {
 public:
  struct Member {
    std::string user;
    std::uint8_t role = 0;
  };

  Groups(ClusterView& view, Names& names, Forwarder& forwarder);

  // `owner` may be empty (an operator's group); `nonce` as in Names::create. kExists. kTooLarge: the owner is in
  // kGroupsPerUserMax groups, or was, with those that are left, in kGroupsOwnAndEverMax.
  overlay::Task<Status> create(std::string group, std::string owner, std::uint64_t nonce);
  // kNotFound: no such group or user. kTooLarge: who is to be added is in kGroupsPerUserMax groups, or was in
  // kGroupsEverMax and never in this one.
  overlay::Task<Status> set_member(std::string group, std::string user, std::uint8_t role,
                                   bool removed);
  struct Roster {
    std::vector<Member> members;
    std::uint64_t version = 0;  // Of the whole roster; 0: it changes at the moment.
  };
  // Members after `after`, by name; none when the roster is still of the version `known` (0: of none). kNotFound.
  overlay::Task<Result<Roster>> members(std::string group, std::string after, std::uint32_t limit,
                                        std::uint64_t known);
  // The role of a user. kNotFound: no such group. kDenied: not a member.
  overlay::Task<Result<Role>> role_of(std::string group, std::string user);
  // Groups that a user is in, by name: the kGroupsPerUserMax oldest memberships, should there be more.
  struct Listing {
    std::vector<std::string> groups;
    std::vector<std::string> in_all;  // These and the younger ones.
    bool read_all = true;             // Else there were too many registers to read, and what in_all lacks may only be
    std::vector<std::string> left;    // unknown: these it is not in. By name.
    bool sure = true;                 // Of enough owners that are not behind. Else it may lack what was acknowledged, and
                                      // name as left what the user is in again: nobody is known to be out of a group.
    std::size_t ever = 0;             // With those that the user left, as long as that is remembered.
    // Is the user known not to be in the group?
    [[nodiscard]] bool is_out_of(const std::string& group) const;
    // Does it say anything of the group?
    [[nodiscard]] bool names(const std::string& group) const;
  };
  // `of_all`: `sure` if every home owner of the list answered, so also of what only one of them has.
  overlay::Task<Result<Listing>> of_user(std::string user, bool of_all = false);

  // This member is there again, or is behind no more: lists that were not sure may be now.
  void came_back(const NodeId& node);
  // Until then, if it is an owner of the user's list, but not for longer than this.
  overlay::Future<bool> wait(const std::string& user, Duration at_most);
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  struct Waiting {
    MailboxId list;
    overlay::Completer<bool> done;
    overlay::Timer timer;
    bool soon = false;
  };
  void end_wait(std::uint64_t number);
  overlay::Task<Status> may_join(std::string group, std::string user);
  overlay::Task<Status> exists(std::string address);

  ClusterView& view_;
  Names& names_;
  Forwarder& forwarder_;
  std::map<std::uint64_t, Waiting> waiting_;  // At most one of a session, and those of sessions that ended meanwhile.
  std::uint64_t next_wait_ = 0;
};

// May `from` send to this mailbox? From the mailbox's own registers. kNotFound, kDenied.
Status may_send(storage::Store& store, const MailboxId& mailbox, View to, View from);
// It may, or might once: a user whom there is, a group that `from` is or was in.
bool might_send(storage::Store& store, const MailboxId& mailbox, View to, View from);

}  // namespace starling::node
