#include "crypto/access/token.h"

#include <charconv>
#include <cstdio>
#include <limits>

#include "crypto/access/paseto.h"
#include "crypto/text.h"

namespace starling {
namespace {

// Binds the signature to this use: no other text that a node signs can pass as a token.
constexpr View kPurpose = "starling session token 1";

constexpr auto kTimeMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

Error refused(std::string why) {
  return {Errc::kUnauthenticated, "token: " + std::move(why) + ": log in with the password"};
}

void append_string(std::string& out, View text) {
  out.push_back('"');
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      out += escape;
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

// Reads what claims_to_json writes: no spaces, no nesting, only the escapes above.
class FlatJsonReader {
 public:
  explicit FlatJsonReader(View in) : in_(in) {}

  bool take(char c) {
    if (in_.empty() || in_.front() != c) return false;
    in_.remove_prefix(1);
    return true;
  }
  bool at(char c) const { return !in_.empty() && in_.front() == c; }
  bool at_end() const { return in_.empty(); }

  bool string(std::string& out) {
    out.clear();
    if (!take('"')) return false;
    while (!in_.empty() && !at('"')) {
      const auto c = static_cast<unsigned char>(in_.front());
      if (c < 0x20) return false;
      if (c == '\\') {
        if (!escape(out)) return false;
      } else {
        out.push_back(in_.front());
        in_.remove_prefix(1);
      }
    }
    return take('"') && is_utf8(out);
  }

  // 0, or digits that do not begin with 0.
  bool integer(std::uint64_t& out) {
    if (in_.size() > 1 && in_[0] == '0' && in_[1] >= '0' && in_[1] <= '9') return false;
    const auto [end, failed] = std::from_chars(in_.data(), in_.data() + in_.size(), out);
    if (failed != std::errc{}) return false;
    in_.remove_prefix(static_cast<std::size_t>(end - in_.data()));
    return true;
  }

 private:
  bool escape(std::string& out) {
    if (in_.starts_with("\\\"") || in_.starts_with("\\\\")) {
      out.push_back(in_[1]);
      in_.remove_prefix(2);
      return true;
    }
    if (!in_.starts_with("\\u00") || in_.size() < 6) return false;
    const auto code = parse_hex(in_.substr(4, 2));
    if (!code || static_cast<unsigned char>(code->front()) >= 0x20) return false;
    out.push_back(code->front());
    in_.remove_prefix(6);
    return true;
  }

  View in_;
};

struct Value {
  bool is_string = false;
  std::string text;
  std::uint64_t number = 0;
};

enum Claim : unsigned { kUser = 1, kDevice = 2, kEpoch = 4, kIssued = 8, kExpires = 16, kAll = 31 };

// The claim that `name` stands for, stored; 0 for a name we do not know; nothing for a wrong type.
std::optional<unsigned> store(TokenClaims& claims, View name, Value&& value) {
  const bool is_text = name == "sub" || name == "dev";
  const bool is_time = name == "issued_ms" || name == "expires_ms";
  if (!is_text && !is_time && name != "epoch") return 0u;
  if (is_text != value.is_string || (is_time && value.number > kTimeMax)) return std::nullopt;
  if (name == "sub") return claims.user = std::move(value.text), kUser;
  if (name == "dev") return claims.device = std::move(value.text), kDevice;
  if (name == "epoch") return claims.epoch = value.number, kEpoch;
  const auto time = static_cast<std::int64_t>(value.number);
  if (name == "issued_ms") return claims.issued_ms = time, kIssued;
  return claims.expires_ms = time, kExpires;
}

Error malformed() { return {Errc::kCorrupt, "the claims are not what a node of Starling writes"}; }

Status check_text(const char* what, View text, std::size_t size_max) {
  if (text.empty() || text.size() > size_max || !is_utf8(text)) {
    return Error{Errc::kInvalid, std::string(what) + " must be 1 to " + std::to_string(size_max) +
                                     " bytes of UTF-8"};
  }
  return ok_status();
}

}  // namespace

std::string claims_to_json(const TokenClaims& claims) {
  std::string out = "{\"sub\":";
  append_string(out, claims.user);
  out += ",\"dev\":";
  append_string(out, claims.device);
  out += ",\"epoch\":" + std::to_string(claims.epoch);
  out += ",\"issued_ms\":" + std::to_string(claims.issued_ms);
  out += ",\"expires_ms\":" + std::to_string(claims.expires_ms) + "}";
  return out;
}

Result<TokenClaims> claims_from_json(View json) {
  FlatJsonReader in(json);
  TokenClaims claims;
  unsigned seen = 0;
  if (!in.take('{')) return malformed();
  do {
    std::string name;
    Value value;
    if (!in.string(name) || !in.take(':')) return malformed();
    value.is_string = in.at('"');
    if (!(value.is_string ? in.string(value.text) : in.integer(value.number))) return malformed();
    const auto claim = store(claims, name, std::move(value));
    if (!claim || (seen & *claim) != 0) return malformed();
    seen |= *claim;
  } while (in.take(','));
  if (!in.take('}') || !in.at_end() || seen != kAll) return malformed();
  return claims;
}

Result<std::string> issue_token(const Identity& identity, const TokenClaims& claims) {
  TRY(check_text("the user", claims.user, kTokenUserSizeMax));
  TRY(check_text("the device name", claims.device, kTokenDeviceSizeMax));
  if (claims.issued_ms < 0 || claims.expires_ms < 0) {
    return Error{Errc::kInvalid, "a token from before 1970: set the clock right"};
  }
  if (claims.expires_ms - claims.issued_ms > kTokenLifeMaxMs) {
    return Error{Errc::kInvalid, "a token that would live longer than any may"};
  }
  return paseto_sign(identity, claims_to_json(claims), base32(identity.node_id().view()), kPurpose);
}

Result<TokenClaims> verify_token(View token, const KeyLookup& key_lookup,
                                 std::int64_t now_wall_ms) {
  if (token.size() > kTokenSizeMax) return refused("longer than any that we issue");
  TRY_ASSIGN(const Bytes footer, paseto_claimed_footer(token));
  const auto issuer = parse_base32(footer, NodeId::kSize);
  NodeId node;
  if (!issuer || !NodeId::from(*issuer, node)) return refused("it names no issuer");
  const auto key = key_lookup(node);
  if (!key) return refused("its issuer is not a member of this cluster");
  TRY_ASSIGN(const PasetoContent content, paseto_verify(*key, token, kPurpose));
  auto claims = claims_from_json(content.payload);
  if (!claims) return refused(claims.error().text);
  if (now_wall_ms >= claims->expires_ms) return refused("it has expired");
  if (claims->expires_ms - claims->issued_ms > kTokenLifeMaxMs) return refused("it lives longer than any may");
  if (claims->issued_ms - now_wall_ms > kTokenAheadMaxMs) {
    return refused("it was issued in the future by the clock here");
  }
  return claims;
}

}  // namespace starling
