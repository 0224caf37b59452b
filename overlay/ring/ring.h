// Ring: one ring version, ready to be asked who owns what.
//
// Built once per version and never changed; held as std::shared_ptr<const Ring> by everyone who
// works under that version. Owners are kept as two bytes each, so a ring of 65,536 partitions and
// three copies takes under 1 MB.
// While a change is open the owners are those before it; the owners-to-be are those it adds. They
// are neither counted nor read until the next version makes them owners. Thread: any; immutable.
// Building takes up to seconds for the largest rings: use Loop::work.
#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <vector>

#include "overlay/ring/placement.h"
#include "overlay/ring/ring_version.h"
#include "storage/ids.h"

namespace starling::overlay {

// Nodes of a ring, in preference order where there is one. Borrows from the ring.
class NodeList {
 public:
  class iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = NodeId;
    using difference_type = std::ptrdiff_t;
    using pointer = const NodeId*;
    using reference = const NodeId&;

    iterator() = default;
    iterator(const NodeId* ids, const MemberIndex* at) : ids_(ids), at_(at) {}
    reference operator*() const { return ids_[*at_]; }
    pointer operator->() const { return &ids_[*at_]; }
    iterator& operator++() {
      ++at_;
      return *this;
    }
    iterator operator++(int) { return {ids_, at_++}; }
    friend bool operator==(const iterator& a, const iterator& b) { return a.at_ == b.at_; }

   private:
    const NodeId* ids_ = nullptr;
    const MemberIndex* at_ = nullptr;
  };

  NodeList() = default;
  NodeList(const NodeId* ids, std::span<const MemberIndex> list) : ids_(ids), list_(list) {}
  [[nodiscard]] std::size_t size() const { return list_.size(); }
  [[nodiscard]] bool empty() const { return list_.empty(); }
  [[nodiscard]] const NodeId& operator[](std::size_t i) const { return ids_[list_[i]]; }
  [[nodiscard]] const NodeId& front() const { return (*this)[0]; }
  [[nodiscard]] iterator begin() const { return {ids_, list_.data()}; }
  [[nodiscard]] iterator end() const { return {ids_, list_.data() + list_.size()}; }
  [[nodiscard]] bool contains(const NodeId& id) const;
  [[nodiscard]] std::vector<NodeId> to_vector() const { return {begin(), end()}; }

 private:
  const NodeId* ids_ = nullptr;
  std::span<const MemberIndex> list_;
};

class Ring {
 public:
  // kInvalid for a version that does not validate.
  static Result<std::shared_ptr<const Ring>> make(RingVersion version);

  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  [[nodiscard]] const RingVersion& version() const { return version_; }
  [[nodiscard]] RingNumber number() const { return version_.number; }
  [[nodiscard]] const LineageId& lineage() const { return version_.lineage; }
  [[nodiscard]] std::uint32_t partitions() const { return version_.partitions; }
  [[nodiscard]] std::size_t copies() const { return copies_; }     // Owners of each partition,
  [[nodiscard]] std::size_t home_copies() const { return home_; }  // and those that count.
  [[nodiscard]] std::size_t w() const { return w_; }               // Synced copies per ack.
  // Of N home owners, so many know together what any W of them acknowledged.
  [[nodiscard]] std::size_t enough_to_know() const { return home_ - w_ + 1; }
  // A policy of sites is in force, and these are the home sites (sites.h).
  [[nodiscard]] bool by_site() const { return !homes_.empty(); }
  [[nodiscard]] std::span<const Sites::Site> home_sites() const { return homes_; }
  [[nodiscard]] bool changing() const { return version_.change != RingChange::kNone; }

  [[nodiscard]] PartitionId partition_of(const MailboxId& mailbox) const {
    return starling::partition_of(slot_of(mailbox), version_.partitions);
  }
  // The partition here in which one of a ring of as many or more, `of`, lies: what is compared between versions by
  // number is asked of the older one so.
  [[nodiscard]] PartitionId covering(PartitionId partition, std::uint32_t of) const {
    return starling::covering(partition, of, version_.partitions);
  }
  // REQUIRES of all that take a partition: it is below partitions().
  // All who keep a copy. Ask for them where it is about what is stored: sending, comparing, mending,
  // expiring, dropping.
  [[nodiscard]] NodeList owners(PartitionId partition) const;
  // Those of them that count, all of them without a policy of sites. Ask for these where it is about
  // who acknowledges, coordinates, votes on names, or vouches for what was acknowledged.
  [[nodiscard]] NodeList home(PartitionId partition) const;
  [[nodiscard]] NodeList home_next(PartitionId partition) const;  // After the change.
  [[nodiscard]] bool is_home(PartitionId partition, const NodeId& node) const;
  // Without those that are that already: owners, and home owners where they shall be.
  [[nodiscard]] NodeList owners_to_be(PartitionId partition) const;
  [[nodiscard]] NodeList owners_next(PartitionId partition) const;   // All, after the change.
  [[nodiscard]] bool is_owner(PartitionId partition, const NodeId& node) const;
  [[nodiscard]] bool is_owner_to_be(PartitionId partition, const NodeId& node) const;

  // Sorted; empty for nodes that own nothing.
  [[nodiscard]] std::span<const PartitionId> partitions_of(const NodeId& node) const;
  [[nodiscard]] std::span<const PartitionId> partitions_to_be_of(const NodeId& node) const;
  // Of all copies, 0..1.
  [[nodiscard]] double share(const NodeId& node) const;
  // Partitions whose copies share a zone though another zone exists.
  [[nodiscard]] std::span<const PartitionId> zones_shared() const { return zones_shared_; }

  [[nodiscard]] const RingMember* member(const NodeId& node) const { return version_.find(node); }
  [[nodiscard]] std::span<const RingMember> members() const { return version_.members; }
  [[nodiscard]] const std::vector<NodeId>& voters() const { return voters_; }

 private:
  explicit Ring(RingVersion version);

  // Lists of short lists in two arrays: list i is items[starts[i]] .. items[starts[i+1]].
  template <class T>
  struct Lists {
    std::vector<std::uint32_t> starts{0};
    std::vector<T> items;
    [[nodiscard]] std::span<const T> of(std::size_t i) const {
      return {items.data() + starts[i], starts[i + 1] - starts[i]};
    }
    void close() { starts.push_back(static_cast<std::uint32_t>(items.size())); }
  };

  std::vector<MemberIndex> member_indexes(const Placement& placement) const;
  static Lists<PartitionId> by_member(const Lists<MemberIndex>& lists, std::size_t members);
  [[nodiscard]] std::span<const PartitionId> of_node(const Lists<PartitionId>& lists,
                                                     const NodeId& node) const;

  // Set at construction. A MemberIndex points into ids_, which is like version_.members.
  RingVersion version_;
  std::vector<NodeId> ids_;
  std::vector<NodeId> voters_;
  std::size_t copies_ = 0;
  std::size_t home_ = 0;
  std::size_t home_next_ = 0;
  std::size_t w_ = 0;
  std::vector<Sites::Site> homes_;
  Lists<MemberIndex> owners_;
  Lists<MemberIndex> owners_next_;   // Empty without a change.
  Lists<MemberIndex> owners_to_be_;  // Empty without a change.
  Lists<PartitionId> partitions_of_;
  Lists<PartitionId> partitions_to_be_of_;
  std::vector<PartitionId> zones_shared_;
};

}  // namespace starling::overlay
