// Rpc: requests with deadlines and one-way notices between nodes, over authenticated links.
//
// Invariants: (1) `done` of a call comes exactly once, in a later turn, at the latest at its deadline
//             (kTimeout), or at once when the link fails (kUnavailable: the outcome is unknown);
//             (2) notices to one node arrive in order or the link goes down in between;
//             (3) a node that is not a member of the ring reaches only methods served for joiners, one that
//                 is gone those for holders, too; for the rest it hears kStaleRing. Notices of one that
//                 is gone are dropped, those of one that we do not know end the link.
// A call to ourselves takes the same path without a link. Destroying Rpc drops all pending calls.
// Thread: one loop.   On the wire: wire.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "crypto/result.h"
#include "overlay/links/wire.h"
#include "overlay/loop/task.h"
#include "overlay/loop/transport.h"

namespace starling::overlay {

// Answers one request, once; destroying it unanswered sends kUnavailable.
class Reply {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void reply(Result<Bytes> body) = 0;
  };
  explicit Reply(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}
  Reply(Reply&&) noexcept = default;
  Reply& operator=(Reply&&) noexcept = default;
  ~Reply() {
    if (sink_) sink_->reply(Error{Errc::kUnavailable, "the request was dropped by the node"});
  }
  void operator()(Result<Bytes> body) {
    if (auto sink = std::exchange(sink_, nullptr)) sink->reply(std::move(body));
  }

 private:
  std::unique_ptr<Sink> sink_;
};

enum class Access {
  kMembers,
  kHolders,  // Those too that left or were removed, and may still hold what others need.
  kJoiners,  // Anyone who proved the cluster secret.
};

class Rpc {
 public:
  using Handler = std::function<void(const NodeId& from, View body, Reply reply)>;
  using NoticeHandler = std::function<void(const NodeId& from, View body)>;
  using Done = std::function<void(Result<Bytes>)>;

  virtual ~Rpc() = default;

  virtual void serve(Method method, Access access, Handler handler) = 0;
  virtual void on_notice(Method method, NoticeHandler handler) = 0;

  // Dials when there is no link. `done` may be destroyed uncalled only with the Rpc.
  virtual void call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) = 0;
  // Dropped when there is no link and none can be had.
  virtual void notify(const NodeId& to, Method method, Bytes body) = 0;

  // Opens a link to an address whose node we do not know yet (a join).
  virtual void dial(const Endpoint& to, Duration deadline,
                    std::function<void(Result<NodeId>)> done) = 0;

  [[nodiscard]] virtual bool linked(const NodeId& peer) const = 0;
  // Told of every link that comes up (with the peer's Hello) or goes down (nullptr).
  virtual void on_link(std::function<void(const NodeId& peer, const Hello* hello)> watcher) = 0;
};

// `call` as an awaitable.
inline Future<Result<Bytes>> call(Loop& loop, Rpc& rpc, const NodeId& to, Method method, Bytes body,
                                  Duration deadline) {
  auto [completer, future] = Completer<Result<Bytes>>::make(loop);
  rpc.call(to, method, std::move(body), deadline,
           [completer = std::move(completer)](Result<Bytes> r) mutable {
             completer.set(std::move(r));
           });
  return std::move(future);
}

}  // namespace starling::overlay
