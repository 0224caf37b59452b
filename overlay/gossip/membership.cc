#include "overlay/gossip/membership.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace starling::overlay {
namespace {

// Packets may come between the bind and the construction; they are lost, as datagrams are.
struct Inbox {
  std::function<void(const Endpoint&, View)> handler;
};

MemberView view_of(const Member& member) {
  return {member.id, member.state, member.record, member.heartbeat};
}

Status advertise(MemberRecord& self, const Endpoint& bound) {
  if (self.gossip.empty()) self.gossip = bound.text();
  TRY_ASSIGN(Endpoint gossip, Endpoint::parse(self.gossip));
  if (gossip.port == 0) gossip.port = bound.port;
  self.gossip = gossip.text();
  return check_record(self);
}

}  // namespace

Result<std::unique_ptr<Membership>> Membership::open(Loop& loop, Transport& transport, Rpc& rpc,
                                                     const Keyring& keyring,
                                                     const Identity& identity, Random& random,
                                                     MembershipOptions options) {
  assert(!options.lineage.is_zero());
  const auto inbox = std::make_shared<Inbox>();
  TRY_ASSIGN(auto datagrams,
             transport.bind(options.bind, [inbox](const Endpoint& from, View packet) {
               if (inbox->handler) inbox->handler(from, packet);
             }));
  TRY(advertise(options.self, datagrams->local()));
  std::unique_ptr<Membership> out(
      new Membership(loop, rpc, keyring, identity, random, options, std::move(datagrams)));
  inbox->handler = [self = out.get()](const Endpoint& from, View packet) {
    self->on_packet(from, packet);
  };
  rpc.serve(Method::kPushPull, Access::kHolders,
            [self = out.get(), alive = out->alive_](const NodeId& from, View body, Reply reply) {
              if (*alive) self->on_push_pull(from, body, std::move(reply));
            });
  return out;
}

Membership::Membership(Loop& loop, Rpc& rpc, const Keyring& keyring, const Identity& identity,
                       Random& random, const MembershipOptions& options,
                       std::unique_ptr<Datagrams> datagrams)
    : loop_(loop),
      rpc_(rpc),
      keyring_(keyring),
      random_(random),
      lineage_(options.lineage),
      swim_(options.swim, identity, random, options.self),
      datagrams_(std::move(datagrams)) {}

Membership::~Membership() { *alive_ = false; }

void Membership::start(std::vector<Endpoint> seeds) {
  assert(!started_);
  started_ = true;
  step(Swim::Start{std::move(seeds)});
}

void Membership::leave() { step(Swim::Leave{}); }

std::vector<MemberView> Membership::members() const {
  std::vector<MemberView> out;
  out.reserve(swim_.table().all().size() + 1);
  const MemberView own{swim_.self().node, MemberState::kAlive, swim_.self(), swim_.heartbeat()};
  bool added = false;
  for (const auto& [id, member] : swim_.table().all()) {
    if (!added && own.id < id) {
      out.push_back(own);
      added = true;
    }
    out.push_back(view_of(member));
  }
  if (!added) out.push_back(own);
  return out;
}

std::optional<MemberView> Membership::find(const NodeId& id) const {
  if (id == swim_.self().node) {
    return MemberView{id, MemberState::kAlive, swim_.self(), swim_.heartbeat()};
  }
  const Member* member = swim_.table().find(id);
  if (member == nullptr) return {};
  return view_of(*member);
}

bool Membership::is_alive(const NodeId& id) const {
  if (id == swim_.self().node) return true;
  const Member* member = swim_.table().find(id);
  return member != nullptr && member->live();
}

Result<Endpoint> Membership::link_endpoint(const NodeId& id) const {
  if (id == swim_.self().node) return Endpoint::parse(swim_.self().link);
  const Member* member = swim_.table().find(id);
  if (member == nullptr) {
    return Error{Errc::kNotFound,
                 "node " + short_text(id) + " is not known here yet; gossip will tell"};
  }
  return Endpoint::parse(member->record.link);
}

Status Membership::update_self(const MemberRecord& record) {
  TRY(check_record(record));
  step(Swim::UpdateSelf{record});
  return ok_status();
}

void Membership::set_lineage(const LineageId& lineage) {
  assert(!lineage.is_zero());
  lineage_ = lineage;
}

std::optional<ClockStanding> Membership::clock_standing() const {
  return swim_.clock_standing(loop_.now(), loop_.wall_ms());
}

