// starling replay: plays a conversation of many people through the cluster, and proves what
// arrived.
#include <cassert>
#include <csignal>
#include <map>
#include <set>
#include <unordered_map>

#include "node/cli/commands.h"
#include "node/cli/load/recording.h"
#include "node/cli/load/replay_report.h"
#include "node/cli/load/script.h"
#include "node/cli/load/swarm.h"
#include "node/cli/terminal/progress.h"
#include "node/cli/terminal/table.h"
#include "overlay/loop/uv_loop.h"
#include "overlay/loop/uv_transport.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kDemoSeconds = 20;  // Default pace: all of it in about this long.
constexpr std::size_t kReplayOpenMax = 2'000;   // Unacknowledged messages of all users at speed 0.
constexpr Duration kReplayTick = 5ms;
constexpr Duration kOrderPatience = 10s;  // For two copies of a message to meet.
constexpr std::size_t kLinesDefault = 3'000;

class Replay {
 public:
  Replay(const Arguments& arguments, Script script, Swarm swarm)
      : arguments_(arguments), script_(std::move(script)), swarm_(std::move(swarm)), last_(script_.lines.size()) {}

  int run() {
    const auto opened = recording_.open(swarm_.lineage(), "replay", arguments_.text("record"));
    if (!opened) return fail(opened.error());
    if (auto set_up = prepare(); !set_up) return fail(set_up.error());
    loop_.on_signal(SIGINT, [this] { on_interrupt(); });
    if (auto all_in = log_in(devices_); !all_in) return fail(all_in.error());
    play();
    if (!interrupted_) {
      if (auto fresh = verify_fresh(); !fresh) return fail(fresh.error());
      await_one_order();
    }
    progress_.finish();
    return report();
  }

 private:
  struct Device : ClientHandler {
    Replay* replay = nullptr;
    check::Recorder::Device number = 0;
    std::string user;
    std::unique_ptr<Client> client;
    std::optional<Error> refused;
    Instant lost_at = kNever;  // Until it is ready again.
    void on_entry(const protocol::EntryMessage& entry, bool) override {
      replay->on_entry(*this, entry);
    }
    void on_moved(const protocol::EntryMessage& entry) override {
      replay->recording_.recorder().moved(number, entry, replay->loop_.clock_now());
    }
    void on_void(const protocol::EntryMessage& entry) override {
      replay->recording_.recorder().taken_back(number, entry, replay->loop_.clock_now());
    }
    void on_phase(ClientPhase phase, const Error* why) override {
      if (phase == ClientPhase::kFailed) refused = *why;
      replay->on_phase(*this, phase);
    }
  };
  using Devices = std::vector<std::unique_ptr<Device>>;

  int fail(const Error& error) {
    progress_.finish();
    return complain(error);
  }
  [[nodiscard]] Duration patience() const {
    return std::chrono::seconds(arguments_.number("patience"));
  }

  // The first time says no further line, and proves what was said; the second gives up.
  void on_interrupt() {
    if (!playing_ || std::exchange(ended_early_, true)) {
      interrupted_ = true;
      return loop_.stop();
    }
    last_ = next_ + (half_said_ ? 1 : 0);
  }

  // Users, rooms and devices.
  Status prepare() {
    tag_ = run_tag();
    TRY(swarm_.add_users(script_.speakers, [this](std::size_t done, std::size_t all) {
      show(0, "creating users: " + thousands(done) + " of " + thousands(all));
    }));
    std::vector<std::set<std::uint32_t>> members(script_.rooms.size());
    for (const auto& line : script_.lines) members[line.room].insert(line.from);
    for (std::size_t room = 0; room < members.size(); ++room) {
      if (members[room].empty()) continue;  // Of many rooms and few lines.
      std::vector<std::string> names;
      for (const auto speaker : members[room]) names.push_back(script_.speakers[speaker]);
      TRY(swarm_.add_group(script_.rooms[room], names));
      recording_.recorder().group(script_.rooms[room], names);
      show(0, "creating groups: " + thousands(room + 1) + " of " + thousands(members.size()));
    }
    const std::size_t each = std::max<std::size_t>(1, arguments_.number("devices"));
    // The sending devices come first: device i sends for speaker i.
    for (std::size_t d = 0; d < each; ++d) {
      for (std::uint32_t speaker = 0; speaker < script_.speakers.size(); ++speaker) {
        TRY(add_device(devices_, speaker, "replay-" + tag_ + "-" + std::to_string(d + 1)));
        show(0, "minting tokens: " + thousands(devices_.size()) + " of " +
                    thousands(each * script_.speakers.size()));
      }
    }
    return ok_status();
  }

