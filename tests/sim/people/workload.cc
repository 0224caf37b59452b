#include "tests/sim/people/workload.h"

#include <algorithm>
#include <cassert>

#include <nlohmann/json.hpp>

namespace starling::sim {

namespace {
constexpr std::uint64_t kHowSalt = 0x67'72'61'64'65;
constexpr double kWeakGrade = 0.08;    // Of each but quorum.
constexpr double kBurned = 0.33;
constexpr double kRecalled = 0.16;
constexpr double kByStranger = 0.1;     // Of those.
constexpr std::size_t kLatest = 40;     // Sends that are taken back, mostly.
constexpr double kStands = 0.02;
constexpr Duration kStandMin = 10s;
constexpr std::uint64_t kStandSpan = 15'000'000'000;
constexpr std::size_t kLargeMax = 50'000;
constexpr std::uint32_t kLifetimeMaxS = 20;
}  // namespace

using node::ClientPhase;
using node::protocol::EntryMessage;

SimDevice::SimDevice(World& world, SimNetwork& network, History& history, Identity identity,
                     std::function<std::vector<overlay::Endpoint>()> endpoints, bool forgetful)
    : world_(world),
      network_(network),
      history_(history),
      identity_(std::move(identity)),
      endpoints_(std::move(endpoints)),
      index_(history.add_device(identity_.user, identity_.name)),
      random_(world.fork()),
      forgetful_(forgetful) {
  state_.user = identity_.user;
  state_.device = identity_.name;
}

SimDevice::~SimDevice() {
  if (running()) close();
}

void SimDevice::start(std::size_t first_endpoint) {
  assert(!client_);
  loop_ = std::make_shared<SimLoop>(world_, history_.text(index_));
  transport_ = network_.attach(*loop_, identity_.ip);
  node::ClientOptions options;
  options.endpoints = endpoints_();
  endpoints_known_ = options.endpoints.size();
  options.first_endpoint = first_endpoint;
  options.password = identity_.password;
  client_ = std::make_unique<node::Client>(*loop_, *transport_, random_, options, state_, *this);
  loop_->enter([this] { client_->start(); });
}

void SimDevice::stand_still(Duration length) {
  world_.note(history_.text(index_), "stands still");
  loop_->pause();
  world_.after(length, [this, loop = std::weak_ptr<SimLoop>(loop_)] {
    if (!loop.expired() && stands_still()) loop_->resume();
  });
}

void SimDevice::close() {
  if (stands_still()) loop_->resume();
  world_.note(history_.text(index_), "closed");
  loop_->enter([this] {
    auto cursors = std::move(state_.cursors);
    state_ = client_->state();
    if (forgetful_) {
      state_.cursors = std::move(cursors);
      state_.seen.clear();
    }
    client_.reset();
  });
  network_.drop_process(identity_.ip, false);
  loop_->kill();
  transport_.reset();
  loop_.reset();
}

void SimDevice::reconnect() {
  world_.note(history_.text(index_), "reconnects");
  loop_->enter([this] { client_->reconnect(); });
}

SendIndex SimDevice::send(const std::string& to, Bytes body) {
  return send(to, std::move(body), node::SendOptions());
}

SendIndex SimDevice::send(const std::string& to, Bytes body, node::SendOptions options) {
  const SendIndex index = history_.invoke(index_, to, body, world_.now(), options.grade, options.lifetime_s);
  world_.note(history_.text(index_), "send " + history_.text(history_.sends()[index]));
  loop_->enter([&] {
    const auto accepted = client_->send(
        to, std::move(body), options, [this, index](Result<node::Sent> sent) {
          if (sent) {
            history_.acked(index, sent->seq, sent->id, sent->copies, world_.now());
          } else {
            const auto code = sent.code();
            history_.failed(index,
                            node::is_retryable(code) ? Outcome::kUnknown : Outcome::kRefused,
                            code, world_.now());
          }
          world_.note(history_.text(index_),
                      (sent ? "acked " : "failed (" + sent.error().text + ") ") +
                          history_.text(history_.sends()[index]));
        });
    if (!accepted) {
      history_.not_taken(index, accepted.code(), world_.now());
    }
  });
  return index;
}

History::RecallIndex SimDevice::recall(SendIndex send) {
  const SendRecord& sent = history_.sends()[send];
  const History::RecallIndex index = history_.recall(index_, send, world_.now());
  world_.note(history_.text(index_), "recalls " + history_.text(sent));
  loop_->enter([&] {
    client_->recall(sent.to, history_.devices()[sent.device].id, sent.number,
                    [this, send, index](const Result<std::string>& id) {
                      history_.recalled(index, id, world_.now());
                      world_.note(history_.text(index_), (id ? "recalled " : "not recalled (" + id.error().text + ") ") +
                                                             history_.text(history_.sends()[send]));
                    });
  });
  return index;
}

bool SimDevice::ready() const { return client_ && !stands_still() && client_->phase() == ClientPhase::kReady; }

void SimDevice::on_entry(const EntryMessage& entry, bool) { record(entry, false); }
void SimDevice::on_moved(const EntryMessage& entry) { record(entry, false, true); }
void SimDevice::on_void(const EntryMessage& entry) { record(entry, true); }

void SimDevice::on_phase(ClientPhase phase, const Error* why) {
  world_.note(history_.text(index_), std::string(name(phase)) + (why ? ": " + why->text : ""));
  if (phase != ClientPhase::kFailed) return;
  history_.shut_out(index_);
  for (const auto& lane : client_->state().lanes) history_.gave_up(index_, lane.to, lane.acked + lane.sends.size());
}

void SimDevice::record(const EntryMessage& entry, bool is_void, bool again) {
  Delivery d;
  d.device = index_;
  d.at = world_.now();
  d.mailbox = entry.mailbox;
  d.dot = {WriterId{entry.writer}, entry.n};
  d.id = entry.id;
  d.key = {entry.device, entry.lane, entry.seq};
  d.from = entry.from;
  d.to = entry.to;
  d.is_void = is_void;
  d.again = again;
  d.hash = body_hash(entry.body.data);
  d.size = entry.body.data.size();
  shown_ += !is_void && !again;
  world_.note(history_.text(index_),
              std::string(is_void ? "void" : again ? "again" : "shown") + " #" +
                  std::to_string(d.key.seq) + " of " + d.from + " to " + d.to + " id " + d.id + " dot " +
                  std::to_string(d.dot.writer.value) + ":" + std::to_string(d.dot.n) + " body " +
                  hash_text(d.hash));
  history_.delivered(std::move(d));
}

Workload::Workload(World& world, SimCluster& cluster, WorkloadOptions options)
    : world_(world),
      cluster_(cluster),
      options_(options),
      random_(world.fork()),
      how_random_(world.seed() ^ kHowSalt) {}

Workload::~Workload() { *alive_ = false; }

// Asks whichever node is up; repeats what may work later.
Status Workload::ask(const std::string& method, const Json& arguments, const char* list) {
  Error last{Errc::kUnavailable, "no node is up"};
  for (int attempt = 0; attempt < 20; ++attempt) {
    for (std::size_t i = 0; i < cluster_.size(); ++i) {
      if (!cluster_.up(i)) continue;
      const auto answer = cluster_.admin(i, method, arguments, 10s);
      if (!answer) {
        last = answer.error();
        continue;
      }
      bool all = true;
      if (list != nullptr) {
        for (const auto& item : answer->at(list)) {
          if (!item.contains("error") || item.at("error").is_null()) continue;
          last = Error{Errc::kUnavailable, method + ": " + item.dump()};
          all = false;
        }
      }
      if (all) return ok_status();
    }
    world_.run_for(500ms);
  }
  return last;
}

Status Workload::add_user(const std::string& user) {
  const Json account{{"name", user}, {"password", "secret of " + user}};
  TRY(ask("user.add", {{"users", Json::array({account})}}, "results"));
  users_.push_back(user);
  return ok_status();
}

Status Workload::add_group(const std::string& group, const std::set<std::string>& members) {
  TRY(ask("group.create", {{"group", group}, {"owner", *members.begin()}}, nullptr));
  std::set<std::string> others = members;
  others.erase(*members.begin());  // Adding the owner again would give it the role of a member.
  TRY(ask("group.add", {{"group", group}, {"members", others}}, "results"));
  history_.add_group(group, members);
  groups_.emplace_back(group, members);
  return ok_status();
}

SimDevice& Workload::add_device(const std::string& user, const std::string& name) {
  auto endpoints = [this] {
    std::vector<overlay::Endpoint> endpoints;
    for (std::size_t i = 0; i < cluster_.size(); ++i) endpoints.push_back(cluster_.client_address(i));
    return endpoints;
  };
  const std::string ip = "10.1." + std::to_string(devices_.size() / 250) + "." +
                         std::to_string(devices_.size() % 250 + 1);
  devices_.push_back(std::make_unique<SimDevice>(
      world_, cluster_.network(), history_,
      SimDevice::Identity{user, name, "secret of " + user, ip}, std::move(endpoints),
      options_.forgetful));
  return *devices_.back();
}

Status Workload::set_up(Duration limit) {
  for (std::size_t u = 0; u < options_.users; ++u) TRY(add_user("@u" + std::to_string(u)));
  for (std::size_t g = 0; g < options_.groups; ++g) {
    std::set<std::string> members;
    for (const auto& user : users_) {
      if (members.size() < 2 || random_.unit() < 0.7) members.insert(user);
    }
    TRY(add_group("#g" + std::to_string(g), members));
  }
  for (const auto& user : users_) {
    const std::size_t count = 1 + random_.below(options_.devices_max);
    for (std::size_t d = 0; d < count; ++d) add_device(user, "d" + std::to_string(d));
  }
  wake_all();
  if (!world_.run_until([this] { return settled(); }, limit)) {
    return Error{Errc::kTimeout, "the devices do not come to be ready"};
  }
  return ok_status();
}

void Workload::start() {
  running_ = true;
  for (std::size_t i = 0; i < devices_.size(); ++i) schedule(i);
}

void Workload::stop() { running_ = false; }

void Workload::wake_all() {
  for (auto& device : devices_) {
    if (device->stands_still() || lost(*device)) device->close();
    if (!device->running()) device->start(random_.below(cluster_.size()));
  }
}

// Not ready, and the nodes that it knows may all be gone.
bool Workload::lost(const SimDevice& device) const {
  return device.running() && !device.ready() && device.endpoints_known() < cluster_.size();
}

bool Workload::settled() const {
  return std::all_of(devices_.begin(), devices_.end(), [](const auto& device) {
    return device->ready() && device->open_sends() == 0;
  });
}

void Workload::schedule(std::size_t i) {
  const auto span = static_cast<std::uint64_t>((options_.pause_max - options_.pause_min).count());
  const Duration pause =
      options_.pause_min + Duration(static_cast<Duration::rep>(random_.below(span + 1)));
  world_.after(pause, [this, i, alive = alive_] {
    if (!*alive || !running_) return;
    act(i);
    schedule(i);
  });
}

void Workload::act(std::size_t i) {
  SimDevice& device = *devices_[i];
  if (!device.running()) {
    if (random_.unit() < 0.3) device.start(random_.below(cluster_.size()));
    return;
  }
  if (device.stands_still()) return;
  if (options_.slow && how_random_.unit() < kStands) {
    return device.stand_still(kStandMin + Duration(static_cast<Duration::rep>(how_random_.below(kStandSpan))));
  }
  if (lost(device)) return device.close();
  const double dice = random_.unit();
  if (dice < options_.restart) return device.close();
  if (dice < options_.restart + options_.reconnect) return device.reconnect();
  const std::string& user = device.identity().user;
  std::vector<std::string> targets;
  if (random_.unit() < options_.direct || groups_.empty()) {
    for (const auto& other : users_) {
      if (other != user) targets.push_back(other);
    }
  } else {
    for (const auto& [group, members] : groups_) {
      if (members.contains(user)) targets.push_back(group);
    }
  }
  if (targets.empty()) return;
  const auto& to = targets[random_.below(targets.size())];
  Bytes text = body(device, random_.below(options_.body_max + 1));
  if (options_.slow) text.resize(text.size() + 1 + how_random_.below(kLargeMax), '+');
  device.send(to, std::move(text), how());
  if (options_.recalls && how_random_.unit() < kRecalled) take_back(device);
}

// By another device than sent it as well as by that one; now and then by somebody whose it is not; acknowledged or not.
void Workload::take_back(SimDevice& device) {
  if (!device.ready()) return;
  const auto& sends = history_.sends();
  const bool stranger = how_random_.unit() < kByStranger;
  const std::size_t from = how_random_.unit() < 0.8 && sends.size() > kLatest ? sends.size() - kLatest : 0;
  std::vector<SendIndex> candidates;
  for (SendIndex i = from; i < sends.size(); ++i) {
    const bool own = history_.devices()[sends[i].device].user == device.identity().user;
    if (own != stranger && sends[i].number != 0) candidates.push_back(i);
  }
  if (!candidates.empty()) device.recall(candidates[how_random_.below(candidates.size())]);
}

std::vector<SendIndex> Workload::shown_late() {
  std::vector<SendIndex> out;
  if (!options_.recalls) return out;
  std::map<std::string, std::string> passwords;
  for (const auto& device : devices_) passwords[device->identity().user] = device->identity().password;
  const std::size_t before = history_.deliveries().size();
  for (const auto& [user, password] : passwords) {
    SimDevice& late = add_device(user, "late");
    late.set_password(password);
    late.start(random_.below(cluster_.size()));
  }
  world_.run_until([this] { return settled(); }, 60s);
  world_.run_for(1s);
  std::map<std::uint64_t, SendIndex> by_hash;
  for (const auto& recall : history_.recalls()) {
    if (recall.outcome != Outcome::kAcked) continue;
    by_hash.emplace(history_.sends()[recall.send].hash, recall.send);
  }
  for (std::size_t i = before; i < history_.deliveries().size(); ++i) {
    const auto& delivery = history_.deliveries()[i];
    const auto taken_back = by_hash.find(delivery.hash);
    const bool late = history_.devices()[delivery.device].name == "late";
    if (late && !delivery.is_void && taken_back != by_hash.end()) out.push_back(taken_back->second);
  }
  return out;
}

node::SendOptions Workload::how() {
  using node::protocol::Grade;
  node::SendOptions out;
  if (options_.grades) {
    const double dice = how_random_.unit();
    if (dice < 3 * kWeakGrade) out.grade = dice < kWeakGrade ? Grade::kMemory : dice < 2 * kWeakGrade ? Grade::kLocal : Grade::kAll;
  }
  if (options_.burn && how_random_.unit() < kBurned) {
    out.lifetime_s = 1 + static_cast<std::uint32_t>(how_random_.below(kLifetimeMaxS));
  }
  return out;
}

std::vector<std::string> Workload::addresses() const {
  std::vector<std::string> out = users_;
  for (const auto& [group, members] : groups_) out.push_back(group);
  return out;
}

Bytes Workload::body(const SimDevice& device, std::size_t size) {
  Bytes out = "m" + std::to_string(next_body_++) + " of " + history_.text(device.index());
  if (out.size() < size) out.resize(size, '.');
  return out;
}

}  // namespace starling::sim
