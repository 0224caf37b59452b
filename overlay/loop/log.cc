#include "overlay/loop/log.h"

#include <array>
#include <charconv>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace starling::overlay {
namespace {

constexpr std::array<View, 6> kLevelNames = {"trace", "debug", "info", "warn", "error", "off"};

// %l of spdlog says "warning"; the level is written by us so that both forms agree with parsing.
constexpr const char* kTextPattern = "%Y-%m-%dT%H:%M:%S.%eZ %v";
constexpr const char* kJsonPattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v})";

void append_quoted(std::string& out, View text) {
  constexpr View kHex = "0123456789abcdef";
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (byte < 0x20 || byte == 0x7f) {
      out.append("\\u00");
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

bool needs_quotes(View text) {
  if (text.empty()) return true;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == '"' || c == '=' || c == 0x7f) return true;
  }
  return false;
}

template <class N>
void append_number(std::string& out, N value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}

// Text goes through `quote`, the rest is the same in both forms.
template <class Value, class Quote>
void append_value(std::string& out, const Value& value, Quote quote) {
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, View>) {
          quote(v);
        } else if constexpr (std::is_same_v<T, NodeId>) {
          quote(short_text(v));
        } else if constexpr (std::is_same_v<T, bool>) {
          out.append(v ? "true" : "false");
        } else {
          append_number(out, v);
        }
      },
      value);
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  return static_cast<spdlog::level::level_enum>(level);
}

}  // namespace

void Log::Field::append_text(std::string& out) const {
  out.push_back(' ');
  out.append(name_);
  out.push_back('=');
  append_value(out, value_, [&out](View text) {
    if (needs_quotes(text)) return append_quoted(out, text);
    out.append(text);
  });
}

void Log::Field::append_json(std::string& out) const {
  out.push_back(',');
  append_quoted(out, name_);
  out.push_back(':');
  append_value(out, value_, [&out](View text) { append_quoted(out, text); });
}

Log::Log() = default;
Log::Log(LogLevel level, Capture capture) : level_(level), capture_(std::move(capture)) {}
Log::~Log() = default;
Log::Log(Log&&) noexcept = default;
Log& Log::operator=(Log&&) noexcept = default;

Result<Log> Log::open(const LogConfig& config) {
  Log log;
  try {
    spdlog::sink_ptr sink;
    if (config.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
          config.file, config.file_size_max, config.files_max);
    }
    log.logger_ = std::make_shared<spdlog::logger>("starling", std::move(sink));
  } catch (const spdlog::spdlog_ex& e) {
    return Error{Errc::kIo, "the log file " + config.file + " cannot be opened: " + e.what()};
  }
  log.level_ = config.level;
  log.json_ = config.json;
  log.loop_ = config.loop;
  log.logger_->set_level(spdlog::level::trace);
  log.logger_->flush_on(spdlog::level::info);
  log.logger_->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      config.json ? kJsonPattern : kTextPattern, spdlog::pattern_time_type::utc));
  return log;
}

void Log::write(LogLevel level, View message, Fields fields) const {
  if (!on(level) || level == LogLevel::kOff) return;
  const View level_name = kLevelNames[static_cast<std::size_t>(level)];
  std::string line;
  if (json_) {
    line.append("\"level\":");
    append_quoted(line, level_name);
    line.append(",\"message\":");
    append_quoted(line, message);
    for (const auto& field : fields) field.append_json(line);
    if (loop_ != 0) Field("loop", loop_).append_json(line);
  } else {
    if (!capture_) line.append(level_name).append(" ");
    line.append(message);
    for (const auto& field : fields) field.append_text(line);
    if (loop_ != 0) Field("loop", loop_).append_text(line);
  }
  if (capture_) return capture_(level, line);
  logger_->log(spdlog_level(level), spdlog::string_view_t(line.data(), line.size()));
}

Result<LogLevel> parse_log_level(View text) {
  for (std::size_t i = 0; i < kLevelNames.size(); ++i) {
    if (text == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return Error{
      Errc::kInvalid,
      "'" + Bytes(text) + "' is not a log level: use trace, debug, info, warn, error or off"};
}

}  // namespace starling::overlay
