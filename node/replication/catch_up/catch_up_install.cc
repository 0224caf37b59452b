// What changes of the ring give us: copied at the operator's pace, with an eye on how far it is.
#include <algorithm>

#include "node/replication/catch_up/catch_up.h"
#include "storage/install.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr Duration kInstallEvery = 200ms;
constexpr Duration kCompareDeadline = 5s;
constexpr Duration kSurveyPatience = 5s;        // Until everybody has said what there is.
constexpr int kInstallTurnsMin = 5;
constexpr int kInstallTurnsMax = 1000;
constexpr std::size_t kInstallMissingMax = 64;  // Runs.
constexpr std::size_t kControlsAskedMax = 3;    // Who is up was told; one may have come back a moment ago.
constexpr Duration kProgressEvery = 250ms;
constexpr Duration kFollowPatience = 1s;        // With a slow throttle, of the loop that also mends what we own.

}  // namespace

// --- The operator's word. ---

Task<Result<std::uint64_t>> CatchUp::heed_controls(PartitionId partition) {
  overlay::Timer timer;
  while (gains(partition)) {
    const Duration wait = controls_.paused() ? kInstallEvery : pace_.wait(controls_.rate(), view_.loop.now());
    if (installed_ && (controls_.paused() || view_.catching_up || wait > kFollowPatience)) {
      co_return Error{Errc::kOverloaded, "the operator holds the copying back"};
    }
    if (wait == Duration(0)) {
      pace_.charge(kFetchBytesMax);
      co_return kFetchBytesMax;
    }
    co_await overlay::sleep(view_.loop, std::min(wait, kInstallEvery), timer);
  }
  co_return 0;
}

Task<Done> CatchUp::while_paused() {
  overlay::Timer timer;
  while (controls_.paused() && view_.ring().changing()) {
    co_await overlay::sleep(view_.loop, kInstallEvery, timer);
    auto surveying = survey_all();
    co_await surveying;
  }
  co_return Done{};
}

// A joiner was not there when it was said.
Task<Done> CatchUp::ask_controls() {
  std::size_t answers = 0;
  for (const auto& peer : peers()) {
    auto asking = controls_.exchange(peer);
    answers += (co_await asking).ok() ? 1 : 0;
    if (answers == kControlsAskedMax) break;
  }
  co_return Done{};
}

std::string CatchUp::install_waits_for() const {
  return controls_.paused() ? "the copying is paused: `starling resume` lets it go on" : install_waits_for_;
}

// --- Progress. ---

void CatchUp::begin_install() {
  if (installing_ == view_.ring().number()) return;
  installing_ = view_.ring().number();
  wanted_.clear();
  offers_.clear();
  surveyed_ = filed_ = installed_ = false;
  bytes_before_ = moved_bytes_;
  changes_came_ = 0;
  looked_at_ = {};
}

void CatchUp::note_wanted(const std::vector<CompareReply::Item>& items) {
  for (const auto& item : items) {
    if (!gains(item.partition)) continue;
    auto& wanted = wanted_[item.partition];
    for (const auto& dot : item.vector.dots()) {
      if (!is_forgotten || !is_forgotten(item.partition, dot)) wanted.raise(dot.writer, dot.n);
    }
  }
}

// Asks for its vectors of what we gain, so that it is known how much there is before the first of it comes.
Task<Done> CatchUp::survey_all() {
  const auto nodes = peers();
  bool all = !nodes.empty();
  for (const auto& peer : surveyed_ ? std::vector<NodeId>() : nodes) {
    auto surveying = survey(peer);
    all &= co_await surveying;
  }
  surveyed_ = surveyed_ || all;
  co_return Done{};
}

Task<bool> CatchUp::survey(NodeId peer) {
  const std::uint32_t count = view_.partitions();
  std::vector<PartitionId> left;
  for (const auto partition : view_.ring().partitions_to_be_of(view_.self)) left.push_back(partition);
  while (!left.empty()) {
    std::vector<PartitionId> chunk(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(
                                                                    std::min(left.size(), kComparePartitionsMax)));
    auto asking = ask_vectors(peer, chunk, kCompareDeadline);
    const auto answer = co_await asking;
    if (!answer || !view_.same_count(count)) co_return false;
    note_offers(peer, answer->items);
    const PartitionId end = answer->more && !answer->items.empty() ? answer->items.back().partition : chunk.back();
    if (std::erase_if(left, [end](PartitionId p) { return p <= end; }) == 0) co_return false;
  }
  co_return true;
}

