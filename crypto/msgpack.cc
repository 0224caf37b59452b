#include "crypto/msgpack.h"

namespace starling::msgpack_detail {
namespace {

// Walks the bytes and allocates nothing. Every element takes at least one byte, so the elements
// declared and not yet seen may never exceed the bytes that are left (summed over the whole frame).
class CheckingVisitor : public msgpack::null_visitor {
 public:
  explicit CheckingVisitor(std::size_t size) : budget_(size) {}

  bool start_array(std::uint32_t n) { return enter(n); }
  bool end_array() { return leave(); }
  bool start_map(std::uint32_t n) { return enter(std::uint64_t{n} * 2); }
  bool end_map() { return leave(); }
  bool visit_ext(const char*, std::uint32_t) { return refuse("an ext value"); }
  void parse_error(std::size_t, std::size_t) { refuse("malformed bytes"); }
  void insufficient_bytes(std::size_t, std::size_t) { refuse("cut short"); }

  const char* reason = nullptr;

 private:
  bool enter(std::uint64_t elements) {
    if (++depth_ > kMsgpackDepthMax) return refuse("nested too deep");
    if (elements > budget_) return refuse("declares more elements than it has bytes");
    budget_ -= elements;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }
  bool refuse(const char* why) {
    if (reason == nullptr) reason = why;
    return false;
  }
  std::uint64_t budget_;
  std::uint32_t depth_ = 0;
};

}  // namespace

Status check(View in) {
  CheckingVisitor visitor(in.size());
  std::size_t offset = 0;
  const bool whole = msgpack::parse(in.data(), in.size(), offset, visitor);
  if (visitor.reason != nullptr) return Error{Errc::kCorrupt, std::string("msgpack: ") + visitor.reason};
  if (!whole) return Error{Errc::kCorrupt, "msgpack: cut short"};
  if (offset != in.size()) return Error{Errc::kCorrupt, "msgpack: bytes after the end"};
  return ok_status();
}

}  // namespace starling::msgpack_detail
