// Table: rows for people, with columns that line up; and small words for numbers.
//
// Colours and bold appear only when standard output is a terminal and NO_COLOR is not set.
// Thread: any; value type.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace starling::node::cli {

enum class Tone { kPlain, kGood, kBad, kQuiet };

struct Cell {
  std::string text;
  Tone tone = Tone::kPlain;
  Cell(std::string t, Tone how = Tone::kPlain) : text(std::move(t)), tone(how) {}
  Cell(const char* t) : text(t) {}
};

class Table {
 public:
  // A heading that begins with '>' is of a column of numbers, aligned to the right.
  explicit Table(std::vector<std::string> headings);
  // REQUIRES: as many cells as headings.
  void row(std::vector<Cell> cells) { rows_.push_back(std::move(cells)); }
  void print(std::ostream& out, bool colour) const;
  [[nodiscard]] bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<Cell>> rows_;
};

bool stdout_has_colour();
std::string paint(const std::string& text, Tone tone, bool colour);

// Columns that `text`, valid UTF-8, takes: its code points.
std::size_t columns(const std::string& text);
std::string thousands(std::uint64_t n);      // "12,345"
std::string counted(std::uint64_t n, const std::string& thing);  // "1 change", "12,345 changes"
std::string bytes_text(std::uint64_t bytes);       // "812 B", "1.4 GiB"
std::string duration_text(std::uint64_t seconds);  // "3 d 4 h", "12 min", "45 s"
std::string wall_text(std::int64_t wall_ms);       // "2026-11-21 11:14", local time; "-" for 0.

}  // namespace starling::node::cli
