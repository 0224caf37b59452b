// read_registers: the registers of a mailbox, merged from as many owners as it takes.
//
// A write is acknowledged by W owners, so of any N-W+1 one has it, unless it is a stand-in's still. Their
// answers are merged by kind; what one has and another lacks is found. An owner that cannot answer is
// replaced by the next, those that are slow get help from the next (hedged requests: Dean and Barroso, The
// Tail at Scale, CACM 2013), and when only one answers, that will do. While nobody has answered, slow is by the
// round trips of those who were asked: they may have been cut off a moment ago. Away owners (overlay/ring/sites.h)
// are asked last and merged, but counted for nothing: alone they will do when no home owner answers. Thread: one loop.
#pragma once

#include "node/replication/append/append_messages.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

// Once one owner has answered: one more is asked,
inline constexpr Duration kHedgeAfter = 50ms;
// and what there is has to do.
inline constexpr Duration kSecondAnswerWait = 250ms;
inline constexpr Duration kSureAnswerWait = 1s;
// Before one has: another is asked after so long, then the next one; the middle one where no round trip is known.
inline constexpr Duration kHedgeWaitMin = 100ms;
inline constexpr Duration kHedgeWaitUnknown = 250ms;
inline constexpr Duration kHedgeWaitMax = 1s;

enum class Answers {
  kEnough,  // Of so many home owners that one has what was acknowledged; behind or not,
  kSure,    // and none of those behind, if that can be had,
  kAll,     // of all home owners.
};

// kUnavailable, kTimeout: no owner answers. `versioned`: with the version of all under the prefix, unless the owners do
// not agree on it at the moment. Whether so many home owners answered as `answers` asks for, and none of them is behind,
// the reply's `of_all` tells.
overlay::Future<Result<ReadRegistersReply>> read_registers(ClusterView& view, const MailboxId& mailbox,
                                                           View prefix, View after, std::uint32_t limit,
                                                           bool versioned = false,
                                                           Answers answers = Answers::kEnough);

// The first `limit` that begin with `key`, where it would be final that `key` itself is not there. Owners that are behind,
// or too few, cannot say that: kUnavailable, once those were asked that could.
overlay::Task<Result<ReadRegistersReply>> find_registers(ClusterView& view, MailboxId mailbox, Bytes key,
                                                         std::uint32_t limit);

// What `limit` registers after `after` are, by these answers to one question. Pure.
ReadRegistersReply merge_registers(const std::vector<ReadRegistersReply>& answers, std::uint32_t limit);

}  // namespace starling::node
