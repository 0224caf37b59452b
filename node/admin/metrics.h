// Metrics: what the node counts, as Prometheus reads it.
//
// Components count in plain integers of their own and add a collector; nothing is built, locked or
// looked up until somebody scrapes. Names are starling_*; every name has one HELP text and one kind,
// whichever component reports it.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace prometheus {
struct ClientMetric;
struct MetricFamily;
}  // namespace prometheus

namespace starling::node {

// Gathers one scrape.
class MetricSink {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  MetricSink();
  ~MetricSink();

  // REQUIRES: the name is starling_* of [a-z0-9_]; a counter's ends in _total; one name is
  // always the same kind.
  void counter(const std::string& name, const std::string& help, double value, Labels labels = {});
  void gauge(const std::string& name, const std::string& help, double value, Labels labels = {});

  // The text exposition format, version 0.0.4; families in the order of their names.
  [[nodiscard]] std::string text() const;

 private:
  prometheus::ClientMetric& add(const std::string& name, const std::string& help, int kind,
                                Labels labels);

  std::map<std::string, prometheus::MetricFamily> families_;
};

class MetricsRegistry {
 public:
  using Collector = std::function<void(MetricSink&)>;
  // What the collector reads must live until the last scrape.
  void add(Collector collector) { collectors_.push_back(std::move(collector)); }
  [[nodiscard]] std::string scrape() const;

 private:
  std::vector<Collector> collectors_;
};

}  // namespace starling::node
