// Log: one line per event, a sentence and named fields, handed to every component as Log&.
//
//   log.info("link up", {{"peer", id}, {"ms", 12}});
//   2026-11-21T11:14:31.123Z info link up peer=k3vdq7ab ms=12
//   {"time":"2026-11-21T11:14:31.123Z","level":"info","message":"link up","peer":"k3vdq7ab"}
//
// A field borrows its text until the call returns; it becomes text only when its level is on.
// A default-built Log drops everything: simulations and tests. No line ever holds a key, a
// password or the body of a message; that is the caller's promise.
//
// Thread: any.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <variant>

#include "crypto/result.h"
#include "storage/ids.h"

namespace spdlog {
class logger;
}

namespace starling::overlay {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError, kOff };

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  bool json = false;
  std::string file;                         // Empty: stderr.
  unsigned loop = 0;                        // Said in each line, unless 0.
  std::size_t file_size_max = 64ULL << 20;  // Then the file rotates.
  std::size_t files_max = 8;
};

class Log {
 public:
  class Field {
   public:
    Field(View name, View text) : name_(name), value_(text) {}
    Field(View name, const char* text) : name_(name), value_(View(text)) {}
    Field(View name, const std::string& text) : name_(name), value_(View(text)) {}
    Field(View name, const NodeId& id) : name_(name), value_(id) {}
    Field(View name, const Error& error) : name_(name), value_(View(error.text)) {}
    Field(View name, bool value) : name_(name), value_(value) {}
    Field(View name, double value) : name_(name), value_(value) {}
    template <class N>
    requires(std::is_integral_v<N> && !std::is_same_v<N, bool>) Field(View name, N value)
        : name_(name),
          value_(static_cast<std::conditional_t<std::is_signed_v<N>, std::int64_t, std::uint64_t>>(
              value)) {}

    void append_text(std::string& out) const;
    void append_json(std::string& out) const;

   private:
    View name_;
    std::variant<View, NodeId, bool, double, std::int64_t, std::uint64_t> value_;
  };
  using Fields = std::initializer_list<Field>;
  // Gets lines without time and level, for tests.
  using Capture = std::function<void(LogLevel level, View line)>;

  Log();
  Log(LogLevel level, Capture capture);
  ~Log();
  Log(Log&&) noexcept;
  Log& operator=(Log&&) noexcept;
  static Result<Log> open(const LogConfig& config);  // kIo.

  [[nodiscard]] bool on(LogLevel level) const { return level >= level_; }
  void write(LogLevel level, View message, Fields fields) const;
  void debug(View message, Fields fields = {}) const { write(LogLevel::kDebug, message, fields); }
  void info(View message, Fields fields = {}) const { write(LogLevel::kInfo, message, fields); }
  void warn(View message, Fields fields = {}) const { write(LogLevel::kWarn, message, fields); }
  void error(View message, Fields fields = {}) const { write(LogLevel::kError, message, fields); }

 private:
  LogLevel level_ = LogLevel::kOff;
  bool json_ = false;
  unsigned loop_ = 0;
  std::shared_ptr<spdlog::logger> logger_;
  Capture capture_;
};

Result<LogLevel> parse_log_level(View text);  // "trace" .. "error", "off". kInvalid.

}  // namespace starling::overlay
