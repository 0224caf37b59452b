#include "overlay/gossip/member_record.h"

#include <cassert>

namespace starling::overlay {
namespace {

// Signatures of one purpose must not pass for another's.
Bytes to_be_signed(View body) {
  Bytes out = "starling member record v1";
  out.push_back('\0');
  out.append(body);
  return out;
}

}  // namespace

Status check_record(const MemberRecord& record) {
  for (const std::string* text : {&record.gossip, &record.link, &record.client, &record.admin}) {
    if (text->size() > kEndpointTextMax) {
      return Error{Errc::kTooLarge, "an address of the node is too long; use a shorter one"};
    }
  }
  if (record.zone.size() > kZoneSizeMax) {
    return Error{Errc::kTooLarge, "the zone name is longer than 32 bytes; use a shorter one"};
  }
  if (record.version.size() > kVersionTextMax) {
    return Error{Errc::kTooLarge, "the version text is longer than 32 bytes; use a shorter one"};
  }
  if (record.incarnation > kIncarnationMax) {
    return Error{Errc::kInvalid, "the incarnation is out of range"};
  }
  return ok_status();
}

Bytes sign_record(const MemberRecord& record, const Identity& identity) {
  assert(check_record(record).ok());
  SignedRecord out;
  out.body.data = pack(record);
  out.signature = identity.sign(to_be_signed(out.body.data));
  Bytes bytes = pack(out);
  assert(bytes.size() <= kRecordSizeMax);
  return bytes;
}

Result<MemberRecord> read_record(View signed_bytes) {
  if (signed_bytes.size() > kRecordSizeMax) {
    return Error{Errc::kCorrupt, "a member record is over its size limit"};
  }
  TRY_ASSIGN(const SignedRecord outer, unpack<SignedRecord>(signed_bytes));
  TRY_ASSIGN(MemberRecord record, unpack<MemberRecord>(outer.body.data));
  TRY(check_record(record));
  return record;
}

Status verify_record(const MemberRecord& record, View signed_bytes) {
  if (fingerprint(record.key) != record.node) {
    return Error{Errc::kDenied, "a member record names a node whose key it does not hold"};
  }
  TRY_ASSIGN(const SignedRecord outer, unpack<SignedRecord>(signed_bytes));
  if (!verify(record.key, to_be_signed(outer.body.data), outer.signature)) {
    return Error{Errc::kDenied, "a member record is not signed by its node"};
  }
  return ok_status();
}

}  // namespace starling::overlay
