#include "crypto/access/paseto.h"

#include <initializer_list>

#include "crypto/text.h"

namespace starling {
namespace {

constexpr View kPublic = "v4.public.";

Error bad_paseto(std::string why) { return {Errc::kUnauthenticated, "token: " + std::move(why)}; }

// Pre-authentication encoding: no two lists of parts give the same bytes.
Bytes pae(std::initializer_list<View> parts) {
  Bytes out;
  BytesWriter writer(out);
  writer.u64le(parts.size());
  for (View part : parts) {
    writer.u64le(part.size());
    writer.raw(part);
  }
  return out;
}

std::string join(View header, View body, View footer) {
  std::string out = std::string(header) + base64url(body);
  if (!footer.empty()) out += "." + base64url(footer);
  return out;
}

// Undoes join; `payload` is the body here.
Result<PasetoContent> cut(View header, View token) {
  if (token.size() > kPasetoSizeMax) return bad_paseto("longer than any that we make");
  if (!token.starts_with(header)) return bad_paseto("not of the form " + std::string(header));
  token.remove_prefix(header.size());
  const auto dot = token.find('.');
  auto body = parse_base64url(token.substr(0, dot));
  if (!body) return bad_paseto(body.error().text);
  if (dot == View::npos) return PasetoContent{std::move(*body), {}};
  auto footer = parse_base64url(token.substr(dot + 1));
  if (!footer) return bad_paseto(footer.error().text);
  if (footer->empty()) return bad_paseto("a footer without bytes");
  return PasetoContent{std::move(*body), std::move(*footer)};
}

}  // namespace

std::string paseto_sign(const Identity& identity, View payload, View footer, View implicit) {
  const Signature signature = identity.sign(pae({kPublic, payload, footer, implicit}));
  return join(kPublic, Bytes(payload) + Bytes(signature.view()), footer);
}

Result<PasetoContent> paseto_verify(const PublicKey& key, View token, View implicit) {
  TRY_ASSIGN(PasetoContent content, cut(kPublic, token));
  if (content.payload.size() < Signature::kSize) return bad_paseto("cut short");
  const std::size_t size = content.payload.size() - Signature::kSize;
  Signature signature;
  Signature::from(View(content.payload).substr(size), signature);
  content.payload.resize(size);
  if (!verify(key, pae({kPublic, content.payload, content.footer, implicit}), signature)) {
    return bad_paseto("changed, or signed by another key");
  }
  return content;
}

Result<Bytes> paseto_claimed_footer(View token) {
  TRY_ASSIGN(PasetoContent content, cut(kPublic, token));
  return std::move(content.footer);
}

}  // namespace starling
