#include "node/client/lane.h"

#include <algorithm>
#include <cassert>

#include "node/client/backoff.h"
#include "node/session/protocol.h"

namespace starling::node {
namespace {

// A gap that follows from an earlier refusal heals by going back once; one that stays is paced.
constexpr unsigned kGapsUnpaced = 3;

}  // namespace

bool is_retryable(Errc code) {
  switch (code) {
    case Errc::kNotOwner:
    case Errc::kCatchingUp:
    case Errc::kStaleRing:
    case Errc::kUnavailable:
    case Errc::kTimeout:
    case Errc::kOverloaded:
    case Errc::kLaneGap:
    case Errc::kFull:
    case Errc::kClock:
    case Errc::kIo:
    case Errc::kFellBehind:
    case Errc::kUnauthenticated:  // The session ended; the next one may send.
      return true;
    default:
      return false;
  }
}

namespace {

// Of those that are retryable: nothing was stored, and will not be for this attempt.
bool is_last_word(Errc code) {
  switch (code) {
    case Errc::kTimeout:
    case Errc::kUnavailable:
    case Errc::kIo:
    case Errc::kFellBehind:
      return false;
    default:
      return true;
  }
}

}  // namespace

Lane::Lane(SavedLane saved)
    : to_(std::move(saved.to)),
      floor_(std::move(saved.floor)),
      acked_(saved.acked),
      known_(saved.known) {
  for (auto& send : saved.sends) {
    Item item;
    item.body = std::move(send.body.data);
    item.content = send.content;
    item.grade = send.grade;
    item.flags = send.flags | protocol::kSendRetry | protocol::kSendUnanswered;
    item.lifetime_s = send.lifetime_s;
    item.kept = item.unsure = true;
    item.closed = send.closed;
    if (send.refusal != 0) item.refusal = Error{static_cast<Errc>(send.refusal), std::move(send.reason)};
    item.reported = (send.flags & protocol::kSendVoid) != 0 && !item.refusal;
    sends_.push_back(std::move(item));
  }
}

SavedLane Lane::save() const {
  SavedLane saved{to_, acked_, known_, floor_, {}};
  for (const auto& item : sends_) {
    saved.sends.push_back({Blob{item.body}, item.content, item.grade, item.flags, item.lifetime_s,
                           item.closed});
    if (!item.refusal || item.reported) continue;
    saved.sends.back().refusal = static_cast<std::uint8_t>(item.refusal->code);
    saved.sends.back().reason = item.refusal->text;
  }
  return saved;
}

Lane::Item* Lane::find(std::uint64_t seq) {
  if (seq <= acked_ || seq - acked_ > sends_.size()) return nullptr;
  Item& item = sends_[seq - acked_ - 1];
  return item.closed ? nullptr : &item;
}

std::optional<Lane::Write> Lane::next(std::size_t window, Instant now) {
  if (!known_) return std::nullopt;
  if (going_back_) {
    if (on_wire_ > 0 || now < retry_at_) return std::nullopt;
    going_back_ = false;
    next_ = 0;
  }
  while (next_ < sends_.size() && sends_[next_].closed) ++next_;
  // The window is counted from the first open number, so that what is acknowledged ahead stays
  // bounded.
  if (next_ >= std::min(window, sends_.size())) return std::nullopt;
  Item& item = sends_[next_];
  assert(!item.on_wire);
  item.on_wire = true;
  ++item.attempts;
  ++on_wire_;
  ++next_;
  return Write{acked_ + next_, &item};
}

void Lane::answered(Item& item) {
  if (!item.on_wire) return;
  item.on_wire = false;
  item.flags |= protocol::kSendRetry;
  --on_wire_;
}

void Lane::close(Item& item) {
  item.closed = true;
  item.body.clear();
  while (!sends_.empty() && sends_.front().closed) {
    sends_.pop_front();
    ++acked_;
    if (next_ > 0) --next_;
  }
}

void Lane::go_back(Instant until) {
  retry_at_ = going_back_ ? std::max(retry_at_, until) : until;
  going_back_ = true;
}

std::optional<Lane::Report> Lane::on_ack(std::uint64_t seq, const std::string& id,
                                         std::uint8_t copies, Instant now) {
  Item* item = find(seq);
  if (item == nullptr) return std::nullopt;
  answered(*item);
  raise_floor(id);
  failures_ = 0;
  std::optional<Report> report;
  if (!item->reported) {
    const Sent sent{id, copies, seq, item->attempts, now - item->queued_at};
    report = Report{std::move(item->done), item->refusal ? Result<Sent>(*item->refusal) : sent, item->kept};
  }
  close(*item);
  return report;
}

// What the caller is told of this refusal; nothing while it depends on the void.
std::optional<Error> Lane::verdict(Item& item, const Error& error) {
  const bool taken = error.code == Errc::kSequenceReused;
  if (!item.refusal && (taken || !item.unsure)) return error;
  if (!item.refusal) {
    item.refusal = error;
    return std::nullopt;
  }
  if (taken) return item.refusal;
  return Error{Errc::kTimeout, item.refusal->text + "; an earlier attempt had no answer, and may arrive yet"};
}

std::optional<Lane::Report> Lane::on_error(std::uint64_t seq, const Error& error,
                                           Duration retry_after, Instant now, Random& random) {
  Item* item = find(seq);
  if (item == nullptr) return std::nullopt;
  answered(*item);
  if (!going_back_) ++failures_;
  if (is_retryable(error.code)) {
    if (!is_last_word(error.code)) item->doubt();
    const bool unpaced = error.code == Errc::kLaneGap && failures_ <= kGapsUnpaced;
    const Duration wait = unpaced ? Duration(0) : backoff(std::max(failures_, 1u), random);
    go_back(now + std::max(wait, retry_after));
    return std::nullopt;
  }
  // The number belongs to another message already, or even a void of it is refused: it is closed,
  // and a void could only harm.
  const bool taken = error.code == Errc::kSequenceReused;
  const bool refused_void = (item->flags & protocol::kSendVoid) != 0;
  std::optional<Report> report;
  if (const auto result = verdict(*item, error); result && !item->reported) {
    report = Report{std::move(item->done), *result, item->kept};
    item->reported = true;
  }
  if (taken || refused_void) {
    close(*item);
  } else {
    item->flags |= protocol::kSendVoid;
    item->body.clear();
  }
  go_back(now);
  return report;
}

void Lane::on_disconnect() {
  for (auto& item : sends_) {
    if (item.on_wire) item.doubt();
    answered(item);
  }
  next_ = 0;
  going_back_ = false;
  failures_ = 0;
}

void Lane::start_after(std::uint64_t high) {
  assert(!known_ && on_wire_ == 0);
  acked_ = std::max(acked_, high);
  known_ = true;
}

std::vector<SendDone> Lane::abandon() {
  assert(on_wire_ == 0);
  std::vector<SendDone> out;
  for (auto& item : sends_) {
    if (item.closed || item.reported || item.kept) continue;
    item.reported = true;
    item.flags |= protocol::kSendVoid;
    item.body.clear();
    out.push_back(std::move(item.done));
  }
  while (!sends_.empty() && !sends_.back().kept && sends_.back().attempts == 0) sends_.pop_back();
  return out;
}

std::size_t Lane::unreported() const {
  return static_cast<std::size_t>(std::count_if(
      sends_.begin(), sends_.end(), [](const Item& i) { return !i.closed && !i.reported; }));
}

Instant Lane::wake_at() const { return going_back_ && on_wire_ == 0 ? retry_at_ : kNever; }

}  // namespace starling::node
