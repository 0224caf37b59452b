#include "tests/sim/checkers.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

namespace starling::sim {
namespace {

struct Shown {
  std::string id;
  MessageKey key;
  std::uint64_t hash = 0;
  friend bool operator<(const Shown& a, const Shown& b) {
    return std::tie(a.id, a.key) < std::tie(b.id, b.key);
  }
};
// Conversation -> what the device shows of it, by id.
using DeviceView = std::map<std::string, std::vector<Shown>>;

std::string conversation_of(const std::string& from, const std::string& to) {
  if (to.starts_with("#")) return to;
  return std::min(from, to) + " and " + std::max(from, to);
}

std::string text_of(const MessageKey& key) {
  return hex(key.device.view()).substr(0, 8) + "/" + std::to_string(key.lane % 10000) + "#" +
         std::to_string(key.seq);
}

std::vector<DeviceView> views_of(const History& history) {
  const std::size_t count = history.devices().size();
  std::vector<std::set<MessageKey>> voids(count), have(count);
  std::vector<std::map<MessageKey, std::string>> position(count);  // The smallest id heard.
  std::vector<DeviceView> views(count);
  const auto hear = [&](DeviceIndex device, const MessageKey& key, const std::string& id) {
    auto& smallest = position[device].try_emplace(key, id).first->second;
    smallest = std::min(smallest, id);
  };
  for (const auto& d : history.deliveries()) {
    if (d.is_void) {
      voids[d.device].insert(d.key);
    } else {
      hear(d.device, d.key, d.id);
    }
  }
  for (const auto& send : history.sends()) {
    if (send.outcome == Outcome::kAcked) hear(send.device, history.key_of(send), send.id);
  }
  for (const auto& d : history.deliveries()) {
    // A second position alone shows nothing.
    if (d.is_void || d.again) continue;
    if (voids[d.device].contains(d.key) || !have[d.device].insert(d.key).second) {
      continue;
    }
    views[d.device][conversation_of(d.from, d.to)].push_back(
        {position[d.device].at(d.key), d.key, d.hash});
  }
  for (const auto& send : history.sends()) {
    if (send.outcome != Outcome::kAcked) continue;
    const auto key = history.key_of(send);
    if (voids[send.device].contains(key) || !have[send.device].insert(key).second) continue;
    const auto& user = history.devices()[send.device].user;
    views[send.device][conversation_of(user, send.to)].push_back(
        {position[send.device].at(key), key, send.hash});
  }
  for (auto& view : views) {
    for (auto& [conversation, shown] : view) std::sort(shown.begin(), shown.end());
  }
  return views;
}

// Devices that take part in a conversation, by conversation.
std::map<std::string, std::set<DeviceIndex>> participants(const History& history) {
  std::map<std::string, std::set<DeviceIndex>> out;
  for (const auto& send : history.sends()) {
    auto& devices = out[conversation_of(history.devices()[send.device].user, send.to)];
    const auto readers = history.readers(send);
    for (DeviceIndex i = 0; i < history.devices().size(); ++i) {
      if (readers.contains(history.devices()[i].user)) devices.insert(i);
    }
  }
  return out;
}

}  // namespace

Violations check_delivered(const History& history) {
  Violations out;
  const auto views = views_of(history);
  std::vector<std::set<std::uint64_t>> shown(views.size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    for (const auto& [conversation, list] : views[i]) {
      for (const auto& item : list) shown[i].insert(item.hash);
    }
  }
  for (const auto& send : history.sends()) {
    const auto readers = history.readers(send);
    std::vector<DeviceIndex> with, without;
    for (DeviceIndex i = 0; i < views.size(); ++i) {
      if (!readers.contains(history.devices()[i].user)) continue;
      (shown[i].contains(send.hash) ? with : without).push_back(i);
    }
    const bool acked = send.outcome == Outcome::kAcked;
    for (const auto i : without) {
      if (acked) {
        out.push_back({1, "acked but not shown on " + history.text(i) + ": " + history.text(send),
                       hash_text(send.hash)});
      } else if (!with.empty() && i != send.device) {
        out.push_back({1, "shown on " + history.text(with.front()) + " but not on " +
                              history.text(i) + ": " + history.text(send),
                       hash_text(send.hash)});
      }
    }
  }
  return out;
}

Violations check_stored(const History& history, const ClusterExport& stores) {
  using Place = std::tuple<MailboxId, MessageKey, std::uint64_t>;
  std::vector<std::set<Place>> held(stores.nodes.size());
  for (std::size_t n = 0; n < stores.nodes.size(); ++n) {
    for (const auto& [id, partition] : stores.nodes[n].partitions) {
      for (const auto& e : partition.entries) {
        if (!e.is_void) held[n].emplace(e.mailbox, e.key, e.hash);
      }
    }
  }
  Violations out;
  for (const auto& send : history.sends()) {
    if (send.outcome != Outcome::kAcked) continue;
    std::set<std::string> mailboxes = {send.to};
    if (!send.to.starts_with("#")) mailboxes.insert(history.devices()[send.device].user);
    for (const auto& address : mailboxes) {
      const auto mailbox = mailbox_of(address);
      const auto partition = partition_of(slot_of(mailbox), stores.partition_count);
      const auto owners = stores.owners.find(partition);
      if (owners == stores.owners.end()) continue;
      for (const auto n : owners->second) {
        if (held[n].contains({mailbox, history.key_of(send), send.hash})) continue;
        out.push_back({1, "acked but not stored at owner " + stores.nodes[n].name + " in " +
                              address + ": " + history.text(send),
                       hash_text(send.hash)});
      }
    }
  }
  return out;
}

Violations check_once(const History& history) {
  Violations out;
  std::set<std::pair<DeviceIndex, MessageKey>> seen;
  std::map<std::uint64_t, MessageKey> key_of_body;
  for (const auto& d : history.deliveries()) {
    if (d.is_void) continue;
    if (!d.again && !seen.emplace(d.device, d.key).second) {
      out.push_back({2, "key " + text_of(d.key) + " came twice to " + history.text(d.device),
                     hash_text(d.hash)});
    }
    const auto [it, fresh] = key_of_body.emplace(d.hash, d.key);
    if (!fresh && it->second != d.key) {
      out.push_back({2, "one send has two keys: " + text_of(it->second) + " and " +
                            text_of(d.key) + " on " + history.text(d.device),
                     hash_text(d.hash)});
    }
  }
  return out;
}

Violations check_sender_order(const History& history) {
  Violations out;
  const auto views = views_of(history);
  for (DeviceIndex i = 0; i < views.size(); ++i) {
    for (const auto& [conversation, shown] : views[i]) {
      std::map<std::pair<DeviceId, std::uint64_t>, std::uint64_t> last;
      for (const auto& item : shown) {
        auto& seq = last[{item.key.device, item.key.lane}];
        if (item.key.seq < seq) {
          out.push_back({3, "number " + std::to_string(item.key.seq) + " is after " +
                                std::to_string(seq) + " of the same sender on " +
                                history.text(i) + " in " + conversation,
                         hash_text(item.hash)});
        }
        seq = std::max(seq, item.key.seq);
      }
    }
  }
  return out;
}

Violations check_stored_order(const ClusterExport& stores) {
  Violations out;
  for (std::size_t n = 0; n < stores.nodes.size(); ++n) {
    const auto& node = stores.nodes[n];
    std::map<std::pair<MailboxId, MessageKey>, EntryId> position;
    for (const auto& [id, partition] : node.partitions) {
      // A former owner may still hold what it held.
      const auto owners = stores.owners.find(id);
      if (owners != stores.owners.end() &&
          std::find(owners->second.begin(), owners->second.end(), n) == owners->second.end()) {
        continue;
      }
      for (const auto& e : partition.entries) {
        auto& smallest = position.try_emplace({e.mailbox, e.key}, e.id).first->second;
        smallest = std::min(smallest, e.id);
      }
    }
    // Keys sort by device, lane, number: neighbours of one lane must have rising positions.
    for (auto it = position.begin(); it != position.end(); ++it) {
      const auto next = std::next(it);
      if (next == position.end()) break;
      const auto& [mailbox, key] = it->first;
      const auto& [next_mailbox, next_key] = next->first;
      if (mailbox != next_mailbox || key.device != next_key.device || key.lane != next_key.lane ||
          it->second < next->second) {
        continue;
      }
      out.push_back({3, "at " + node.name + " " + text_of(next_key) + " stands before " +
                            text_of(key),
                     to_text(next->second)});
    }
  }
  return out;
}

Violations check_total_order(const History& history) {
  Violations out;
  const auto views = views_of(history);
  for (const auto& [conversation, devices] : participants(history)) {
    for (auto a = devices.begin(); a != devices.end(); ++a) {
      const auto left = views[*a].find(conversation);
      if (left == views[*a].end()) continue;
      std::map<MessageKey, std::size_t> place;
      for (std::size_t n = 0; n < left->second.size(); ++n) place[left->second[n].key] = n;
      const auto moved = [&](const Shown& item) {
        return left->second[place[item.key]].id != item.id;
      };
      for (auto b = std::next(a); b != devices.end(); ++b) {
        const auto right = views[*b].find(conversation);
        if (right == views[*b].end()) continue;
        const Shown* before = nullptr;
        for (const auto& item : right->second) {
          const auto at = place.find(item.key);
          if (at == place.end()) continue;
          if (before && at->second < place[before->key]) {
            out.push_back({4, text_of(before->key) + " and " + text_of(item.key) +
                                  " stand in one order on " + history.text(*b) +
                                  " and in the other on " + history.text(*a) + " in " +
                                  conversation +
                                  (moved(*before) || moved(item) ? " (one has two positions)" : ""),
                           hash_text(item.hash)});
            break;
          }
          before = &item;
        }
      }
    }
  }
  return out;
}

Violations check_converged(const ClusterExport& stores) {
  Violations out;
  static const PartitionExport kNothing;
  for (const auto& [partition, owners] : stores.owners) {
    const PartitionExport* first = nullptr;
    for (const auto n : owners) {
      const auto& held = stores.nodes[n].partitions;
      const auto it = held.find(partition);
      const PartitionExport& mine = it == held.end() ? kNothing : it->second;
      if (!first) {
        first = &mine;
        continue;
      }
      const auto& names = stores.nodes[owners.front()].name + " and " + stores.nodes[n].name;
      if (!(mine.vector == first->vector)) {
        out.push_back({5, "partition " + std::to_string(partition.value) + ": " + names +
                              " have different vectors",
                       "partition " + std::to_string(partition.value)});
      } else if (mine.canonical != first->canonical) {
        out.push_back({5, "partition " + std::to_string(partition.value) + ": " + names +
                              " have equal vectors and different contents",
                       "partition " + std::to_string(partition.value)});
      }
    }
  }
  return out;
}

Violations check_genuine(const History& history) {
  Violations out;
  std::map<std::pair<DeviceIndex, MessageKey>, bool> voided;
  for (const auto& d : history.deliveries()) {
    if (d.is_void) voided[{d.device, d.key}] = true;
  }
  for (const auto& d : history.deliveries()) {
    if (d.is_void) continue;
    const auto wrong = [&](const std::string& what) {
      out.push_back({7, what + " on " + history.text(d.device) + ", key " + text_of(d.key),
                     hash_text(d.hash)});
    };
    const SendRecord* send = history.send_of(d.hash);
    if (!send || send->size != d.size) {
      wrong("a body that nobody sent");
      continue;
    }
    const auto& sender = history.devices()[send->device];
    if (d.from != sender.user || d.to != send->to) wrong("wrong sender or address");
    if (d.key.device != sender.id || d.key.lane != lane_to(mailbox_of(send->to))) {
      wrong("the key is of another device or lane");
    }
    if (send->outcome == Outcome::kAcked && d.key.seq != send->seq) {
      wrong("acknowledged as number " + std::to_string(send->seq) + " but shown");
    }
    if (!history.readers(*send).contains(history.devices()[d.device].user)) {
      wrong("shown to somebody it was not sent to");
    }
    if (send->outcome == Outcome::kRefused && !voided.contains({d.device, d.key})) {
      wrong("refused but shown");
    }
  }
  return out;
}

Violations check_dots(const History& history) {
  Violations out;
  std::map<std::tuple<std::string, WriterId, std::uint64_t>, std::pair<MessageKey, std::uint64_t>>
      change_of;
  for (const auto& d : history.deliveries()) {
    const std::pair change{d.key, d.hash};
    const std::tuple dot{d.mailbox, d.dot.writer, d.dot.n};
    const auto [it, fresh] = change_of.emplace(dot, change);
    if (!fresh && it->second != change) {
      out.push_back({8, "dot " + std::to_string(d.dot.n) + " of writer " +
                            std::to_string(d.dot.writer.value) + " in " + d.mailbox + " is both " +
                            text_of(it->second.first) + " and " + text_of(d.key),
                     hash_text(d.hash)});
    }
  }
  return out;
}

Violations check_all(const History& history, const ClusterExport* stores) {
  Violations out;
  const auto add = [&out](Violations more) {
    out.insert(out.end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
  };
  add(check_delivered(history));
  add(check_once(history));
  add(check_sender_order(history));
  add(check_total_order(history));
  add(check_genuine(history));
  add(check_dots(history));
  if (stores) {
    add(check_stored(history, *stores));
    add(check_stored_order(*stores));
    add(check_converged(*stores));
  }
  return out;
}

std::string text(const Violations& violations, std::size_t limit) {
  std::string out;
  for (std::size_t i = 0; i < violations.size() && i < limit; ++i) {
    out += "invariant " + std::to_string(violations[i].invariant) + ": " + violations[i].text;
    out += "\n";
  }
  if (violations.size() > limit) {
    out += "... and " + std::to_string(violations.size() - limit) + " more\n";
  }
  return out;
}

}  // namespace starling::sim
