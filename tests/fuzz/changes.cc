// What is on disk and between replicas: changes, rows, vectors. The checksum of a change is set right, so that
// what lies behind it is reached.
#include <xxhash.h>

#include "storage/change.h"
#include "storage/layout.h"
#include "storage/version_vector.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::storage;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  const Dot dot{WriterId{0x1122334455667788}, 9};
  (void)decode(in, dot);
  if (size > 8) {
    Bytes sealed(in.substr(0, size - 8));
    Bytes seed;
    BytesWriter(seed).u64le(dot.writer.value);
    BytesWriter(seed).u64le(dot.n);
    BytesWriter(sealed).u64le(XXH3_64bits_withSeed(sealed.data(), sealed.size(),
                                                   XXH3_64bits(seed.data(), seed.size())));
    if (const auto change = decode(sealed, dot)) {
      fuzz::require(encode(*change, dot) == sealed, "a change that is read is not what was written");
      (void)content_hash(change->entry, change->kind);
      if (change->kind == ChangeKind::kRegister) (void)wins(change->reg, change->reg);
    }
  }
  (void)parse_lane_key(in);
  (void)parse_dot_key(in, 2);
  (void)parse_partition_key(in);
  (void)parse_number(in);
  (void)parse_entry_row(in);
  (void)parse_mailbox_dot(in);
  (void)parse_key_row(in);
  (void)parse_register_row(in);
  if (const auto row = parse_journal_row(in)) {
    fuzz::require(journal_value(*row) == in, "a row of the journal that is read is not what was written");
  }
  if (const auto row = parse_split_row(in)) {
    fuzz::require(split_value(*row) == in, "how far a split is settled is not what was written");
  }
  fuzz::round_trips<VersionVector, MemberValue>(in);
  return 0;
}
