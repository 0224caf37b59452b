// Session: one device on one connection: login, sends, catch-up and live delivery.
//
// It touches no socket: a Door carries frames. Catch-up and live delivery are one mechanism: each mailbox
// that the device follows is a Tail with the session's own vector, built only from what was sent to
// it (hazards F9); it reads until it covers the feed, joins it, and parts again when the device is
// too slow or a gap shows. So a slow device, an offline one and a new one are the same case.
// Invariants: (1) nothing but a login (and a ping) is answered before a login; (2) a change under the vector is not
// sent again, and the vector is raised only by what was sent; (3) queues are bounded: requests in flight, pages asked
// for, and bytes on the door: kSessionQueueBytesMax and one page.
// A cursor may be ahead of the owner that is read: that one lags, or the device was shown what did not outlive a crash.
// Whether it names a number that never was, the node whose writer it is can tell, and is asked (decision 0067).
// Thread: one loop. The owner destroys a session at the end of a turn, never from inside a call.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "node/mailbox/accounts.h"
#include "node/mailbox/groups.h"
#include "node/session/entry_frame.h"
#include "node/session/feeds.h"
#include "node/session/head_check.h"
#include "node/session/ladder.h"
#include "node/session/protocol.h"

namespace starling::node {

inline constexpr std::size_t kRequestsPerSessionMax = 1024;
inline constexpr std::uint32_t kPageSizeMax = 500;             // Entries or members in one answer.
inline constexpr std::size_t kPagesInFlightMax = 4;            // Of history, rosters, groups: asked for, not answered.
inline constexpr std::size_t kReadsPerSessionMax = 4;          // Mailboxes read at once; the others wait in line.
inline constexpr std::size_t kSyncMailboxesMax = kGroupsPerUserMax + 1;
inline constexpr std::size_t kCursorWritersMax = 4096;         // In one cursor.
inline constexpr std::size_t kSessionQueueBytesMax = 1 << 20;  // On the door: then it fell behind.
inline constexpr std::uint32_t kHeartbeatSeconds = 60;
inline constexpr Duration kSilenceMax = 150s;       // Two heartbeats and some: the device is gone.
inline constexpr Duration kRecheckEvery = 60s;
inline constexpr Duration kCursorsEvery = 24h;      // Of mailboxes that passed what a device is not told of.
inline constexpr Duration kLoginDeadline = 10s;
inline constexpr std::size_t kClaimsMax = 4096;     // Numbers of a session that nodes are asked about; more are believed.
static_assert(kSilenceMax > 2 * std::chrono::seconds(kHeartbeatSeconds));

// What carries the frames of a session.
class Door {
 public:
  virtual void write(Shared frame) = 0;
  virtual void write(Bytes frame) = 0;
  [[nodiscard]] virtual std::size_t queued() const = 0;
  // Sends what is queued and closes. The session is destroyed later.
  virtual void close() = 0;
  // The device has proven who it is.
  virtual void proven() = 0;
  [[nodiscard]] virtual std::string address() const = 0;  // That the device comes from (network_of).

 protected:
  ~Door() = default;  // Borrowed.
};

// What a session needs of the node.
struct SessionServices {
  ClusterView& view;
  Forwarder& forwarder;
  Feeds& feeds;
  Accounts& accounts;
  Groups& groups;
  Ladder& ladder;
};

class Session final : public FeedSubscriber {
 public:
  // Borrows both.
  Session(const SessionServices& services, Door& door);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // One whole frame body from the client.
  void receive(View body);
  void on_drained();
  // Tells the device to go to another node, and closes.
  void go_away(std::string text, std::vector<std::string> nodes);

  // Now and then. Is the account still as it was at the login? No mailbox may tell. And what a session that rests does
  // not need is let go of.
  void recheck_account();
  [[nodiscard]] bool logged_in() const { return !user_.empty(); }
  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] const std::string& user() const { return user_; }
  [[nodiscard]] Instant opened() const { return opened_; }
  [[nodiscard]] Instant heard() const { return heard_; }

