// What each scenario does, and the command.
#include <algorithm>
#include <iostream>

#include <boost/program_options.hpp>

#include "tests/bench/mqtt_bench.h"

namespace starling::bench {

using node::cli::Pacer;

bool MqttBench::pairs() {
  auto users = make(std::max<std::size_t>(2, options_.users / 2 * 2));
  std::vector<std::string> topics;
  for (std::size_t i = 0; i < users.size(); ++i) topics.push_back(users[i ^ 1]->topic);
  return come(users, true) && drive(users, std::move(topics));
}

bool MqttBench::group() {
  auto members = make(std::max<std::size_t>(1, options_.users));
  const std::string topic = "bench/" + tag_ + "/group";
  for (auto* member : members) member->topic = topic;
  fan_out_ = members.size();
  if (!come(members, true)) return false;
  members.resize(std::clamp<std::size_t>(options_.posters, 1, members.size()));
  return drive(members, std::vector<std::string>(members.size(), topic));
}

bool MqttBench::idle() {
  const auto users = make(std::max<std::size_t>(1, options_.users));
  begin_measuring();
  if (!come(users, true)) return false;
  if (!rest(options_.duration_s)) return false;
  end_measuring();
  double grown = 0;
  for (const auto& node : meter_->nodes()) {
    grown += static_cast<double>(node.after.rss) - static_cast<double>(node.before.rss);
  }
  extra_["connections"] = users.size();
  extra_["node_bytes_per_connection"] = grown / static_cast<double>(users.size());
  return true;
}

// Writers keep --in-flight each under way, over all the users who are away; then all of these come
// back.
bool MqttBench::offline() {
  const auto away = make(std::max<std::size_t>(1, options_.users));
  const auto writers = make(std::max<std::size_t>(1, options_.writers));
  by_ack_ = true;
  if (!come(away, true) || !go(away) || !come(writers, false)) return false;
  const std::uint64_t all = away.size() * options_.messages;
  begin_measuring();
  pacer_->start(kMqttLagProbes, [](std::uint64_t, Instant) {});
  const bool stored = wait(
      [&] {
        for (auto* writer : writers) {
          while (posted_all_ < all && writer->open < options_.in_flight) {
            post(*writer, away[posted_all_ % away.size()]->topic, Pacer::clock());
          }
        }
        return acked_all_ == all;
      },
      "storing");
  end_measuring();
  const double store_s = meter_->seconds();
  extra_["storing"] = meter_->report();
  extra_["stored"] = acked_all_;
  extra_["stored_per_s"] = static_cast<double>(acked_all_) / std::max(store_s, 1e-9);
  if (!stored) return false;
  begin_measuring();
  const Instant from = Pacer::clock();
  if (!come(away, false)) return false;
  wait([&] { return delivered_all_ >= acked_all_; }, "draining");
  end_measuring();
  pacer_->stop();
  const double drain_s = std::chrono::duration<double>(Pacer::clock() - from).count();
  extra_["drain_s"] = drain_s;
  extra_["drained_per_s"] = static_cast<double>(delivered_all_) / drain_s;
  failed_.clear();  // What did not come is counted as lost.
  return true;
}

// --in-flight users log in at a time, leave and hand on to the next one that is out.
bool MqttBench::connect() {
  for (auto* user : make(std::max(options_.users, options_.in_flight))) out_.push_back(user);
  connecting_ = sending_ = true;
  const Instant start = Pacer::clock();
  pacer_->start(kMqttLagProbes, [](std::uint64_t, Instant) {});
  for (std::size_t i = 0; i < options_.in_flight; ++i) connect_next();
  const bool driven = wait(
      [&] {
        const double at = std::chrono::duration<double>(Pacer::clock() - start).count();
        if (!measuring_ && at >= options_.warm_up_s) begin_measuring();
        return at >= options_.warm_up_s + options_.duration_s;
      },
      "connecting");
  sending_ = false;
  pacer_->stop();
  end_measuring();
  extra_["logins"] = logins_;
  extra_["users_who_came"] = std::count_if(devices_.begin(), devices_.end(), [](const auto& user) { return user->came; });
  return driven && wait([this] { return out_.size() == devices_.size(); }, "leaving") &&
         !(connecting_ = false);
}

namespace {

namespace po = boost::program_options;

po::options_description described(MqttBenchOptions& options) {
  po::options_description out(
      "mqtt_load pairs|group|idle|offline|connect --server HOST:PORT [options]");
  out.add_options()("help", "this")("scenario", po::value(&options.scenario), "what to measure")(
      "server", po::value(&options.servers)->required(), "HOST:PORT; may be repeated")(
      "pid", po::value(&options.pids), "a server process, to see what it uses; may be repeated")(
      "user", po::value(&options.user), "name to log in with; {} stands for the user's number")(
      "password", po::value(&options.password), "password to log in with")(
      "users", po::value(&options.users)->default_value(options.users), "how many")(
      "posters", po::value(&options.posters)->default_value(options.posters),
      "members who post (group)")(
      "writers", po::value(&options.writers)->default_value(options.writers),
      "who writes (offline)")("rate", po::value(&options.rate)->default_value(options.rate),
                              "sends a second in total; 0: all that go")(
      "in-flight", po::value(&options.in_flight)->default_value(options.in_flight),
      "per sender without a rate")("messages",
                                   po::value(&options.messages)->default_value(options.messages),
                                   "per user who is away (offline)")(
      "payload", po::value(&options.payload)->default_value(options.payload),
      "bytes of a message, at least 16")(
      "settle", po::value(&options.settle_s)->default_value(options.settle_s),
      "seconds between the last subscription and the first message")(
      "warm-up", po::value(&options.warm_up_s)->default_value(options.warm_up_s),
      "seconds before measuring")("duration",
                                  po::value(&options.duration_s)->default_value(options.duration_s),
                                  "seconds of measuring")(
      "patience", po::value(&options.patience_s)->default_value(options.patience_s),
      "seconds without any progress before giving up")(
      "client-burn", po::value(&options.burn_us)->default_value(options.burn_us),
      "microseconds to waste for each answer: to see that a client which is too slow is found out");
  return out;
}

int load(int argc, char** argv) {
  MqttBenchOptions options;
  const auto description = described(options);
  po::positional_options_description positional;
  positional.add("scenario", 1);
  po::variables_map given;
  po::store(po::command_line_parser(argc, argv).options(description).positional(positional).run(),
            given);
  if (given.contains("help")) {
    std::cout << description;
    return 0;
  }
  po::notify(given);
  options.payload = std::max(options.payload, node::cli::kBenchPayloadMin);
  const auto result = MqttBench(options).run();
  std::cout << result << std::endl;
  return result.contains("failed") || result["lost"] != 0 || result["altered"] != 0 ? 1 : 0;
}

}  // namespace
}  // namespace starling::bench

int main(int argc, char** argv) {
  try {
    return starling::bench::load(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "mqtt_load: " << error.what() << "\n";
    return 2;
  }
}
