// The operator's methods about what is stored: do the owners agree, and can all of it be read?
#include "node/admin/admin_api.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr std::uint32_t kVerifyMax = 1024;  // Partitions in one call.
constexpr int kMeetings = 6;                // Owners that are on their way to each other are compared again.
constexpr Duration kMeetAgainAfter = 500ms;

bool may_pass(Verifier::Outcome outcome) {
  return outcome == Verifier::Outcome::kBehind || outcome == Verifier::Outcome::kDamaged;
}

std::string name_of(Verifier::Outcome outcome) {
  switch (outcome) {
    case Verifier::Outcome::kSame: return "same";
    case Verifier::Outcome::kBehind: return "behind";
    case Verifier::Outcome::kDiffers: return "differs";
    case Verifier::Outcome::kDamaged: return "damaged";
    case Verifier::Outcome::kUnreachable: return "unreachable";
  }
  return "unknown";
}

Json texts(const std::vector<Dot>& dots) {
  Json out = Json::array();
  for (const auto& dot : dots) out.push_back(to_text(dot));
  return out;
}

Json finding_json(const Verifier::Finding& finding) {
  Json nodes = Json::array();
  for (const auto& node : finding.nodes) nodes.push_back(short_text(node));
  return {{"partition", finding.partition.value},
          {"outcome", name_of(finding.outcome)},
          {"nodes", std::move(nodes)},
          {"damaged", texts(finding.damaged)},
          {"lost", texts(finding.lost)}};
}

}  // namespace

Task<Result<Json>> AdminApi::verify(Json arguments) {
  const std::uint32_t from = arguments.value("from", 0u);
  const std::uint32_t limit = std::min(arguments.value("limit", 64u), kVerifyMax);
  const std::uint32_t partitions = node_.view_->ring().partitions();
  if (from >= partitions || limit == 0) {
    co_return Error{Errc::kInvalid, "from is a partition, below " + std::to_string(partitions)};
  }
  const std::uint32_t end = std::min(from + limit, partitions);
  std::uint64_t rows = 0, same = 0;
  Json findings = Json::array();
  overlay::Timer timer;
  std::vector<PartitionId> open;
  for (std::uint32_t i = from; i < end; ++i) open.push_back(PartitionId{static_cast<std::uint16_t>(i)});
  for (int meeting = 1; !open.empty(); ++meeting) {
    std::vector<PartitionId> again;
    for (const auto partition : open) {
      auto verifying = node_.verifier_->verify(partition);
      const auto finding = co_await verifying;
      CO_TRY(node_.view_->same_count(partitions));
      if (meeting < kMeetings && may_pass(finding.outcome)) {
        again.push_back(partition);
        continue;
      }
      rows += finding.rows;
      if (finding.outcome == Verifier::Outcome::kSame) ++same;
      if (finding.outcome != Verifier::Outcome::kSame || !finding.lost.empty()) {
        findings.push_back(finding_json(finding));
      }
    }
    open = std::move(again);
    if (!open.empty()) co_await overlay::sleep(node_.leaves_.loop, kMeetAgainAfter, timer);
  }
  Json answer = {{"partitions", partitions}, {"checked", end - from}, {"same", same},
                 {"rows", rows},             {"findings", std::move(findings)}};
  if (end < partitions) answer["next"] = end;
  co_return answer;
}

Task<Result<Json>> AdminApi::repair(Json arguments) {
  auto& mender = *node_.mender_;
  auto& upkeep = *node_.upkeep_;
  if (arguments.value("start", false)) {
    (void)upkeep.scrub_now();
    mender.look();
  }
  std::size_t given_up = 0;
  if (arguments.value("give_up", false)) {
    auto giving = mender.give_up();
    CO_TRY_ASSIGN(given_up, co_await giving);
  }
  Json hopeless = Json::array();
  for (const auto& [partition, dot] : mender.hopeless()) {
    hopeless.push_back({{"partition", partition.value}, {"dot", to_text(dot)}});
  }
  const auto& scrubbed = upkeep.scrubbed();
  const auto stats = node_.store_->stats();
  co_return Json{{"busy", upkeep.scrubbing() || mender.busy()},
                 {"scrubbing", upkeep.scrubbing()},
                 {"share", scrubbed.share},
                 {"rows", scrubbed.rows},
                 {"bytes", scrubbed.bytes},
                 {"mended", scrubbed.mended},
                 {"found", scrubbed.damaged},
                 {"damaged", stats.damaged},
                 {"hopeless", std::move(hopeless)},
                 {"lost", stats.lost},
                 {"expiry_ms", node_.store_->expiry_time()},
                 {"given_up", given_up}};
}

}  // namespace starling::node
