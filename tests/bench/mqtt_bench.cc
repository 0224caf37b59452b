// How users come, write, hear and go. The scenarios are in mqtt_scenarios.cc, the result in
// mqtt_report.cc.
#include "tests/bench/mqtt_bench.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>

namespace starling::bench {
namespace {

using nlohmann::json;
using node::cli::Pacer;

constexpr std::size_t kComingAtOnceMax = 64;
constexpr std::uint64_t kWakeMs = 10;

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::uint64_t us_between(Instant then, Instant now) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - then).count()) / 1000);
}

sockaddr_in address(const std::string& server) {
  const auto colon = server.rfind(':');
  sockaddr_in out{};
  const int status =
      uv_ip4_addr(server.substr(0, colon).c_str(),
                  colon == std::string::npos ? 1883 : std::stoi(server.substr(colon + 1)), &out);
  if (status < 0) throw std::invalid_argument("no address and port: " + server);
  return out;
}

}  // namespace

void MqttBench::Device::on_subscribed(MqttClient&) {
  subscribed = true;
  ++bench.ready_;
  ++bench.progress_;
}

MqttBench::MqttBench(MqttBenchOptions options)
    : options_(std::move(options)),
      tag_(std::to_string(::getpid()) + "-" + std::to_string(::time(nullptr))) {
  uv_loop_init(&loop_);
  uv_loop_configure(&loop_, UV_METRICS_IDLE_TIME);
  uv_timer_init(&loop_, &wake_);
  uv_timer_start(
      &wake_, [](uv_timer_t*) {}, kWakeMs, kWakeMs);
  network_ = std::make_unique<MqttNetwork>(&loop_);
  pacer_ = std::make_unique<Pacer>(&loop_);
  meter_ = std::make_unique<node::cli::UseMeter>(&loop_);
}

MqttBench::~MqttBench() {
  leaving_ = true;
  for (auto& device : devices_) device->client->close();
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
  pacer_.reset();
  const auto open = [](const auto& device) { return !device->client->closed(); };
  while (std::any_of(devices_.begin(), devices_.end(), open)) uv_run(&loop_, UV_RUN_ONCE);
  uv_run(&loop_, UV_RUN_NOWAIT);  // Empties the network's list.
  devices_.clear();
  network_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  [[maybe_unused]] const int status = uv_loop_close(&loop_);
  assert(status == 0);
}

json MqttBench::run() {
  const std::map<std::string, bool (MqttBench::*)()> scenarios{{"pairs", &MqttBench::pairs},
                                                               {"group", &MqttBench::group},
                                                               {"idle", &MqttBench::idle},
                                                               {"offline", &MqttBench::offline},
                                                               {"connect", &MqttBench::connect}};
  const auto scenario = scenarios.find(options_.scenario);
  if (scenario == scenarios.end()) {
    failed_ = "'" + options_.scenario + "' is no scenario: pairs, group, idle, offline, connect";
    return report();
  }
  if ((this->*scenario->second)()) {
    json result = report();
    forget_sessions();
    return result;
  }
  end_measuring();
  return report();
}

// Coming and going.

MqttBench::Devices MqttBench::make(std::size_t count) {
  Devices made;
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = static_cast<std::uint32_t>(devices_.size());
    auto device = std::make_unique<Device>(*this, number);
    device->topic = "bench/" + tag_ + "/" + std::to_string(number);
    MqttClient::Options client;
    client.server = address(options_.servers[number % options_.servers.size()]);
    client.id = "bench-" + tag_ + "-" + std::to_string(number);
    client.user = options_.user;
    client.password = options_.password;
    if (const auto at = client.user.find("{}"); at != std::string::npos) {
      client.user.replace(at, 2, std::to_string(number));
    }
    device->client = std::make_unique<MqttClient>(*network_, *device, std::move(client));
    made.push_back(device.get());
    devices_.push_back(std::move(device));
  }
  return made;
}

bool MqttBench::come(const Devices& devices, bool subscribe) {
  subscribe_ = subscribe;
  ready_ = 0;
  std::size_t started = 0;
  const bool here = wait(
      [&] {
        while (started < devices.size() && started - ready_ < kComingAtOnceMax) {
          devices[started++]->client->connect(false);
        }
        return ready_ == devices.size();
      },
      "connecting");
  // A server may confirm a subscription before all of its nodes know of it.
  return here && (!subscribe || rest(options_.settle_s));
}

bool MqttBench::rest(double seconds) {
  const Instant until =
      Pacer::clock() + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  return wait([&] { return Pacer::clock() >= until; }, "resting");
}

bool MqttBench::go(const Devices& devices) {
  leaving_ = true;
  gone_ = 0;
  std::size_t open = 0;
  for (auto* device : devices) {
    if (device->client->closed()) continue;
    ++open;
    device->client->close();
  }
  const bool all = wait([&] { return gone_ == open; }, "leaving");
  leaving_ = false;
  return all;
}

void MqttBench::forget_sessions() {
  Devices all;
  for (auto& device : devices_) all.push_back(device.get());
  clean_ = true;
  subscribe_ = false;
  if (!go(all)) return;
  leaving_ = true;
  gone_ = 0;
  std::size_t started = 0;
  wait(
      [&] {
        while (started < all.size() && started - gone_ < kComingAtOnceMax)
          all[started++]->client->connect(true);
        return gone_ == all.size();
      },
      "giving the sessions up");
}

void MqttBench::connected(Device& device) {
  ++progress_;
  if (clean_) return device.client->close();
  if (connecting_) {
    device.came = true;
    ++logins_;
    if (measuring_) login_.record(us_between(device.connect_at, Pacer::clock()));
    burn();
    return device.client->close();
  }
  if (!subscribe_) {
    ++ready_;
    return;
  }
  device.client->subscribe(device.topic);
}

