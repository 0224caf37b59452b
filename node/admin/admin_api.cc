#include "node/admin/admin_api.h"

#include <unistd.h>

#include <algorithm>

#include "node/admin/metrics.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr std::int64_t kInviteSecondsDefault = 3600;
constexpr std::int64_t kInviteSecondsMax = kInviteLifeMaxMs / 1000;

// Resident memory of this process in bytes; 0 where /proc is not there.
std::uint64_t resident_bytes() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%lu %lu", &total, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

AdminApi::AdminApi(NodeImpl& node)
    : node_(node),
      methods_{{"status", &AdminApi::status},
               {"ring", &AdminApi::ring},
               {"where", &AdminApi::where},
               {"invite", &AdminApi::invite},
               {"leave", &AdminApi::leave},
               {"remove", &AdminApi::remove},
               {"weight", &AdminApi::weight},
               {"rebalance", &AdminApi::rebalance},
               {"double", &AdminApi::double_partitions},
               {"sites", &AdminApi::sites},
               {"abort", &AdminApi::abort},
               {"movement", &AdminApi::movement},
               {"pause", &AdminApi::pause},
               {"resume", &AdminApi::resume},
               {"throttle", &AdminApi::throttle},
               {"drain", &AdminApi::drain},
               {"undrain", &AdminApi::undrain},
               {"queues", &AdminApi::queues},
               {"user.add", &AdminApi::user_add},
               {"user.list", &AdminApi::user_list},
               {"user.passwd", &AdminApi::user_passwd},
               {"user.disable", &AdminApi::user_disable},
               {"user.logout", &AdminApi::user_logout},
               {"token", &AdminApi::token},
               {"group.create", &AdminApi::group_create},
               {"group.add", &AdminApi::group_add},
               {"group.list", &AdminApi::group_list},
               {"group.members", &AdminApi::group_members},
               {"key.list", &AdminApi::key_list},
               {"key.rotate", &AdminApi::key_rotate},
               {"revoke", &AdminApi::revoke},
               {"verify", &AdminApi::verify},
               {"repair", &AdminApi::repair}},
      scope_(node.leaves_.loop) {
  serve();
  serve_movement();
}

void AdminApi::call(const std::string& method, const Json& arguments, AdminDone done) {
  const auto it = methods_.find(method);
  if (it == methods_.end()) {
    return done(Error{Errc::kUnsupported, "no such method: " + method + "; see node/admin/api.h"});
  }
  if (!node_.view_->in_ring() && method != "status") {
    return done(Error{Errc::kUnavailable, "this node is still joining the cluster"});
  }
  scope_.spawn(run(it->second, arguments, std::move(done)));
}

// Arguments of a wrong type are the caller's mistake, not ours: the JSON library says so by throwing.
Task<Done> AdminApi::run(Method method, Json arguments, AdminDone done) {
  if (!arguments.is_object()) arguments = Json::object();
  Result<Json> answer = Error{Errc::kInvalid, "bad arguments"};
  try {
    auto running = (this->*method)(std::move(arguments));
    answer = co_await running;
  } catch (const Json::exception& e) {
    answer = Error{Errc::kInvalid, std::string("bad arguments: ") + e.what()};
  }
  done(std::move(answer));
  co_return Done{};
}

std::string AdminApi::state() const {
  const auto& view = *node_.view_;
  if (!view.in_ring()) return "joining";
  if (view.is_holder()) return node_.farewell_->safe() ? "safe to power off" : state_name(view.ring().member(view.self)->state);
  if (view.read_only) return "read-only";
  if (view.clock_off) return "clock off";
  if (view.catching_up) return "catching up";
  const auto* self = view.ring().version().find(view.self);
  if (self != nullptr && self->state == overlay::RingMemberState::kServing && node_.draining_) return "drained";
  return self == nullptr ? "not a member" : state_name(self->state);
}

