// Where a user's or group's messages are kept, and where one of them is.
#include <algorithm>
#include <set>
#include <tuple>

#include "crypto/text.h"
#include "node/admin/admin_api.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr std::size_t kNodesAskedMax = 256;
constexpr Duration kFindDeadline = 2s;

const char* copy_name(CopyState state) {
  switch (state) {
    case CopyState::kAbsent: return "absent";
    case CopyState::kHeld: return "not synced";
    case CopyState::kSynced: return "synced";
    case CopyState::kDamaged: return "damaged";
    case CopyState::kLost: return "lost";
    case CopyState::kGone: return "gone";
    case CopyState::kHint: return "held for the owners";
  }
  return "?";
}

// "01K5...": a position. "DEVICE/SEQ": a key, as `tail --json` prints both parts.
Result<FindCopyRequest> parse_message(const MailboxId& mailbox, const std::string& text) {
  FindCopyRequest out;
  out.mailbox = mailbox;
  if (const auto slash = text.find('/'); slash != std::string::npos) {
    const auto device = parse_hex(text.substr(0, slash));
    const std::string digits = text.substr(slash + 1);
    const bool number = !digits.empty() && digits.size() < 19 &&
                        digits.find_first_not_of("0123456789") == std::string::npos;
    if (!device || !DeviceId::from(*device, out.key.device) || !number) {
      return Error{Errc::kInvalid, "'" + text + "' is no message key: write DEVICE/SEQ, as `tail --json` prints them"};
    }
    out.key.seq = std::stoull(digits);
    out.key.lane = lane_to(mailbox);
    return out;
  }
  const auto id = parse_entry_id(text);
  if (!id) {
    return Error{Errc::kInvalid, "'" + text + "' is no message: write its id, 26 letters and digits as `send` "
                                              "prints it, or DEVICE/SEQ as `tail --json` prints them"};
  }
  out.id = *id;
  return out;
}

}  // namespace

Task<Result<Json>> AdminApi::where(Json arguments) {
  const std::string address = arguments.at("address").get<std::string>();
  CO_TRY_ASSIGN(const AddressKind kind, check_address(address));
  const MailboxId mailbox = mailbox_of(address);
  const PartitionId partition = node_.store_->partition_of(mailbox);
  auto& view = *node_.view_;
  const auto candidates = view.candidates(partition);
  Json owners = Json::array();
  for (const auto& owner : view.ring().owners(partition)) {
    owners.push_back({{"id", to_text(owner)},
                      {"short", short_text(owner)},
                      {"state", liveness_of(owner)},
                      {"catching_up", view.behind(owner)},
                      {"home", view.ring().is_home(partition, owner)},
                      {"coordinator", owner == candidates.front()}});
  }
  Json out{{"address", address},
           {"kind", kind == AddressKind::kUser ? "user" : "group"},
           {"mailbox", hex(mailbox.view())},
           {"slot", slot_of(mailbox)},
           {"partition", partition.value},
           {"owners", std::move(owners)}};
  if (arguments.contains("message")) {
    auto locating = locate(std::move(out), mailbox, arguments.at("message").get<std::string>());
    auto located = co_await locating;
    co_return located;
  }
  auto reading = read_registers(view, mailbox, kCreatedKey, "", 1);
  CO_TRY_ASSIGN(const ReadRegistersReply created, co_await reading);
  out["exists"] = !created.items.empty();
  co_return out;
}

std::string AdminApi::liveness_of(const NodeId& node) const {
  const auto member = node_.membership_->find(node);
  if (!member) return "unknown";
  const std::string state = state_name(member->state);
  return state == "alive" && !node_.view_->reachable(node) ? "unreachable" : state;
}

// What every member that can be reached has of the message.
Task<AdminApi::Copies> AdminApi::ask_all(FindCopyRequest request) {
  auto& view = *node_.view_;
  std::vector<NodeId> nodes;
  for (const auto& owner : view.ring().owners(request.partition)) nodes.push_back(owner);
  for (const auto& member : view.ring().members()) {
    const bool known = std::find(nodes.begin(), nodes.end(), member.id) != nodes.end();
    if (!member.gone() && !known && view.alive(member.id)) nodes.push_back(member.id);
  }
  nodes.resize(std::min(nodes.size(), kNodesAskedMax));
  std::vector<std::pair<NodeId, overlay::Future<Result<Bytes>>>> calls;
  for (const auto& node : nodes) {
    calls.emplace_back(node, overlay::call(view.loop, view.rpc, node, overlay::Method::kFindCopy,
                                           pack(request), kFindDeadline));
  }
  Copies replies;
  for (auto& [node, call] : calls) {
    const auto body = co_await call;
    if (!body) continue;
    if (auto reply = unpack<FindCopyReply>(*body)) replies.emplace_back(node, std::move(*reply));
  }
  co_return replies;
}

