#include "node/cli/terminal/table.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace starling::node::cli {

Table::Table(std::vector<std::string> headings) : headings_(std::move(headings)) {}

void Table::print(std::ostream& out, bool colour) const {
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  std::vector<Cell> top;
  for (const auto& heading : headings_) {
    right.push_back(heading.starts_with('>'));
    top.emplace_back(right.back() ? heading.substr(1) : heading, Tone::kQuiet);
    widths.push_back(columns(top.back().text));
  }
  for (const auto& row : rows_) {
    assert(row.size() == headings_.size());
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i].text));
  }
  const auto print_row = [&](const std::vector<Cell>& row) {
    std::string line;
    std::string gap;  // Written only before the next text, so lines have no blanks at their end.
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - columns(row[i].text), ' ');
      if (right[i]) gap += pad;
      if (!row[i].text.empty()) {
        line += gap + paint(row[i].text, row[i].tone, colour);
        gap.clear();
      }
      if (!right[i]) gap += pad;
      gap += "  ";
    }
    out << line << '\n';
  };
  print_row(top);
  for (const auto& row : rows_) print_row(row);
}

bool stdout_has_colour() {
  const char* off = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) && (off == nullptr || *off == '\0');
}

std::string paint(const std::string& text, Tone tone, bool colour) {
  if (!colour || tone == Tone::kPlain) return text;
  const char* code = tone == Tone::kGood ? "32" : tone == Tone::kBad ? "31" : "2";
  return std::string("\x1b[") + code + "m" + text + "\x1b[0m";
}

std::size_t columns(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string thousands(std::uint64_t n) {
  std::string text = std::to_string(n);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string counted(std::uint64_t n, const std::string& thing) {
  return thousands(n) + " " + thing + (n == 1 ? "" : "s");
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double amount = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (amount < 1024) break;
    amount /= 1024;
    unit = next;
  }
  char text[32];
  std::snprintf(text, sizeof text, amount < 10 ? "%.1f %s" : "%.0f %s", amount, unit);
  return text;
}

std::string duration_text(std::uint64_t seconds) {
  const auto two = [](std::uint64_t a, const char* big, std::uint64_t b, const char* small) {
    return std::to_string(a) + " " + big + (b == 0 ? "" : " " + std::to_string(b) + " " + small);
  };
  if (seconds >= 86400) return two(seconds / 86400, "d", seconds % 86400 / 3600, "h");
  if (seconds >= 3600) return two(seconds / 3600, "h", seconds % 3600 / 60, "min");
  if (seconds >= 60) return two(seconds / 60, "min", seconds % 60, "s");
  return std::to_string(seconds) + " s";
}

std::string wall_text(std::int64_t wall_ms) {
  if (wall_ms == 0) return "-";
  const std::time_t seconds = wall_ms / 1000;
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

}  // namespace starling::node::cli