MembershipStats Membership::stats() const {
  MembershipStats out = stats_;
  out.swim = swim_.stats();
  out.health_score = swim_.health_score();
  out.gossip_queued = swim_.gossip_queued();
  out.alive = 1;
  for (const auto& [id, member] : swim_.table().all()) {
    if (member.live()) ++out.alive;
    if (member.state == MemberState::kSuspect) ++out.suspect;
    if (member.state == MemberState::kDead) ++out.dead;
    if (member.state == MemberState::kLeft) ++out.left;
  }
  return out;
}

void Membership::on_packet(const Endpoint& from, View packet) {
  Result<Bytes> plain = keyring_.open(packet, lineage_.view());
  if (!plain) {
    ++(plain.code() == Errc::kForeign ? stats_.foreign : stats_.corrupt);
    return;
  }
  step(Swim::Packet{from, std::move(plain).value()});
}

// Merges before it answers, so the caller learns at once what its own news changed here.
void Membership::on_push_pull(const NodeId& from, View body, Reply reply) {
  if (!started_) return reply(Error{Errc::kUnavailable, "the node is still starting; try again"});
  Result<PushPull> theirs = decode_push_pull(body);
  if (!theirs) return reply(theirs.error());
  if (!swim_.hears(from)) {
    return reply(Error{Errc::kDenied, "who is no member is not told who is; join first"});
  }
  step(Swim::Merge{from, std::move(theirs).value()});
  reply(pack(swim_.push_pull(loop_.now(), loop_.wall_ms(), from)));
}

void Membership::step(const Swim::Input& input) {
  loop_.assert_current();
  perform(swim_.step(input, loop_.now(), loop_.wall_ms()));
}

void Membership::perform(Swim::Output output) {
  for (const Swim::Send& send : output.sends) {
    datagrams_->send(send.to, keyring_.seal(send.plain, lineage_.view(), random_));
  }
  for (const Swim::Exchange& with : output.exchanges) exchange(with);
  if (!output.events.empty()) tell(std::move(output.events));
  arm(output.wake_at);
}

void Membership::meet(const NodeId& peer) {
  if (started_ && !is_alive(peer)) exchange(Swim::Exchange{peer});
}

void Membership::exchange(const Swim::Exchange& exchange) {
  if (exchanges_running_ >= kExchangesMax) return;
  ++exchanges_running_;
  ++stats_.exchanges;
  if (const NodeId* peer = std::get_if<NodeId>(&exchange.with)) return exchange_with(*peer);
  rpc_.dial(std::get<Endpoint>(exchange.with), kPushPullDeadline,
            [this, alive = alive_](Result<NodeId> peer) {
              if (!*alive) return;
              // A seed list that is the same everywhere names ourselves too.
              if (!peer || *peer == swim_.self().node) return exchange_done(peer.ok());
              exchange_with(*peer);
            });
}

void Membership::exchange_with(const NodeId& peer) {
  rpc_.call(peer, Method::kPushPull, pack(swim_.push_pull(loop_.now(), loop_.wall_ms(), peer)),
            kPushPullDeadline, [this, alive = alive_, peer](Result<Bytes> body) {
              if (!*alive) return;
              if (!body) return exchange_done(false);
              Result<PushPull> theirs = decode_push_pull(*body);
              exchange_done(theirs.ok());
              if (theirs) step(Swim::Merge{peer, std::move(theirs).value()});
            });
}

void Membership::exchange_done(bool ok) {
  --exchanges_running_;
  if (!ok) ++stats_.exchanges_failed;
}

void Membership::tell(std::vector<MemberEvent> events) {
  loop_.defer([this, alive = alive_, events = std::move(events)] {
    for (const MemberEvent& event : events) {
      // A watcher may add watchers, or end us.
      for (std::size_t i = 0; *alive && i < watchers_.size(); ++i) {
        const Watcher watcher = watchers_[i];
        watcher(event);
      }
      if (!*alive) return;
    }
  });
}

void Membership::arm(Instant wake_at) {
  if (wake_at == armed_at_) return;
  armed_at_ = wake_at;
  if (wake_at == kNever) return timer_.cancel();
  const Duration delay = std::max(wake_at - loop_.now(), Duration::zero());
  timer_ = loop_.after(delay, [this] {
    armed_at_ = kNever;
    step(Swim::Tick{});
  });
}

}  // namespace starling::overlay
