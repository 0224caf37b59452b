// starling bench: the command, its measuring and its report. The scenarios are in
// bench_scenarios.cc.
#include "node/cli/load/bench.h"

#include <algorithm>
#include <csignal>
#include <iostream>
#include <limits>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/load/latency.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kLifetimeMax = std::numeric_limits<std::uint32_t>::max();
constexpr double kEveryMin = 0.1;   // Seconds.
constexpr double kOwnCpuPercentMax = 90;  // Of one core: above, we measure ourselves.

std::string one_digit(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%.1f", value);
  return out;
}

}  // namespace

Bench::Bench(const Arguments& arguments, Swarm swarm)
    : arguments_(arguments),
      swarm_(std::move(swarm)),
      scenario_(arguments.text("scenario")),
      tag_(run_tag()),
      rate_(arguments.real("rate")),
      in_flight_(std::max<std::size_t>(1, arguments.number("in-flight"))),
      payload_(std::clamp<std::size_t>(arguments.number("payload"), kBenchPayloadMin,
                                       storage::kBodySizeMax)),
      lifetime_s_(static_cast<std::uint32_t>(std::min(arguments.number("lifetime"), kLifetimeMax))) {
  if (const double factor = arguments_.real("burst"); factor > 0) {
    const auto length = std::chrono::duration<double>(seconds("burst-for"));
    const auto middle = std::chrono::duration<double>((seconds("duration") - length.count()) / 2);
    burst_ = {factor, std::chrono::duration_cast<Duration>(middle), std::chrono::duration_cast<Duration>(middle + length)};
  }
  uv_loop_configure(loop_.uv(), UV_METRICS_IDLE_TIME);
}

int Bench::run() {
  loop_.on_signal(SIGINT, [this] {
    interrupted_ = true;
    loop_.stop();
  });
  Status outcome = Error{Errc::kInvalid, "'" + scenario_ +
                                             "' is no scenario: pairs, group, idle, offline, connect, crowd"};
  record_ = arguments_.given("record");
  if (record_) {
    const auto opened = recording_.open(swarm_.lineage(), "bench", arguments_.text("record"));
    if (!opened) return complain(opened.error());
  }
  const bool has_rate = rate_ > 0 && (scenario_ == "pairs" || scenario_ == "group");
  if (burst_.factor > 0 && (!has_rate || burst_.from < Duration(0))) {
    return complain(Error{Errc::kInvalid, "--burst goes with pairs or group, a --rate, and a --duration longer than --burst-for"});
  }
  if (scenario_ == "pairs") outcome = pairs();
  if (scenario_ == "group") outcome = group();
  if (scenario_ == "idle") outcome = idle();
  if (scenario_ == "offline") outcome = offline();
  if (scenario_ == "connect") outcome = connect();
  if (scenario_ == "crowd") outcome = crowd();
  progress_.finish();
  return report(outcome);
}

void Bench::begin_measuring() {
  measuring_ = true;
  measure_from_ = loop_.clock_now();
  pacer_.forget();
  const double every = seconds("every") > 0 || burst_.factor <= 0 ? seconds("every") : 1;
  if (every > 0 && !series_) {
    const std::chrono::duration<double> length(std::max(every, kEveryMin));
    series_.emplace(measure_from_, std::chrono::duration_cast<Duration>(length));
  }
  std::vector<UseMeter::Node> nodes;
  for (const auto& door : swarm_.doors()) nodes.push_back({door.name, door.pid});
  meter_.begin(std::move(nodes));
}

void Bench::end_measuring() {
  if (!measuring_) return;
  measuring_ = false;
  meter_.end();
}

void Bench::show() {
  const double whole = seconds("warm-up") + seconds("duration");
  const double at = std::chrono::duration<double>(loop_.clock_now() - start_).count();
  const std::string phase = sending_ ? (measuring_ ? "measuring" : "warming up") : "draining";
  const std::string done = connecting_ ? "logins " + thousands(logins_)
                                       : "acked " + thousands(tally_.acked()) + "  delivered " +
                                             thousands(tally_.delivered());
  progress_.show(at / std::max(whole, 0.001), phase + "  " + done, loop_.clock_now());
}

