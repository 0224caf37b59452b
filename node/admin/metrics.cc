#include "node/admin/metrics.h"

#include <cassert>
#include <sstream>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace starling::node {
namespace {

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

MetricSink::MetricSink() = default;
MetricSink::~MetricSink() = default;

prometheus::ClientMetric& MetricSink::add(const std::string& name, const std::string& help, int kind,
                                          Labels labels) {
  assert(name.starts_with("starling_") &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos);
  auto& family = families_[name];
  if (family.name.empty()) {
    family.name = name;
    family.help = help;
    family.type = static_cast<prometheus::MetricType>(kind);
  }
  assert(family.type == static_cast<prometheus::MetricType>(kind));
  auto& metric = family.metric.emplace_back();
  for (auto& [label, value] : labels) metric.label.push_back({std::move(label), std::move(value)});
  return metric;
}

void MetricSink::counter(const std::string& name, const std::string& help, double value, Labels labels) {
  assert(name.ends_with("_total"));
  add(name, help, static_cast<int>(prometheus::MetricType::Counter), std::move(labels)).counter.value =
      value;
}

void MetricSink::gauge(const std::string& name, const std::string& help, double value, Labels labels) {
  add(name, help, static_cast<int>(prometheus::MetricType::Gauge), std::move(labels)).gauge.value = value;
}

void MetricSink::latency(const std::string& name, const std::string& help,
                         const LatencyBuckets& buckets, Labels labels) {
  assert(name.ends_with("_seconds"));
  auto& histogram =
      add(name, help, static_cast<int>(prometheus::MetricType::Histogram), std::move(labels)).histogram;
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i < LatencyBuckets::kBounds.size(); ++i) {
    so_far += buckets.counts()[i];
    histogram.bucket.push_back({so_far, seconds(LatencyBuckets::kBounds[i])});
  }
  histogram.sample_count = buckets.count();
  histogram.sample_sum = seconds(buckets.sum());
}

std::string MetricSink::text() const {
  std::vector<prometheus::MetricFamily> families;
  families.reserve(families_.size());
  for (const auto& [name, family] : families_) families.push_back(family);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

std::string MetricsRegistry::scrape() const {
  MetricSink sink;
  for (const auto& collector : collectors_) collector(sink);
  return sink.text();
}

}  // namespace starling::node
