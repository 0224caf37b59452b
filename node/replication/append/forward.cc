#include "node/replication/append/forward.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;

struct Forwarder::Request {
  Method method;
  MakeBody make;
  Instant until;
  std::function<void(Result<Bytes>)> done;
  std::vector<NodeId> candidates;
  std::size_t next = 0;
  bool unsure = false;    // An earlier try may have stored it.
  bool forced = false;
  std::vector<NodeId> behind;  // Owners that only refused for catching up, or for their clock: forced in this order.
  bool idempotent = false;     // Of sends: a copy, which is one however often it is made.
  Error last{Errc::kUnavailable, "no owner of the partition can be reached"};
};

namespace {

// Another owner may well do what this one could not.
bool worth_another(Errc code) {
  switch (code) {
    case Errc::kNotOwner:
    case Errc::kCatchingUp:
    case Errc::kStaleRing:
    case Errc::kUnavailable:
    case Errc::kTimeout:
    case Errc::kFull:
    case Errc::kIo:
    case Errc::kCorrupt:  // Damaged here; mended from the others.
      return true;
    default:
      return false;
  }
}

bool outcome_unknown(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout || code == Errc::kIo;
}

}  // namespace

AppendRequest copy_request(const storage::ChangeView& message) {
  const auto& entry = message.entry;
  AppendRequest request;
  request.to = Bytes(entry.to);
  request.from = Bytes(entry.from);
  request.device = entry.key.device;
  request.seq = entry.key.seq;
  request.id = entry.id;
  request.expires_ms = entry.expires_ms;
  request.type = static_cast<std::uint8_t>(entry.type);
  request.flags = kAppendCopy;
  if (message.kind == storage::ChangeKind::kVoid) request.flags |= kAppendVoid;
  if ((entry.flags & storage::kEntryIsRecall) != 0) request.flags |= kAppendRecall;
  return request;
}

void Forwarder::append(AppendRequest request, Bytes body, Duration deadline,
                       std::function<void(Result<AppendReply>)> done) {
  const std::uint8_t flags = request.flags;
  const bool copy = (flags & (kAppendCopy | kAppendPosition)) == kAppendCopy;
  if (auto may = takes_part(); !may) return done(may.error());
  const PartitionId partition =
      view_.store.partition_of(mailbox_of(copy ? request.from : request.to));
  auto make = [this, request = std::move(request), body = std::move(body)](std::uint8_t more_flags) mutable {
    AppendRequest attempt = request;
    attempt.ring = view_.ring().number();
    attempt.flags |= more_flags;
    attempt.body.data = body;
    return pack(attempt);
  };
  const bool idempotent = (flags & kAppendCopy) != 0;
  route(view_.candidates(partition), Method::kAppend, std::move(make), deadline,
        [done = std::move(done)](Result<Bytes> answer) {
          if (!answer) return done(answer.error());
          done(unpack<AppendReply>(*answer));
        }, idempotent);
}

void Forwarder::write_register(WriteRegisterRequest request, Duration deadline,
                               std::function<void(Status)> done) {
  if (auto may = takes_part(); !may) return done(may);
  const PartitionId partition = view_.store.partition_of(request.mailbox);
  auto make = [this, request = std::move(request)](std::uint8_t flags) mutable {
    request.ring = view_.ring().number();
    request.flags = flags;
    return pack(request);
  };
  route(view_.candidates(partition), Method::kWriteRegister, std::move(make), deadline,
        [done = std::move(done)](Result<Bytes> answer) {
          if (!answer) return done(answer.error());
          done(ok_status());
        });
}

void Forwarder::read(PartitionId partition, Method method, Bytes body, Duration deadline,
                     std::function<void(Result<Bytes>)> done) {
  if (auto may = takes_part(); !may) return done(may.error());
  route(view_.readers(partition), method, [body = std::move(body)](std::uint8_t) { return body; }, deadline,
        std::move(done));
}

Status Forwarder::takes_part() const {
  if (!view_.in_ring()) return Error{Errc::kUnavailable, "this node is still joining the cluster"};
  if (view_.is_holder()) return Error{Errc::kUnavailable, "this node has left the cluster; use another"};
  return ok_status();
}

void Forwarder::route(std::vector<NodeId> candidates, Method method, MakeBody make, Duration deadline,
                      std::function<void(Result<Bytes>)> done, bool idempotent) {
  auto request = std::make_shared<Request>();
  request->idempotent = idempotent;
  request->method = method;
  request->make = std::move(make);
  request->until = view_.loop.now() + deadline;
  request->done = std::move(done);
  request->candidates = std::move(candidates);
  // Dead owners only when there is nobody else: liveness is an opinion. One behind an open breaker comes last
  // and costs nothing, and an owner that is catching up is not forced while such a one may answer.
  const auto reachable = static_cast<std::size_t>(
      std::count_if(request->candidates.begin(), request->candidates.end(),
                    [this](const NodeId& node) { return view_.alive(node); }));
  if (reachable > 0) request->candidates.resize(reachable);
  attempt(std::move(request));
}

// A send that an owner may have taken is not refused by another one's word: who sends it again is answered by one who knows.
void Forwarder::end(Request& request, const Error& error) {
  const bool open = request.method == Method::kAppend && !request.idempotent && request.unsure && !outcome_unknown(error.code);
  if (!open) return request.done(error);
  request.done(Error{Errc::kTimeout, error.text + "; an owner that was asked before did not say what became of it"});
}

void Forwarder::attempt(std::shared_ptr<Request> request) {
  const Duration left = request->until - view_.loop.now();
  NodeId to;
  std::uint8_t flags = request->unsure ? kAppendRetry : 0;
  if (request->next < request->candidates.size() && left > 0s) {
    to = request->candidates[request->next++];
  } else if (!request->behind.empty() && left > 0s) {
    to = request->behind.front();
    request->behind.erase(request->behind.begin());
    request->forced = true;
  } else {
    return end(*request, request->last);
  }
  if (request->forced) flags |= kAppendForce;
  view_.rpc.call(to, request->method, request->make(flags), left,
                 [this, request, to](Result<Bytes> answer) {
    if (answer) return request->done(std::move(answer));
    if (!worth_another(answer.code())) return end(*request, answer.error());
    if (answer.code() == Errc::kCatchingUp && !request->forced) request->behind.push_back(to);
    if (outcome_unknown(answer.code())) request->unsure = true;
    request->last = answer.error();
    attempt(request);
  });
}

}  // namespace starling::node
