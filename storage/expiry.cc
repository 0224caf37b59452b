#include "storage/expiry.h"

#include <optional>
#include <utility>

#include "storage/layout.h"

namespace starling::storage {
namespace {

// 0 also for a row that cannot be read.
ExpirySeconds expiry_of(ColumnFamily family, View key, View value) {
  switch (family) {
    case ColumnFamily::kLog: {
      const auto change = parse(value);
      return change ? expiry_seconds(change->entry.expires_ms) : 0;
    }
    case ColumnFamily::kEntries: {
      const auto row = parse_entry_row(value);
      return row ? row->expiry : 0;
    }
    case ColumnFamily::kMailboxDots: {
      const auto row = parse_mailbox_dot(value);
      return row ? row->expiry : 0;
    }
    case ColumnFamily::kKeys: {
      const auto row = parse_key_row(value);
      return row ? row->expiry : 0;
    }
    case ColumnFamily::kNode: {
      const auto trace = key.starts_with(kNodeLost) ? parse_lost(key, value) : std::nullopt;
      return trace ? trace->expiry : 0;
    }
    default:
      return 0;
  }
}

// The scrub reports what is damaged; a flipped bit must not erase it.
bool is_sound(ColumnFamily family, View key, View value) {
  if (family != ColumnFamily::kLog) return true;
  const auto dot = parse_dot_key(key, sizeof(Slot));
  return dot && decode(value, *dot).ok();
}

class ExpiryFilter final : public rocksdb::CompactionFilter {
 public:
  ExpiryFilter(ColumnFamily family, std::shared_ptr<const ExpiryTime> time)
      : family_(family), time_(std::move(time)) {}
  const char* Name() const override { return "starling.expiry"; }
  bool Filter(int, const rocksdb::Slice& key, const rocksdb::Slice& value, std::string*,
              bool*) const override {
    if (time_->ms() == 0) return false;
    const View bytes(value.data(), value.size());
    const View row(key.data(), key.size());
    return time_->expired(expiry_of(family_, row, bytes)) && is_sound(family_, row, bytes);
  }

 private:
  const ColumnFamily family_;
  const std::shared_ptr<const ExpiryTime> time_;
};

class Factory final : public rocksdb::CompactionFilterFactory {
 public:
  Factory(ColumnFamily family, std::shared_ptr<const ExpiryTime> time)
      : family_(family), time_(std::move(time)) {}
  const char* Name() const override { return "starling.expiry"; }
  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context&) override {
    return std::make_unique<ExpiryFilter>(family_, time_);
  }

 private:
  const ColumnFamily family_;
  const std::shared_ptr<const ExpiryTime> time_;
};

}  // namespace

std::shared_ptr<rocksdb::CompactionFilterFactory> expiry_filter(
    ColumnFamily family, std::shared_ptr<const ExpiryTime> time) {
  switch (family) {
    case ColumnFamily::kLog:
    case ColumnFamily::kEntries:
    case ColumnFamily::kMailboxDots:
    case ColumnFamily::kKeys:
    case ColumnFamily::kNode:
      return std::make_shared<Factory>(family, std::move(time));
    default:
      return nullptr;
  }
}

}  // namespace starling::storage
