#include "node/mailbox/read_registers.h"

#include <algorithm>
#include <map>

#include "storage/change.h"

namespace starling::node {

using overlay::Completer;
using overlay::Method;

namespace {

storage::RegisterView view_of(const RegisterItem& item) {
  return {static_cast<storage::MergeKind>(item.merge), item.stamp, item.key, item.value.data};
}

class Reading : public std::enable_shared_from_this<Reading> {
 public:
  Reading(ClusterView& view, ReadRegistersRequest request, Answers answers)
      : view_(view), wanted_(answers), limit_(request.limit), body_(pack(request)),
        until_(view.loop.now() + kReadDeadline) {
    const PartitionId partition = view.store.partition_of(request.mailbox);
    owners_ = view.readers(partition);
    // Unreachable owners only when there is nobody else: liveness is an opinion.
    const auto reachable = static_cast<std::size_t>(std::count_if(
        owners_.begin(), owners_.end(), [&](const NodeId& node) { return view.alive(node); }));
    if (reachable > 0) owners_.resize(reachable);
    for (const auto& node : owners_) is_home_.push_back(view.ring().is_home(partition, node));
    home_ = view.ring().home(partition).size();
    needed_ = answers == Answers::kAll ? home_ : view.ring().enough_to_know();
  }

  overlay::Future<Result<ReadRegistersReply>> begin() {
    auto [done, future] = Completer<Result<ReadRegistersReply>>::make(view_.loop);
    done_ = std::move(done);
    ask();
    return std::move(future);
  }

 private:
  struct Asked {
    NodeId node;
    bool home = false;
    Instant at{};
  };

  void ask() {
    Duration silence{};
    while (answers_.size() + in_flight_ < needed_ + hedged_ + unsure() && next_ < owners_.size()) {
      const Asked asked{owners_[next_], is_home_[next_], view_.loop.now()};
      ++next_;
      ++in_flight_;
      home_in_flight_ += asked.home ? 1 : 0;
      silence = std::max(silence, silence_of(asked.node));
      view_.rpc.call(asked.node, Method::kReadRegisters, body_, until_ - asked.at,
                     [self = shared_from_this(), asked](Result<Bytes> body) {
                       self->answered(asked, std::move(body));
                     });
    }
    if (in_flight_ == 0) return finish();
    if (silence > Duration{} && !patient_) wait(silence, [this] { ask_one_more(); });
  }

  [[nodiscard]] Duration silence_of(const NodeId& node) const {
    const auto trip = view_.reads.find(node);
    if (trip == view_.reads.end() || !trip->second.known()) return kHedgeWaitUnknown;
    return std::clamp(trip->second.nearly_all(kHedgeAfter), kHedgeWaitMin, kHedgeWaitMax);
  }

  // Answers of owners that are behind, which do not do.
  [[nodiscard]] std::size_t unsure() const {
    return wanted_ == Answers::kSure ? home_answers_ - sure_answers_ : 0;
  }

  void ask_one_more() {
    ++hedged_;
    ask();
  }

  void answered(const Asked& asked, Result<Bytes> body) {
    const bool home = asked.home;
    --in_flight_;
    home_in_flight_ -= home ? 1 : 0;
    if (body) view_.reads[asked.node].took(view_.loop.now() - asked.at);
    if (!done_.valid()) return;
    auto reply = body ? unpack<ReadRegistersReply>(*body) : Result<ReadRegistersReply>(body.error());
    if (reply) {
      answers_.push_back(std::move(*reply));
      home_answers_ += home ? 1 : 0;
      sure_answers_ += home && !view_.behind(asked.node) ? 1 : 0;
      if (home_answers_ >= needed_ + unsure()) return finish();
    } else {
      last_ = reply.error();
      if (view_.loop.now() >= until_) next_ = owners_.size();
    }
    ask();
    // What is away may lag: while one at home may answer yet, it alone will not do.
    const bool will_do = home_answers_ > 0 || (!answers_.empty() && home_in_flight_ == 0);
    if (will_do && done_.valid() && !std::exchange(patient_, true)) wait(kHedgeAfter, [this] { hedge(); });
  }

