// starling replay: plays a conversation of many people through the cluster, and proves what
// arrived.
#include <cassert>
#include <csignal>
#include <map>
#include <set>

#include "node/cli/commands.h"
#include "node/cli/progress.h"
#include "node/cli/replay_proof.h"
#include "node/cli/replay_report.h"
#include "node/cli/script.h"
#include "node/cli/swarm.h"
#include "node/cli/table.h"
#include "overlay/uv_loop.h"
#include "overlay/uv_transport.h"

namespace starling::node::cli {
namespace {

constexpr double kDemoSeconds = 20;       // Default pace: all of it in about this long.
constexpr std::size_t kOpenMax = 2'000;   // Unacknowledged messages of all users at speed 0.
constexpr Duration kTick = 5ms;
constexpr std::size_t kLinesDefault = 3'000;

class Replay {
 public:
  Replay(const Arguments& arguments, Script script, Swarm swarm)
      : arguments_(arguments), script_(std::move(script)), swarm_(std::move(swarm)) {}

  int run() {
    if (auto set_up = prepare(); !set_up) return fail(set_up.error());
    loop_.on_signal(SIGINT, [this] { interrupted_ = true, loop_.stop(); });
    if (auto all_in = log_in(devices_); !all_in) return fail(all_in.error());
    play();
    if (!interrupted_) {
      if (auto fresh = verify_fresh(); !fresh) return fail(fresh.error());
    }
    progress_.finish();
    return report();
  }

