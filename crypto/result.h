// Result<T>: a value, or an error that says what the caller does next.
//
// The codes are few, valid on every wire (numbers are never reused) and chosen by the reaction they
// ask for; `text` is for people: cause first, then the next step.
// What should never happen is an assertion, not an error; what the world does is an error.
// Thread: any; value types.
#pragma once

#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace starling {

enum class Errc : std::uint8_t {
  kInvalid = 1,          // The request itself is wrong. Do not repeat it.
  kNotFound = 2,         // No such user, group, message, method. Treat as absent.
  kExists = 3,           // The name is taken. Choose another.
  kDenied = 4,           // You may not. Ask whoever may.
  kUnauthenticated = 5,  // Wrong or missing password, token or key. Log in again.
  kNotOwner = 6,         // Refresh the ring, retry at the owner.
  kCatchingUp = 7,       // This owner is behind. Try another owner first.
  kStaleRing = 8,        // One side has an older ring version. Catch up, retry.
  kUnavailable = 9,      // Too few owners reachable. Keep it pending, retry with the same key.
  kTimeout = 10,         // Outcome unknown. Retry with the same key.
  kOverloaded = 11,      // Back off, then retry.
  kLaneGap = 12,         // Go back to the first unacknowledged send of this lane.
  kSequenceReused = 13,  // The same key was used for other content: a client bug.
  kTooLarge = 14,        // Over a named limit. Make it smaller.
  kUnsupported = 15,     // A version, format or method nobody here speaks. Upgrade one side.
  kCorrupt = 16,         // Bytes that do not decode. Close the link or quarantine the record.
  kFull = 17,            // No disk space: this node is read-only. Try another owner.
  kClock = 18,           // A clock is too far off. Set it right.
  kReset = 19,           // The cursor is of another lineage or too old. Start from a fresh one.
  kForeign = 20,         // Of another cluster. Use the right data folder, token or address.
  kIo = 21,              // The disk or socket failed. See the text.
  kFellBehind = 22,      // The consumer was too slow. Read on from the cursor.
  kAddressInUse = 23,    // The port is taken. Choose another or stop who has it.
};

// "lane_gap": stable, for logs, JSON and scripts.
std::string_view name(Errc code);

struct Error {
  Errc code;
  std::string text;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  Result(Errc code, std::string text) : state_(std::in_place_index<1>, Error{code, std::move(text)}) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    assert(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Errc code() const { return error().code; }

 private:
  std::variant<T, Error> state_;
};

struct Done {
  friend bool operator==(const Done&, const Done&) = default;
};
using Status = Result<Done>;
inline Status ok_status() { return Done{}; }

}  // namespace starling

// Returns the error of `expr` from this function, or binds its value.
#define STARLING_CONCAT_INNER(a, b) a##b
#define STARLING_CONCAT(a, b) STARLING_CONCAT_INNER(a, b)
#define TRY(expr)                                                       \
  do {                                                                  \
    if (auto try_result = (expr); !try_result) return try_result.error(); \
  } while (false)
#define TRY_ASSIGN(decl, expr) TRY_ASSIGN_INNER(decl, expr, STARLING_CONCAT(try_value_, __LINE__))
#define TRY_ASSIGN_INNER(decl, expr, tmp) \
  auto tmp = (expr);                      \
  if (!tmp) return tmp.error();           \
  decl = std::move(*tmp)

// The same inside a coroutine.
#define CO_TRY(expr)                                                       \
  do {                                                                     \
    if (auto try_result = (expr); !try_result) co_return try_result.error(); \
  } while (false)
#define CO_TRY_ASSIGN(decl, expr) CO_TRY_ASSIGN_INNER(decl, expr, STARLING_CONCAT(try_value_, __LINE__))
#define CO_TRY_ASSIGN_INNER(decl, expr, tmp) \
  auto tmp = (expr);                         \
  if (!tmp) co_return tmp.error();           \
  decl = std::move(*tmp)
