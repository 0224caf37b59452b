#include "crypto/access/invite.h"

#include <charconv>

#include "crypto/hash.h"
#include "crypto/msgpack.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr View kWord = "starling";
constexpr View kInvitePrefix = "starling1-";
constexpr View kMacPurpose = "starling invite 1";
constexpr std::size_t kChecksumSize = 4;

struct Fields {
  Fixed<LineageTag, 16> lineage;
  std::vector<std::string> seeds;
  BlobView secret;
  std::int64_t expires_wall_ms = 0;
  InviteId id;
  FIELDS(lineage, seeds, secret, expires_wall_ms, id)
};

struct Body {
  Fixed<LineageTag, 16> lineage;
  std::vector<std::string> seeds;
  BlobView secret;
  std::int64_t expires_wall_ms = 0;
  InviteId id;
  InviteMac mac;
  FIELDS(lineage, seeds, secret, expires_wall_ms, id, mac)
};

struct ChecksumTag;
using Digest = Fixed<ChecksumTag, 16>;

Bytes checksum(View body) {
  return Bytes(blake2b_id<Digest>({body}).view().substr(0, kChecksumSize));
}

Status check_seed(View seed) {
  const auto colon = seed.rfind(':');
  std::uint32_t port = 0;
  bool good = colon != View::npos && colon > 0 && seed.size() <= kInviteSeedSizeMax;
  if (good) {
    const View digits = seed.substr(colon + 1);
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    good =
        failed == std::errc{} && end == digits.data() + digits.size() && port >= 1 && port <= 65535;
  }
  for (char c : seed) good = good && c > 0x20 && c < 0x7F;
  if (good) return ok_status();
  return Error{Errc::kInvalid, "invite: a seed must be host:port, with a port of 1 to 65535"};
}

Status check_seeds(const std::vector<std::string>& seeds) {
  if (seeds.empty() || seeds.size() > kInviteSeedsMax) {
    return Error{Errc::kInvalid,
                 "invite: names " + std::to_string(seeds.size()) + " seeds, must be 1 to 16"};
  }
  for (const auto& seed : seeds) TRY(check_seed(seed));
  return ok_status();
}

// The body inside the text, its checksum proven and taken off.
Result<Bytes> read_text(View text) {
  if (text.size() > kInviteTextSizeMax)
    return Error{Errc::kInvalid, "invite: longer than any invite"};
  if (!text.starts_with(kInvitePrefix)) {
    const auto dash = text.find('-');
    const View version = text.substr(0, dash);
    if (dash != View::npos && version.starts_with(kWord) && version.size() > kWord.size() &&
        version.find_first_not_of("0123456789", kWord.size()) == View::npos) {
      return Error{Errc::kUnsupported,
                   "invite: of a newer version, " + std::string(version) + ": upgrade this node"};
    }
    return Error{Errc::kInvalid, "invite: must begin with starling1-: copy the whole line"};
  }
  auto bytes = parse_base64url(text.substr(kInvitePrefix.size()));
  if (!bytes) return Error{Errc::kInvalid, "invite: " + bytes.error().text + ": copy it again"};
  if (bytes->size() < kChecksumSize ||
      checksum(View(*bytes).substr(0, bytes->size() - kChecksumSize)) !=
          View(*bytes).substr(bytes->size() - kChecksumSize)) {
    return Error{Errc::kInvalid, "invite: mistyped or cut short: copy it again"};
  }
  bytes->resize(bytes->size() - kChecksumSize);
  return bytes;
}

}  // namespace

InviteMac invite_mac(const Invite& invite) {
  Bytes fields = pack(Fields{
      invite.lineage, invite.seeds, {invite.secret.view()}, invite.expires_wall_ms, invite.id});
  const auto mac = blake2b_id<InviteMac>({kMacPurpose, fields}, invite.secret.view());
  wipe(fields);
  return mac;
}

Result<std::string> format_invite(const Invite& invite) {
  TRY(check_seeds(invite.seeds));
  Bytes body = pack(Body{invite.lineage,
                         invite.seeds,
                         {invite.secret.view()},
                         invite.expires_wall_ms,
                         invite.id,
                         invite_mac(invite)});
  body += checksum(body);
  std::string text = std::string(kInvitePrefix) + base64url(body);
  wipe(body);
  return text;
}

Result<Invite> parse_invite(View text) {
  TRY_ASSIGN(Bytes bytes, read_text(text));
  auto body = unpack<Body>(bytes);
  Invite out;
  if (!body || !SecretKey::from(body->secret.data, out.secret)) {
    wipe(bytes);
    return Error{Errc::kInvalid, "invite: its checksum is right but its content is not an invite"};
  }
  wipe(bytes);
  out.lineage = body->lineage;
  out.seeds = std::move(body->seeds);
  out.expires_wall_ms = body->expires_wall_ms;
  out.id = body->id;
  TRY(check_seeds(out.seeds));
  if (!equal_in_constant_time(invite_mac(out).view(), body->mac.view())) {
    return Error{Errc::kUnauthenticated, "invite: changed after it was made: ask for a new one"};
  }
  return out;
}

Status check_time(const Invite& invite, std::int64_t now_wall_ms) {
  // As unsigned numbers: it may say any time.
  const auto until = static_cast<std::uint64_t>(invite.expires_wall_ms);
  const auto now = static_cast<std::uint64_t>(now_wall_ms);
  if (invite.expires_wall_ms <= now_wall_ms) {
    return Error{Errc::kUnauthenticated,
                 "invite: expired " + span_text(now - until) +
                     " ago by the clock here: set that right (NTP) if it is wrong, else ask a "
                     "member for a new one (starling invite)"};
  }
  constexpr auto kMost = static_cast<std::uint64_t>(kInviteLifeMaxMs + kInviteClockSlackMs);
  if (until - now <= kMost) return ok_status();
  return Error{Errc::kClock, "invite: good for another " + span_text(until - now) +
                                 ", and none is made for longer than 30 days: the clock of the "
                                 "node that made it is ahead, or the one here behind. Set that "
                                 "right (NTP) and make another (starling invite)"};
}

}  // namespace starling
