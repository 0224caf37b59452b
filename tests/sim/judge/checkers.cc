#include "tests/sim/judge/checkers.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "node/check/checker.h"

namespace starling::sim {
namespace {

std::string key_text(const MessageKey& key) {
  return hex(key.device.view()).substr(0, 8) + "/" + std::to_string(key.lane % 10000) + "#" +
         std::to_string(key.seq);
}

}  // namespace

Violations check_clients(const History& history) {
  using node::check::Checker;
  Checker checker({.closed = true});
  for (const auto& event : events(history, "sim")) {
    const auto fed = checker.feed(event);
    if (!fed) return {{7, "the history cannot be judged: " + fed.error().text, ""}};
  }
  Violations out;
  for (const auto& v : checker.report().violations) {
    // What had no answer may have been lost with its node after some devices were shown it.
    const auto* send = history.send_of(v.hash);
    if (v.fault == node::check::Fault::kPartlyShown && send != nullptr && !history.lasts(*send)) continue;
    out.push_back({node::check::promise_of(v.fault), v.text + ", body " + hash_text(v.hash),
                   hash_text(v.hash)});
  }
  return out;
}

Violations check_delivered(const History& history) {
  Violations out = check_clients(history);
  std::erase_if(out, [](const Violation& v) { return v.invariant != 1; });
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
    if (!history.is_owed(send)) continue;
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

Violations check_lost(const ClusterExport& stores, const std::vector<Destroyed>& destroyed) {
  std::map<Dot, std::vector<Part>> hit;
  for (const auto& change : destroyed) hit[change.dot].push_back(change.part);
  using Copy = std::pair<MailboxId, std::string>;  // And by whom it is held.
  std::map<Dot, std::vector<Copy>> held;
  for (const auto& node : stores.nodes) {
    for (const auto& [id, partition] : node.partitions) {
      for (const auto& entry : partition.entries) held[entry.dot].emplace_back(entry.mailbox, node.name);
    }
  }
  Violations out;
  for (const auto& node : stores.nodes) {
    for (const auto& [id, partition] : node.partitions) {
      for (const auto& dot : partition.lost) {
        const std::string what = "written off at " + node.name + ": change " + to_text(dot) + " of partition " +
                                 std::to_string(id.value);
        const Part here{id, node.partition_count};
        const auto& hits = hit[dot];
        const bool was_hit = std::any_of(hits.begin(), hits.end(), [&](const Part& part) { return part.meets(here); });
        if (!was_hit) out.push_back({1, what + ", which no fault destroyed", to_text(dot)});
        const auto& copies = held[dot];
        const auto copy = std::find_if(copies.begin(), copies.end(), [&](const Copy& c) { return here.holds(c.first); });
        if (copy != copies.end()) out.push_back({1, what + ", which " + copy->second + " has", to_text(dot)});
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
    std::set<std::pair<MailboxId, MessageKey>> voided;  // Of an older number it may be later: a message given up.
    for (const auto& [id, partition] : node.partitions) {
      // A former owner may still hold what it held.
      const auto owners = stores.owners.find(id);
      if (node.partition_count != stores.partition_count) continue;  // Nor is it one of the others' partitions.
      if (owners != stores.owners.end() &&
          std::find(owners->second.begin(), owners->second.end(), n) == owners->second.end()) {
        continue;
      }
      for (const auto& e : partition.entries) {
        if (e.is_void) voided.emplace(e.mailbox, e.key);
        auto& smallest = position.try_emplace({e.mailbox, e.key}, e.id).first->second;
        smallest = std::min(smallest, e.id);
      }
    }
    std::erase_if(position, [&](const auto& item) { return voided.contains(item.first); });
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
      out.push_back({3, "at " + node.name + " " + key_text(next_key) + " stands before " +
                            key_text(key),
                     to_text(next->second)});
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

Violations check_counts(const ClusterExport& stores) {
  std::set<std::size_t> owners;
  for (const auto& [partition, of_it] : stores.owners) owners.insert(of_it.begin(), of_it.end());
  Violations out;
  for (const auto n : owners) {
    const auto& node = stores.nodes[n];
    if (node.partition_count != stores.partition_count) {
      out.push_back({5, node.name + " has " + std::to_string(node.partition_count) + " partitions, the ring has " +
                            std::to_string(stores.partition_count), "partitions"});
    }
    if (!node.settled) out.push_back({5, node.name + " has not settled its split", "partitions"});
  }
  return out;
}

Violations check_all(const History& history, const ClusterExport* stores) {
  Violations out;
  const auto add = [&out](Violations more) {
    out.insert(out.end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
  };
  add(check_clients(history));
  if (stores) {
    add(check_counts(*stores));
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
