// The operator's word on the copying that changes of the ring cause, and how far this node is with it.
#include "node/admin/admin_api.h"
#include "node/admin/metrics.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::Task;

Json AdminApi::controls_json() const {
  return {{"paused", node_.move_controls_->paused()}, {"rate_limit", node_.move_controls_->rate()}};
}

Json AdminApi::told_json(const MoveControls::Told& told) const {
  Json out = controls_json();
  out["taken"] = short_names(told.taken);
  out["away"] = short_names(told.away);
  out["change"] = node_.view_->ring().changing();
  return out;
}

Task<Result<Json>> AdminApi::pause(Json) {
  auto pausing = node_.move_controls_->pause(true);
  const auto told = co_await pausing;
  co_return told_json(told);
}

Task<Result<Json>> AdminApi::resume(Json) {
  auto resuming = node_.move_controls_->pause(false);
  const auto told = co_await resuming;
  co_return told_json(told);
}

// Without a rate: what it is.
Task<Result<Json>> AdminApi::throttle(Json arguments) {
  if (!arguments.contains("rate")) co_return told_json({});
  auto setting = node_.move_controls_->set_rate(arguments.at("rate").get<std::uint64_t>());
  CO_TRY_ASSIGN(const auto told, co_await setting);
  co_return told_json(told);
}

// What came of the change that `of` names, for whoever follows it.
Task<std::string> AdminApi::outcome(RingNumber of) {
  auto asking = node_.ring_->outcome(of);
  const auto outcome = co_await asking;
  if (!outcome) co_return "unknown";
  switch (*outcome) {
    case RingService::Outcome::kOpen: co_return "open";
    case RingService::Outcome::kDone: co_return "done";
    case RingService::Outcome::kTakenBack: co_return "taken back";
  }
  co_return "unknown";
}

void AdminApi::add_progress(MovementReply& reply) const {
  const auto& progress = node_.catch_up_->progress();
  reply.partitions = progress.partitions;
  reply.partitions_done = progress.partitions_done;
  reply.changes = progress.changes;
  reply.changes_done = progress.changes_done;
  reply.bytes = progress.bytes;
  reply.bytes_left = progress.bytes_left;
  reply.rate = progress.rate;
}

void AdminApi::collect_movement(MetricSink& sink) const {
  const auto& progress = node_.catch_up_->progress();
  const auto gauge = [&sink](const char* name, const char* help, std::uint64_t value) {
    sink.gauge(name, help, static_cast<double>(value));
  };
  sink.counter("starling_move_bytes_total", "Bytes of changes copied because the ring changed",
               static_cast<double>(node_.catch_up_->moved_bytes()));
  gauge("starling_move_partitions", "Partitions that this node gains by the change of the ring under way",
        progress.partitions);
  gauge("starling_move_partitions_done", "Of those, the ones that are here in full", progress.partitions_done);
  gauge("starling_move_bytes_left", "Bytes still to be copied for it, estimated", progress.bytes_left);
  gauge("starling_move_bytes_per_second", "Bytes copied for it a second, of late", progress.rate);
  gauge("starling_move_rate_limit", "The most that may be; 0: no limit", node_.move_controls_->rate());
  gauge("starling_move_paused", "1 while the operator lets nothing be copied for changes of the ring",
        node_.move_controls_->paused() ? 1 : 0);
}

}  // namespace starling::node
