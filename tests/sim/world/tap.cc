#include "tests/sim/world/tap.h"

#include "tests/sim/judge/history.h"

namespace starling::sim {

using overlay::Method;

class TapRpc final : public overlay::Rpc {
 public:
  TapRpc(Tap& tap, std::size_t host, SimLoop& loop, SimNetwork& network,
         IpOf ip, overlay::Rpc& links)
      : tap_(tap),
        host_(host),
        loop_(loop),
        network_(network),
        ip_(std::move(ip)),
        links_(links) {}

  void serve(Method method, overlay::Access access, Handler handler) override {
    links_.serve(method, access,
                 [this, method, handler = std::move(handler)](const NodeId& from, View body,
                                                              overlay::Reply reply) {
                   arrived(TapMessage::Kind::kRequest, from, method, body);
                   const auto altered = alter(TapMessage::Kind::kRequest, from, method, body);
                   if (auto forged = forge(from, method, altered ? *altered : body)) {
                     return reply(std::move(*forged));
                   }
                   handler(from, altered ? *altered : body, std::move(reply));
                 });
  }
  void on_notice(Method method, NoticeHandler handler) override {
    links_.on_notice(method, [this, method, handler = std::move(handler)](const NodeId& from,
                                                                          View body) {
      arrived(TapMessage::Kind::kNotice, from, method, body);
      const auto altered = alter(TapMessage::Kind::kNotice, from, method, body);
      handler(from, altered ? *altered : body);
    });
  }

  void notify(const NodeId& to, Method method, Bytes body) override {
    const auto peer = index(to);
    Fate fate = Fate::kPass;
    if (peer && tap_.on_leave) fate = tap_.on_leave({TapMessage::Kind::kNotice, host_, *peer, method, body});
    if (fate == Fate::kPass) return links_.notify(to, method, std::move(body));
    if (fate != Fate::kLate) return break_link(*peer);
    later([this, to, method, body = std::move(body)] { links_.notify(to, method, body); });
  }

  void call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) override {
    const auto peer = index(to);
    if (!peer) return links_.call(to, method, std::move(body), deadline, std::move(done));
    auto ask = std::make_shared<Call>(
        Call{to, *peer, method, std::move(body), loop_.now() + deadline, std::move(done)});
    const auto fate = tap_.on_leave ? tap_.on_leave(message(*ask)) : Fate::kPass;
    if (fate == Fate::kPass) return send(std::move(ask));
    if (fate == Fate::kLose) return lose(std::move(ask));
    if (fate == Fate::kLate) return later([this, ask = std::move(ask)] { send(ask); });
    hold(ask, [this, ask] { send(ask); });
  }

  void dial(const overlay::Endpoint& to, Duration deadline,
            std::function<void(Result<NodeId>)> done) override {
    links_.dial(to, deadline, std::move(done));
  }
  [[nodiscard]] bool linked(const NodeId& peer) const override { return links_.linked(peer); }
  void on_link(std::function<void(const NodeId&, const overlay::Hello*)> watcher) override {
    links_.on_link(std::move(watcher));
  }

 private:
  struct Call {
    NodeId to;
    std::size_t peer;
    Method method;
    Bytes body;
    Instant deadline;
    Done done;  // Empty once called.
  };

  [[nodiscard]] std::optional<std::size_t> index(const NodeId& node) const {
    const auto it = tap_.hosts_.find(node);
    return it == tap_.hosts_.end() ? std::nullopt : std::optional(it->second);
  }
  [[nodiscard]] TapMessage message(const Call& ask) const {
    return {TapMessage::Kind::kRequest, host_, ask.peer, ask.method, ask.body};
  }
  void arrived(TapMessage::Kind kind, const NodeId& from, Method method, View body) {
    const auto peer = index(from);
    if (peer && tap_.on_arrive) tap_.on_arrive({kind, *peer, host_, method, body});
  }

  std::optional<Bytes> alter(TapMessage::Kind kind, const NodeId& from, Method method, View body) {
    const auto peer = index(from);
    if (!peer || !tap_.alter) return std::nullopt;
    Bytes altered(body);
    tap_.alter({kind, *peer, host_, method, body}, altered);
    return altered;
  }
  std::optional<Bytes> forge(const NodeId& from, Method method, View body) {
    const auto peer = index(from);
    if (!peer || !tap_.forge) return std::nullopt;
    return tap_.forge({TapMessage::Kind::kRequest, *peer, host_, method, body});
  }

