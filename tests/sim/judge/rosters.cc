#include "tests/sim/judge/rosters.h"

#include <algorithm>

namespace starling::sim {

Rosters::Index Rosters::ask(const std::string& group, const std::string& user, bool removal, std::uint8_t role,
                            Instant now) {
  changes_.push_back({group, user, removal, role, now, {}, false});
  return changes_.size() - 1;
}

void Rosters::done(Index change, Instant now) {
  changes_[change].done = true;
  changes_[change].ended = now;
}

std::set<std::string> Rosters::groups() const {
  std::set<std::string> out;
  for (const auto& change : changes_) out.insert(change.group);
  return out;
}

std::set<std::string> Rosters::ever(const std::string& group) const {
  std::set<std::string> out;
  for (const auto& change : changes_) {
    if (change.group == group && !change.removal) out.insert(change.user);
  }
  return out;
}

// Within one membership the highest role stands, also one that was only asked for.
std::map<std::string, std::uint8_t> Rosters::members(const std::string& group) const {
  std::map<std::string, std::uint8_t> out;
  std::map<std::string, std::uint8_t> tried;
  for (const auto& change : changes_) {
    if (change.group != group) continue;
    auto& role = tried[change.user];
    if (!change.removal) role = std::max(role, change.role);
    if (change.done && change.removal) {
      out.erase(change.user);
      role = 0;
    } else if (change.done) {
      out[change.user] = role;
    }
  }
  return out;
}

bool Rosters::may_be_out(const std::string& group, const std::string& user, Instant from, Instant to) const {
  bool out = true;
  for (const auto& change : changes_) {
    if (change.group != group || change.user != user) continue;
    if (change.removal && change.asked <= to) out = true;
    if (!change.removal && change.done && change.ended <= from) out = false;
  }
  return out;
}

}  // namespace starling::sim
