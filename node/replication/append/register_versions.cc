#include "node/replication/append/register_versions.h"

#include <array>

#include "crypto/hash.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr int kTriesMax = 3;
constexpr Duration kPieceRest = 1ms;  // Between two pieces.

Bytes digest(View before, View piece) {
  std::array<std::uint8_t, 16> out{};
  blake2b(out, {before, piece});
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

void add(Bytes& piece, View text) {
  BytesWriter(piece).u32be(static_cast<std::uint32_t>(text.size()));
  piece.append(text);
}

}  // namespace

RegisterVersions::RegisterVersions(ClusterView& view) : view_(view), scope_(view.loop) {
  // A partition that is given up loses its registers without a change.
  view_.on_ring([this] {
    for (auto& [of, known] : known_) {
      known.version.reset();
      known.changed = true;
    }
  });
}

void RegisterVersions::ask(const MailboxId& mailbox, const std::string& prefix, Told told) {
  const Of of{mailbox, prefix};
  if (!known_.contains(of) && known_.size() >= kRegisterVersionsMax) {
    std::erase_if(known_, [](const auto& item) { return item.second.waiting.empty(); });
  }
  Known& known = known_[of];
  if (known.version) return told(*known.version);
  if (view_.loop.now() < known.rests_until) return told(0);
  known.waiting.push_back(std::move(told));
  if (known.waiting.size() == 1) scope_.spawn(reckon(of));
}

Task<Done> RegisterVersions::reckon(Of of) {
  overlay::Timer timer;
  const auto& [mailbox, prefix] = of;
  Known& known = known_[of];  // Stays while somebody waits.
  const Instant until = view_.loop.now() + kReckonMax;
  for (int tries = 0; tries < kTriesMax && view_.loop.now() < until; ++tries) {
    known.changed = false;
    Bytes all;
    Bytes after;
    bool more = true;
    while (more && !known.changed && view_.loop.now() < until) {
      const auto registers = view_.store.scan_registers(mailbox, prefix, after, kRegisterPieceMax);
      Bytes piece;
      for (const auto& one : registers) {
        add(piece, one.key);
        add(piece, one.value);
      }
      all = digest(all, piece);
      more = registers.size() == kRegisterPieceMax;
      if (!more) break;
      after = registers.back().key;
      co_await overlay::sleep(view_.loop, kPieceRest, timer);
    }
    if (known.changed || more) continue;
    known.version = BytesReader(all).u64be() | 1;  // Not zero.
    tell(of, *known.version);
    co_return Done{};
  }
  tell(of, 0);
  co_return Done{};
}

void RegisterVersions::tell(const Of& of, std::uint64_t version) {
  Known& known = known_[of];
  if (version == 0) known.rests_until = view_.loop.now() + kReckonRest;
  for (auto& told : std::exchange(known.waiting, {})) told(version);
}

void RegisterVersions::on_synced(std::span<const storage::SyncedChange> changes) {
  if (known_.empty()) return;
  for (const auto& change : changes) changed(change.view);
}

void RegisterVersions::changed(const storage::ChangeView& change) {
  if (change.kind != storage::ChangeKind::kRegister) return;
  for (auto at = known_.lower_bound({change.mailbox, ""}); at != known_.end() && at->first.first == change.mailbox; ++at) {
    if (!change.reg.key.starts_with(at->first.second)) continue;
    at->second.version.reset();
    at->second.changed = true;
  }
}

}  // namespace starling::node