 private:
  struct Device : ClientHandler {
    Replay* replay = nullptr;
    ReplayProof::Device number = 0;
    std::string user;
    std::unique_ptr<Client> client;
    std::optional<Error> refused;
    void on_entry(const protocol::EntryMessage& entry, bool) override {
      replay->on_entry(*this, entry);
    }
    void on_moved(const protocol::EntryMessage& entry) override {
      replay->proof_.repositioned(number, entry);
    }
    void on_phase(ClientPhase phase, const Error* why) override {
      if (phase == ClientPhase::kFailed) refused = *why;
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

  // Users, rooms and devices.
  Status prepare() {
    tag_ = run_tag();
    TRY(swarm_.add_users(script_.speakers, [this](std::size_t done, std::size_t all) {
      show(0, "creating users: " + thousands(done) + " of " + thousands(all));
    }));
    std::vector<std::set<std::uint32_t>> members(script_.rooms.size());
    for (const auto& line : script_.lines) members[line.room].insert(line.from);
    for (std::size_t room = 0; room < members.size(); ++room) {
      std::vector<std::string> names;
      for (const auto speaker : members[room]) names.push_back(script_.speakers[speaker]);
      TRY(swarm_.add_group(script_.rooms[room], names));
      rooms_.push_back(proof_.add_conversation(script_.rooms[room]));
      for (const auto speaker : members[room]) follows_[speaker].insert(rooms_.back());
      show(0, "creating groups: " + thousands(room + 1) + " of " + thousands(members.size()));
    }
    for (const auto& line : script_.lines) {
      if (line.direct == Line::kNobody) continue;
      const auto pair = std::minmax(line.from, line.direct);
      if (direct_.contains(pair)) continue;
      const auto conversation = proof_.add_conversation(script_.speakers[pair.first] + " and " +
                                                        script_.speakers[pair.second]);
      direct_[pair] = conversation;
      follows_[pair.first].insert(conversation);
      follows_[pair.second].insert(conversation);
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
    device->number = proof_.add_device(state.user + "/" + name,
                                       device_of(mailbox_of(state.user), state.device));
    for (const auto conversation : follows_[speaker]) {
      proof_.follow(device->number, conversation);
    }
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
    speed_ = arguments_.has("speed") ? arguments_.real("speed") : seconds / kDemoSeconds;
    start_ = progressed_ = loop_.clock_now();
    tick();
    loop_.run();
    timer_.cancel();
    totals_.played_for = loop_.clock_now() - start_;
  }

  void tick() {
    const double at = std::chrono::duration<double>(loop_.clock_now() - start_).count() * speed_;
    while (next_ < script_.lines.size()) {
      const Line& line = script_.lines[next_];
      if (speed_ > 0 ? line.t > at : open_ >= kOpenMax) break;
      if (!say(line)) break;
      ++next_;
      half_said_ = false;
    }
    show_progress();
    const bool complete = next_ == script_.lines.size() && open_ == 0 &&
                          proof_.delivered() == proof_.expected();
    if (complete || loop_.clock_now() - progressed_ > patience()) return loop_.stop();
    timer_ = loop_.after(kTick, [this] { tick(); });
  }

  // False while a queue is full: the same line again with the next tick.
  bool say(const Line& line) {
    if (!half_said_ && !send(line, rooms_[line.room], script_.rooms[line.room])) return false;
    half_said_ = true;
    if (line.direct == Line::kNobody) return true;
    return send(line, direct_.at(std::minmax(line.from, line.direct)),
                script_.speakers[line.direct]);
  }

  bool send(const Line& line, ReplayProof::Conversation conversation, const std::string& to) {
    Client& client = *devices_[line.from]->client;
    const auto message = static_cast<ReplayProof::Message>(sent_at_.size());
    const auto accepted = client.send(to, line.text, {}, [this, message](Result<Sent> result) {
      on_sent(message, std::move(result));
    });
    if (!accepted) return false;
    const auto number = proof_.sent(conversation, client.device(), client.user(), to, line.text);
    assert(number == message);
    (void)number;
    sent_at_.push_back(loop_.clock_now());
    ++open_;
    progressed_ = loop_.clock_now();
    return true;
  }

  void on_sent(ReplayProof::Message message, Result<Sent> result) {
    --open_;
    progressed_ = loop_.clock_now();
    if (!result) {
      ++totals_.refusals[std::string(name(result.code()))];
      return proof_.refused(message);
    }
    ++acked_;
    if (result->attempts > 1) ++totals_.retried;
    const auto latency = loop_.clock_now() - sent_at_[message];
    totals_.ack_latency.record(static_cast<std::uint64_t>(latency.count() / 1000));
    proof_.acked(message);
  }

  void on_entry(Device& device, const protocol::EntryMessage& entry) {
    const auto message = proof_.received(device.number, entry);
    if (!message) return;
    progressed_ = loop_.clock_now();
    if (verifying_) return;
    const auto latency = loop_.clock_now() - sent_at_[*message];
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

  // Telling.
  void show(double share, const std::string& text) { progress_.show(share, text, loop_.clock_now()); }

  void show_progress() {
    const double work = static_cast<double>(next_) / static_cast<double>(script_.lines.size());
    const double due = static_cast<double>(std::max<std::uint64_t>(1, proof_.expected()));
    const double arrived = static_cast<double>(proof_.delivered()) / due;
    const double seconds =
        std::max(0.001, std::chrono::duration<double>(loop_.clock_now() - start_).count());
    show(work * (0.5 + 0.5 * arrived),
         (verifying_ ? "fresh devices  " : "") + ("sent " + thousands(sent_at_.size())) + "  acked " +
             thousands(acked_) + "  delivered " + thousands(proof_.delivered()) + "  " +
             thousands(static_cast<std::uint64_t>(static_cast<double>(acked_) / seconds)) +
             " msg/s");
  }

  int report() {
    totals_.proof = proof_.check();
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
    return tell(totals_, arguments_.flag("json"));
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

  ReplayProof proof_;
  std::vector<ReplayProof::Conversation> rooms_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, ReplayProof::Conversation> direct_;
  std::map<std::uint32_t, std::set<ReplayProof::Conversation>> follows_;  // By speaker.
  Devices devices_;
  Devices fresh_;
  std::size_t clients_made_ = 0;

  std::size_t next_ = 0;      // Line to say.
  bool half_said_ = false;    // Its room has heard it, the addressee not yet.
  bool verifying_ = false;
  bool interrupted_ = false;
  std::size_t open_ = 0;
  std::uint64_t acked_ = 0;
  std::vector<Instant> sent_at_;  // By message.
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
      "fresh devices that read everything from storage. Kill a node meanwhile: sends are retried.\n\n"
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
            "how much faster than life; 0: as fast as possible; default: all in 20 s")(
            "verify-fresh", number(20), "users who read everything again on a new device")(
            "patience", number(30), "seconds without progress until what lacks counts as lost");
        add_swarm_options(options);
      },
      replay,
      {"[file]"}};
}

}  // namespace starling::node::cli
