// HashQueue: password hashes, of which two run at once and a bounded number wait.
//
// A hash takes a core for tens of milliseconds and 19 MiB, and anybody can ask for one. So whoever wants one takes a
// place first, before anything is looked up for it, and is refused when there is none; one address has a part of the
// places at most, so it cannot keep all others out, and a few are the operator's. Places are given back when the
// hash is done, not when the client that asked has gone. A hash that nobody waits for any more is left out.
// Thread: one loop; the hashes run on Loop::work.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "crypto/result.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kHashesAtOnceMax = 2;
inline constexpr std::size_t kHashesWaitingMax = 64;  // More: kOverloaded.
inline constexpr std::size_t kHashPlacesOfAddressMax = 16;
inline constexpr std::size_t kHashPlacesOfOperator = 4;  // Of all of them.

class HashQueue {
 public:
  // Given back when the last copy goes.
  using Place = std::shared_ptr<void>;

  explicit HashQueue(overlay::Loop& loop) : state_(std::make_shared<State>(loop)) {}

  // `from`: an address; empty for an operator. kOverloaded.
  [[nodiscard]] Result<Place> take_place(const std::string& from);
  // Runs `job` when it is its turn. Whoever drops the future does without.
  overlay::Task<bool> run(Place place, std::function<void()> job);
  [[nodiscard]] std::size_t places_taken() const { return state_->places; }
  [[nodiscard]] std::size_t running() const { return state_->running; }

 private:
  struct Waiting {
    Place place;
    std::weak_ptr<bool> wanted;
    std::function<void()> job;
    overlay::Completer<bool> done;
  };
  struct State {  // Shared with the jobs, which may outlive us.
    explicit State(overlay::Loop& l) : loop(l) {}
    overlay::Loop& loop;
    std::size_t places = 0;
    std::map<std::string, std::size_t> held;  // Of the places, by address.
    std::size_t running = 0;
    std::deque<Waiting> waiting;
  };
  static void start(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace starling::node