Json AdminApi::member_json(const NodeId& id) const {
  const auto& view = *node_.view_;
  const auto member = node_.membership_->find(id);
  Json out{{"id", to_text(id)}, {"short", short_text(id)}, {"self", id == view.self}};
  const auto* in_ring = view.in_ring() ? view.ring().version().find(id) : nullptr;
  out["zone"] = in_ring != nullptr ? in_ring->zone : "";
  out["weight"] = in_ring != nullptr ? in_ring->weight : 0;
  out["ring_state"] = in_ring != nullptr ? state_name(in_ring->state) : "none";
  out["share"] = view.in_ring() ? view.ring().share(id) : 0.0;
  out["state"] = member ? state_name(member->state) : "unknown";
  if (!member) return out;
  out["sessions"] = member->heartbeat.sessions;
  out["ring"] = member->heartbeat.ring.value;
  out["catching_up"] = view.behind(id);
  out["reachable"] = view.reachable(id);
  out["draining"] = member->record.draining;
  out["version"] = member->record.version;
  out["client"] = member->record.client;
  out["link"] = member->record.link;
  out["admin"] = member->record.admin;
  return out;
}

Json AdminApi::rates() const {
  const auto& c = node_.view_->counters;
  const auto store = node_.store_->stats();
  return {{"appends", c.appends},       {"append_errors", c.append_errors},
          {"dedup_hits", c.dedup_hits}, {"sends", c.sends},
          {"send_errors", c.send_errors}, {"deliveries", c.deliveries},
          {"commits", store.commits},   {"changes", store.changes},
          {"puts", store.puts},         {"pending", store.pending},
          {"fetched", c.fetched_changes}, 
          {"obligations", node_.obligations_->outstanding() + node_.positions_->asking()},
          {"lists_awaited", node_.groups_->waiting()},
          {"hints_bytes", node_.stand_in_->bytes()}};
}

Task<Result<Json>> AdminApi::status(Json) {
  const auto& view = *node_.view_;
  const double uptime = std::chrono::duration<double>(view.loop.now() - node_.born_).count();
  const auto stored = node_.store_->stats();
  Json self{{"id", to_text(view.self)},
            {"short", short_text(view.self)},
            {"version", kVersion},
            {"writer", writer_text(node_.store_->writer())},
            {"uptime_s", uptime},
            {"missing", node_.catch_up_->missing()},
            {"missing_known", node_.catch_up_->is_missing_known()},
            {"fetch_rate", node_.catch_up_->return_rate()},
            {"fetch_bytes_rate", node_.catch_up_->return_bytes_rate()},
            {"damaged", stored.damaged},
            {"damaged_partitions", node_.store_->damaged_partitions().size()},
            {"lost", stored.lost},
            {"state", state()},
            {"movement", own_movement_json()},
            {"left_out", node_.ladder_.left_out()},
            {"waits_for", !node_.ring_->stuck().empty() ? node_.ring_->stuck()
                          : view.catching_up           ? node_.catch_up_->waits_for()
                                                       : ""},
            {"clock_offset_ms", node_.membership_->clock_standing().value_or(overlay::ClockStanding{}).median_ms},
            {"sessions", view.counters.sessions},
            {"connections", node_.gateway_->connections()},
            {"data", node_.config_.data},
            {"pid", getpid()},
            {"rss", resident_bytes()},
            {"addresses", {{"client", node_.membership_->self().client},
                           {"link", node_.membership_->self().link},
                           {"admin", node_.membership_->self().admin}}}};
  Json members = Json::array();
  for (const auto& member : node_.membership_->members()) {
    const auto* in_ring = view.in_ring() ? view.ring().member(member.id) : nullptr;
    const bool off = in_ring != nullptr && in_ring->gone() && !view.alive(member.id);
    if (!off) members.push_back(member_json(member.id));
  }
  Json cluster{{"lineage", hex(node_.lineage_.view())}};
  if (view.in_ring()) {
    const auto& version = view.ring().version();
    const auto nodes = std::count_if(version.members.begin(), version.members.end(),
                                     [](const auto& member) { return !member.gone(); });
    const auto serving = std::count_if(version.members.begin(), version.members.end(), [&](const auto& member) {
      return member.owns() && view.alive(member.id) && !view.behind(member.id);
    });
    cluster.update({{"ring", version.number.value},
                    {"copies", version.copies},
                    {"synced", view.ring().w()},
                    {"sites", sites_json()},
                    {"partitions", version.partitions},
                    {"units", version.placed()},
                    {"nodes", nodes},
                    {"serving", serving},
                    {"change", change_name(version.change)},
                    {"movement", controls_json()}});
  }
  co_return Json{{"cluster", std::move(cluster)}, {"node", std::move(self)},
                 {"members", std::move(members)}, {"rates", rates()}};
}

