#include "tests/sim/judge/owners_equal.h"

#include <algorithm>
#include <tuple>

namespace starling::sim {
namespace {

struct Row {
  std::string name;    // What two owners should agree on: the key.
  std::string text;    // What they hold there.
  std::string needle;
  Bytes bytes;
};

std::string id_text(BytesReader& in) {
  EntryId id;
  id.time = Hlc{in.u64be()};
  id.writer = WriterId{in.u64be()};
  return to_text(id);
}

// As bytes: what is text stays text, what is not is hex.
std::string readable(View bytes) {
  const bool plain = std::all_of(bytes.begin(), bytes.end(),
                                 [](char c) { return c >= ' ' && c <= '~'; });
  return plain ? "'" + std::string(bytes.substr(0, 60)) + "'" : hex(bytes.substr(0, 30));
}

Row read_row(View bytes, const MailboxNames& names) {
  BytesReader in(bytes);
  const auto kind = in.u8();
  const auto mailbox = in.fixed<MailboxTag, MailboxId::kSize>();
  const auto name = names.find(mailbox);
  const std::string where =
      " of " + (name == names.end() ? hex(mailbox.view()).substr(0, 8) : name->second);
  Row row;
  row.bytes = Bytes(bytes);
  if (kind == 2) {
    row.name = "register " + readable(in.sized()) + where;
    in.u8();
    row.needle = id_text(in);
    row.text = readable(in.sized()) + " stamp " + row.needle;
    return row;
  }
  const std::string lane = hex(in.raw(DeviceId::kSize)).substr(0, 8) + "/" +
                           std::to_string(in.u64be() % 10'000);
  if (kind == 1) {
    row.name = "message " + lane + "#" + std::to_string(in.u64be()) + where;
    row.needle = id_text(in);
    const bool is_void = in.u8() != 0;
    row.text = std::string(is_void ? "a void" : "a message") + " at " + row.needle +
               " with content " + std::to_string(in.u64be());
  } else {
    row.name = "lane " + lane + where;
    row.text = "up to #" + std::to_string(in.u64be());
  }
  return row;
}

std::map<std::string, Row> rows_of(const PartitionExport& held, const MailboxNames& names) {
  std::map<std::string, Row> out;
  BytesReader in(held.canonical);
  while (in.left() > 0 && in.ok()) {
    Row row = read_row(in.sized(), names);
    out.emplace(row.name, std::move(row));
  }
  return out;
}

std::string vector_text(const storage::VersionVector& vector) {
  std::string out;
  for (const auto& dot : vector.dots()) {
    out += " " + std::to_string(dot.writer.value) + ":" + std::to_string(dot.n);
  }
  return out.empty() ? " nothing" : out;
}

}  // namespace

MailboxNames mailbox_names(const std::vector<std::string>& addresses) {
  MailboxNames names;
  for (const auto& address : addresses) names[mailbox_of(address)] = address;
  return names;
}

Violations check_rows(const ClusterExport& stores, const MailboxNames& names, std::size_t limit) {
  static const PartitionExport kNothing;
  Violations out;
  for (const auto& [partition, owners] : stores.owners) {
    const auto held_by = [&stores, partition = partition](std::size_t n) -> const PartitionExport& {
      const auto it = stores.nodes[n].partitions.find(partition);
      return it == stores.nodes[n].partitions.end() ? kNothing : it->second;
    };
    for (std::size_t other = 1; other < owners.size(); ++other) {
      const auto& left = held_by(owners.front());
      const auto& right = held_by(owners[other]);
      if (left.vector == right.vector && left.canonical == right.canonical) continue;
      const auto& left_name = stores.nodes[owners.front()].name;
      const auto& right_name = stores.nodes[owners[other]].name;
      std::string text = "partition " + std::to_string(partition.value) + ": " + left_name +
                         " and " + right_name;
      if (left.vector == right.vector) {
        text += " have equal vectors";
      } else {
        text += " have covered" + vector_text(left.vector) + " and" + vector_text(right.vector);
      }
      auto ours = rows_of(left, names);
      auto theirs = rows_of(right, names);
      std::size_t differ = 0;
      std::string needle;
      const auto say = [&](const Row& row, const std::string& what) {
        if (needle.empty()) needle = row.needle;
        if (++differ <= limit) text += "; " + row.name + ": " + what;
      };
      for (const auto& [name, row] : ours) {
        const auto it = theirs.find(name);
        if (it == theirs.end()) {
          say(row, row.text + " only at " + left_name);
        } else if (it->second.bytes != row.bytes) {
          say(row, row.text + " at " + left_name + ", " + it->second.text + " at " + right_name);
        }
      }
      for (const auto& [name, row] : theirs) {
        if (!ours.contains(name)) say(row, row.text + " only at " + right_name);
      }
      text += "; " + std::to_string(differ) + " rows differ";
      if (needle.empty()) needle = "partition " + std::to_string(partition.value);
      out.push_back({5, text, needle});
    }
  }
  return out;
}

Violations check_stored_dots(const ClusterExport& stores) {
  struct Seen {
    const NodeExport* node;
    const StoredEntry* entry;
  };
  std::uint32_t finest = 1;
  for (const auto& node : stores.nodes) finest = std::max(finest, node.partition_count);
  std::map<std::tuple<std::uint32_t, PartitionId, Dot>, Seen> seen;
  Violations out;
  for (const auto& node : stores.nodes) {
    for (const auto& [partition, held] : node.partitions) {
      for (const auto& entry : held.entries) {
        const PartitionId child = starling::partition_of(slot_of(entry.mailbox), finest);
        for (const Part& part : {Part{partition, node.partition_count}, Part{child, finest}}) {
          const auto [first, fresh] = seen.try_emplace({part.of, part.partition, entry.dot}, Seen{&node, &entry});
          const auto& other = *first->second.entry;
          if (fresh || (other.key == entry.key && other.hash == entry.hash)) continue;
          out.push_back({8, "partition " + std::to_string(part.partition.value) + " of " + std::to_string(part.of) +
                                ": dot " + to_text(entry.dot) + " is " + to_text(other.id) + " at " +
                                first->second.node->name + " and " + to_text(entry.id) + " at " + node.name,
                         to_text(entry.id)});
          break;
        }
      }
    }
  }
  return out;
}

}  // namespace starling::sim
