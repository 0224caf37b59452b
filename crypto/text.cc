#include "crypto/text.h"

#include <sodium.h>

namespace starling {
namespace {

constexpr View kHexDigits = "0123456789abcdef";
constexpr View kCrockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

int crockford_digit(char c) {
  if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  if (c == 'I' || c == 'L') return 1;
  if (c == 'O') return 0;
  const auto at = kCrockford.find(c);
  return at == View::npos ? -1 : static_cast<int>(at);
}

Error bad_character(const char* what, std::size_t at) {
  return {Errc::kInvalid,
          std::string(what) + ": character " + std::to_string(at + 1) + " does not belong there"};
}

std::string to_base64(View bytes, int variant) {
  std::string out(sodium_base64_encoded_len(bytes.size(), variant), '\0');
  sodium_bin2base64(out.data(), out.size(), octets(bytes),
                    bytes.size(), variant);
  out.pop_back();  // The terminating zero.
  return out;
}

}  // namespace

std::string hex(View bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (char c : bytes) {
    const auto byte = static_cast<std::uint8_t>(c);
    out.push_back(kHexDigits[byte >> 4]);
    out.push_back(kHexDigits[byte & 15]);
  }
  return out;
}

Result<Bytes> parse_hex(View text) {
  if (text.size() % 2 != 0) return Error{Errc::kInvalid, "hex: an odd number of digits"};
  Bytes out;
  out.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_digit(text[i]);
    const int low = hex_digit(text[i + 1]);
    if (high < 0) return bad_character("hex", i);
    if (low < 0) return bad_character("hex", i + 1);
    out.push_back(static_cast<char>(high << 4 | low));
  }
  return out;
}

std::string base32(View bytes) {
  std::string out;
  out.reserve(base32_size(bytes.size()));
  std::uint32_t acc = 0;
  std::size_t bits = base32_size(bytes.size()) * 5 - bytes.size() * 8;  // Leading zero bits.
  for (char c : bytes) {
    acc = (acc << 8) | static_cast<std::uint8_t>(c);
    for (bits += 8; bits >= 5;) {
      bits -= 5;
      out.push_back(kCrockford[(acc >> bits) & 31]);
    }
  }
  return out;
}

Result<Bytes> parse_base32(View text, std::size_t size) {
  if (text.size() != base32_size(size)) {
    return Error{Errc::kInvalid, "base32: " + std::to_string(text.size()) + " characters where " +
                                     std::to_string(base32_size(size)) + " belong"};
  }
  Bytes out;
  out.reserve(size);
  std::uint32_t acc = 0;
  std::size_t bits = 0;
  std::size_t skip = base32_size(size) * 5 - size * 8;  // Leading bits, which must be zero.
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = crockford_digit(text[i]);
    if (digit < 0) return bad_character("base32", i);
    if (i == 0 && (digit >> (5 - skip)) != 0) return bad_character("base32", i);
    acc = (acc << 5) | static_cast<std::uint32_t>(digit);
    bits += 5 - (i == 0 ? skip : 0);
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<char>(acc >> bits));
    }
  }
  return out;
}

std::string base64url(View bytes) {
  return to_base64(bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

std::string base64(View bytes) {
  return to_base64(bytes, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
}

Result<Bytes> parse_base64url(View text) {
  Bytes out(text.size() / 4 * 3 + 3, '\0');
  std::size_t size = 0;
  const char* end = nullptr;
  const int failed = sodium_base642bin(reinterpret_cast<unsigned char*>(out.data()), out.size(),
                                       text.data(), text.size(), nullptr, &size, &end,
                                       sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  const auto read = static_cast<std::size_t>(end - text.data());
  if (read != text.size()) return bad_character("base64url", read);
  if (failed != 0)
    return Error{Errc::kInvalid, "base64url: cut short, or its last character is wrong"};
  out.resize(size);
  return out;
}

std::string span_text(std::uint64_t ms) {
  constexpr std::uint64_t kSecond = 1000, kMinute = 60 * kSecond, kHour = 60 * kMinute;
  constexpr std::uint64_t kDay = 24 * kHour;
  if (ms < kSecond) return std::to_string(ms) + " ms";
  if (ms < 2 * kMinute) return std::to_string(ms / kSecond) + " s";
  if (ms < 2 * kHour) return std::to_string(ms / kMinute) + " min";
  if (ms < 2 * kDay) return std::to_string(ms / kHour) + " h";
  return std::to_string(ms / kDay) + " days";
}

std::optional<char32_t> next_code_point(View& text) {
  if (text.empty()) return std::nullopt;
  const auto first = static_cast<std::uint8_t>(text[0]);
  if (first < 0x80) {
    text.remove_prefix(1);
    return first;
  }
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return std::nullopt;
  char32_t point = first & (0x7F >> size);
  for (std::size_t i = 1; i < size; ++i) {
    const auto next = static_cast<std::uint8_t>(text[i]);
    if ((next & 0xC0) != 0x80) return std::nullopt;
    point = point << 6 | (next & 0x3F);
  }
  const bool overlong = (size == 3 && point < 0x800) || (size == 4 && point < 0x10000);
  const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  if (overlong || surrogate || point > 0x10FFFF) return std::nullopt;
  text.remove_prefix(size);
  return point;
}

bool is_utf8(View text) {
  while (!text.empty()) {
    if (!next_code_point(text)) return false;
  }
  return true;
}

}  // namespace starling