Task<Result<Json>> AdminApi::ring(Json arguments) {
  const auto& ring = node_.view_->ring();
  const auto& version = ring.version();
  struct Counts {
    std::uint32_t owned = 0, home = 0, first = 0;
  };
  std::map<NodeId, Counts> counts;
  Json table = Json::array();
  const bool with_table = arguments.value("partitions", false);
  for (std::uint32_t p = 0; p < ring.partitions(); ++p) {
    Json row = Json::array();
    std::size_t place = 0;
    for (const auto& owner : ring.owners(PartitionId{static_cast<std::uint16_t>(p)})) {
      auto& count = counts[owner];
      ++count.owned;
      count.first += place == 0 ? 1 : 0;
      count.home += place++ < ring.home_copies() ? 1 : 0;
      if (with_table) row.push_back(short_text(owner));
    }
    if (with_table) table.push_back(std::move(row));
  }
  Json members = Json::array();
  for (const auto& member : version.members) {
    members.push_back({{"id", to_text(member.id)},
                       {"short", short_text(member.id)},
                       {"zone", member.zone},
                       {"weight", member.weight},
                       {"state", state_name(member.state)},
                       {"partitions", counts[member.id].owned},
                       {"home", counts[member.id].home},
                       {"first", counts[member.id].first},
                       {"share", ring.share(member.id)}});
  }
  Json out{{"number", version.number.value}, {"lineage", hex(version.lineage.view())},
           {"copies", version.copies},       {"synced", ring.w()},
           {"partitions", version.partitions}, {"units", version.placed()},
           {"change", change_name(version.change)},
           {"placement", static_cast<int>(version.rule)},
           {"zones_shared", ring.zones_shared().size()},
           {"sites", sites_json()},
           {"members", std::move(members)}};
  if (with_table) out["table"] = std::move(table);
  if (arguments.value("vectors", false)) {
    Json vectors = Json::object();
    for (const auto partition : node_.store_->touched()) {
      const auto synced = node_.store_->vector(partition);
      Json& vector = vectors[std::to_string(partition.value)];
      for (const auto& dot : synced.dots()) vector[writer_text(dot.writer)] = dot.n;
    }
    out["vectors"] = std::move(vectors);
  }
  co_return out;
}

Task<Result<Json>> AdminApi::invite(Json arguments) {
  const std::int64_t seconds = arguments.value("expires_s", kInviteSecondsDefault);
  if (seconds < 1 || seconds > kInviteSecondsMax) {
    co_return Error{Errc::kInvalid, "expires_s is 1 to " + std::to_string(kInviteSecondsMax)};
  }
  Invite invite;
  invite.lineage = node_.lineage_;
  invite.seeds.push_back(node_.membership_->self().link);
  // Those that we cannot reach come last: we may be the one who is cut off, and gone when the token is used.
  for (const bool alive : {true, false}) {
    for (const auto& member : node_.membership_->members()) {
      const auto* in_ring = node_.view_->in_ring() ? node_.view_->ring().member(member.id) : nullptr;
      if (member.id == node_.view_->self || node_.membership_->is_alive(member.id) != alive) continue;
      if (!alive && (in_ring == nullptr || in_ring->gone())) continue;
      if (invite.seeds.size() < kInviteSeedsMax) invite.seeds.push_back(member.record.link);
    }
  }
  invite.secret = node_.keyring_.primary();
  invite.expires_wall_ms = node_.leaves_.loop.wall_ms() + seconds * 1000;
  node_.leaves_.random.fill(invite.id.raw);
  CO_TRY_ASSIGN(std::string token, format_invite(invite));
  co_return Json{{"token", std::move(token)},
                 {"expires_ms", invite.expires_wall_ms},
                 {"seeds", invite.seeds}};
}