int Bench::report(const Status& outcome) {
  if (!outcome) return complain(outcome.error());
  check::Report proof;
  if (record_) {
    recording_.recorder().end(loop_.clock_now());
    if (const auto kept = recording_.close(); !kept) return complain(kept.error());
    proof = recording_.checker().report();
  }
  const double s = std::max(meter_.seconds(), 1e-9);
  std::uint64_t duplicates = 0, reconnects = 0, retries = 0;
  for (const auto& user : users_) {
    const auto& stats = user->client->stats();
    duplicates += stats.duplicates;
    reconnects += stats.drops;
    retries += stats.retries;
    for (const auto& [code, count] : stats.errors) errors_[std::string(name(code))] += count;
  }
  Json json{{"scenario", scenario_},
            {"users", arguments_.number("users")},
            {"rate", rate_},
            {"in_flight", in_flight_},
            {"payload", payload_},
            {"sends_per_s", static_cast<double>(acked_) / s},
            {"deliveries_per_s", static_cast<double>(delivered_) / s},
            {"logins_per_s", static_cast<double>(login_.count()) / s},
            {"ack_us", percentiles(ack_)},
            {"end_to_end_us", percentiles(end_to_end_)},
            {"login_us", percentiles(login_)},
            {"lag_us", percentiles(pacer_.lateness())},
            {"acked", tally_.acked()},
            {"delivered", tally_.delivered()},
            {"lost", tally_.missing()},
            {"altered", altered_},
            {"duplicates_dropped", duplicates},
            {"retries", retries},
            {"reconnects", reconnects},
            {"errors", errors_},
            {"interrupted", interrupted_}};
  json.update(meter_.report());
  json["client_bound"] = real_of(json, "own_cpu_percent") > kOwnCpuPercentMax;
  if (series_) {
    json["series"] = series_->to_json();
    if (burst_.factor > 0) extra_["recovered_s"] = series_->recovered_after(burst_);
  }
  json.update(extra_);
  if (record_) json["proof"] = proof.passed() ? "pass" : "fail";
  if (arguments_.flag("json")) {
    std::cout << json << std::endl;
  } else {
    print(json);
  }
  if (interrupted_) return complain(kExitFailed, "interrupted; the numbers are of a part of the run");
  if (tally_.missing() > 0 || altered_ > 0) {
    return complain(kExitFailed, thousands(tally_.missing()) + " acknowledged messages did not arrive, " +
                                     thousands(altered_) + " arrived altered");
  }
  if (!proof.passed()) {
    return complain(kExitFailed, "a promise was broken: starling check " + arguments_.text("record"));
  }
  return kExitOk;
}

void Bench::print(const Json& json) const {
  const auto rate = [&json](const char* field) {
    return thousands(static_cast<std::uint64_t>(json[field].get<double>() + 0.5));
  };
  std::cout << "scenario " << scenario_ << ": " << thousands(users_.size()) << " users, "
            << one_digit(meter_.seconds()) << " s measured\n";
  if (tally_.acked() > 0 || tally_.delivered() > 0) {
    std::cout << "sends/s " << rate("sends_per_s") << ", deliveries/s " << rate("deliveries_per_s")
              << ", payload " << payload_ << " bytes\n";
  }
  Table table({"latency, ms", ">count", ">p50", ">p99", ">p99.9", ">max"});
  for (const auto& [field, label] : {std::pair{"ack_us", "acknowledged"},
                                     std::pair{"end_to_end_us", "delivered"},
                                     std::pair{"login_us", "logged in"}}) {
    const auto& us = json[field];
    if (us["count"] == 0) continue;
    table.row({label, thousands(us["count"].get<std::uint64_t>()), ms(number_of(us, "p50")), ms(number_of(us, "p99")),
               ms(number_of(us, "p999")), ms(number_of(us, "max"))});
  }
  if (!table.empty()) table.print(std::cout, stdout_has_colour());
  if (series_) series_->print(std::cout, stdout_has_colour());
  if (login_.count() > 0) std::cout << "logins/s " << rate("logins_per_s") << "\n";
  for (const auto& [field, value] : extra_.items()) {
    if (!value.is_structured()) std::cout << field << " " << value << "\n";
  }
  std::cout << "lost " << json["lost"] << ", altered " << json["altered"] << ", copies dropped "
            << json["duplicates_dropped"] << ", retries " << json["retries"] << ", reconnects "
            << json["reconnects"] << "\n";
  for (const auto& [code, count] : errors_) {
    std::cout << "refused with " << code << ": " << thousands(count) << "\n";
  }
  if (tally_.acked() > 0 && number_of(json, "disk_bytes") > 0) {
    const double each = real_of(json, "disk_bytes") / real_of(json, "seconds") / real_of(json, "sends_per_s");
    std::cout << "to disks: " << thousands(static_cast<std::uint64_t>(each)) << " bytes a message, "
              << one_digit(each / static_cast<double>(payload_)) << " times its payload\n";
  }
  for (const auto& node : json["nodes"]) {
    std::cout << "node " << text_of(node, "node") << ": cpu "
              << one_digit(real_of(node, "cpu_percent")) << " %, rss "
              << thousands(number_of(node, "rss") >> 20) << " MiB\n";
  }
  std::cout << "this client: cpu " << one_digit(real_of(json, "own_cpu_percent")) << " %"
            << (flag_of(json, "client_bound") ? " - it was the bottleneck: run several" : "")
            << std::endl;
}

