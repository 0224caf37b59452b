// What waits in this node, with the limit of each queue, and what is left out because it is too much: `queues` of
// the admin door, and metrics.
#include "node/admin/admin_api.h"
#include "node/admin/metrics.h"
#include "node/node_impl.h"

namespace starling::node {

std::vector<AdminApi::Queue> AdminApi::queue_list() const {
  const auto& node = node_;
  const auto links = node.links_->busiest();
  return {
      {"sends", "Sends taken as coordinator and not answered yet",
       node.coordinator_->in_flight(), kWaitersMax, true},
      {"lane", "Sends of one lane held back by a look-up, in the longest lane",
       node.coordinator_->longest_lane(), kLaneQueueMax, true},
      {"copies", "Changes that wait for their copies", node.replicator_->waiting(), kWaitersMax,
       true},
      {"duties", "Implied changes not yet acknowledged", node.obligations_->outstanding(),
       kDutiesMax, true},
      {"redriven", "Of those, tried again at this moment", node.obligations_->redriving(),
       kRedriveAtOnceMax, true},
      {"lists", "Lists of groups that sessions read again, until enough owners of them say the same",
       node.groups_->waiting(), kConnectionsMax, true},
      {"positions", "Positions of messages that the recipient's mailbox is being told", node.positions_->asking(),
       kPositionsAtOnceMax, true},
      {"hint_bytes", "Held for owners that could not be reached", node.stand_in_->bytes(),
       kHintBytesMax, true},
      {"hand_home", "Owners that are being told of what is held for them",
       node.stand_in_->handing(), kHandHomeAtOnceMax, true},
      {"gaps", "Runs being fetched because a change came without those before it",
       node.catch_up_->fetching(), kFetchesInFlightMax, true},
      {"unsynced", "Changes accepted and not yet synced", node.store_->stats().pending,
       kPendingChangesMax, true},
      {"unsynced_bytes", "Bytes of the batch that waits for the disk", node.store_->stats().gathered_bytes,
       storage::kGatheredBytesMax, true},
      {"calls", "Calls to one node that wait for their answers, of the busiest link",
       links.calls, overlay::kRequestsInFlightMax, true},
      {"link_bytes", "Bytes for one node that wait for its socket, of the busiest link",
       links.queued_bytes, overlay::kLinkQueueBytesMax, true},
      {"gossip", "News that still travels by gossip", node.membership_->stats().gossip_queued,
       overlay::kGossipQueueMax, true},
      {"followed", "Mailboxes that gateways follow here", node.publisher_->followed(),
       kFollowedMailboxesMax, false},
      {"connections", "Connections of clients", node.gateway_->connections(), kConnectionsMax,
       false},
  };
}

overlay::Task<Result<Json>> AdminApi::queues(Json) {
  Json list = Json::array();
  for (const auto& queue : queue_list()) {
    list.push_back({{"name", queue.name},
                    {"help", queue.help},
                    {"size", queue.size},
                    {"limit", queue.limit},
                    {"transient", queue.transient}});
  }
  co_return Json{{"queues", std::move(list)}};
}

void AdminApi::collect_queues(MetricSink& sink) const {
  for (const auto& queue : queue_list()) {
    const MetricSink::Labels labels{{"queue", queue.name}};
    sink.gauge("starling_queue_size", "What waits in a queue (`starling_queue_limit` at most)",
               static_cast<double>(queue.size), labels);
    sink.gauge("starling_queue_limit", "The most that a queue takes; above, it is refused",
               static_cast<double>(queue.limit), labels);
  }
  const auto& ladder = node_.ladder_;
  sink.gauge("starling_ladder_rung",
             "What this node leaves out under load: 0 nothing, then also 1 typing, 2 presence, 3 receipts, 4 history "
             "reads, 5 sends",
             static_cast<double>(ladder.rung()));
  sink.gauge("starling_ladder_pressure", "How much there is to do, 0 to 1: the fullest queue, or a late loop",
             ladder.pressure());
  for (const Rung rung : {Rung::kHistory, Rung::kSends}) {
    sink.counter("starling_ladder_refused_total", "Requests refused because there is too much to do",
                 static_cast<double>(ladder.refused(rung)), {{"what", std::string(name(rung))}});
  }
}

// What came from outside and was not taken.
void AdminApi::collect_refused(MetricSink& sink) const {
  const auto refused = [&sink](const char* reason, std::uint64_t value) {
    sink.counter("starling_gossip_refused_total", "Gossip datagrams and news that were not heeded",
                 static_cast<double>(value), {{"reason", reason}});
  };
  const auto members = node_.membership_->stats();
  refused("foreign", members.foreign);
  refused("corrupt", members.corrupt);
  refused("malformed", members.swim.malformed);
  refused("own", members.swim.own);
  refused("outsider", members.swim.outsider);
  refused("stranger", members.swim.stranger);
  refused("stale_run", members.swim.stale_run);
  refused("unproven", members.swim.unproven);
  refused("replayed", members.swim.replayed);
  refused("misdirected", members.swim.misdirected);
  refused("forged", members.swim.forged);
  refused("table_full", members.swim.table_full);
  for (const auto& [code, times] : node_.links_->metrics().handshakes_failed) {
    sink.counter("starling_handshakes_failed_total", "Links to or from other nodes that did not come up",
                 static_cast<double>(times), {{"code", std::string(name(code))}});
  }
  const auto counted = [&sink](const char* name, const char* help, const NodeCounters::Refused& refused,
                               std::initializer_list<const char*> reasons) {
    for (const char* reason : reasons) {
      const auto times = refused.find(reason);
      sink.counter(name, help, times == refused.end() ? 0 : static_cast<double>(times->second), {{"reason", reason}});
    }
  };
  const auto& counters = node_.view_->counters;
  const auto& links = node_.links_->metrics();
  auto notices = counters.notices_refused;
  notices["gone"] = links.notices_gone;
  notices["stranger"] = links.notices_strange;
  notices["unknown"] = links.notices_unknown;
  counted("starling_notices_refused_total", "One-way messages of other nodes, or changes in them, that were not taken",
          notices, {"malformed", "change", "ring", "gone", "stranger", "unknown"});
  counted("starling_client_frames_refused_total", "Frames of clients that are not of the protocol",
          counters.frames_refused, {"malformed", "too_large", "unknown", "unauthenticated"});
  counted("starling_cursors_refused_total", "Syncs that were told to drop their cursors", counters.cursors_refused,
          {"lineage", "future", "oversized"});
  sink.counter("starling_forged_changes_total", "Messages of a member with changes under another member's writer",
               static_cast<double>(node_.view_->counters.forged));
}

}  // namespace starling::node
