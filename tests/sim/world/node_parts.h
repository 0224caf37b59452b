// NodeParts: what no operator may ask of a node, and a judge has to know or a nemesis has to do.
//
// Thread: that of the node; in a turn of it where it changes something.
#pragma once

#include <functional>
#include <utility>

#include "node/node_impl.h"

namespace starling::node {

class NodeParts {
 public:
  static storage::Store& store(Node& node) { return *impl(node).store_; }
  static const NodeId& id(Node& node) { return impl(node).view_->self; }
  // What it says of itself.
  static const overlay::MemberRecord& record(Node& node) { return impl(node).membership_->self(); }
  // As it knows the ring; null: it is in none.
  static const overlay::Ring* ring(Node& node) { return impl(node).view_->in_ring() ? &impl(node).view_->ring() : nullptr; }
  static RingPtr ring_ptr(Node& node) { return impl(node).view_->ring_ptr(); }
  // The version that `build` makes of the present one is proposed at once, without what a command asks first.
  static void propose(Node& node, RingService::Build build, std::function<void(Status)> done) {
    impl(node).scope_->spawn(change(*impl(node).ring_, std::move(build), std::move(done)));
  }

 private:
  static NodeImpl& impl(Node& node) { return static_cast<NodeImpl&>(node); }
  static overlay::Task<Done> change(RingService& ring, RingService::Build build, std::function<void(Status)> done) {
    auto changing = ring.change(std::move(build));
    const auto changed = co_await changing;
    done(changed ? ok_status() : Status(changed.error()));
    co_return Done{};
  }
};

}  // namespace starling::node
