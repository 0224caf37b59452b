// Rosters: what people asked for about who is in which group, and what must come of it.
//
// Of one user in one group one thing is asked at a time, again and again until it is acknowledged, and the next one only
// when what has no answer can no longer happen. So the last acknowledged change of each is what must stand, whatever
// coordinator took it: a later one that undoes it unasked is a lost addition or removal.
// While a removal is not older than the last addition, a send may be refused and what is sent may still be shown: owners
// that are apart know of it at different times. Once the cluster is quiet, all of them do (people/social.h tries it).
// Thread: value type.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "overlay/loop/clock.h"

namespace starling::sim {

struct RosterChange {
  std::string group;
  std::string user;
  bool removal = false;
  std::uint8_t role = 0;
  Instant asked;
  Instant ended;
  bool done = false;  // Acknowledged.
};

class Rosters {
 public:
  using Index = std::size_t;
  Index ask(const std::string& group, const std::string& user, bool removal, std::uint8_t role, Instant now);
  void done(Index change, Instant now);

  [[nodiscard]] std::set<std::string> groups() const;
  [[nodiscard]] std::set<std::string> ever(const std::string& group) const;  // Whom anybody tried to add.
  // By what was acknowledged last: user -> role.
  [[nodiscard]] std::map<std::string, std::uint8_t> members(const std::string& group) const;
  // Between the two moments an owner may have known the user to be out.
  [[nodiscard]] bool may_be_out(const std::string& group, const std::string& user, Instant from, Instant to) const;
  [[nodiscard]] const std::vector<RosterChange>& changes() const { return changes_; }

 private:
  std::vector<RosterChange> changes_;  // In the order in which they were asked for.
};

}  // namespace starling::sim
