// Crowd: very many people, most of them away, on the real client library; for the study of scale.
//
// Each talks with a few of those whom he knows most of the time, is in groups of very unequal sizes (both Zipf's law, as
// in Leskovec, Horvitz: Planetary-Scale Views on an Instant-Messaging Network, 2008), is online for a while and away for
// longer. Who is away costs nothing here but what a phone keeps. What happens is drawn for all of them together (Poisson):
// somebody comes, somebody goes, somebody writes. A friend is one of both sides; who is offline gets what was
// written to him when he comes. Phones share hosts, some hundred each.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/client/client.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct CrowdOptions {
  std::uint64_t seed = 1;        // Of who they are and what they do: the same in a cluster of any size.
  std::size_t people = 10'000;
  double online = 0.2;           // Share of them.
  double memberships = 1;        // Groups of a person, on average.
  double to_groups = 0.5;        // Share of what is written.
  double a_day = 50;             // Messages of a person.
  double busy = 3;               // The hour is so many times the mean of a day.
  Duration session = 15min;      // Online, on average.
};

class Crowd {
 public:
  Crowd(World& world, SimCluster& cluster, CrowdOptions options);
  ~Crowd();
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  // Accounts and groups, by the operators' doors of all nodes at once; then those online come. `progress` is told the
  // share that is done.
  Status set_up(const std::function<void(double)>& progress);
  // People come and go; those online write.
  void come_and_go(bool on);
  void write(bool on);
  // Every open send was answered and everybody who should be online is. False: not within `limit`.
  bool settle(Duration limit);

  struct Counts {
    std::uint64_t came = 0;       // Logins that caught up.
    std::uint64_t written = 0;
    std::uint64_t acked = 0;
    std::uint64_t refused = 0;
    std::uint64_t shown = 0;      // On all phones.
    std::uint64_t connections_lost = 0;
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] std::size_t online() const { return online_.size(); }
  [[nodiscard]] std::size_t groups() const { return groups_.size(); }
  [[nodiscard]] std::size_t memberships() const { return memberships_; }

 private:
  struct Host;
  class Phone;
  using PersonIndex = std::uint32_t;
  struct Person {
    std::unique_ptr<Phone> phone;              // Online.
    std::unique_ptr<node::ClientState> kept;   // Was online before.
    std::vector<std::uint32_t> groups;
  };

  Status ask_all(std::size_t count, const std::string& method, const std::function<Json(std::size_t)>& arguments,
                 const std::function<void(double)>& progress);
  void draw_groups();
  void come(PersonIndex person);
  void go(std::size_t place);
  void write_one();
  [[nodiscard]] std::string friend_of(PersonIndex person);
  void next_change();
  void next_message();
  [[nodiscard]] Duration poisson(double per_second);

  World& world_;
  SimCluster& cluster_;
  const CrowdOptions options_;
  SeededRandom random_;
  Counts counts_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<Person> people_;
  std::vector<PersonIndex> online_;
  std::vector<std::vector<PersonIndex>> groups_;
  std::size_t memberships_ = 0;
  std::vector<PersonIndex> shifts_;   // Friend k of i is shifts_[k] - i: of both sides.
  std::vector<double> liking_;        // Cumulated: how much one writes to friend k.
  bool changing_ = false;
  bool writing_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
