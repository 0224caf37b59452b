// World: virtual time, one queue of events, one seed. A run of the simulator is a function of its
// seed.
//
// Everything that happens in a simulation is an event in this queue: a packet arrives, a timer
// fires, a disk finishes. Events run in the order (time, number of creation), so equal seeds give
// equal runs. Time stands still inside an event and jumps to the next one after it.
// Invariants: (1) an event never runs inside the code that scheduled it;
//             (2) the trace digest covers every note ever made, also those the ring buffer forgot.
// Thread: one; nothing here is shared.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "crypto/random.h"
#include "overlay/loop/clock.h"

namespace starling::sim {

// How many seeds a directed case runs with: `usual`, or more by $STARLING_CASE_SEEDS.
std::uint64_t case_seeds(std::uint64_t usual);

// What happened lately, for the report of a failing seed, and a digest of all that ever happened.
class Trace {
 public:
  static constexpr std::size_t kNotesMax = 20'000;
  struct Note {
    Instant at;
    std::string who;
    std::string what;
  };

  void add(Instant at, std::string_view who, std::string what);
  [[nodiscard]] std::uint64_t digest() const { return digest_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] const std::deque<Note>& notes() const { return notes_; }
  // The notes that contain `needle` (all for ""), newest `limit` of them, one line each.
  [[nodiscard]] std::string text(std::string_view needle, std::size_t limit) const;
  // Prints each note as it is made.
  void echo(bool on) { echo_ = on; }

 private:
  std::deque<Note> notes_;
  std::uint64_t digest_ = 14695981039346656037ULL;
  std::uint64_t count_ = 0;
  bool echo_ = false;
};

class World {
 public:
  using EventId = std::pair<Instant, std::uint64_t>;
  // A loop that makes no progress in time is a bug of the code under test.
  static constexpr std::uint64_t kEventsPerInstantMax = 5'000'000;
  static constexpr std::int64_t kStartWallMs = 1'790'000'000'000;  // September 2026.

  explicit World(std::uint64_t seed);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  [[nodiscard]] Instant now() const { return now_; }
  // True wall time; a host's own clock may be off from it.
  [[nodiscard]] std::int64_t wall_ms() const { return kStartWallMs + to_ms(now_ - start_); }
  [[nodiscard]] Duration elapsed() const { return now_ - start_; }

  Random& random() { return random_; }
  // A seed for a generator of one's own, so that one part's draws do not shift another's.
  std::uint64_t fork() { return random_.u64(); }
  // Uniform in [low, high].
  Duration between(Duration low, Duration high);
  bool chance(double probability);

  EventId at(Instant when, std::function<void()> fn);
  EventId after(Duration delay, std::function<void()> fn) {
    return at(now_ + delay, std::move(fn));
  }
  void cancel(const EventId& id) { events_.erase(id); }

  // Runs the next event; false when there is none.
  bool step();
  void run_for(Duration duration);
  // Runs until `done()` holds (checked after every event); false when `limit` passed first.
  bool run_until(const std::function<bool()>& done, Duration limit);
  [[nodiscard]] std::uint64_t events_run() const { return events_run_; }

  Trace& trace() { return trace_; }
  void note(std::string_view who, std::string what) { trace_.add(now_, who, std::move(what)); }

 private:
  const std::uint64_t seed_;
  const Instant start_;
  Instant now_;
  SeededRandom random_;
  std::map<EventId, std::function<void()>> events_;
  std::uint64_t next_event_ = 1;
  std::uint64_t events_run_ = 0;
  std::uint64_t events_this_instant_ = 0;
  Trace trace_;
};

}  // namespace starling::sim
