#include "overlay/links/frame.h"

#include <algorithm>
#include <cassert>

namespace starling::overlay {
namespace {

std::size_t size_of(const Frame& frame) { return kFrameHeaderSize + frame.body.size(); }

}  // namespace

void append_frame(Bytes& out, const Frame& frame) {
  assert(frame.body.size() <= kFrameBodySizeMax);
  BytesWriter writer(out);
  writer.u32le(static_cast<std::uint32_t>(frame.body.size()));
  writer.u8(static_cast<std::uint8_t>(frame.type));
  writer.u8(frame.flags);
  writer.u16le(static_cast<std::uint16_t>(frame.method));
  writer.u64le(frame.request);
  writer.raw(frame.body);
}

Result<std::optional<FrameView>> parse_frame(View in) {
  if (in.size() < kFrameHeaderSize) return std::optional<FrameView>();
  BytesReader reader(in);
  FrameView frame;
  const std::uint32_t size = reader.u32le();
  const std::uint8_t type = reader.u8();
  if (size > kFrameBodySizeMax) {
    return Error{Errc::kCorrupt, "a frame of " + std::to_string(size) + " bytes is over the limit"};
  }
  if (type < static_cast<std::uint8_t>(FrameType::kRequest) ||
      type > static_cast<std::uint8_t>(FrameType::kNotice)) {
    return Error{Errc::kCorrupt, "a frame of the unknown type " + std::to_string(type)};
  }
  if (in.size() - kFrameHeaderSize < size) return std::optional<FrameView>();
  frame.type = static_cast<FrameType>(type);
  frame.flags = reader.u8();
  frame.method = static_cast<Method>(reader.u16le());
  frame.request = reader.u64le();
  frame.body = reader.raw(size);
  return std::optional<FrameView>(frame);
}

FrameClass class_of(FrameType type, Method method) {
  if (method < Method::kReplicate) return FrameClass::kAgreement;
  const bool bulk = method == Method::kFetch || method == Method::kCompare;
  return bulk && type == FrameType::kResponse ? FrameClass::kTransfer : FrameClass::kData;
}

void FrameQueue::push(Frame frame) {
  bytes_ += size_of(frame);
  classes_[static_cast<std::size_t>(class_of(frame.type, frame.method))].push_back(
      std::move(frame));
}

void FrameQueue::pop_into(Bytes& out, std::size_t budget, Instant now) {
  for (auto& frames : classes_) {
    while (!frames.empty() && out.size() < budget) {
      const Frame& frame = frames.front();
      bytes_ -= size_of(frame);
      const bool late = frame.type == FrameType::kRequest && frame.deadline <= now;
      if (!late) append_frame(out, frame);
      frames.pop_front();
    }
  }
}

void FrameQueue::clear() {
  for (auto& frames : classes_) std::deque<Frame>().swap(frames);
  bytes_ = 0;
}

void FrameQueue::drop_responses() {
  for (auto& frames : classes_) {
    std::erase_if(frames, [this](const Frame& frame) {
      if (frame.type != FrameType::kResponse) return false;
      bytes_ -= size_of(frame);
      return true;
    });
  }
}

std::set<std::uint64_t> FrameQueue::requests() const {
  std::set<std::uint64_t> out;
  for (const auto& frames : classes_) {
    for (const auto& frame : frames) {
      if (frame.type == FrameType::kRequest) out.insert(frame.request);
    }
  }
  return out;
}

}  // namespace starling::overlay
