// Lane: the numbered stream of sends of this device to one address, seen from the device.
//
// A number is a place: the i-th open send is number acked + 1 + i, so none can be skipped. Up to
// `window` numbers are on the wire at once. Any refusal makes the lane go back: it writes nothing
// until every answer under way has come, waits, then writes again from the first open number,
// marked as retry. A send that is refused for good is told to the caller once and its number is
// closed by a void of the same number (hazards F5, F6). Where an earlier attempt had no answer, or none that was the
// last word, that attempt may lie in a gateway that stands still, or in its socket: then the caller hears of
// the refusal when the void is acknowledged, or of kTimeout, outcome unknown, when the void is refused as well.
// Invariants: (1) sends_[0] is open; (2) numbers leave in order between two refusals;
//             (3) each send is reported exactly once.
// Pure: time and chance come in. Thread: value-like, one loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "crypto/random.h"
#include "crypto/result.h"
#include "node/client/state.h"
#include "node/session/protocol.h"
#include "overlay/loop/clock.h"

namespace starling::node {

// What became of a send.
struct Sent {
  std::string id;              // Position of the message.
  std::uint8_t copies = 0;     // Synced copies at the time of the ack.
  std::uint64_t seq = 0;       // Number in its lane.
  std::uint32_t attempts = 1;  // Times it was written.
  Duration latency{};          // From the call to the ack.
};
using SendDone = std::function<void(Result<Sent>)>;

class Lane {
 public:
  struct Item {
    Bytes body;
    std::uint8_t content = 1;
    std::uint8_t grade = 0;
    std::uint8_t flags = 0;
    std::uint32_t lifetime_s = 0;
    SendDone done;
    Instant queued_at{};
    std::uint32_t attempts = 0;
    bool on_wire = false;
    bool closed = false;    // Acknowledged ahead of an open one.
    bool reported = false;
    bool kept = false;      // From an earlier run, so nobody waits for it here.
    bool unsure = false;    // An attempt had no answer, or none that says what became of it.
    void doubt() {
      unsure = true;
      flags |= protocol::kSendUnanswered;
    }
    std::optional<Error> refusal = std::nullopt;  // To be told when the number is closed.
  };
  // What became of a send; the lane is done with it.
  struct Report {
    SendDone done;
    Result<Sent> result;
    bool kept = false;
  };
  struct Write {
    std::uint64_t seq = 0;
    const Item* item = nullptr;
  };

  Lane(std::string to, bool known) : to_(std::move(to)), known_(known) {}
  explicit Lane(SavedLane saved);
  [[nodiscard]] SavedLane save() const;

  void push(Item item) { sends_.push_back(std::move(item)); }
  // The next send to write, marked as on the wire; nothing while the window is full, while going
  // back and while the number to start from is unknown.
  std::optional<Write> next(std::size_t window, Instant now);
  std::optional<Report> on_ack(std::uint64_t seq, const std::string& id, std::uint8_t copies,
                               Instant now);
  std::optional<Report> on_error(std::uint64_t seq, const Error& error, Duration retry_after,
                                 Instant now, Random& random);
  // The connection is gone, and every answer with it.
  void on_disconnect();
  // The cluster knows numbers up to `high`. REQUIRES: !known().
  void start_after(std::uint64_t high);
  // Gives up what this run queued and nobody was told about: numbers that no node ever saw are
  // taken back, others are closed by a void when there is a session again. What an earlier run left
  // stays. REQUIRES: nothing on the wire.
  std::vector<SendDone> abandon();

  void raise_floor(const std::string& id) {
    if (floor_ < id) floor_ = id;
  }

  [[nodiscard]] const std::string& to() const { return to_; }
  [[nodiscard]] const std::string& floor() const { return floor_; }
  [[nodiscard]] std::uint64_t acked() const { return acked_; }
  [[nodiscard]] bool known() const { return known_; }
  [[nodiscard]] std::size_t open() const { return sends_.size(); }
  [[nodiscard]] std::size_t unreported() const;
  [[nodiscard]] unsigned failures() const { return failures_; }
  // While going back with all answers in: when to ask next() again. kNever otherwise.
  [[nodiscard]] Instant wake_at() const;

 private:
  Item* find(std::uint64_t seq);
  void answered(Item& item);
  static std::optional<Error> verdict(Item& item, const Error& error);
  void go_back(Instant until);
  void close(Item& item);

  std::string to_;
  std::string floor_;
  std::uint64_t acked_ = 0;
  bool known_ = true;
  std::deque<Item> sends_;
  std::size_t next_ = 0;       // Index of the next to write.
  std::size_t on_wire_ = 0;
  bool going_back_ = false;
  Instant retry_at_{};
  unsigned failures_ = 0;      // Rounds refused since the last ack.
};

// True when the same request may be accepted later or elsewhere.
bool is_retryable(Errc code);

}  // namespace starling::node
