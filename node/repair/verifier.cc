#include "node/repair/verifier.h"
#include "storage/export.h"

#include <algorithm>
#include <map>
#include <set>

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr Duration kVerifyDeadline = 30s;
constexpr std::uint64_t kRowsPerTurn = 2000;  // Then others have the loop.
constexpr std::uint64_t kCutoffAheadMs = 60'000;  // Above every owner's expiry time.

}  // namespace

Verifier::Verifier(ClusterView& view) : view_(view), scope_(view.loop) {
  view_.rpc.serve(Method::kVerify, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, overlay::Reply reply) {
    auto request = unpack<VerifyRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (!view_.is_owner(request->partition)) {
      return reply(Error{Errc::kNotOwner, "this node does not own the partition"});
    }
    if (exports_ >= kExportsAtOnceMax) return reply(Error{Errc::kOverloaded, "too many are verified here"});
    scope_.spawn(answer(*request, std::move(reply)));
  });
}

Task<Done> Verifier::answer(VerifyRequest request, overlay::Reply reply) {
  ++exports_;
  const std::uint32_t count = view_.partitions();
  VerifyReply out;
  out.damaged = view_.store.damaged(request.partition);
  out.lost = view_.store.lost(request.partition);
  const auto refill = view_.store.to_refill();
  out.refill = std::find(refill.begin(), refill.end(), request.partition) != refill.end();
  const auto rows = view_.store.export_partition(request.partition, request.cutoff_ms);
  overlay::Timer timer;
  std::optional<Error> error;
  out.vector = rows->vector().digest();
  while (!error) {
    auto row = rows->next();
    if (!row) error = row.error();
    if (!row || !*row) break;
    if (++out.rows % kRowsPerTurn == 0) co_await overlay::sleep(view_.loop, 0s, timer);
  }
  --exports_;
  if (const auto same = view_.same_count(count); !same) {
    reply(same.error());
    co_return Done{};
  }
  if (error && out.damaged.empty() && !out.refill) {
    reply(*error);
    co_return Done{};
  }
  const auto digest = rows->digest();
  out.digest.data.assign(reinterpret_cast<const char*>(digest.data()), digest.size());
  reply(pack(out));
  co_return Done{};
}

Task<Verifier::Finding> Verifier::verify(PartitionId partition) {
  Finding finding{partition, Outcome::kSame, {}, {}, {}, 0};
  std::map<NodeId, VerifyReply> answers;
  std::set<Dot> damaged, lost;
  const VerifyRequest request{partition, static_cast<std::uint64_t>(view_.loop.wall_ms()) + kCutoffAheadMs,
                              view_.partitions()};
  for (const auto& owner : view_.ring().owners(partition).to_vector()) {
    Result<VerifyReply> reply = Error{Errc::kUnavailable, "not alive"};
    if (view_.alive(owner)) {
      auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kVerify, pack(request),
                                  kVerifyDeadline);
      const auto body = co_await asking;
      reply = body ? unpack<VerifyReply>(*body) : Result<VerifyReply>(body.error());
      // Those asked before said it of another partition.
      if (const auto same = view_.same_count(request.partitions); !same) reply = same.error();
    }
    if (!reply) {
      finding.outcome = Outcome::kUnreachable;
      finding.nodes.push_back(owner);
      continue;
    }
    damaged.insert(reply->damaged.begin(), reply->damaged.end());
    lost.insert(reply->lost.begin(), reply->lost.end());
    answers.emplace(owner, std::move(*reply));
  }
  finding.damaged.assign(damaged.begin(), damaged.end());
  finding.lost.assign(lost.begin(), lost.end());
  if (finding.outcome == Outcome::kUnreachable || answers.empty()) co_return finding;
  for (const auto& [node, reply] : answers) {
    if (reply.damaged.empty() && !reply.refill) continue;
    finding.outcome = Outcome::kDamaged;
    finding.nodes.push_back(node);
  }
  if (finding.outcome == Outcome::kDamaged) co_return finding;
  const auto& first = answers.begin()->second;
  finding.rows = first.rows;
  const auto all = [&](auto same) { return std::all_of(answers.begin(), answers.end(), same); };
  const bool met = all([&](const auto& answer) { return answer.second.vector == first.vector; });
  const bool same = all([&](const auto& answer) { return answer.second.digest.data == first.digest.data; });
  if (met && same) co_return finding;
  finding.outcome = met ? Outcome::kDiffers : Outcome::kBehind;
  for (const auto& [node, reply] : answers) finding.nodes.push_back(node);
  co_return finding;
}

}  // namespace starling::node