  Status add_device(Devices& list, std::uint32_t speaker, const std::string& name) {
    TRY_ASSIGN(auto state, swarm_.new_device(script_.speakers[speaker], name));
    auto device = std::make_unique<Device>();
    device->replay = this;
    device->user = state.user;
    device->number = recording_.recorder().device(state.user, name);
    device->client = std::make_unique<Client>(loop_, transport_, random_,
                                              swarm_.client_options(clients_made_++),
                                              std::move(state), *device);
    list.push_back(std::move(device));
    return ok_status();
  }

  Status log_in(Devices& list) {
    std::vector<Client*> clients;
    for (auto& device : list) clients.push_back(device->client.get());
    Launcher launcher(loop_, std::move(clients));
    launcher.start(
        [this](std::size_t ready, std::size_t all) {
          show(0, "logging in: " + thousands(ready) + " of " + thousands(all) + " devices");
        },
        [this] { loop_.stop(); });
    loop_.run();
    if (interrupted_) return Error{Errc::kUnavailable, "interrupted"};
    for (const auto& device : list) {
      if (device->refused) {
        return Error{device->refused->code, device->user + ": " + device->refused->text};
      }
    }
    return ok_status();
  }

  // Sending.
  void play() {
    const double seconds = std::max(script_.seconds(), 0.001);
    speed_ = arguments_.has("speed") ? arguments_.real("speed")
                                       : seconds / std::max(1.0, static_cast<double>(arguments_.number("seconds")));
    start_ = progressed_ = loop_.clock_now();
    playing_ = true;
    tick();
    loop_.run();
    timer_.cancel();
    playing_ = false;
    totals_.played_for = loop_.clock_now() - start_;
  }

  void tick() {
    const double at = std::chrono::duration<double>(loop_.clock_now() - start_).count() * speed_;
    while (next_ < last_) {
      const Line& line = script_.lines[next_];
      if (speed_ > 0 ? line.t > at : open_ >= kReplayOpenMax) break;
      if (!say(line)) break;
      ++next_;
      half_said_ = false;
    }
    show_progress();
    const bool complete = next_ == last_ && open_ == 0 &&
                          recording_.checker().delivered() == recording_.checker().expected();
    if (complete || loop_.clock_now() - progressed_ > patience()) return loop_.stop();
    timer_ = loop_.after(kReplayTick, [this] { tick(); });
  }

  // False while a queue is full: the same line again with the next tick.
  bool say(const Line& line) {
    if (!half_said_ && !send(line, script_.rooms[line.room])) return false;
    half_said_ = true;
    if (line.direct == Line::kNobody) return true;
    return send(line, script_.speakers[line.direct]);
  }

  bool send(const Line& line, const std::string& to) {
    Device& device = *devices_[line.from];
    const std::size_t message = sent_.size();
    const auto accepted = device.client->send(to, line.text, {}, [this, message](Result<Sent> result) {
      on_sent(message, result);
    });
    if (!accepted) return false;
    const Instant now = loop_.clock_now();
    sent_.push_back({now, device.number, to, recording_.recorder().sent(device.number, to, line.text, now)});
    by_key_.emplace(MessageKey{device.client->device(), lane_to(mailbox_of(to)), sent_.back().number},
                    message);
    ++open_;
    progressed_ = now;
    return true;
  }

  void on_sent(std::size_t message, const Result<Sent>& result) {
    --open_;
    const Instant now = progressed_ = loop_.clock_now();
    const auto& sent = sent_[message];
    recording_.recorder().answered(sent.device, sent.to, sent.number, result, protocol::Grade::kQuorum,
                                   now);
    if (!result) {
      ++totals_.refusals[std::string(name(result.code()))];
      return;
    }
    ++acked_;
    if (result->attempts > 1) ++totals_.retried;
    totals_.ack_latency.record(static_cast<std::uint64_t>((now - sent.at).count() / 1000));
  }

