#include "node/cli/load/replay_report.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/load/latency.h"
#include "node/cli/options.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kFirstMax = 10;  // Discrepancies that are told.

double seconds_of(const ReplayReport& report) {
  return std::chrono::duration<double>(report.played_for).count();
}

double acked_per_second(const ReplayReport& report) {
  return static_cast<double>(report.proof.acked) / std::max(seconds_of(report), 1e-9);
}

std::string latency_text(const Histogram& h) {
  const auto ms = [&h](double p) {
    char out[32];
    std::snprintf(out, sizeof out, "%.1f", static_cast<double>(h.percentile(p)) / 1000);
    return std::string(out);
  };
  return "p50 " + ms(50) + " ms, p99 " + ms(99) + " ms, p99.9 " + ms(99.9) + " ms, max " + ms(100) +
         " ms";
}

std::uint64_t unacknowledged(const ReplayReport& r) { return r.proof.open + r.proof.unknown; }

Json faults_of(const ReplayReport& r) {
  Json out = Json::object();
  for (std::size_t i = 0; i < check::kFaults; ++i) {
    out[std::string(name(static_cast<check::Fault>(i)))] = r.proof.faults[i];
  }
  return out;
}

std::vector<std::string> first_of(const ReplayReport& r) {
  std::vector<std::string> out;
  for (const auto& violation : r.proof.violations) {
    if (out.size() < kFirstMax) out.push_back(violation.text);
  }
  return out;
}

Json report_json(const ReplayReport& r, bool pass) {
  return {{"proof", pass ? "pass" : "fail"},
          {"interrupted", r.interrupted},
          {"rooms", r.rooms},
          {"users", r.users},
          {"devices", r.devices},
          {"fresh_devices", r.fresh_devices},
          {"seconds", seconds_of(r)},
          {"sent", r.proof.sent},
          {"acked", r.proof.acked},
          {"refused", r.proof.refused},
          {"refusals", r.refusals},
          {"retried", r.retried},
          {"retry_frames", r.retry_frames},
          {"reconnects", r.reconnects},
          {"expected", r.proof.expected},
          {"delivered", r.proof.delivered},
          {"unacknowledged", unacknowledged(r)},
          {"late_inserts", r.proof.late_inserts},
          {"repositioned", r.proof.moved},
          {"faults", faults_of(r)},
          {"duplicates_dropped", r.copies},
          {"foreign", r.proof.foreign},
          {"acked_per_s", acked_per_second(r)},
          {"ack_us", percentiles(r.ack_latency)},
          {"delivery_us", percentiles(r.delivery_latency)},
          {"outage_us", percentiles(r.outages)},
          {"first", first_of(r)}};
}

void print_faults(const ReplayReport& r) {
  for (std::size_t i = 0; i < check::kFaults; ++i) {
    if (r.proof.faults[i] == 0) continue;
    std::cout << name(static_cast<check::Fault>(i)) << " " << thousands(r.proof.faults[i]) << "\n";
  }
  if (unacknowledged(r) > 0) {
    std::cout << "never acknowledged " << thousands(unacknowledged(r)) << "\n";
  }
  for (const auto& line : first_of(r)) std::cout << "  " << line << "\n";
  if (r.interrupted) std::cout << "  interrupted before the end\n";
}

void print_report(const ReplayReport& r, bool pass) {
  const auto& proof = r.proof;
  std::cout << "rooms " << thousands(r.rooms) << ", users " << thousands(r.users) << ", devices "
            << thousands(r.devices) << " and " << thousands(r.fresh_devices) << " fresh\n"
            << "sent " << thousands(proof.sent) << ", acknowledged " << thousands(proof.acked)
            << ", refused " << thousands(proof.refused) << ", needed another try "
            << thousands(r.retried) << ", reconnects " << thousands(r.reconnects) << "\n"
            << "delivered " << thousands(proof.delivered) << " of " << thousands(proof.expected)
            << ", came after a later one " << thousands(proof.late_inserts)
            << ", further copies dropped " << thousands(r.copies) << "\n"
            << thousands(static_cast<std::uint64_t>(acked_per_second(r)))
            << " acknowledged messages/s for " << static_cast<int>(seconds_of(r)) << " s\n"
            << "acknowledged after " << latency_text(r.ack_latency) << "\n"
            << "delivered after    " << latency_text(r.delivery_latency) << "\n";
  if (r.outages.count() > 0) std::cout << "back again after   " << latency_text(r.outages) << "\n";
  for (const auto& [code, times] : r.refusals) {
    std::cout << "refused with " << code << ": " << thousands(times) << "\n";
  }
  if (!pass) print_faults(r);
  const bool colour = stdout_has_colour();
  std::cout << "proof: "
            << (pass ? paint("PASS", Tone::kGood, colour) : paint("FAIL", Tone::kBad, colour))
            << (pass ? " - on every device every message once, in order, byte for byte" : "")
            << std::endl;
}

}  // namespace

int tell(const ReplayReport& report, bool as_json) {
  const bool pass = report.proof.passed() && report.proof.acked > 0 && unacknowledged(report) == 0 &&
                    !report.interrupted;
  if (as_json) {
    std::cout << report_json(report, pass) << std::endl;
  } else {
    print_report(report, pass);
  }
  return pass ? kExitOk : kExitFailed;
}

}  // namespace starling::node::cli
