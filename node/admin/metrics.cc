#include "node/admin/metrics.h"

#include <cassert>
#include <sstream>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace starling::node {

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