  void send(const std::shared_ptr<Call>& ask) {
    if (!ask->done) return;  // Held beyond its deadline.
    links_.call(ask->to, ask->method, ask->body, ask->deadline - loop_.now(),
                [this, ask](Result<Bytes> answer) { answered(ask, std::move(answer)); });
  }
  void answered(const std::shared_ptr<Call>& ask, Result<Bytes> answer) {
    if (answer && tap_.alter_answer) tap_.alter_answer(message(*ask), *answer);
    const auto fate = tap_.on_answer ? tap_.on_answer(message(*ask), answer) : Fate::kPass;
    if (fate == Fate::kPass) return finish(*ask, std::move(answer));
    if (fate == Fate::kLose) return lose(ask);
    if (fate == Fate::kDamage) return finish(*ask, Error{Errc::kCorrupt, "damaged, as it were"});
    hold(ask, [ask, answer = std::make_shared<Result<Bytes>>(std::move(answer))] {
      finish(*ask, std::move(*answer));
    });
  }
  static void finish(Call& ask, Result<Bytes> answer) {
    if (auto done = std::exchange(ask.done, nullptr)) done(std::move(answer));
  }

  void lose(std::shared_ptr<Call> ask) {
    if (ask->peer != host_) break_link(ask->peer);
    loop_.post([ask] { finish(*ask, Error{Errc::kUnavailable, "the link went down"}); });
  }
  void hold(const std::shared_ptr<Call>& ask, std::function<void()> go_on) {
    loop_.turn_at(ask->deadline,
                  [ask] { finish(*ask, Error{Errc::kTimeout, "no answer in time"}); });
    tap_.held_.push_back([loop = &loop_, alive = std::weak_ptr<bool>(alive_),
                          go_on = std::move(go_on)] {
      if (!alive.expired()) loop->enter(go_on);
    });
  }
  // The loop forgets it when the process ends.
  void later(std::function<void()> send) {
    loop_.turn_at(loop_.now() + loop_.world().between(tap_.late_min, tap_.late_max),
                  [alive = std::weak_ptr<bool>(alive_), send = std::move(send)] {
                    if (!alive.expired()) send();
                  });
  }
  // At the end of this turn, with all that is on its way.
  void break_link(std::size_t peer) {
    auto& world = loop_.world();
    world.note("tap", "the link between " + ip_(host_) + " and " + ip_(peer) + " breaks");
    world.after(Duration(0), [&network = network_, a = ip_(host_), b = ip_(peer)] {
      network.reset_streams(a, b);
    });
  }

  Tap& tap_;
  const std::size_t host_;
  SimLoop& loop_;
  SimNetwork& network_;
  const IpOf ip_;
  overlay::Rpc& links_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

std::unique_ptr<overlay::Rpc> Tap::wrap(std::size_t host, SimLoop& loop, SimNetwork& network,
                                        IpOf ip,
                                        overlay::Rpc& links) {
  return std::make_unique<TapRpc>(*this, host, loop, network, std::move(ip), links);
}

void Tap::release() {
  for (auto held = std::exchange(held_, {}); auto& go_on : held) go_on();
}

void Tap::clear() {
  on_leave = nullptr;
  on_arrive = nullptr;
  on_answer = nullptr;
  alter = nullptr;
  forge = nullptr;
  late_min = 1ms;
  late_max = 100ms;
  alter_answer = nullptr;
  release();
}

namespace {

void add(std::vector<Carried>& out, PartitionId partition, const Dot& dot, View bytes) {
  const auto change = storage::decode(bytes, dot);
  if (!change) return;
  Carried item{partition, dot, change->kind, {}, {}, 0, change->mailbox};
  if (change->kind == storage::ChangeKind::kRegister) {
    item.id = change->reg.stamp;
  } else {
    item.id = change->entry.id;
    item.key = change->entry.key;
    item.hash = body_hash(change->entry.body);
  }
  out.push_back(item);
}

}  // namespace

std::vector<Carried> carried(const TapMessage& message) {
  std::vector<Carried> out;
  if (message.method == Method::kReplicate || message.method == Method::kHint) {
    const auto replicate = unpack<node::Replicate>(message.body);
    if (!replicate) return out;
    for (const auto& run : replicate->runs) {
      for (std::size_t i = 0; i < run.changes.size(); ++i) {
        add(out, run.partition, {replicate->writer, run.first + i}, run.changes[i].data);
      }
    }
  } else if (message.method == Method::kPush) {
    const auto push = unpack<node::Push>(message.body);
    if (!push) return out;
    for (const auto& stream : push->streams) {
      for (const auto& item : stream.changes) {
        add(out, stream.partition, item.dot, item.change.data);
      }
    }
  }
  return out;
}

std::vector<Carried> carried(const TapMessage& request, const Result<Bytes>& answer) {
  std::vector<Carried> out;
  if (!answer) return out;
  if (request.method == Method::kFetch) {
    const auto asked = unpack<node::FetchRequest>(request.body);
    const auto range = unpack<storage::RangeStatement>(*answer);
    if (!asked || !range) return out;
    for (const auto& item : range->live) {
      add(out, asked->partition, {range->writer, item.n}, item.change.data);
    }
  } else if (request.method == Method::kRead) {
    const auto page = unpack<node::ReadReply>(*answer);
    if (!page) return out;
    for (const auto& item : page->changes) add(out, {}, item.dot, item.change.data);
  }
  return out;
}

}  // namespace starling::sim
