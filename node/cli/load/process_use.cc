#include "node/cli/load/process_use.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace starling::node::cli {
namespace {

// A file that was deleted before it was written out is not counted; another user's process says nothing.
std::uint64_t written_by(const std::string& folder) {
  std::ifstream io(folder + "/io");
  std::string name;
  std::uint64_t value = 0, written = 0, cancelled = 0;
  while (io >> name >> value) {
    if (name == "write_bytes:") written = value;
    if (name == "cancelled_write_bytes:") cancelled = value;
  }
  return written - std::min(written, cancelled);
}

double per_tick() { return 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK)); }

}  // namespace

std::optional<ProcessUse> use_of(int pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  std::ifstream stat(folder + "/stat");
  std::string text;
  if (pid <= 0 || !std::getline(stat, text)) return std::nullopt;
  // The name, in brackets, may hold spaces; field 3 follows it.
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skip;
  for (int field = 3; field < 14; ++field) fields >> skip;
  double user = 0, kernel = 0;
  fields >> user >> kernel;
  std::ifstream statm(folder + "/statm");
  std::uint64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  ProcessUse use;
  use.cpu_s = (user + kernel) * per_tick();
  use.rss = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  use.written = written_by(folder);
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator(folder + "/task", ignored)) {
    const std::string name = task.path().filename().string();
    int thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    std::ifstream schedstat(task.path() / "schedstat");
    double ran_ns = 0, waited_ns = 0;
    if (schedstat >> ran_ns >> waited_ns) use.wanted_s[thread] = (ran_ns + waited_ns) / 1e9;
  }
  return use;
}

ProcessUse own_use() { return use_of(static_cast<int>(::getpid())).value_or(ProcessUse{}); }

WantedTime wanted_between(const ProcessUse& before, const ProcessUse& after) {
  WantedTime out;
  for (const auto& [thread, until] : after.wanted_s) {
    const auto from = before.wanted_s.find(thread);
    const double wanted = until - (from == before.wanted_s.end() ? 0 : from->second);
    out.busiest_s = std::max(out.busiest_s, wanted);
    out.all_s += wanted;
  }
  return out;
}

double machine_busy_s() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  double user = 0, nice = 0, kernel = 0, idle = 0, io = 0, irq = 0, soft = 0, stolen = 0;
  stat >> cpu >> user >> nice >> kernel >> idle >> io >> irq >> soft >> stolen;
  return (user + nice + kernel + irq + soft + stolen) * per_tick();
}

}  // namespace starling::node::cli