  void on_phase(Device& device, ClientPhase phase) {
    const Instant now = loop_.clock_now();
    if (phase == ClientPhase::kReady && device.lost_at != kNever) {
      const auto outage = now - std::exchange(device.lost_at, kNever);
      totals_.outages.record(static_cast<std::uint64_t>(outage.count() / 1000));
    } else if (phase == ClientPhase::kIdle && device.lost_at == kNever) {
      device.lost_at = now;
    }
  }

  void on_entry(Device& device, const protocol::EntryMessage& entry) {
    const Instant now = loop_.clock_now();
    recording_.recorder().shown(device.number, entry, now);
    const auto message = by_key_.find({entry.device, entry.lane, entry.seq});
    if (message == by_key_.end()) return;  // Of an earlier run.
    progressed_ = now;
    if (verifying_) return;
    const auto latency = now - sent_[message->second].at;
    totals_.delivery_latency.record(static_cast<std::uint64_t>(latency.count() / 1000));
  }

  // New devices without any cursor must find the same in storage.
  Status verify_fresh() {
    const std::size_t wanted =
        std::min<std::size_t>(arguments_.number("verify-fresh"), script_.speakers.size());
    if (wanted == 0) return ok_status();
    SeededRandom draw(arguments_.number("seed"));
    std::set<std::uint32_t> chosen;
    while (chosen.size() < wanted) {
      chosen.insert(static_cast<std::uint32_t>(draw.below(script_.speakers.size())));
    }
    verifying_ = true;
    for (const auto speaker : chosen) TRY(add_device(fresh_, speaker, "fresh-" + tag_));
    TRY(log_in(fresh_));
    progressed_ = loop_.clock_now();
    tick();
    loop_.run();
    timer_.cancel();
    return ok_status();
  }

  // All have everything, but where a message stands may still be on its way to some: a node that was cut off made it
  // earlier than others did, and brings that home (docs/client-protocol.md, "moved").
  void await_one_order() {
    const auto differ = [this] {
      return recording_.checker().report().faults[static_cast<std::size_t>(check::Fault::kTotalOrder)] > 0;
    };
    const Instant until = loop_.clock_now() + kOrderPatience;
    for (Duration rest = 100ms; !interrupted_ && loop_.clock_now() < until && differ(); rest *= 2) {
      timer_ = loop_.after(rest, [this] { loop_.stop(); });
      loop_.run();
    }
    timer_.cancel();
  }

  // Telling.
  void show(double share, const std::string& text) { progress_.show(share, text, loop_.clock_now()); }

  void show_progress() {
    const double work = static_cast<double>(next_) / static_cast<double>(std::max<std::size_t>(1, last_));
    const double due = static_cast<double>(std::max<std::uint64_t>(1, recording_.checker().expected()));
    const double arrived = static_cast<double>(recording_.checker().delivered()) / due;
    const double seconds =
        std::max(0.001, std::chrono::duration<double>(loop_.clock_now() - start_).count());
    show(work * (0.5 + 0.5 * arrived),
         (verifying_ ? "fresh devices  " : "") + ("sent " + thousands(sent_.size())) + "  acked " +
             thousands(acked_) + "  delivered " + thousands(recording_.checker().delivered()) + "  " +
             thousands(static_cast<std::uint64_t>(static_cast<double>(acked_) / seconds)) +
             " msg/s");
  }

  int report() {
    recording_.recorder().end(loop_.clock_now());
    const auto kept = recording_.close();
    totals_.proof = recording_.checker().report();
    totals_.interrupted = interrupted_;
    totals_.rooms = script_.rooms.size();
    totals_.users = script_.speakers.size();
    totals_.devices = devices_.size();
    totals_.fresh_devices = fresh_.size();
    for (const auto* list : {&devices_, &fresh_}) {
      for (const auto& device : *list) {
        totals_.copies += device->client->stats().duplicates;
        totals_.reconnects += device->client->stats().drops;
        totals_.retry_frames += device->client->stats().retries;
      }
    }
    const int told = tell(totals_, arguments_.flag("json"));
    return kept ? told : complain(kept.error());
  }

