#include "storage/rocks/mailbox_reader.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <tuple>

namespace starling::storage {

MailboxReader::MailboxReader(Engine& engine, const MailboxId& mailbox, const VersionVector& cursor,
                             const VersionVector& covered, ReadMode mode)
    : mailbox_(mailbox),
      cursor_(cursor),
      covered_(covered),
      scan_(engine, ColumnFamily::kMailboxDots, mailbox.view(), mode) {}

Status MailboxReader::start() {
  scan_->SeekToFirst();
  while (scan_.valid()) {
    TRY_ASSIGN(const Row first, parse());
    const WriterId writer = first.dot.writer;
    Run run;
    TRY(read_ahead(run, writer, cursor_.get(writer)));
    if (!run.rows.empty()) {
      runs_.push_back(std::move(run));
      sift(runs_.size() - 1);
    }
    if (writer.value == std::numeric_limits<std::uint64_t>::max()) break;
    scan_->Seek(slice(mailbox_dot_key(mailbox_, {WriterId{writer.value + 1}, 0}).view()));
  }
  return scan_.status();
}

const MailboxReader::Row& MailboxReader::row() const {
  assert(!done());
  return runs_[heads_.front()].head();
}

namespace {

// A heap's comparison: true when `a` comes after `b`.
constexpr auto comes_after(const auto& runs) {
  return [&runs](std::size_t a, std::size_t b) {
    const auto& left = runs[a].head();
    const auto& right = runs[b].head();
    return std::tie(right.at, right.dot) < std::tie(left.at, left.dot);
  };
}

}  // namespace

void MailboxReader::sift(std::size_t run) {
  heads_.push_back(run);
  std::push_heap(heads_.begin(), heads_.end(), comes_after(runs_));
}

Status MailboxReader::next() {
  assert(!done());
  std::pop_heap(heads_.begin(), heads_.end(), comes_after(runs_));
  const std::size_t index = heads_.back();
  heads_.pop_back();
  Run& run = runs_[index];
  const Dot last = run.head().dot;
  run.used += 1;
  if (run.used == run.rows.size() && run.more) TRY(read_ahead(run, last.writer, last.n));
  if (run.used < run.rows.size()) sift(index);
  return ok_status();
}

Status MailboxReader::read_ahead(Run& run, WriterId writer, std::uint64_t after) {
  run = Run{};
  const std::uint64_t to = covered_.get(writer);
  if (after >= to) return ok_status();
  scan_->Seek(slice(mailbox_dot_key(mailbox_, {writer, after + 1}).view()));
  for (; scan_.valid() && run.rows.size() < kRunRowsAhead; scan_->Next()) {
    TRY_ASSIGN(const Row row, parse());
    if (row.dot.writer != writer || row.dot.n > to) return ok_status();
    run.rows.push_back(row);
  }
  run.more = scan_.valid();
  return scan_.status();
}

Result<MailboxReader::Row> MailboxReader::parse() const {
  const auto dot = parse_dot_key(scan_.key(), MailboxId::kSize);
  if (!dot) {
    return Error{Errc::kCorrupt, "storage: a key of 'mailbox_dots' is damaged; ask another owner"};
  }
  const auto row = parse_mailbox_dot(scan_.value());
  if (!row) return Row{*dot, {}, 0, ChangeKind::kEntry, true};
  return Row{*dot, row->at, row->expiry, row->kind};
}

}  // namespace starling::storage
