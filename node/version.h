// The version that a node tells its neighbours, clients and operators; meson.build states it.
#pragma once

namespace starling::node {

inline constexpr const char* kVersion = STARLING_VERSION;

}  // namespace starling::node
