// What the tests of splitting share: mailboxes in both children of a partition, steps of the settling, and what a
// reader sees.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/storage/support.h"

namespace starling::testing {

inline constexpr std::uint32_t kAfter = 2 * kTestPartitions;

inline MailboxId mailbox_at(std::uint8_t first, std::uint8_t second) {
  MailboxId id;
  id.raw = {first, second, 'x'};
  return id;
}
inline const MailboxId kEve = mailbox_at(0x1a, 0x01);   // Of the partition of kAlice and kBob, and not of its lower child.
inline const MailboxId kFay = mailbox_at(0x1f, 0xff);   // Likewise.
inline const MailboxId kGus = mailbox_at(0xf9, 0x00);   // The same of kCarol.
inline const std::vector<MailboxId> kOfAlice = {kAlice, kBob, kEve, kFay};
inline const std::vector<MailboxId> kOfCarol = {kCarol, kGus};

inline void open_with(StoreBox& box, std::uint32_t partitions) {
  auto options = box.options();
  options.partitions = partitions;
  auto opened = storage::Store::open(options);
  ASSERT_TRUE(opened.ok()) << opened.error().text;
  box.store = std::move(*opened);
}

// One step of the settling; true when all is settled. What is on its way goes first.
inline bool settle_some(StoreBox& box, std::size_t bytes = 300) {
  const auto step = box.store->settle_split(bytes);
  if (step) return step->done;
  EXPECT_EQ(step.code(), Errc::kOverloaded) << step.error().text;
  box.sync();
  return false;
}
inline void settle_all(StoreBox& box) {
  for (int i = 0; !settle_some(box); ++i) ASSERT_LT(i, 10'000);
  box.sync();
  EXPECT_TRUE(box.store->is_split_settled());
}

using Numbers = std::vector<std::uint64_t>;
using Shown = std::vector<std::pair<Dot, Bytes>>;

inline Shown shown(const std::vector<storage::StoredChange>& changes) {
  Shown out;
  for (const auto& change : changes) out.emplace_back(change.dot, *change.bytes);
  return out;
}
inline Shown page_of(StoreBox& box, const MailboxId& mailbox) {
  const auto page = box.store->read_mailbox(mailbox, {}, 1000, 1 << 20);
  EXPECT_TRUE(page.ok()) << page.error().text;
  return page ? shown(page->changes) : Shown();
}
struct Told {
  std::uint64_t to = 0;
  std::vector<std::pair<std::uint64_t, Bytes>> live;
  friend bool operator==(const Told&, const Told&) = default;
};
inline Told told_of(StoreBox& box, PartitionId partition, WriterId writer) {
  Told out;
  for (std::uint64_t from = 1; from <= box.store->synced(partition, writer); from = out.to + 1) {
    const auto range = box.store->read_writer(partition, writer, from, 200);
    EXPECT_TRUE(range.ok()) << range.error().text;
    if (!range || range->to < from) break;
    for (const auto& item : range->live) out.live.emplace_back(item.n, item.change.data);
    out.to = range->to;
  }
  return out;
}

}  // namespace starling::testing