void CatchUp::moved(PartitionId partition, const storage::RangeStatement& range) {
  if (!gains(partition)) return;
  std::uint64_t bytes = 0;
  for (const auto& item : range.live) bytes += item.change.data.size();
  pace_.charge(bytes);
  rate_.add(bytes, view_.loop.now());
  moved_bytes_ += bytes;
  changes_came_ += range.to - range.from + 1;
}

std::uint64_t CatchUp::came(PartitionId partition, WriterId writer) const {
  const auto filing = filing_.find(partition);
  return filing == filing_.end() ? view_.store.held(partition, writer) : filing->second->held(partition, writer);
}

const CatchUp::Progress& CatchUp::progress() const {
  const Instant now = view_.loop.now();
  if (looked_at_ != Instant{} && now - looked_at_ < kProgressEvery) return progress_;
  looked_at_ = now;
  progress_ = {};
  if (!view_.in_ring() || installing_ != view_.ring().number()) return progress_;
  for (const auto partition : view_.ring().partitions_to_be_of(view_.self)) {
    ++progress_.partitions;
    const auto wanted = wanted_.find(partition);
    bool done = surveyed_;
    if (wanted != wanted_.end()) {
      for (const auto& dot : wanted->second.dots()) {
        const std::uint64_t held = std::min(dot.n, came(partition, dot.writer));
        progress_.changes += dot.n;
        progress_.changes_done += held;
        done &= held == dot.n;
      }
    }
    progress_.partitions_done += done ? 1 : 0;
  }
  progress_.bytes = moved_bytes_ - bytes_before_;
  const auto came = static_cast<double>(std::max<std::uint64_t>(1, changes_came_));
  const auto left = static_cast<double>(progress_.changes - progress_.changes_done);
  progress_.bytes_left = static_cast<std::uint64_t>(static_cast<double>(progress_.bytes) / came * left);
  progress_.rate = rate_.per_second(now);
  return progress_;
}

// --- Installing. ---

Task<Status> CatchUp::install() {
  overlay::Timer timer;
  begin_install();
  const Instant began = view_.loop.now();
  Silence silence;
  auto asking = ask_controls();
  co_await asking;
  for (int turn = 0; turn < kInstallTurnsMax; ++turn) {
    auto surveying = survey_all();
    co_await surveying;
    auto waiting = while_paused();
    co_await waiting;
    if (!filed_) {
      // What comes run by run before does not come by files any more.
      if (!surveyed_ && view_.loop.now() - began < kSurveyPatience) {
        co_await overlay::sleep(view_.loop, kInstallEvery, timer);
        continue;
      }
      filed_ = surveyed_ || !offers_.empty();
      auto filing = install_files();
      co_await filing;
      offers_.clear();
    }
    Runs failed;
    std::size_t missing = 0;
    bool all_answered = true;
    std::set<NodeId> answered;
    auto donors = peers();  // Each who gains begins with another one.
    silence.keep_only(donors);
    const auto first = std::upper_bound(donors.begin(), donors.end(), view_.self);
    std::rotate(donors.begin(), first, donors.end());
    for (const auto& peer : donors) {
      auto comparing = round(peer, true);
      auto found = co_await comparing;
      if (found || !view_.alive(peer)) {
        silence.answers(peer);
      } else if (silence.is_silent(peer, view_.loop.now(), found.error())) {
        all_answered = false;
      }
      if (!found) continue;
      answered.insert(peer);
      missing += found->missing;
      failed.insert(failed.end(), found->failed.begin(), found->failed.end());
    }
    // A round ends when we cover what the peer had at its beginning. Under constant writing a little is
    // always on its way; who turns owner catches up once more before it serves.
    const std::string few = why_not_enough(answered, /*patient=*/true);
    install_waits_for_ = !few.empty() ? few : all_answered ? "" : silence.text();
    if (all_answered && all_fetched(failed) && few.empty() &&
        (missing <= kInstallMissingMax || turn >= kInstallTurnsMin)) {
      installed_ = installing_ == view_.ring().number();
      co_return ok_status();
    }
    co_await overlay::sleep(view_.loop, kInstallEvery, timer);
  }
  co_return Error{Errc::kTimeout, "not every current owner answered; see `starling status`"};
}

}  // namespace starling::node
