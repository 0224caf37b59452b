// What a node keeps an eye on: the other members, the ring, its disk and its clock.
#include "node/node_impl.h"

#include <algorithm>

namespace starling::node {

using overlay::Endpoint;
using overlay::MemberEvent;
using storage::Store;

namespace {

constexpr Duration kTickEvery = 500ms;
constexpr Duration kWriterPatience = 10s;
constexpr std::size_t kPeersKeptMax = 1024;       // Addresses of old acquaintance beside the members'.
constexpr std::int64_t kClocksApartMaxMs = to_ms(overlay::kClocksApartMax);

}  // namespace

void NodeImpl::on_member(const MemberEvent& event) {
  switch (event.kind) {
    case MemberEvent::Kind::kNewerRing: ring_->fetch(event.node); break;
    case MemberEvent::Kind::kSelfDeclaredDead:
      leaves_.log.warn("others took us for dead; catching up");
      catch_up_->fall_behind();
      break;
    case MemberEvent::Kind::kRival:  // Both would make the same dots.
      store_->fail({Errc::kExists, "another process runs under the identity of this node: its data folder was copied, and "
                                   "both were started. Keep one of the two folders, and start only that"});
      break;
    case MemberEvent::Kind::kUnknownRun:
      store_->fail({Errc::kCorrupt, "this node ran before in a way that this folder knows nothing of: it is an older copy. "
                                    "Started again, the node goes on under a new writer"});
      break;
    case MemberEvent::Kind::kDied:
      leaves_.log.warn("a member died", {{"node", event.node}});
      break;
    case MemberEvent::Kind::kJoined:
    case MemberEvent::Kind::kAliveAgain:
      leaves_.log.info("a member is alive", {{"node", event.node}});
      links_->try_now(event.node);
      remember_peers();
      check_clock();  // Before we make ids with it: after a start nobody had told us the time.
      mind_returns();
      break;
    default: break;
  }
}

// A new owner, or one that was away and is home now, serves only after it has compared with the others. So does one
// whose fellows became fewer: now fewer of them must answer for it to know every acknowledged change.
bool NodeImpl::gained_partitions() const {
  const auto& ring = view_->ring();
  const auto previous = view_->previous_ring();
  if (previous == nullptr || view_->is_holder()) return false;
  if (ring.home_copies() < previous->home_copies()) return true;
  for (std::uint32_t i = 0; i < ring.partitions(); ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    if (!ring.is_home(partition, view_->self)) continue;
    if (previous->partitions() > ring.partitions()) return true;
    if (!previous->is_home(previous->covering(partition, ring.partitions()), view_->self)) return true;
  }
  return false;
}

// Who was revoked is not heard, and its link ends at once (invariant 12). Who left or was removed is: it may
// hold what others need. It comes by itself, nobody looks for it.
void NodeImpl::heed_members() {
  const auto& version = view_->ring().version();
  std::set<NodeId> heard, gone;
  for (const auto& member : version.members) {
    const bool out = version.is_revoked(member.id);
    if (!out) heard.insert(member.id);
    if (member.gone()) gone.insert(member.id);
    if (out && member.id != view_->self) links_->drop(member.id);
  }
  if (membership_ != nullptr) membership_->set_members(std::move(heard), std::move(gone));
}

// Links that are up said another lineage at their beginning: they are made anew.
void NodeImpl::mind_lineage() {
  if (!view_->in_ring() || view_->ring().lineage() == lineage_) return;
  lineage_ = view_->ring().lineage();
  other_lineage_.clear();
  if (membership_ != nullptr) membership_->set_lineage(lineage_);
  for (const auto& member : view_->ring().members()) links_->drop(member.id);
}

// Who leaves, or is emptied by the operator, asks its sessions to go elsewhere.
void NodeImpl::mind_sessions() {
  if (stopping_) return;
  const auto* self = view_->in_ring() ? view_->ring().member(view_->self) : nullptr;
  if (self != nullptr && self->gone()) {  // Nothing can be done for a session here any more.
    if (!std::exchange(closed_doors_, true)) {
      gateway_->drain("this node has left", [this] { return other_gateways(); }, nullptr);
    }
    return;
  }
  tell_draining();
  const bool leaving = self != nullptr && self->state == overlay::RingMemberState::kLeaving;
  if (!draining_ && !leaving) return gateway_->stop_shedding();
  gateway_->shed(leaving ? "this node is leaving" : "this node is being emptied", [this] { return other_gateways(); });
}

// So that no other node sends its sessions here.
void NodeImpl::tell_draining() {
  const auto* self = view_->in_ring() ? view_->ring().member(view_->self) : nullptr;
  const bool leaving = self != nullptr && self->state != overlay::RingMemberState::kServing;
  overlay::MemberRecord record = membership_->self();
  if (record.draining == (draining_ || stopping_ || leaving)) return;
  record.draining = !record.draining;
  if (auto told = membership_->update_self(record); !told) leaves_.log.warn("not told", {{"cause", told.error()}});
}

// Who is there, and is not behind, knows what others may wait for.
void NodeImpl::mind_returns() {
  std::set<NodeId> now;
  for (const auto& member : membership_->members()) {
    if (view_->alive(member.id) && !view_->behind(member.id)) now.insert(member.id);
  }
  for (const auto& node : now) {
    if (!knowing_.contains(node)) groups_->came_back(node);
  }
  knowing_ = std::move(now);
}

// Where sessions may go.
std::vector<Suggestions::Node> NodeImpl::other_gateways() const {
  std::vector<Suggestions::Node> others;
  for (const auto& member : membership_->members()) {
    const auto* in_ring = view_->in_ring() ? view_->ring().member(member.id) : nullptr;
    const bool serves = in_ring != nullptr && in_ring->state == overlay::RingMemberState::kServing &&
                        view_->alive(member.id) && !view_->behind(member.id) && !member.record.draining;
    if (member.id != view_->self && serves) {
      others.push_back({member.id, member.record.client, member.heartbeat.sessions});
    }
  }
  return others;
}

// How much there is to do, for the ladder. A turn that took long shows as a look that comes late.
void NodeImpl::look_at_load() {
  const Instant now = leaves_.loop.now();
  const double late = std::chrono::duration<double>(now - load_due_) / std::chrono::duration<double>(kLoopLateMax);
  constexpr double kNewest = 0.3;
  loop_late_ += kNewest * (std::clamp(late, 0.0, 1.0) - loop_late_);
  const auto full = [](std::uint64_t size, std::uint64_t limit) {
    return static_cast<double>(size) / static_cast<double>(limit);
  };
  const Rung before = ladder_.rung();
  const auto stored = store_->stats();
  ladder_.look(std::max({loop_late_, full(stored.pending, kPendingChangesMax),
                         full(stored.gathered_bytes, storage::kGatheredBytesMax), replicator_->crowding(),
                         full(coordinator_->in_flight(), kWaitersMax), full(replicator_->waiting(), kWaitersMax)}),
               now);
  if (ladder_.rung() != before) {
    leaves_.log.warn("the load changed what this node does",
                     {{"left_out", ladder_.left_out()}, {"pressure", ladder_.pressure()}});
  }
  load_due_ = now + kLadderLook;
  load_ = leaves_.loop.after(kLadderLook, [this] { look_at_load(); });
}

void NodeImpl::tick() {
  tick_ = leaves_.loop.after(kTickEvery, [this] { tick(); });
  overlay::Heartbeat heartbeat;
  heartbeat.wall_ms = leaves_.loop.wall_ms();
  heartbeat.ring = view_->in_ring() ? view_->ring().number() : RingNumber{};
  heartbeat.catching_up = view_->catching_up || view_->read_only;
  heartbeat.sessions = static_cast<std::uint32_t>(view_->counters.sessions);
  membership_->set_heartbeat(heartbeat);
  running_writers_.clear();
  running_writers_.insert(store_->writer());
  runners_.clear();
  for (const auto& member : membership_->members()) {
    const auto* in_ring = view_->in_ring() ? view_->ring().member(member.id) : nullptr;
    const bool gone = in_ring != nullptr && in_ring->gone();
    if (!gone && membership_->is_alive(member.id)) running_writers_.insert(member.record.writer);
    if (!gone) runners_.emplace(member.record.writer, member.id);
    if (member.id != view_->self && member.record.writer == store_->writer()) draw_again(member.id);
  }
  check_disk();
  check_clock();
  mind_returns();
  mind_sessions();
  if (!view_->clock_off) keys_->retire();
}

// Two nodes with one writer, by a bad source of chance or once in the life of a universe: a dot would mean two
// changes. Whoever has made none under it draws again; where both have, the one with the larger id (hazards F47).
void NodeImpl::draw_again(const NodeId& other) {
  const auto touched = store_->touched();
  const bool used = std::any_of(touched.begin(), touched.end(),
                                [this](PartitionId partition) { return store_->issued(partition) > 0; });
  if (stopping_ || (used && view_->self < other)) return;
  // The other one is seen as it was: it may have drawn again by now.
  if (used && writer_shared_since_ == Instant{}) writer_shared_since_ = leaves_.loop.now();
  if (used && leaves_.loop.now() - writer_shared_since_ < kWriterPatience) return;
  store_->fail({Errc::kExists, "node " + short_text(other) + " runs under the same writer id; started again, this "
                               "node draws another"});
}

void NodeImpl::check_disk() {
  if (!leaves_.free_space || stopping_ || view_->giving_up) return;
  const std::uint64_t left = leaves_.free_space();
  if (!view_->read_only && left < config_.free_space_min) {
    view_->read_only = true;
    leaves_.log.error("no disk space: read-only", {{"bytes_left", left}});
  } else if (view_->read_only && left > config_.free_space_min + config_.free_space_min / 10) {
    view_->read_only = false;
    catch_up_->fall_behind();
    leaves_.log.info("disk space is back", {{"bytes_left", left}});
  }
}

bool NodeImpl::has_fellows() const {
  if (!view_->in_ring()) return false;
  const auto& members = view_->ring().version().members;
  return std::count_if(members.begin(), members.end(), [](const auto& m) { return !m.gone(); }) > 1;
}

void NodeImpl::check_clock() {
  const auto standing = membership_->clock_standing();
  // Nobody to compare with: what was found last holds, or a wrong clock would be right once its node is
  // cut off, or starts first. A node without fellows has only its own.
  if (!standing && (!view_->in_ring() || has_fellows())) return;
  // Its writer may have gone on after the copy that this folder may be of: that is told with the first exchange.
  if (standing && store_->kept_writer() && !membership_->was_told()) return;
  const bool off = standing && !standing->agrees;
  const bool was_trusted = view_->clock_trusted();
  if (!off) view_->good_clock_ms = view_->wall_minus_steady_ms();
  if (off != view_->clock_off) {
    view_->clock_off = off;
    if (off) {
      leaves_.log.error("our clock is off: not coordinating; set it right (NTP)",
                        {{"others_ahead_ms", standing->median_ms}});
    } else {
      leaves_.log.info("our clock agrees with the others again");
    }
  }
  if (!off && !std::exchange(view_->clock_compared, true)) clock_is_known();
  if (!off && !was_trusted) view_->observe_repair(store_->highest_time());  // What came meanwhile.
}

// For the first time in this run. Our next id is above what is stored, but not above what a clock of now allows: a
// time from the future would be carried on by every id after it. A lone node has only what is stored.
void NodeImpl::clock_is_known() {
  const std::int64_t now_ms = leaves_.loop.wall_ms();
  if (!has_fellows()) {
    hlc_ = overlay::HlcClock(std::max(hlc_.last(), store_->highest_time()));
    return;
  }
  hlc_.observe_repair(store_->highest_time(), now_ms);
  // The store asked the clock of its start whether it may be an old copy (storage/store.h); that clock was as old.
  const std::int64_t idle_ms = now_ms - static_cast<std::int64_t>(hlc_ms(stored_time_));
  // And of a time that is still to come, this writer might make ids twice.
  const bool ahead = idle_ms < -kClocksApartMaxMs;
  if (!store_->kept_writer() || (!ahead && idle_ms <= storage::kKeptWriterIdleMaxMs)) return;
  store_->fail({Errc::kClock, "this folder stood still for longer than its clock said at the start, or was written "
                              "under a clock that was ahead. Started again, the node goes on under a new writer"});
}

// For what expires. A minority, or a clock that the others do not share, erases nothing (hazards F12).
std::optional<std::uint64_t> NodeImpl::lowest_clock() const {
  if (!view_->in_ring() || membership_ == nullptr) return std::nullopt;
  const auto standing = membership_->clock_standing();
  if (standing && !standing->near) return std::nullopt;
  std::int64_t lowest = leaves_.loop.wall_ms();
  std::size_t members = 1, live = 1;
  for (const auto& member : view_->ring().members()) {
    if (member.id == view_->self || member.gone()) continue;
    ++members;
    const auto seen = membership_->find(member.id);
    if (!seen || !membership_->is_alive(member.id)) continue;
    ++live;
    lowest = std::min(lowest, seen->heartbeat.wall_ms);
  }
  if (live * 2 <= members || lowest <= 0) return std::nullopt;
  return static_cast<std::uint64_t>(lowest);
}

// Dead or alive: who comes back after a clean stop goes on under its writer.
std::optional<std::set<WriterId>> NodeImpl::open_writers() const {
  std::set<WriterId> writers{store_->writer()};
  for (const auto& member : view_->ring().members()) {
    if (member.id == view_->self || member.gone()) continue;
    const auto seen = membership_->find(member.id);
    if (!seen) return std::nullopt;
    writers.insert(seen->record.writer);
  }
  return writers;
}

// Inside a call of the store: only noted.
void NodeImpl::on_damage(const storage::Damage& damage) {
  leaves_.log.error("damaged on disk", {{"partition", damage.partition.value}, {"cause", damage.text}});
  if (damage.dot) mender_->look();  // A whole file is HandOver's affair.
}

// Also those that this run has not heard: after several losses of power one could otherwise remember
// only whom it met last, and a cluster could come back as islands that do not know of each other.
void NodeImpl::remember_peers() {
  auto endpoints = member_endpoints();
  for (const auto& peer : known_peers()) {
    if (endpoints.size() >= kPeersKeptMax) break;
    if (std::find(endpoints.begin(), endpoints.end(), peer.text()) == endpoints.end()) {
      endpoints.push_back(peer.text());
    }
  }
  store_->put(Store::Family::kNode, kPeersKey, pack(endpoints));
}

// A clean stop leaves a mark that the next run may keep the writer. A copy of the folder has that mark, too, and knows no
// run that came after it; whoever met such a one does (hazards F3).
void NodeImpl::remember_run() {
  RunsRow runs;
  const auto stored = store_->get(Store::Family::kNode, kRunsKey);
  const bool kept = store_->kept_writer();
  if (kept) {
    const auto known = stored ? unpack<RunsRow>(*stored) : Result<RunsRow>(RunsRow());
    if (!known || known->empty()) return;  // Of a program that noted none: what it was before cannot be told.
    runs = *known;
  }
  runs.push_back(membership_->self().run);
  if (runs.size() > kRunsKeptMax) runs.erase(runs.begin());
  store_->put(Store::Family::kNode, kRunsKey, pack(runs));
  if (kept) membership_->set_known_runs({runs.begin(), runs.end()});
}

std::vector<std::string> NodeImpl::member_endpoints() const {
  std::vector<std::string> endpoints;
  for (const auto& member : membership_->members()) endpoints.push_back(member.record.link);
  return endpoints;
}

}  // namespace starling::node