  void on_feed_ready(const MailboxId& mailbox) override;
  void on_feed_lost(const MailboxId& mailbox) override;
  void on_change(const MailboxId& mailbox, const Delivery& delivery) override;
  void on_regained(const MailboxId& mailbox, const Delivery& delivery) override;

 private:
  // kInLine: for a read, when one of ours has ended.
  enum class TailState : std::uint8_t { kWaiting, kInLine, kReading, kBehind, kLive };
  struct Tail {
    std::string address;
    storage::VersionVector vector;
    TailState state = TailState::kWaiting;
    bool initial = false;     // One of those that kSyncDone waits for.
    bool announced = false;   // kSynced was sent.
    bool passed = false;      // Since then the vector passed what nothing was sent for.
    bool again = false;       // The feed became ready anew while a read was under way.
    std::uint8_t asked_anew = 0;  // Its heads, because another owner was followed meanwhile.
    bool checked = false;     // Its heads were asked for; then,
    bool current = false;     // the followed owner has no more than the vector,
    std::unique_ptr<HeadCheck::Found> found;  // and others may have; none: they need not be read.
    [[nodiscard]] bool reads_others() const { return found && !found->others.empty(); }
    void have_read(const NodeId& owner);
    void pass_over(const NodeId& owner);
  };

  // session_login.cc.
  void log_in(std::uint64_t number, View body);
  overlay::Task<Done> check_login(protocol::Login login);
  overlay::Task<Done> check_epoch();
  void revoke();
  void logged_in(const protocol::Login& login, const Accounts::Login& account);

  // session.cc: requests.
  // A body that does not decode is refused under the number in its head.
  overlay::Task<Done> find_lane(std::uint64_t request, std::string to);
  void send(std::uint64_t number, View body);
  void recall(std::uint64_t number, View body);
  void history(std::uint64_t number, View body);
  void lane(std::uint64_t number, View body);
  bool begin_request(std::uint64_t request);
  bool begin_page(std::uint64_t request);
  void finish_request(std::uint64_t request, const Status& status);
  void refuse(std::uint64_t request, const Error& error);
  void refuse_and_close(std::uint64_t request, const Error& error);
  void refuse_frame(std::uint64_t request, const Error& error, std::string_view reason = "malformed");
  template <class T>
  void answer(const T& message) {
    door_.write(protocol::frame(message));
  }

  // session_groups.cc: groups and passwords.
  void group(protocol::Type type, std::uint64_t number, View body);
  overlay::Task<Done> list(protocol::Type type, protocol::GroupRequest request);
  overlay::Task<Done> list_groups(std::uint64_t number);
  overlay::Task<Done> list_members(protocol::GroupRequest request);
  overlay::Task<Done> change_group(protocol::Type type, protocol::GroupRequest request);
  overlay::Task<Status> may_manage(protocol::GroupRequest request, bool removing);
  void password(std::uint64_t number, View body);
  overlay::Task<Done> change_password(protocol::PasswordChange request);

  // session_sync.cc: tails.
  void sync(std::uint64_t number, View body);
  overlay::Task<Done> start_sync(protocol::Sync request);
  void add_tail(const std::string& address, storage::VersionVector cursor, bool initial);
  void synced_one();
  void remove_tail(const std::string& address);
  void check_heads();
  void checked(const MailboxId& mailbox, HeadCheck::Found found);
  void deliver(Tail& tail, const Delivery& delivery);
  [[nodiscard]] bool is_expired(const storage::ChangeView& change) const;
  void apply_register(const storage::RegisterView& reg);
  overlay::Task<Done> refresh_groups();
  void follow_groups(const Groups::Listing& listing);
  void doubt_what_is_not_named(const Groups::Listing& listing);
  void announce_synced(Tail& tail);
  void tell_cursor(Tail& tail);
  void tell_cursors();
  void finish_sync();

