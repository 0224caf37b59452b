// Guesses: how many passwords may be tried in vain, of a user, from an address, and of a user from an address.
//
// Each has a bucket of tries that fills slowly. A try takes one from all three and gives them back unless the password
// was wrong, so those who know theirs are slowed only while somebody guesses at the same name from the same address, or
// from very many. Counted at each node by itself, and forgotten when it stops.
// Bounded: kGuessersMax buckets; full ones are forgotten. Thread: one loop; pure.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "overlay/loop/clock.h"

namespace starling::node {

struct GuessRate {
  double at_once = 1;
  double per_second = 1;  // Then.
};
inline constexpr GuessRate kGuessesOfOneByOne{10, 0.1};  // Of a user from an address.
inline constexpr GuessRate kGuessesFromAddress{100, 5};
inline constexpr GuessRate kGuessesOfUser{100, 1};
inline constexpr std::size_t kGuessersMax = 30'000;  // Over what the hashes of a node allow to be in debt at once.

class Guesses {
 public:
  // kOverloaded: too many were wrong lately.
  Status take(View user, View address, Instant now);
  // It was right, or not looked at.
  void give_back(View user, View address);
  [[nodiscard]] std::size_t kept() const { return buckets_.size(); }

 private:
  struct Bucket {
    GuessRate rate;
    double left = 0;
    Instant at{};
  };
  Bucket& find(const std::string& key, GuessRate rate, Instant now);
  void forget_full(Instant now);

  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace starling::node
