// Text: bytes as people, URLs and files carry them, and the one UTF-8 decoder.
//
// Every reader here accepts exactly the texts that its writer makes, plus what is said beside it,
// so one value has one text. Readers return kInvalid and name the place.
// Thread: any; no shared state.
#pragma once

#include <optional>
#include <string>

#include "crypto/bytes.h"
#include "crypto/result.h"

namespace starling {

std::string hex(View bytes);         // Lower case.
Result<Bytes> parse_hex(View text);  // Either case.

// Crockford base32 of the bytes as one big-endian number with leading zeros, in upper case: texts
// of equal length sort like the bytes. 16 bytes make 26 characters.
std::string base32(View bytes);
inline constexpr std::size_t base32_size(std::size_t bytes) { return (bytes * 8 + 4) / 5; }
// Reads either case, and I, L as 1 and O as 0, as people copy by hand.
Result<Bytes> parse_base32(View text, std::size_t size);

// Without padding: the alphabet of URLs (PASETO, invites), and the standard one (password hashes).
std::string base64url(View bytes);
Result<Bytes> parse_base64url(View text);
std::string base64(View bytes);

// "850 ms", "47 s", "12 min", "3 h" or "30 days", rounded down.
std::string span_text(std::uint64_t ms);

// Takes the first code point off `text`. Nothing for an empty text or bytes that are not UTF-8
// (overlong forms, surrogates and values past U+10FFFF included); `text` then stays as it is.
std::optional<char32_t> next_code_point(View& text);
bool is_utf8(View text);

}  // namespace starling
