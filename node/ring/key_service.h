// KeyService: the cluster's secrets, and their rotation while everything runs.
//
// Members tell each other their keyrings, over links, which are up only between nodes that share a key:
// when a link comes up, when one is admitted, and once a minute with one of them. So whoever was
// away during a rotation learns the new key when it comes back under the old one, for as long as the old
// one is not retired: kKeysLiveDefaultMs, or what the operator said. After that only an invite lets it in.
// A node that left, or was removed, is told no keys and believed none (decision 0032): it hands home what it
// has for as long as it can by those that it knows.
// Invariants: (1) a key is put to use only when every member that can be reached, a majority at least, has
//                 it on disk; (2) a keyring is on disk before anybody hears that we have it.
// Thread: one loop.
#pragma once

#include <string>
#include <vector>

#include "crypto/access/keyring.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::int64_t kKeysLiveDefaultMs = std::int64_t{7} * 24 * 3600 * 1000;
inline constexpr std::int64_t kKeysLiveMaxMs = std::int64_t{365} * 24 * 3600 * 1000;
inline constexpr Duration kKeysDeadline = 5s;
inline constexpr Duration kKeysEvery = 60s;

class KeyService {
 public:
  KeyService(ClusterView& view, Keyring& keyring);

  // A link to a node that takes part came up.
  void meet(const NodeId& peer);
  // Drops keys whose time has come.
  void retire();

  struct Rotation {
    KeyId key;
    std::int64_t others_retire_at_ms = 0;
    std::vector<NodeId> taken;  // Members that have it, ourselves included.
    std::vector<NodeId> away;   // Members that will learn it when they come back, until then.
    std::vector<NodeId> going;  // Those that left and still hand over: they have until then.
  };
  // A new secret in use; the others go after `live_ms` (0: at once). kUnavailable, with who is in the way,
  // and nothing is used: calling again goes on with the same key. kOverloaded while one is under way.
  overlay::Task<Result<Rotation>> rotate(std::int64_t live_ms);

  [[nodiscard]] std::vector<KeyInfo> keys() const { return keyring_.infos(); }

 private:
  struct Told {
    std::vector<NodeId> taken;
    std::vector<NodeId> away;    // Not alive in our eyes.
    std::vector<NodeId> silent;  // Alive, and did not take it.
    std::string why;             // Of the last of them.
  };
  void serve();
  overlay::Task<Done> answer(overlay::Reply reply);
  overlay::Task<Done> exchange(NodeId peer);
  overlay::Task<Status> exchange_with(NodeId peer);
  overlay::Task<Told> tell_members();
  void tell_joiners();
  Status make_room(std::int64_t live_ms);
  overlay::Task<Result<Rotation>> rotate_checked(std::int64_t live_ms);
  Status take(View keyring);
  void save();
  void look_around();
  [[nodiscard]] bool is_member(const NodeId& node) const;

  ClusterView& view_;
  Keyring& keyring_;
  bool rotating_ = false;
  overlay::Timer timer_;
  overlay::Scope scope_;
};

}  // namespace starling::node