std::string AdminApi::metrics() const {
  MetricsRegistry registry;
  registry.add([this](MetricSink& sink) { collect(sink); });
  return registry.scrape();
}

void AdminApi::collect(MetricSink& sink) const {
  const auto& c = node_.view_->counters;
  const auto count = [&sink](const char* name, const char* help, std::uint64_t value) {
    sink.counter(name, help, static_cast<double>(value));
  };
  const auto gauge = [&sink](const char* name, const char* help, double value) {
    sink.gauge(name, help, value);
  };
  count("starling_appends_total", "Messages accepted by this node as coordinator", c.appends);
  count("starling_append_errors_total", "Sends refused or failed at the coordinator", c.append_errors);
  count("starling_dedup_hits_total", "Retries that met a key stored or in flight", c.dedup_hits);
  count("starling_lane_gaps_total", "Sends refused because an earlier number is missing", c.lane_gaps);
  count("starling_implied_changes_total", "Copies and registers driven in other mailboxes",
        c.copies_driven);
  count("starling_replicated_out_total", "Changes sent to other owners", c.replicated_out);
  count("starling_replicated_in_total", "Changes received from coordinators", c.replicated_in);
  count("starling_retransmits_total", "Runs sent again to an owner that lagged", c.retransmits);
  count("starling_fetches_total", "Requests for a run of a writer's log", c.fetches);
  count("starling_fetched_changes_total", "Changes received by catching up", c.fetched_changes);
  count("starling_pushes_total", "Changes pushed to following gateways", c.pushes);
  count("starling_deliveries_total", "Entries written to client sessions", c.deliveries);
  count("starling_sends_total", "Sends by clients of this node", c.sends);
  count("starling_send_errors_total", "Sends answered with an error", c.send_errors);
  count("starling_recalls_total", "Messages that clients of this node asked to take back", c.recalls);
  count("starling_recall_errors_total", "Of those, answered with an error", c.recall_errors);
  count("starling_logins_total", "Logins", c.logins);
  count("starling_login_failures_total", "Logins refused", c.login_failures);
  count("starling_hints_held_total", "Changes taken as a stand-in for owners out of reach", c.hints_held);
  count("starling_hints_home_total", "Segments that an owner said it has by now", c.hints_home);
  count("starling_fell_behind_total", "Sessions that fell back to reading", c.fell_behind);
  count("starling_clock_refused_total", "Changes and floors refused for their clock", c.clock_refused);
  gauge("starling_sessions", "Sessions logged in", static_cast<double>(c.sessions));
  gauge("starling_connections", "Client connections", static_cast<double>(node_.gateway_->connections()));
  gauge("starling_catching_up", "1 while this node catches up", node_.view_->catching_up ? 1 : 0);
  gauge("starling_missing_changes", "Changes that other owners have and that are being fetched, as far as is known",
        static_cast<double>(node_.catch_up_->missing()));
  gauge("starling_missing_known", "0 while a node that returned has not compared with all others: more may be missing",
        node_.catch_up_->is_missing_known() ? 1 : 0);
  count("starling_lost_told_total", "Times that a device was told of a message that was written off", c.lost_told);
  gauge("starling_read_only", "1 while there is no disk space", node_.view_->read_only ? 1 : 0);
  gauge("starling_clock_off", "1 while our clock disagrees with the members", node_.view_->clock_off ? 1 : 0);
  gauge("starling_obligations", "Implied changes not yet acknowledged",
        static_cast<double>(node_.obligations_->outstanding()));
  if (node_.view_->in_ring()) {
    gauge("starling_ring_version", "Newest ring version known",
          static_cast<double>(node_.view_->ring().number().value));
    gauge("starling_ring_share", "Share of the partitions that this node owns",
          node_.view_->ring().share(node_.view_->self));
    gauge("starling_partitions_sharing_a_zone", "Partitions with two copies in one zone: the other zones are too small",
          static_cast<double>(node_.view_->ring().zones_shared().size()));
  }
  const auto store = node_.store_->stats();
  count("starling_commits_total", "Write batches synced", store.commits);
  count("starling_changes_total", "Changes written", store.changes);
  count("starling_puts_total", "Keys written", store.puts);
  count("starling_installed_changes_total", "Changes stored by files", store.installed);
  count("starling_installed_files_total", "Those files", store.installed_files);
  count("starling_written_bytes_total", "Bytes of write batches", store.bytes);
  const auto disk = node_.store_->disk_use();
  count("starling_table_bytes_total", "Bytes of table files written by flushes and compactions", disk.table_bytes);
  count("starling_write_stalls_total", "Times that RocksDB slowed writes down or stopped them", disk.stalls);
  gauge("starling_compaction_debt_bytes", "Bytes that compactions still have to rewrite, an estimate",
        static_cast<double>(disk.debt_bytes));
  gauge("starling_level0_files", "Files in level 0 of the family that has most: how far compactions are behind",
        static_cast<double>(store.level0_files));
  gauge("starling_commit_pace_seconds", "The least time between commits, so that compactions catch up; 0: none",
        static_cast<double>(store.pace_us) / 1e6);
  gauge("starling_store_bytes", "Bytes of table files", static_cast<double>(disk.file_bytes));
  count("starling_shadows_total", "Second copies of a message key that met", store.shadows);
  count("starling_corrupt_records_total", "Records refused by their checksum", store.corrupt);
  gauge("starling_damaged_changes", "Changes that cannot be read here and wait for another owner's",
        static_cast<double>(store.damaged));
  gauge("starling_lost_changes", "Changes of which no copy is left anywhere", static_cast<double>(store.lost));
  gauge("starling_partitions_leaving", "Partitions being handed over to their new owners",
        static_cast<double>(node_.hand_over_->leaving().size()));
  gauge("starling_expiry_time_seconds", "Entries that expire up to here are gone",
        static_cast<double>(node_.store_->expiry_time()) / 1000);
  gauge("starling_pending_changes", "Changes accepted and not yet synced",
        static_cast<double>(store.pending));
  const auto members = node_.membership_->stats();
  gauge("starling_members_alive", "Members alive, suspects included", static_cast<double>(members.alive));
  gauge("starling_members_dead", "Members declared dead", static_cast<double>(members.dead));
  gauge("starling_health_score", "Lifeguard local health, 0 is healthy", members.health_score);
  count("starling_gossip_packets_sent_total", "Gossip datagrams sent", members.swim.packets_sent);
  count("starling_gossip_packets_received_total", "Gossip datagrams received",
        members.swim.packets_received);
  count("starling_suspicions_total", "Members suspected", members.swim.suspicions);
  count("starling_deaths_total", "Members declared dead by this node or others", members.swim.deaths);
  const auto& links = node_.links_->metrics();
  gauge("starling_links", "Node links up", static_cast<double>(links.links_up));
  gauge("starling_breakers_open", "Peers that calls are not tried to, because a link to them failed",
        static_cast<double>(node_.links_->breakers_open()));
  count("starling_breakers_opened_total", "Times that a breaker opened", links.breakers_opened);
  count("starling_link_bytes_sent_total", "Bytes sent on node links", links.bytes_out);
  count("starling_link_bytes_received_total", "Bytes received on node links", links.bytes_in);
  count("starling_link_frames_sent_total", "Frames sent on node links", links.frames_out);
  for (const auto& [code, times] : links.links_ended) {
    sink.counter("starling_links_ended_total", "Node links that were up and ended", static_cast<double>(times),
                 {{"code", std::string(name(code))}});
  }
  count("starling_calls_total", "Calls to other nodes", links.calls);
  count("starling_call_timeouts_total", "Calls that met their deadline", links.timeouts);
  collect_movement(sink);
  collect_split(sink);
  collect_sites(sink);
  collect_queues(sink);
  collect_refused(sink);
  gauge("starling_resident_bytes", "Resident memory of the process",
        static_cast<double>(resident_bytes()));
}

}  // namespace starling::node