  // session_claims.cc: cursors that no honest device has.
  [[nodiscard]] std::optional<Error> bent(const protocol::Sync& request) const;
  void doubt(const MailboxId& mailbox, const std::vector<Dot>& ahead);
  void recheck_claims();
  overlay::Task<Done> check_claims();
  [[nodiscard]] std::optional<NodeId> runner_of(WriterId writer) const;
  void reset(const Dot& unissued);
  [[nodiscard]] bool door_full() const { return door_.queued() > kSessionQueueBytesMax; }

  // session_read.cc: pages.
  void go_on(const MailboxId& mailbox);
  void read_other(const MailboxId& mailbox);
  void have_read_other(const MailboxId& mailbox, const NodeId& owner, Result<ReadReply> reply);
  bool take(const MailboxId& mailbox, const ReadReply& page);
  void tell_lost(const MailboxId& mailbox, const ReadReply& page, const Dot& before);
  void read(const MailboxId& mailbox);
  bool begin_read(const MailboxId& mailbox);
  void end_read();
  void read_later(const MailboxId& mailbox, Duration delay);
  overlay::Task<Done> read_after(MailboxId mailbox, Duration delay);
  void have_read(const MailboxId& mailbox, Result<ReadReply> reply);

  // Set at construction.
  const SessionServices& services_;
  Door& door_;
  const Instant opened_;

  // State.
  std::string user_;          // Address; empty before the login.
  std::string device_name_;
  MailboxId mailbox_;
  DeviceId device_;
  std::uint64_t epoch_ = 0;
  bool logging_in_ = false;
  bool closed_ = false;
  Instant heard_;
  Instant checked_{};         // The account.
  Instant cursors_told_{};    // To all tails that passed something.
  std::size_t in_flight_ = 0;
  std::size_t pages_ = 0;
  bool syncing_ = false;                // A Sync was taken. Its number is the client's choice, 0 too.
  std::uint64_t sync_request_ = 0;      // Waits for kSyncDone.
  std::size_t tails_to_sync_ = 0;
  bool sync_done_ = false;              // kSyncDone was sent.
  bool line_moves_ = false;
  std::size_t reads_ = 0;               // Under way.
  std::map<MailboxId, Tail> tails_;
  std::shared_ptr<bool> alive_;         // For answers that outlive us; by alive().

  // What a session has in hand while it logs in, syncs, waits for an answer or is in doubt. One that rests has none of
  // it: a connection that does nothing is to take next to no memory.
  struct InHand {
    explicit InHand(overlay::Loop& loop) : scope(loop) {}
    [[nodiscard]] bool is_empty() const;

    std::vector<MailboxId> to_check;  // Ready for their heads to be asked for,
    overlay::Timer check_timer;       // all at once.
    std::list<MailboxId> in_line;     // For a read.
    bool refreshing = false;
    // Cursors for which the list, which is not sure, has no group.
    std::map<std::string, storage::VersionVector> brought;
    // Groups that the device was in and the list does not even name as left. It may have followed one by a change that
    // no majority has, and its cursor covers that: it would not be told again when the owner that has it comes back.
    std::set<std::string> doubted;
    std::map<std::string, bool> expected_groups;  // From changes: are we in it?
    struct Claim {
      std::uint64_t n = 0;
      bool known = false;  // It was given out.
    };
    std::map<std::pair<MailboxId, WriterId>, Claim> claims;  // Of cursors that are ahead of an owner.
    overlay::Timer claims_timer;
    bool gathering_claims = false;
    std::size_t asking_claims = 0;    // Times under way.
    overlay::Scope scope;             // Last.
  };
  [[nodiscard]] InHand& in_hand();    // Made when first needed, and not let go while one of its tasks runs.
  void let_go();
  [[nodiscard]] std::shared_ptr<bool> alive();
  std::unique_ptr<InHand> in_hand_;   // Last.
};

}  // namespace starling::node
