#include "tests/sim/world/world.h"

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace starling::sim {
namespace {

// FNV-1a.
void fold(std::uint64_t& digest, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < size; ++i) digest = (digest ^ bytes[i]) * 1099511628211ULL;
}

std::string line(const Trace::Note& note) {
  char head[64];
  std::snprintf(head, sizeof head, "%14.6f ",
                static_cast<double>(note.at.time_since_epoch().count()) / 1e9);
  return head + note.who + ": " + note.what + "\n";
}

}  // namespace

void Trace::add(Instant at, std::string_view who, std::string what) {
  const auto ns = at.time_since_epoch().count();
  fold(digest_, &ns, sizeof ns);
  fold(digest_, who.data(), who.size());
  fold(digest_, what.data(), what.size());
  ++count_;
  notes_.push_back({at, std::string(who), std::move(what)});
  if (echo_) std::fputs(line(notes_.back()).c_str(), stderr);
  if (notes_.size() > kNotesMax) notes_.pop_front();
}

std::string Trace::text(std::string_view needle, std::size_t limit) const {
  std::vector<const Note*> found;
  for (auto it = notes_.rbegin(); it != notes_.rend() && found.size() < limit; ++it) {
    if (needle.empty() || it->what.find(needle) != std::string::npos) found.push_back(&*it);
  }
  std::string out;
  for (auto it = found.rbegin(); it != found.rend(); ++it) out += line(**it);
  return out;
}

// Steady time starts away from zero, where "never" and "long ago" would look alike.
World::World(std::uint64_t seed)
    : seed_(seed), start_(Instant{} + 1000s), now_(start_), random_(seed) {}

Duration World::between(Duration low, Duration high) {
  assert(low <= high);
  const auto span = static_cast<std::uint64_t>((high - low).count()) + 1;
  return low + Duration(static_cast<Duration::rep>(random_.below(span)));
}

bool World::chance(double probability) {
  return probability > 0 && random_.unit() < probability;
}

World::EventId World::at(Instant when, std::function<void()> fn) {
  const EventId id{std::max(when, now_), next_event_++};
  events_.emplace(id, std::move(fn));
  return id;
}

bool World::step() {
  if (events_.empty()) return false;
  auto first = events_.begin();
  if (first->first.first != now_) events_this_instant_ = 0;
  now_ = first->first.first;
  auto fn = std::move(first->second);
  events_.erase(first);
  ++events_run_;
  if (++events_this_instant_ > kEventsPerInstantMax) {
    std::fprintf(stderr, "sim --seed %llu: no progress in time; last notes:\n%s",
                 static_cast<unsigned long long>(seed_), trace_.text("", 40).c_str());
    std::abort();
  }
  fn();
  return true;
}

std::uint64_t case_seeds(std::uint64_t usual) {
  const char* more = std::getenv("STARLING_CASE_SEEDS");
  return more == nullptr ? usual : std::max<std::uint64_t>(usual, std::strtoull(more, nullptr, 10));
}

void World::run_for(Duration duration) {
  const Instant end = now_ + duration;
  while (!events_.empty() && events_.begin()->first.first <= end) step();
  now_ = end;
}

bool World::run_until(const std::function<bool()>& done, Duration limit) {
  const Instant end = now_ + limit;
  while (!done()) {
    if (events_.empty() || events_.begin()->first.first > end) {
      now_ = end;
      return done();
    }
    step();
  }
  return true;
}

}  // namespace starling::sim
