// The registers of a mailbox: their keys, values and merge kinds. A register is a keyed value in a
// mailbox with a fixed merge rule (storage/change.h); this is the list of all there are.
//
// mailbox  key               value          merge    meaning
// any      created           CreationRecord lww      the value that Paxos chose for the name
// user     account           AccountValue   lww      password hash, auth epoch
// user     account/disabled  MemberValue    member   removed: the user is disabled (hazards F18)
// user     group/<#group>    MemberValue    member   a group that the user is in (implied by the next)
// group    member/<@user>    MemberValue    member   the roster; address = the group
#pragma once

#include <cstdint>
#include <string>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr View kCreatedKey = "created";
inline constexpr View kAccountKey = "account";
inline constexpr View kDisabledKey = "account/disabled";
inline constexpr View kGroupPrefix = "group/";
inline constexpr View kMemberPrefix = "member/";

inline constexpr std::size_t kGroupsPerUserMax = 2000;
// Left ones as well: then nobody adds the user to a new one,
inline constexpr std::size_t kGroupsEverMax = 2 * kGroupsPerUserMax;
// and the user creates no more. What lies between is the user's own doing.
inline constexpr std::size_t kGroupsOwnAndEverMax = 2 * kGroupsEverMax;

// Decided once per address, for ever. The registers of a new mailbox follow from it alone.
struct CreationRecord {
  std::string address;
  std::uint64_t nonce = 0;     // Tells our proposal from a rival's.
  EntryId stamp;               // Of the registers that follow from it.
  std::string password_hash;   // Users. Empty: tokens only.
  std::string owner;           // Groups: their first member, or empty.
  FIELDS(address, nonce, stamp, password_hash, owner)
};

struct AccountValue {
  std::string password_hash;
  std::uint64_t epoch = 1;     // A token of another epoch is void. Never the same twice, on whichever side of a split.
  bool disabled = false;       // As of this write. Where kDisabledKey stands, that decides.
  FIELDS(password_hash, epoch, disabled)
};

}  // namespace starling::node