  const Arguments& arguments_;
  const Script script_;
  Swarm swarm_;
  overlay::UvLoop loop_;
  overlay::UvTransport transport_{loop_};
  SystemRandom random_;
  Progress progress_;
  std::string tag_;
  double speed_ = 0;

  Recording recording_;
  Devices devices_;
  Devices fresh_;
  std::size_t clients_made_ = 0;

  std::size_t next_ = 0;      // Line to say.
  std::size_t last_;          // The one after the last.
  bool half_said_ = false;    // Its room has heard it, the addressee not yet.
  bool verifying_ = false;
  bool playing_ = false;
  bool ended_early_ = false;  // Asked to say no more.
  bool interrupted_ = false;
  std::size_t open_ = 0;
  std::uint64_t acked_ = 0;
  struct SentLine {
    Instant at;
    check::Recorder::Device device = 0;
    std::string to;
    std::uint64_t number = 0;
  };
  std::vector<SentLine> sent_;
  std::unordered_map<MessageKey, std::size_t> by_key_;  // Index into sent_.
  Instant start_{};
  Instant progressed_{};
  ReplayReport totals_;  // Filled as it goes on.
  overlay::Timer timer_;
};

int replay(const Arguments& arguments) {
  Result<Script> script = Error{Errc::kInvalid, "give a script FILE, or --generate"};
  const std::size_t lines = arguments.number("limit");
  if (arguments.flag("generate")) {
    GeneratorOptions options;
    options.seed = arguments.number("seed");
    options.lines = lines;
    if (arguments.given("rooms")) options.rooms = std::max<std::size_t>(1, arguments.number("rooms"));
    options.speakers = std::max<std::size_t>(2, arguments.number("users"));
    script = generate_script(options);
  } else if (arguments.given("file")) {
    ScriptLimits limits;
    limits.lines = lines;
    if (arguments.given("rooms")) limits.rooms = arguments.number("rooms");
    script = load_script(arguments.text("file"), limits);
  }
  if (!script) return complain(script.error());
  auto swarm = Swarm::open(arguments);
  if (!swarm) return complain(kExitUnreachable, swarm.error().text);
  return Replay(arguments, std::move(*script), std::move(*swarm)).run();
}

}  // namespace

Command replay_command() {
  return {
      "replay",
      "play a real or generated conversation and prove what arrived",
      "replay FILE | --generate [options]",
      "Plays a conversation of many people through the cluster as its real users would: every speaker logs\n"
      "in with all devices, through different nodes, and says the lines at their (shortened) times. Then it\n"
      "proves, per device, that every message arrived exactly once, in order and byte for byte, also on\n"
      "fresh devices that read everything from storage. Kill a node meanwhile: sends are retried.\n"
      "Ctrl-C ends the conversation there and proves what was said; a second one gives up.\n\n"
      "FILE has one JSON object a line: {\"t\": seconds, \"room\", \"from\", \"text\"}.\n\n"
      "  starling replay ubuntu-irc.jsonl --limit 3000 --cluster ./cluster\n"
      "  starling replay --generate --limit 20000 --speed 0 --seed 7 --cluster ./cluster\n",
      [](po::options_description& options) {
        const auto number = [](std::uint64_t value) {
          return po::value<std::uint64_t>()->value_name("NUMBER")->default_value(value);
        };
        options.add_options()("file", po::value<std::string>(), "the script")(
            "generate", po::bool_switch(), "make up a conversation from --seed")(
            "limit", number(kLinesDefault), "play this many lines")(
            "rooms", po::value<std::uint64_t>()->value_name("NUMBER"), "the busiest rooms only")(
            "users", number(200), "speakers of a generated conversation")(
            "devices", number(2), "devices of every user; one of them sends")(
            "speed", po::value<double>()->value_name("FACTOR"),
            "how much faster than life; 0: as fast as possible; default: all in --seconds")(
            "seconds", number(kDemoSeconds), "play all of it in about this long, unless --speed says how")(
            "verify-fresh", number(20), "users who read everything again on a new device")(
            "patience", number(30), "seconds without progress until what lacks counts as lost");
        add_swarm_options(options);
      },
      replay,
      {"[file]"}};
}

}  // namespace starling::node::cli