  void hedge() {
    ++hedged_;
    wait((wanted_ == Answers::kSure ? kSureAnswerWait : kSecondAnswerWait) - kHedgeAfter, [this] { finish(); });
    ask();
  }

  void wait(Duration delay, std::function<void()> then) {
    patience_ = view_.loop.after(delay, [weak = weak_from_this(), then = std::move(then)] {
      if (const auto self = weak.lock()) then();
    });
  }

  void finish() {
    if (!done_.valid()) return;
    patience_.cancel();
    auto done = std::exchange(done_, {});
    if (answers_.empty()) return done.set(last_);
    auto merged = merge_registers(answers_, limit_);
    merged.of_all = sure_answers_ >= needed_;
    done.set(std::move(merged));
  }

  ClusterView& view_;
  const Answers wanted_;
  const std::uint32_t limit_;
  const Bytes body_;
  const Instant until_;
  std::vector<NodeId> owners_;
  std::vector<bool> is_home_;  // By owner: does it count?
  std::size_t home_ = 1;  // Home owners, reachable or not.
  std::size_t needed_ = 1;
  std::size_t hedged_ = 0;
  std::size_t next_ = 0;
  std::size_t in_flight_ = 0;
  std::size_t home_in_flight_ = 0;
  std::size_t home_answers_ = 0;
  std::size_t sure_answers_ = 0;  // Of those, of owners that are not behind.
  bool patient_ = false;  // The clock runs.
  std::vector<ReadRegistersReply> answers_;
  Error last_{Errc::kUnavailable, "no owner of the mailbox can be reached; see `starling status`"};
  Completer<Result<ReadRegistersReply>> done_;
  overlay::Timer patience_;
};

}  // namespace

ReadRegistersReply merge_registers(const std::vector<ReadRegistersReply>& answers, std::uint32_t limit) {
  std::map<View, const RegisterItem*> best;
  std::optional<View> end;  // A full page says nothing of what comes behind it.
  for (const auto& answer : answers) {
    if (!answer.items.empty() && answer.items.size() >= limit) {
      const View last = answer.items.back().key;
      end = end ? std::min(*end, last) : last;
    }
    for (const auto& item : answer.items) {
      const auto [at, fresh] = best.emplace(item.key, &item);
      const auto& present = *at->second;
      if (!fresh && item.merge == present.merge && storage::wins(view_of(item), view_of(present))) {
        at->second = &item;
      }
    }
  }
  ReadRegistersReply out;
  const auto agrees = [&](const auto& answer) { return answer.version == answers.front().version; };
  if (!answers.empty() && std::all_of(answers.begin(), answers.end(), agrees)) out.version = answers.front().version;
  for (const auto& [key, item] : best) {
    if (out.items.size() >= limit || (end && key > *end)) break;
    out.items.push_back(*item);
  }
  return out;
}

overlay::Future<Result<ReadRegistersReply>> read_registers(ClusterView& view, const MailboxId& mailbox,
                                                           View prefix, View after, std::uint32_t limit,
                                                           bool versioned, Answers answers) {
  if (!view.in_ring()) {
    auto [done, future] = Completer<Result<ReadRegistersReply>>::make(view.loop);
    done.set(Error{Errc::kUnavailable, "this node is still joining the cluster"});
    return std::move(future);
  }
  ReadRegistersRequest request{mailbox, Bytes(prefix), Bytes(after), limit, versioned};
  return std::make_shared<Reading>(view, std::move(request), answers)->begin();
}

overlay::Task<Result<ReadRegistersReply>> find_registers(ClusterView& view, MailboxId mailbox, Bytes key,
                                                         std::uint32_t limit) {
  for (const auto answers : {Answers::kEnough, Answers::kSure}) {
    auto reading = read_registers(view, mailbox, key, "", limit, /*versioned=*/false, answers);
    CO_TRY_ASSIGN(ReadRegistersReply found, co_await reading);
    const bool is_there = std::any_of(found.items.begin(), found.items.end(), [&](const auto& item) { return item.key == key; });
    if (is_there || found.of_all) co_return found;
  }
  co_return Error{Errc::kUnavailable, "too few owners answer that would know; try again"};
}

}  // namespace starling::node
