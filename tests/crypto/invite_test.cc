#include "crypto/access/invite.h"

#include <limits>

#include <gtest/gtest.h>

#include "crypto/hash.h"
#include "crypto/msgpack.h"
#include "tests/crypto/support.h"

namespace starling {
namespace {

Invite sample() {
  Invite out;
  out.lineage.raw.fill(1);
  out.seeds = {"node1.example.org:7400", "[::1]:7401"};
  out.secret = key_of(2);
  out.expires_wall_ms = 1'700'000'000'000;
  out.id.raw.fill(3);
  return out;
}

struct RawBody {
  Fixed<LineageTag, 16> lineage;
  std::vector<std::string> seeds;
  Blob secret;
  std::int64_t expires_wall_ms;
  InviteId id;
  InviteMac mac;
  FIELDS(lineage, seeds, secret, expires_wall_ms, id, mac)
};

RawBody raw(const Invite& invite, const InviteMac& mac) {
  return {invite.lineage,         invite.seeds, {Bytes(invite.secret.view())},
          invite.expires_wall_ms, invite.id,    mac};
}

// With a right checksum, whatever the body is.
std::string with_checksum(const Bytes& body) {
  struct DigestTag;
  const auto digest = blake2b_id<Fixed<DigestTag, 16>>({body});
  return "starling1-" + base64url(body + Bytes(digest.view().substr(0, 4)));
}

TEST(Invite, ReadsBackWhatItWrites) {
  const auto text = format_invite(sample());
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(text->starts_with("starling1-"));
  const auto again = parse_invite(*text);
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(*again, sample());
  EXPECT_EQ(with_checksum(pack(raw(sample(), invite_mac(sample())))), *text);
}

TEST(Invite, TellsATypingErrorAndACut) {
  const std::string text = format_invite(sample()).value();
  for (std::size_t i = 10; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    const auto got = parse_invite(changed);
    EXPECT_EQ(got.code(), Errc::kInvalid) << i;
    EXPECT_NE(got.error().text.find("copy it again"), std::string::npos) << got.error().text;
    EXPECT_EQ(parse_invite(View(text).substr(0, i)).code(), Errc::kInvalid) << i;
  }
  EXPECT_EQ(parse_invite(text + "\n").code(), Errc::kInvalid);
  EXPECT_EQ(parse_invite("starling1-" + Bytes(kInviteTextSizeMax, 'A')).code(), Errc::kInvalid);
}

TEST(Invite, TellsWhatIsNoInviteAndWhatIsNewer) {
  for (View bad : {"", "hello", "starling-AAAA", "starlingx-AAAA", "starling2", "v4.public.x"}) {
    EXPECT_EQ(parse_invite(bad).code(), Errc::kInvalid) << bad;
  }
  EXPECT_EQ(parse_invite("starling2-AAAA").code(), Errc::kUnsupported);
}

TEST(Invite, TellsWhatWasChangedByOneWithoutTheSecret) {
  const InviteMac mac = invite_mac(sample());
  const auto code = [&](auto change) {
    Invite invite = sample();
    change(invite);
    EXPECT_NE(invite_mac(invite), mac);
    return parse_invite(with_checksum(pack(raw(invite, mac)))).code();
  };
  EXPECT_EQ(code([](Invite& i) { i.lineage.raw[0] ^= 1; }), Errc::kUnauthenticated);
  EXPECT_EQ(code([](Invite& i) { i.seeds[0] = "evil:1"; }), Errc::kUnauthenticated);
  EXPECT_EQ(code([](Invite& i) { i.secret.raw[0] ^= 1; }), Errc::kUnauthenticated);
  EXPECT_EQ(code([](Invite& i) { i.expires_wall_ms += 1; }), Errc::kUnauthenticated);
  EXPECT_EQ(code([](Invite& i) { i.id.raw[0] ^= 1; }), Errc::kUnauthenticated);
}

TEST(Invite, RefusesABodyThatIsNotAnInvite) {
  EXPECT_EQ(parse_invite(with_checksum("")).code(), Errc::kInvalid);
  EXPECT_EQ(parse_invite(with_checksum(pack(std::string("x")))).code(), Errc::kInvalid);
  RawBody short_secret = raw(sample(), invite_mac(sample()));
  short_secret.secret.data.resize(31);
  EXPECT_EQ(parse_invite(with_checksum(pack(short_secret))).code(), Errc::kInvalid);
}

TEST(Invite, NamesOneTo16SeedsWithHostAndPort) {
  Invite invite = sample();
  for (const char* bad : {"", "host", "host:", ":7400", "host:0", "host:65536", "host:7x",
                          "ho st:1", "host:-1", "h\xc3\xb6st:1"}) {
    invite.seeds = {bad};
    EXPECT_EQ(format_invite(invite).code(), Errc::kInvalid) << bad;
    EXPECT_EQ(parse_invite(with_checksum(pack(raw(invite, invite_mac(invite))))).code(),
              Errc::kInvalid);
  }
  invite.seeds = {};
  EXPECT_EQ(format_invite(invite).code(), Errc::kInvalid);
  invite.seeds.assign(kInviteSeedsMax, Bytes(253, 'h') + ":65535");
  const auto longest = format_invite(invite);
  ASSERT_TRUE(longest.ok());
  EXPECT_EQ(parse_invite(*longest).value(), invite);
  invite.seeds.push_back("one:1");
  EXPECT_EQ(format_invite(invite).code(), Errc::kInvalid);
}

TEST(Invite, EndsAtItsTime) {
  Invite invite = sample();
  EXPECT_TRUE(check_time(invite, invite.expires_wall_ms - 1).ok());
  EXPECT_EQ(check_time(invite, invite.expires_wall_ms).code(), Errc::kUnauthenticated);
  const auto over = check_time(invite, invite.expires_wall_ms + 3 * 3600 * 1000);
  EXPECT_NE(over.error().text.find("3 h ago"), std::string::npos) << over.error().text;
  EXPECT_NE(over.error().text.find("starling invite"), std::string::npos);
  // Made by a clock that is ahead, or looked at by one that is behind.
  EXPECT_TRUE(check_time(invite, invite.expires_wall_ms - kInviteLifeMaxMs).ok());
  const auto early = check_time(invite, invite.expires_wall_ms - 2 * kInviteLifeMaxMs);
  EXPECT_EQ(early.code(), Errc::kClock);
  EXPECT_NE(early.error().text.find("60 days"), std::string::npos) << early.error().text;
  EXPECT_NE(early.error().text.find("NTP"), std::string::npos);
  for (const auto time : {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
    invite.expires_wall_ms = time;
    EXPECT_FALSE(check_time(invite, 1'700'000'000'000).ok()) << time;
  }
}

}  // namespace
}  // namespace starling
