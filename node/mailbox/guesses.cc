#include "node/mailbox/guesses.h"

#include <algorithm>
#include <array>

namespace starling::node {
namespace {

struct Kind {
  std::string key;
  GuessRate rate;
};

// No name has a space, and no address.
std::array<Kind, 3> kinds(View user, View address) {
  return {{{Bytes(user) + " " + Bytes(address), kGuessesOfOneByOne},
           {" " + Bytes(address), kGuessesFromAddress},
           {Bytes(user) + " ", kGuessesOfUser}}};
}

}  // namespace

Guesses::Bucket& Guesses::find(const std::string& key, GuessRate rate, Instant now) {
  const auto [it, fresh] = buckets_.try_emplace(key, Bucket{rate, rate.at_once, now});
  Bucket& bucket = it->second;
  const double seconds = std::chrono::duration<double>(now - bucket.at).count();
  bucket.left = std::min(rate.at_once, bucket.left + seconds * rate.per_second);
  bucket.at = now;
  return bucket;
}

Status Guesses::take(View user, View address, Instant now) {
  if (buckets_.size() + 3 > kGuessersMax) forget_full(now);
  const auto all = kinds(user, address);
  for (const auto& kind : all) {
    if (find(kind.key, kind.rate, now).left < 1) {
      return Error{Errc::kOverloaded, "too many wrong passwords lately; try again later, or log in by token"};
    }
  }
  for (const auto& kind : all) find(kind.key, kind.rate, now).left -= 1;
  return ok_status();
}

void Guesses::give_back(View user, View address) {
  for (const auto& kind : kinds(user, address)) {
    const auto it = buckets_.find(kind.key);
    if (it == buckets_.end()) continue;
    it->second.left += 1;
    if (it->second.left >= kind.rate.at_once) buckets_.erase(it);
  }
}

// What is full says nothing. Should none be full, all begin anew: memory comes before slowing.
void Guesses::forget_full(Instant now) {
  std::erase_if(buckets_, [now](const auto& item) {
    const Bucket& bucket = item.second;
    const double seconds = std::chrono::duration<double>(now - bucket.at).count();
    return bucket.left + seconds * bucket.rate.per_second >= bucket.rate.at_once;
  });
  if (buckets_.size() + 3 > kGuessersMax) buckets_.clear();
}

}  // namespace starling::node
