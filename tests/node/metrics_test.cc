#include "node/admin/metrics.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

TEST(Metrics, AreInPrometheusTextFormatInOrderOfNames) {
  MetricsRegistry registry;
  std::uint64_t sent = 41;
  registry.add([&](MetricSink& sink) {
    sink.counter("starling_sends_total", "Messages accepted.", static_cast<double>(sent));
  });
  registry.add([](MetricSink& sink) {
    sink.gauge("starling_links", "Open links.", 2, {{"state", "up"}});
    sink.gauge("starling_links", "Open links.", 1, {{"state", "a\"b\nc"}});
  });
  sent = 42;  // Read at the scrape, not before.
  EXPECT_EQ(registry.scrape(),
            "# HELP starling_links Open links.\n"
            "# TYPE starling_links gauge\n"
            "starling_links{state=\"up\"} 2\n"
            "starling_links{state=\"a\\\"b\\nc\"} 1\n"
            "# HELP starling_sends_total Messages accepted.\n"
            "# TYPE starling_sends_total counter\n"
            "starling_sends_total 42\n");
}

}  // namespace
}  // namespace starling::node
