// RegisterVersions: one number for all registers of a mailbox under a prefix, so that who has read them, a roster of
// 100,000 say, can ask whether it has to do so again (hazards F46).
//
// It is a digest of what is synced here: owners that hold the same registers say the same number, in whatever order
// they came, so it can be compared with another owner's, and over restarts. It is reckoned when it is first asked for,
// in pieces, and kept until one of the registers changes or the ring does.
// Invariant: a number that is told is of no newer registers than those that are read in the same turn.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kRegisterVersionsMax = 1024;  // Kept; above, all are reckoned anew.
// A reckoning that takes longer, or is overtaken by changes, is given up, and not begun anew for a while.
inline constexpr Duration kReckonMax = 500ms;
inline constexpr Duration kReckonRest = 2s;
inline constexpr std::size_t kRegisterPieceMax = 1000;     // Registers in a turn. Part of what the number means.

class RegisterVersions {
 public:
  explicit RegisterVersions(ClusterView& view);

  // 0: they change faster than they can be read, or are too many. At once, inside the call, when it is known.
  using Told = std::function<void(std::uint64_t version)>;
  void ask(const MailboxId& mailbox, const std::string& prefix, Told told);

  void on_synced(std::span<const storage::SyncedChange> changes);
  // This change was written off once, and is back.
  void changed(const storage::ChangeView& change);

  [[nodiscard]] std::size_t kept() const { return known_.size(); }

 private:
  using Of = std::pair<MailboxId, std::string>;  // Mailbox and prefix.
  struct Known {
    std::optional<std::uint64_t> version;
    bool changed = false;       // Since the reckoning began.
    Instant rests_until{};      // Given up.
    std::vector<Told> waiting;  // Not empty: it is being reckoned.
  };

  overlay::Task<Done> reckon(Of of);
  void tell(const Of& of, std::uint64_t version);

  ClusterView& view_;
  std::map<Of, Known> known_;
  overlay::Scope scope_;
};

}  // namespace starling::node
