#include "node/replication/append/obligations.h"

#include <algorithm>

#include "node/layout.h"
#include "node/replication/children.h"

namespace starling::node {

using storage::ChangeKind;
using storage::Store;

namespace {

constexpr Duration kObligationsEvery = 1s;
constexpr Duration kObligationsRetryEvery = 500ms;
constexpr Duration kPlacedWithin = 10s;  // A copy, with those before it. What was made stays made.
constexpr std::size_t kScanBytes = 256 << 10;
constexpr View kMemberRegister = "member/";

}  // namespace

bool pointless(Errc code) {
  return code == Errc::kInvalid || code == Errc::kNotFound || code == Errc::kTooLarge ||
         code == Errc::kSequenceReused;
}

Obligations::Obligations(ClusterView& view, Forwarder& forwarder, Replicator& replicator,
                         std::function<bool(WriterId)> running)
    : view_(view), forwarder_(forwarder), replicator_(replicator), running_(std::move(running)) {
  load();
  replicator_.on_settled = [this](PartitionId partition, WriterId writer, std::uint64_t n) {
    heard(partition, writer, n);
  };
  view_.on_doubled([this] { partitions_doubled(); });
  tick_ = view_.loop.after(kObligationsEvery, [this] { tick(); });
}

// A duty goes with its mailbox; what was met, or looked at, of a parent's log was so of both children. The rows go with
// the split: without them a child's duties would count as met by another partition's.
void Obligations::partitions_doubled() {
  std::map<At, At> moved;
  for (auto& [at, duty] : std::exchange(duties_, {})) {
    const auto change = storage::parse(*duty.change);
    assert(change.ok());
    const At now = at_of(change->mailbox, at.second);
    moved.emplace(at, now);
    duties_.emplace(now, std::move(duty));
  }
  std::erase_if(retries_, [&](const auto& retry) { return !moved.contains(retry.second); });
  for (auto& [when, at] : retries_) at = moved.at(at);
  for (const auto& [run, n] : settled_) {
    view_.store.put(Store::Family::kNode, settled_key(run.first, run.second), {});
  }
  split_keys(settled_);
  split_keys(scanned_);
  split_keys(in_log_);
  dirty_.clear();
  for (const auto& [run, n] : settled_) dirty_.insert(run);
  persist();
}

bool Obligations::implies(const storage::ChangeView& change) {
  if (change.kind == ChangeKind::kRegister) return change.reg.key.starts_with(kMemberRegister);
  return (change.entry.flags & storage::kEntryImpliesCopy) != 0;
}

void Obligations::drive(PartitionId partition, const Dot& dot, Shared change,
                        std::function<void(Status)> done) {
  const At at{partition, dot};
  if (!duties_.contains(at) && duties_.size() >= kDutiesMax) {
    leave_to_log(at);
    return done(Error{Errc::kTimeout, "too many copies wait for mailboxes that cannot be reached"});
  }
  add(at, std::move(change));
  auto& duty = duties_.at(at);
  duty.waiters.push_back(std::move(done));
  if (!duty.under_way) attempt(at);
}

bool Obligations::open(PartitionId partition) const {
  const auto duty = duties_.lower_bound({partition, Dot{}});
  return (duty != duties_.end() && duty->first.first == partition) || in_log_.contains(partition);
}

void Obligations::add(const At& at, Shared change) { duties_[at].change = std::move(change); }

// All below it are met or in memory, unless the log was left to before.
void Obligations::leave_to_log(const At& at) {
  const auto& [partition, dot] = at;
  if (dot.writer != view_.store.writer()) return;  // A closed writer's: taken up from its log anyway.
  const auto [end, fresh] = in_log_.try_emplace(partition, dot.n);
  end->second = std::max(end->second, dot.n);
  auto& scanned = scanned_[{partition, dot.writer}];
  scanned = fresh ? dot.n - 1 : std::min(scanned, dot.n - 1);
}

void Obligations::attempt(const At& at) {
  auto& duty = duties_.at(at);
  duty.under_way = true;
  ++view_.counters.copies_driven;
  const auto change = storage::parse(*duty.change);
  assert(change.ok());
  const MailboxId mailbox = change->mailbox;
  const Dot dot = at.second;
  if (change->kind == ChangeKind::kRegister) {
    // The address after the prefix names the other mailbox; the value says which group.
    WriteRegisterRequest request;
    const auto member = unpack<storage::MemberValue>(change->reg.value);
    if (!member) return finished(at, member.error());
    request.mailbox = mailbox_of(change->reg.key.substr(kMemberRegister.size()));
    request.merge = static_cast<std::uint8_t>(storage::MergeKind::kMember);
    request.stamp = change->reg.stamp;
    request.key = "group/" + member->address;
    request.value.data = Bytes(change->reg.value);
    forwarder_.write_register(std::move(request), kAppendDeadline,
                              [this, mailbox, dot](Status done) { finished(at_of(mailbox, dot), std::move(done)); });
    return;
  }
  place(mailbox, duty.change, kCopiesBeforeMax, view_.loop.now() + kPlacedWithin,
        [this, mailbox, dot, id = change->entry.id](const Result<AppendReply>& answer) {
          const At at = at_of(mailbox, dot);
          if (!answer) return finished(at, answer.error());
          if (answer->id < id) return move_to(at, answer->id);
          finished(at, ok_status());
        });
}

void Obligations::place(const MailboxId& mailbox, Shared message, std::size_t before_max, Instant until, Placed done) {
  if (view_.loop.now() >= until) return done(Error{Errc::kTimeout, "the copies of the numbers before take too long"});
  const auto change = storage::parse(*message);
  assert(change.ok());
  AppendRequest request = copy_request(*change);
  if (before_max > 0) request.flags |= kAppendInOrder;
  forwarder_.append(std::move(request), Bytes(change->entry.body), kAppendDeadline,
                    [this, mailbox, message = std::move(message), before_max, until,
                     done = std::move(done)](Result<AppendReply> answer) mutable {
    if (answer || answer.code() != Errc::kLaneGap || before_max == 0) return done(std::move(answer));
    const auto earlier = before(mailbox, message);
    if (!earlier) return done(earlier.error());
    if (*earlier == nullptr || before_max == 1) return place(mailbox, std::move(message), 0, until, std::move(done));
    place(mailbox, *earlier, before_max - 1, until,
          [this, mailbox, message = std::move(message), until,
           done = std::move(done)](Result<AppendReply> placed) mutable {
            if (!placed && !pointless(placed.code())) return done(std::move(placed));
            place(mailbox, std::move(message), 0, until, std::move(done));
          });
  });
}

Result<Shared> Obligations::before(const MailboxId& mailbox, const Shared& message) const {
  const auto change = storage::parse(*message);
  assert(change.ok());
  MessageKey key = change->entry.key;
  --key.seq;
  const auto state = view_.store.find_key(mailbox, key);
  if (!state) return Shared();
  const At at = at_of(mailbox, state->dot);
  if (const auto duty = duties_.find(at); duty != duties_.end()) return duty->second.change;
  if (view_.store.synced(at.first, at.second.writer) < at.second.n) {
    return Error{Errc::kUnavailable, "the number before is not on disk yet"};
  }
  const auto stored = view_.store.read_change(at.first, at.second);
  return stored ? stored->bytes : Shared();  // What is damaged, or erased by now, holds nothing up.
}

// Another coordinator minted the same message earlier, and the copy there was kept in its place.
void Obligations::move_to(const At& at, const EntryId& id) {
  const auto duty = duties_.find(at);
  if (duty == duties_.end()) return;
  const auto change = storage::parse(*duty->second.change);
  assert(change.ok());
  AppendRequest request = copy_request(*change);
  request.flags |= kAppendPosition;
  request.id = id;
  forwarder_.append(std::move(request), Bytes(change->entry.body), kAppendDeadline,
                    [this, mailbox = change->mailbox, dot = at.second](Result<AppendReply> answer) {
                      finished(at_of(mailbox, dot), answer ? ok_status() : Status(answer.error()));
                    });
}

void Obligations::finished(const At& at, Status done) {
  auto it = duties_.find(at);
  if (it == duties_.end()) return;
  auto waiters = std::exchange(it->second.waiters, {});
  if (std::exchange(it->second.redriven, false)) --redriving_;
  if (!done && !pointless(done.code())) {
    it->second.under_way = false;
    retries_.emplace_back(view_.loop.now() + kObligationsRetryEvery, at);
  } else {
    if (!done) {
      view_.log.warn("a copy that a change implies was refused",
                     {{"cause", done.error()}, {"partition", at.first.value}});
    }
    duties_.erase(it);
    settle(at.first, at.second.writer);
    done = ok_status();  // Nothing is owed any more.
  }
  for (auto& waiter : waiters) waiter(done);
  redrive_later();
}

// Not in this turn: what is asked of ourselves is answered in it, and the next, and so on.
void Obligations::redrive_later() {
  if (std::exchange(redrive_armed_, true)) return;
  redrive_timer_ = view_.loop.after(Duration(0), [this] {
    redrive_armed_ = false;
    redrive();
  });
}

// What failed is tried again, a bounded number at once.
void Obligations::redrive() {
  while (redriving_ < kRedriveAtOnceMax && !retries_.empty() &&
         retries_.front().first <= view_.loop.now()) {
    const At at = retries_.front().second;
    retries_.pop_front();
    auto it = duties_.find(at);
    if (it == duties_.end() || it->second.under_way) continue;
    it->second.redriven = true;
    ++redriving_;
    attempt(at);
  }
}

// Everything below the lowest duty left is met.
void Obligations::settle(PartitionId partition, WriterId writer) {
  const auto lowest = duties_.lower_bound({partition, Dot{writer, 0}});
  std::uint64_t n = writer == view_.store.writer() ? view_.store.synced(partition, writer)
                                                   : scanned_[{partition, writer}];
  if (lowest != duties_.end() && lowest->first.first == partition &&
      lowest->first.second.writer == writer) {
    n = std::min(n, lowest->first.second.n - 1);
  }
  if (writer == view_.store.writer() && in_log_.contains(partition)) {
    n = std::min(n, scanned_[{partition, writer}]);
  }
  heard(partition, writer, n);
  if (writer == view_.store.writer()) replicator_.set_settled(partition, n);
}

void Obligations::heard(PartitionId partition, WriterId writer, std::uint64_t n) {
  auto& settled = settled_[{partition, writer}];
  if (n <= settled) return;
  settled = n;
  dirty_.insert({partition, writer});
}

void Obligations::tick() {
  tick_ = view_.loop.after(kObligationsEvery, [this] { tick(); });
  if (!view_.in_ring() || view_.read_only) return;
  if (view_.is_holder()) return give_over();
  persist();
  redrive();
  if (!view_.catching_up) take_up_logs();
}

// We left: whoever coordinates finds our duties in our log, as those of a writer whose run is over.
void Obligations::give_over() {
  auto duties = std::exchange(duties_, {});
  retries_.clear();
  redriving_ = 0;
  for (auto& [at, duty] : duties) {
    for (auto& waiter : duty.waiters) waiter(Error{Errc::kUnavailable, "this node has left the cluster"});
  }
}

// Of writers whose run is over, and of our own where memory does not hold them.
void Obligations::take_up_logs() {
  for (const auto partition : view_.store.touched()) {
    const bool coordinates = view_.coordinates(partition);
    const auto vector = view_.store.vector(partition);
    for (const auto& dot : vector.dots()) {
      const bool own = dot.writer == view_.store.writer();
      const auto ours = in_log_.find(partition);
      if (own ? ours == in_log_.end() : !coordinates || running_(dot.writer)) continue;
      const std::uint64_t end = own ? ours->second : dot.n;
      auto& scanned = scanned_[{partition, dot.writer}];
      scanned = std::max(scanned, settled_[{partition, dot.writer}]);
      if (own && scanned >= end) {
        in_log_.erase(ours);
        settle(partition, dot.writer);
        continue;
      }
      if (scanned >= end || duties_.size() >= kDutiesMax / 2) continue;
      const auto range = view_.store.read_writer(partition, dot.writer, scanned + 1, kScanBytes);
      if (!range || range->to < range->from) continue;
      for (const auto& item : range->live) {
        const At at{partition, Dot{dot.writer, item.n}};
        const auto change = storage::decode(item.change.data, at.second);
        if (!change || !implies(*change) || duties_.contains(at)) continue;
        add(at, std::make_shared<const Bytes>(item.change.data));
        retries_.emplace_back(view_.loop.now(), at);
      }
      scanned = range->to;
      settle(partition, dot.writer);
    }
  }
  redrive();
}

void Obligations::forget(PartitionId partition, WriterId writer) {
  settled_.erase({partition, writer});
  scanned_.erase({partition, writer});
  dirty_.erase({partition, writer});
  view_.store.put(Store::Family::kNode, settled_key(partition, writer), {});
}

void Obligations::persist() {
  for (const auto& [partition, writer] : dirty_) {
    view_.store.put(Store::Family::kNode, settled_key(partition, writer), row_number(settled_[{partition, writer}]));
  }
  dirty_.clear();
}

void Obligations::load() {
  constexpr std::size_t kSettledMax = 4u << 20;
  for (const auto& [key, value] : view_.store.scan(Store::Family::kNode, kSettledPrefix, "", kSettledMax)) {
    const auto run = parse_settled_key(key);
    const auto n = parse_row_number(value);
    if (!run || !n) continue;  // Unreadable: its obligations are met once more.
    const auto [partition, writer] = *run;
    settled_[*run] = *n;
    if (writer == view_.store.writer()) {
      replicator_.set_settled(partition, settled_[{partition, writer}]);
    }
  }
  // A clean stop keeps the writer but not the duties that were open: they are read again from its log.
  if (!view_.store.kept_writer()) return;
  for (const auto partition : view_.store.touched()) {
    const std::uint64_t end = view_.store.synced(partition, view_.store.writer());
    auto& scanned = scanned_[{partition, view_.store.writer()}];
    scanned = settled_[{partition, view_.store.writer()}];
    if (scanned < end) in_log_[partition] = end;
  }
}

}  // namespace starling::node
