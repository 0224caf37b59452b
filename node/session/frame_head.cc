#include "node/session/frame_head.h"

namespace starling::node::protocol {
namespace {

// Below this size even a frame of nothing but elements is cheap.
constexpr std::size_t kCountedFrom = 64 << 10;

class ElementCounter : public msgpack::null_visitor {
 public:
  bool start_array(std::uint32_t n) { return count(n); }
  bool start_map(std::uint32_t n) { return count(std::uint64_t{n} * 2); }
  [[nodiscard]] std::uint64_t elements() const { return elements_; }

 private:
  bool count(std::uint64_t n) {
    elements_ += n;
    return elements_ <= kFrameElementsMax;
  }
  std::uint64_t elements_ = 0;
};

std::optional<std::uint32_t> array_size(BytesReader& in) {
  const std::uint8_t marker = in.u8();
  if ((marker & 0xf0) == 0x90) return marker & 0x0f;
  if (marker == 0xdc) return in.u16be();
  if (marker == 0xdd) return in.u32be();
  return std::nullopt;
}

std::optional<std::uint64_t> number(BytesReader& in) {
  const std::uint8_t tag = in.u8();
  if (tag < 0x80) return tag;
  if (tag == 0xcc) return in.u8();
  if (tag == 0xcd) return in.u16be();
  if (tag == 0xce) return in.u32be();
  if (tag == 0xcf) return in.u64be();
  if (tag < 0xd0 || tag > 0xd3) return std::nullopt;
  const int bits = 8 << (tag - 0xd0);  // A signed form, of a number that is not negative.
  const std::uint64_t value = bits == 8 ? in.u8() : bits == 16 ? in.u16be() : bits == 32 ? in.u32be() : in.u64be();
  if ((value >> (bits - 1)) != 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<Head> peek_head(View body) {
  BytesReader in(body);
  const auto fields = array_size(in);
  if (!fields) return std::nullopt;
  Head head;
  if (*fields > 0) {
    const auto type = number(in);
    if (!type || *type > 0xff) return std::nullopt;
    head.type = static_cast<std::uint8_t>(*type);
  }
  if (*fields > 1) {
    const auto request = number(in);
    if (!request) return std::nullopt;
    head.request = *request;
  }
  if (!in.ok()) return std::nullopt;
  return head;
}

Result<Head> read_head(View body) {
  TRY(msgpack_detail::check(body));
  const auto head = peek_head(body);
  if (!head) return Error{Errc::kCorrupt, "a frame begins with its type and the number of the request"};
  if (body.size() > kCountedFrom) {
    ElementCounter counter;
    std::size_t offset = 0;
    msgpack::parse(body.data(), body.size(), offset, counter);
    if (counter.elements() > kFrameElementsMax) {
      return Error{Errc::kCorrupt, "a frame of more than " + std::to_string(kFrameElementsMax) + " elements"};
    }
  }
  return *head;
}

std::size_t count_mailboxes(View sync) {
  BytesReader in(sync);
  const auto fields = array_size(in);
  if (!fields || *fields < 4) return 0;
  number(in);
  number(in);
  const std::uint8_t bin = in.u8();  // The lineage.
  if (bin < 0xc4 || bin > 0xc6) return 0;
  in.raw(bin == 0xc4 ? in.u8() : bin == 0xc5 ? in.u16be() : in.u32be());
  const auto mailboxes = array_size(in);
  return in.ok() && mailboxes ? *mailboxes : 0;
}

}  // namespace starling::node::protocol