namespace {

int bench(const Arguments& arguments) {
  auto swarm = Swarm::open(arguments);
  if (!swarm) return complain(kExitUnreachable, swarm.error().text);
  return Bench(arguments, std::move(*swarm)).run();
}

}  // namespace

Command bench_command() {
  return {
      "bench",
      "measure a cluster from outside",
      "bench pairs|group|idle|offline|connect|crowd [options]",
      "  pairs    users in pairs write to each other\n"
      "  group    one group of --users members, --posters of them post\n"
      "  idle     connections that do nothing: memory of the nodes for each\n"
      "  offline  messages for users who are away, then all of them come back\n"
      "  connect  logins by token, again and again\n"
      "  crowd    a population of --users, of whom --online are there at a time: they come and go, and write to\n"
      "           each other and to those who are away, who then come for their messages\n\n"
      "With --rate, latency counts from when a message was due. Without, each sender keeps --in-flight\n"
      "messages under way. What was acknowledged and did not arrive makes the run fail.\n\n"
      "  starling bench pairs --users 1000 --rate 5000 --cluster ./cluster\n"
      "  starling bench group --users 500 --posters 10 --duration 30 --json\n"
      "  starling bench pairs --rate 2000 --duration 7200 --every 60\n"
      "  starling bench pairs --rate 2000 --duration 30 --burst 10 --every 1\n"
      "  starling bench crowd --users 1000000 --online 1000 --rate 1000 --duration 60\n",
      [](po::options_description& options) {
        const auto number = [](std::uint64_t value) {
          return po::value<std::uint64_t>()->value_name("NUMBER")->default_value(value);
        };
        const auto real = [](double value) {
          return po::value<double>()->value_name("SECONDS")->default_value(value);
        };
        options.add_options()("scenario", po::value<std::string>(), "what to measure")(
            "users", number(200), "how many")("posters", number(10), "members who post (group)")(
            "writers", number(10), "who writes to those who are away (offline)")(
            "rate", po::value<double>()->value_name("PER_SECOND")->default_value(0),
            "sends (connect: logins) a second in total; 0: as many as go")(
            "in-flight", number(8), "per sender (connect: logins at once) when there is no rate")(
            "online", number(500), "who is there at a time (crowd)")(
            "session", real(20), "that one stays, on average (crowd)")(
            "messages", number(50), "for each user who is away (offline)")(
            "payload", number(100), "bytes of a message, at least 16")(
            "lifetime", po::value<std::uint64_t>()->value_name("SECONDS")->default_value(0),
            "that messages are kept, to see retention at work; 0: as long as the cluster keeps any")(
            "warm-up", real(2), "before measuring")("duration", real(10), "of measuring")(
            "every", real(0), "a row of latencies, memory and bytes to disk for each so many seconds; 0: none")(
            "burst", po::value<double>()->value_name("FACTOR")->default_value(0),
            "in the middle of the run, so many times the rate (pairs, group; rows of 1 s unless --every says)")(
            "burst-for", real(5), "how long")(
            "patience", real(30), "to wait for what is under way at the end")(
            "client-burn", number(0),
            "microseconds to waste for each answer: to see that a client which is too slow is found out");
        add_swarm_options(options);
      },
      bench,
      {"scenario"}};
}

}  // namespace starling::node::cli
