// What Links keeps per connection and per peer; only for the files beside it.
#pragma once

#include "overlay/links/links.h"

namespace starling::overlay {

// A stream and its Link, from the dial or the accept on. Up once `peer` is set.
struct Links::Connection : std::enable_shared_from_this<Connection> {
  Links* links = nullptr;  // Null once closed: replies that come later are dropped.
  std::uint64_t number = 0;
  bool dialled = false;
  bool greeted = false;      // It dialled us, and its first message came.
  bool heard = false;        // Anything came.
  std::optional<KeyId> key;  // Of the secret under which it came, once it is named.
  LineageId lineage;         // By which we introduced ourselves.
  Peer* peer = nullptr;
  std::optional<NodeId> wanted;  // Whom we dialled, when we know.
  std::function<void(Result<NodeId>)> dial_done;
  std::unique_ptr<Transport::Connecting> connecting;
  std::unique_ptr<Stream> stream;
  std::optional<Link> link;
  Timer handshake_timer;
  std::size_t requests_in = 0;  // Taken and not answered yet.
  std::uint64_t written = 0;
  std::uint64_t taken = 0;  // Of written, what had left at the last tick ...
  std::size_t backlog = 0;  // ... and what had not.
  Instant last_in{};
  Instant last_use{};                    // Without pings.
  std::optional<Instant> waiting_since;  // The first ping that nothing followed ...
  Instant last_ping{};                   // ... and the last one.
};

// What a call hears when the link to `node` is not there or ends.
Error unavailable(const NodeId& node, const std::string& why);

struct Links::Peer {
  explicit Peer(const NodeId& node) : id(node) {}
  const NodeId id;
  std::shared_ptr<Connection> up;
  Connection* dialling = nullptr;
  FrameQueue queue;
  std::unordered_map<std::uint64_t, Done> calls;
  Breaker breaker;
  int refusals = 0;  // "My own dial is under way", in a row.
  std::size_t mute = 0;  // It ended so many of our dials without a word, in a row.
  Instant wanted{};  // When somebody last asked for it in vain.
  Timer redial;
  bool redial_set = false;
  bool dirty = false;
};

}  // namespace starling::overlay
