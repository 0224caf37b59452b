// msgpack: how every structured body is written and read, on the wires and on disk.
//
// A message is a plain struct with FIELDS(names...): an array, so new fields go to the end; an older
// reader ignores them, a newer one keeps the default of what is missing. Raw bytes are `Blob` (msgpack
// bin), text is std::string (msgpack str), ids (`Fixed`) are bin of their exact length.
// Unpacking is safe on hostile bytes: a first pass refuses nesting deeper than kMsgpackDepthMax and any
// array or map that declares more elements than bytes are left, before anything is allocated.
// Thread: any; no shared state.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <msgpack.hpp>

#include "crypto/bytes.h"
#include "crypto/result.h"

namespace starling {

inline constexpr std::uint32_t kMsgpackDepthMax = 16;

struct Blob {
  Bytes data;
  friend bool operator==(const Blob&, const Blob&) = default;
};

// A bin that borrows from the frame it was read from, or from the caller's bytes when packing.
struct BlobView {
  View data;
};

namespace msgpack_detail {
template <class Packer, class... Field>
void pack_fields(Packer& packer, const Field&... field) {
  packer.pack_array(sizeof...(Field));
  (packer.pack(field), ...);
}
template <class... Field>
void unpack_fields(const msgpack::object& in, Field&... field) {
  if (in.type != msgpack::type::ARRAY) throw msgpack::type_error();
  const msgpack::object* at = in.via.array.ptr;
  const msgpack::object* const end = at + in.via.array.size;
  ((at != end ? void(at++->convert(field)) : void()), ...);
}

// Ok when `in` is exactly one msgpack value inside the limits.
Status check(View in);
struct Sink {
  Bytes& out;
  void write(const char* data, std::size_t n) { out.append(data, n); }
};
}  // namespace msgpack_detail

// Says which members of a struct are written, in which order. In place of MSGPACK_DEFINE_ARRAY, with
// which every file that includes the struct compiles its reader and writer, used or not.
#define FIELDS(...)                                                 \
  template <class Packer>                                           \
  void msgpack_pack(Packer& packer) const {                         \
    ::starling::msgpack_detail::pack_fields(packer, __VA_ARGS__);   \
  }                                                                 \
  template <class Object>                                           \
  void msgpack_unpack(Object in) {                                  \
    ::starling::msgpack_detail::unpack_fields(in, __VA_ARGS__);     \
  }

template <class T>
void pack_into(Bytes& out, const T& value) {
  msgpack_detail::Sink sink{out};
  msgpack::packer<msgpack_detail::Sink> packer(sink);
  packer.pack(value);
}

template <class T>
Bytes pack(const T& value) {
  Bytes out;
  pack_into(out, value);
  return out;
}

// kCorrupt for bytes that are not one well-formed T. Views inside T borrow from `in`.
template <class T>
Result<T> unpack(View in) {
  TRY(msgpack_detail::check(in));
  try {
    msgpack::zone zone(1024);
    const msgpack::object object = msgpack::unpack(
        zone, in.data(), in.size(), [](msgpack::type::object_type, std::size_t, void*) { return true; });
    return object.as<T>();
  } catch (const std::exception& e) {
    return Error{Errc::kCorrupt, std::string("not the expected message: ") + e.what()};
  }
}

}  // namespace starling

namespace msgpack {
MSGPACK_API_VERSION_NAMESPACE(MSGPACK_DEFAULT_API_NS) {
namespace adaptor {

template <class Tag, std::size_t N>
struct pack<starling::Fixed<Tag, N>> {
  template <typename Stream>
  msgpack::packer<Stream>& operator()(msgpack::packer<Stream>& o,
                                      const starling::Fixed<Tag, N>& v) const {
    o.pack_bin(N);
    o.pack_bin_body(reinterpret_cast<const char*>(v.raw.data()), N);
    return o;
  }
};
template <class Tag, std::size_t N>
struct convert<starling::Fixed<Tag, N>> {
  const msgpack::object& operator()(const msgpack::object& o, starling::Fixed<Tag, N>& v) const {
    if (o.type != msgpack::type::BIN || o.via.bin.size != N) throw msgpack::type_error();
    std::memcpy(v.raw.data(), o.via.bin.ptr, N);
    return o;
  }
};

template <class Tag, class Rep>
struct pack<starling::Id<Tag, Rep>> {
  template <typename Stream>
  msgpack::packer<Stream>& operator()(msgpack::packer<Stream>& o,
                                      const starling::Id<Tag, Rep>& v) const {
    return o.pack(v.value);
  }
};
template <class Tag, class Rep>
struct convert<starling::Id<Tag, Rep>> {
  const msgpack::object& operator()(const msgpack::object& o, starling::Id<Tag, Rep>& v) const {
    v.value = o.as<Rep>();
    return o;
  }
};

template <>
struct pack<starling::Blob> {
  template <typename Stream>
  msgpack::packer<Stream>& operator()(msgpack::packer<Stream>& o, const starling::Blob& v) const {
    o.pack_bin(static_cast<std::uint32_t>(v.data.size()));
    o.pack_bin_body(v.data.data(), static_cast<std::uint32_t>(v.data.size()));
    return o;
  }
};
template <>
struct convert<starling::Blob> {
  const msgpack::object& operator()(const msgpack::object& o, starling::Blob& v) const {
    if (o.type != msgpack::type::BIN) throw msgpack::type_error();
    v.data.assign(o.via.bin.ptr, o.via.bin.size);
    return o;
  }
};
template <>
struct pack<starling::BlobView> {
  template <typename Stream>
  msgpack::packer<Stream>& operator()(msgpack::packer<Stream>& o,
                                      const starling::BlobView& v) const {
    o.pack_bin(static_cast<std::uint32_t>(v.data.size()));
    o.pack_bin_body(v.data.data(), static_cast<std::uint32_t>(v.data.size()));
    return o;
  }
};
template <>
struct convert<starling::BlobView> {
  const msgpack::object& operator()(const msgpack::object& o, starling::BlobView& v) const {
    if (o.type != msgpack::type::BIN) throw msgpack::type_error();
    v.data = {o.via.bin.ptr, o.via.bin.size};
    return o;
  }
};

}  // namespace adaptor
}  // MSGPACK_API_VERSION_NAMESPACE
}  // namespace msgpack
