// RocksInstall: the Install over a RocksStore. Contract: storage/install.h. The files: install_files.h.
//
//   gather -> write(): marks synced, then a part on the committer's other thread -> gather ...
//          -> finish(): the last part, then one batch: vectors, lost dots, marks gone
// Thread: the store's loop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "storage/install.h"
#include "storage/rocks/install_files.h"
#include "storage/rocks/rocks_store.h"

namespace starling::storage {

class RocksInstall final : public Install {
 public:
  RocksInstall(RocksStore& store, std::span<const PartitionId> partitions);
  ~RocksInstall() override;

  [[nodiscard]] std::uint64_t held(PartitionId partition, WriterId writer) const override;
  Result<Applied> apply(PartitionId partition, const RangeStatement& range) override;
  Status merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) override;
  [[nodiscard]] std::size_t gathered() const override;
  void write() override;
  [[nodiscard]] bool writing() const override;
  void finish(std::function<void(Status)> done) override;

 private:
  // Outlives the Install while a part is on its way.
  struct Body : std::enable_shared_from_this<Body> {
    struct Partition {
      std::map<WriterId, std::uint64_t> held;
      std::vector<Dot> lost;
      std::vector<Trace> traces;
    };
    explicit Body(RocksStore& of) : store(of) {}
    void write();
    void hand_over(std::shared_ptr<InstallPart> part);
    void written(const InstallPart& part, const Status& status);
    void end();
    void take_over();
    void give_up();
    [[nodiscard]] std::vector<Slot> cuts() const;

    RocksStore& store;
    std::map<Slot, Partition> partitions;
    std::set<Slot> begun;
    InstallPart gathering;
    std::size_t bytes = 0;
    std::size_t writing = 0;  // Parts under way.
    Hlc highest_time = 0;
    std::optional<Error> error;  // The first.
    std::function<void(Status)> done;
  };
  const std::shared_ptr<Body> body_;
};

}  // namespace starling::storage
