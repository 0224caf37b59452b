#include "node/replication/catch_up/digests.h"

#include <map>
#include <set>

#include "crypto/hash.h"

namespace starling::node {

namespace {

std::uint64_t hash(View bytes) {
  std::array<std::uint8_t, 16> out{};
  blake2b(out, {bytes});
  return BytesReader({reinterpret_cast<const char*>(out.data()), out.size()}).u64be();
}

}  // namespace

std::uint64_t digest_of(const storage::Store& store, PartitionId partition) {
  const std::uint64_t vector = store.vector(partition).digest();
  const auto lost = store.lost(partition);
  if (lost.empty()) return vector;
  Bytes bytes;
  BytesWriter out(bytes);
  out.u64be(vector);
  for (const auto& dot : lost) {
    out.u64be(dot.writer.value);
    out.u64be(dot.n);
  }
  return hash(bytes);
}

std::vector<CompareRequest::Span> spans_with(const ClusterView& view, const NodeId& peer) {
  std::map<std::uint16_t, Bytes> spans;
  for (const auto partition : view.store.touched()) {
    if (!view.is_owner(partition) || !view.ring().is_owner(partition, peer)) continue;
    BytesWriter out(spans[span_of(partition)]);
    out.u16be(partition.value);
    out.u64be(digest_of(view.store, partition));
  }
  std::vector<CompareRequest::Span> digests;
  for (const auto& [number, bytes] : spans) digests.push_back({number, hash(bytes)});
  return digests;
}

std::vector<std::uint16_t> differing_spans(const ClusterView& view, const NodeId& asker,
                                           const std::vector<CompareRequest::Span>& theirs) {
  std::map<std::uint16_t, std::uint64_t> left;
  for (const auto& span : theirs) left[span.number] = span.digest;
  std::set<std::uint16_t> differ;
  for (const auto& span : spans_with(view, asker)) {
    const auto it = left.find(span.number);
    if (it == left.end() || it->second != span.digest) differ.insert(span.number);
    if (it != left.end()) left.erase(it);
  }
  for (const auto& [number, digest] : left) differ.insert(number);
  for (const auto partition : view.store.touched()) {
    const auto& ring = view.ring();
    const bool shared = view.is_owner(partition) && ring.is_owner(partition, asker);
    const bool theirs_too = ring.is_owner(partition, asker) || ring.is_owner_to_be(partition, asker);
    if (theirs_too && !shared) differ.insert(span_of(partition));
  }
  return {differ.begin(), differ.end()};
}

}  // namespace starling::node