void MqttBench::closed(Device& device, const std::string& why) {
  ++gone_;
  ++progress_;
  if (connecting_ && why.empty()) {
    out_.push_back(&device);
    return connect_next();
  }
  if (!leaving_) {
    ++errors_["connection: " + (why.empty() ? "closed" : why)];
    failed_ = "a connection ended: " + why;
  }
}

void MqttBench::connect_next() {
  if (!sending_ || out_.empty()) return;
  Device* next = out_.front();
  out_.pop_front();
  next->connect_at = Pacer::clock();
  next->client->connect(false);
}

// Writing and hearing.

void MqttBench::post(Device& device, View topic, Instant due) {
  const auto number = static_cast<std::uint32_t>(device.posts.size());
  device.posts.push_back({due, by_ack_ ? 0 : fan_out_, false, measuring_});
  const auto packet = device.client->publish(
      topic, node::cli::stamped_body({due, device.number, number}, options_.payload));
  device.unacked.emplace_back(packet, number);
  ++device.open;
  ++posted_all_;
}

void MqttBench::refill(std::size_t sender) {
  Device& device = *senders_[sender];
  while (sending_ && device.open < options_.in_flight)
    post(device, topics_[sender], Pacer::clock());
}

void MqttBench::acked(Device& device, std::uint16_t packet) {
  const auto is_it = [packet](const auto& entry) { return entry.first == packet; };
  const auto found = std::find_if(device.unacked.begin(), device.unacked.end(), is_it);
  if (found == device.unacked.end()) {
    ++errors_["an acknowledgement of nothing"];
    return;
  }
  Post& post = device.posts[found->second];
  device.unacked.erase(found);
  post.acked = true;
  ++acked_all_;
  ++progress_;
  if (measuring_) ++acked_;
  if (post.counted) ack_.record(us_between(post.due, Pacer::clock()));
  burn();
  settle(device, post);
}

void MqttBench::message(Device& device, View body) {
  const auto stamp = node::cli::read_stamp(body);
  const bool known = stamp && stamp->sender < devices_.size() &&
                     stamp->number < devices_[stamp->sender]->posts.size() &&
                     devices_[stamp->sender]->posts[stamp->number].due == stamp->due;
  if (!known) {
    ++altered_;
    return;
  }
  if (device.seen.size() <= stamp->sender) device.seen.resize(stamp->sender + 1);
  auto& seen = device.seen[stamp->sender];
  if (seen.size() <= stamp->number) seen.resize(stamp->number + 1);
  if (seen[stamp->number]) {
    ++doubles_;
    return;
  }
  seen[stamp->number] = true;
  ++delivered_all_;
  ++progress_;
  if (measuring_) ++delivered_;
  Device& sender = *devices_[stamp->sender];
  Post& post = sender.posts[stamp->number];
  if (post.counted) end_to_end_.record(us_between(post.due, Pacer::clock()));
  burn();
  if (by_ack_) return;
  if (post.left == 0) {
    ++errors_["delivered to somebody else"];
    return;
  }
  --post.left;
  settle(sender, post);
}

void MqttBench::settle(Device& sender, Post& post) {
  if (!post.acked || post.left > 0) return;
  --sender.open;
  ++settled_all_;
  // In pairs and groups a sender's place is its number.
  if (sending_ && options_.rate <= 0 && !senders_.empty() && !by_ack_) refill(sender.number);
}

bool MqttBench::drive(Devices senders, std::vector<std::string> topics) {
  senders_ = std::move(senders);
  topics_ = std::move(topics);
  sending_ = true;
  const Instant start = Pacer::clock();
  if (options_.rate > 0) {
    pacer_->start(options_.rate, [this](std::uint64_t number, Instant due) {
      const std::size_t sender = number % senders_.size();
      post(*senders_[sender], topics_[sender], due);
    });
  } else {
    for (std::size_t i = 0; i < senders_.size(); ++i) refill(i);
    pacer_->start(kMqttLagProbes, [](std::uint64_t, Instant) {});
  }
  const bool driven = wait(
      [&] {
        ++progress_;  // How long it takes is said by the clock.
        const double at = seconds_of(Pacer::clock() - start);
        if (!measuring_ && at >= options_.warm_up_s) begin_measuring();
        return at >= options_.warm_up_s + options_.duration_s;
      },
      "sending");
  sending_ = false;
  pacer_->stop();
  end_measuring();
  return driven && wait_for_deliveries();
}

bool MqttBench::wait_for_deliveries() {
  wait([this] { return settled_all_ == posted_all_; }, "waiting for what is under way");
  // What is missing is counted by report().
  if (settled_all_ < posted_all_) failed_.clear();
  return failed_.empty();
}

bool MqttBench::wait(const std::function<bool()>& done, const char* what) {
  std::uint64_t seen = progress_;
  Instant until = Pacer::clock() + std::chrono::duration_cast<Duration>(
                                       std::chrono::duration<double>(options_.patience_s));
  const Duration patience = until - Pacer::clock();
  while (failed_.empty()) {
    if (done()) return true;
    uv_run(&loop_, UV_RUN_ONCE);
    const Instant now = Pacer::clock();
    if (progress_ != seen) until = now + patience;
    seen = progress_;
    if (now >= until) failed_ = std::string(what) + ": nothing happened any more";
  }
  return false;
}

void MqttBench::burn() const {
  if (options_.burn_us == 0) return;
  const Instant until = Pacer::clock() + std::chrono::microseconds(options_.burn_us);
  while (Pacer::clock() < until) {
  }
}

}  // namespace starling::bench