// Twice: first who knows the message and under which dots, then what each node has of those.
Task<Result<Json>> AdminApi::locate(Json out, MailboxId mailbox, std::string text) {
  CO_TRY_ASSIGN(FindCopyRequest request, parse_message(mailbox, text));
  request.partition = node_.store_->partition_of(mailbox);
  request.partitions = node_.store_->partitions();
  auto finding = ask_all(request);
  const auto first = co_await finding;
  std::set<Dot> dots;
  FindCopyReply known;
  for (const auto& [node, reply] : first) {
    if (!reply.found) continue;
    for (const auto& copy : reply.copies) dots.insert(copy.dot);
    // What is there before what is not; a void closes the number; else the smallest id is the position.
    const auto rank = [](const FindCopyReply& r) { return std::tuple(r.written_off, !r.is_void, r.id); };
    if (!known.found || rank(reply) < rank(known)) known = reply;
  }
  if (!known.found) {
    const bool past = std::any_of(first.begin(), first.end(), [](const auto& r) { return r.second.is_past; });
    const bool cut = std::any_of(first.begin(), first.end(), [](const auto& r) { return r.second.is_cut; });
    std::size_t answered = 0;
    for (const auto& owner : node_.view_->ring().owners(request.partition)) {
      answered += std::any_of(first.begin(), first.end(), [&](const auto& r) { return r.first == owner; });
    }
    co_return Error{Errc::kNotFound,
                    "no message " + text + " in the mailbox of " + out.at("address").get<std::string>() + "; " +
                        std::to_string(answered) + " of its " + std::to_string(out.at("owners").size()) +
                        " owners answered. " +
                        (past ? "It was there: it has expired, or was erased since"
                              : "A message to a user is in the user's mailbox and in the sender's; its id is what "
                                "`send` and `tail --json` print. After a failover it may have got another one: "
                                "DEVICE/SEQ finds it all the same") +
                        (cut ? ". A node holds so much for the owners that not all of it was looked through" : "")};
  }
  request.key = known.key;
  request.dots.assign(dots.begin(), dots.end());
  if (request.dots.size() > kFindDotsMax) request.dots.resize(kFindDotsMax);
  auto asking = ask_all(request);
  const auto second = co_await asking;

  out["exists"] = true;
  out["message"] = {{"id", to_text(known.id)}, {"device", hex(known.key.device.view())},
                    {"seq", known.key.seq},    {"from", known.from},
                    {"to", known.to},          {"void", known.is_void},
                    {"written_off", known.written_off},
                    {"expired", known.is_expired},
                    {"expires_ms", known.expires_s * 1000}};
  const auto copies_of = [](const FindCopyReply& reply) {
    Json copies = Json::array();
    for (const auto& copy : reply.copies) {
      copies.push_back({{"writer", writer_text(copy.dot.writer)},
                        {"n", copy.dot.n},
                        {"state", copy_name(static_cast<CopyState>(copy.state))}});
    }
    return copies;
  };
  Json followers = Json::array();
  Json stand_ins = Json::array();
  std::set<NodeId> owners;
  for (auto& owner : out["owners"]) {
    const auto id = parse_node_id(owner.at("id").get<std::string>());
    if (id) owners.insert(*id);
    const auto answer = std::find_if(second.begin(), second.end(),
                                     [&](const auto& r) { return id && r.first == *id; });
    owner["answered"] = answer != second.end();
    if (answer == second.end()) continue;
    owner["copies"] = copies_of(answer->second);
    owner["whole"] = answer->second.whole;
  }
  for (const auto& [node, reply] : second) {
    for (const auto& gateway : reply.followers) {
      followers.push_back({{"gateway", short_text(gateway)}, {"owner", short_text(node)}});
    }
    const auto hint = [](const FindCopyReply::Copy& c) { return static_cast<CopyState>(c.state) == CopyState::kHint; };
    if (owners.contains(node) || std::none_of(reply.copies.begin(), reply.copies.end(), hint)) continue;
    Json held_for = Json::array();
    for (const auto& owner : reply.held_for) held_for.push_back(short_text(owner));
    stand_ins.push_back({{"short", short_text(node)}, {"state", liveness_of(node)}, {"copies", copies_of(reply)},
                         {"for", std::move(held_for)}});
  }
  out["followers"] = std::move(followers);
  out["stand_ins"] = std::move(stand_ins);
  co_return out;
}

}  // namespace starling::node
