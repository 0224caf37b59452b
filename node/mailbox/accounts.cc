#include "node/mailbox/accounts.h"

#include "node/mailbox/write_register.h"

namespace starling::node {

using overlay::Task;

namespace {
constexpr View kRefused = "wrong user name or password";
constexpr int kChangeTries = 5;
constexpr std::uint32_t kAccountRegisters = 2;     // That begin with kAccountKey.
constexpr std::uint64_t kEpochsAtOnce = 1 << 10;   // Of so many one is drawn, so that two sides of a split differ.

std::optional<bool> says_disabled(View value) {
  const auto member = unpack<storage::MemberValue>(value);
  return member ? std::optional(member->removed) : std::nullopt;
}

// By the register of its own, as of `at`. A program from before that says it in the account alone: what it said later
// that disables counts.
bool is_disabled(const AccountValue& account, const EntryId& stamp, View value, const EntryId& at) {
  return says_disabled(value).value_or(account.disabled) || (account.disabled && at < stamp);
}

// A try that is given back unless the password was wrong; also when the one who asked goes before the answer.
class Trying {
 public:
  Trying(std::shared_ptr<Guesses> guesses, std::string user, std::string from)
      : guesses_(std::move(guesses)), user_(std::move(user)), from_(std::move(from)) {}
  ~Trying() {
    if (guesses_) guesses_->give_back(user_, from_);
  }
  Trying(const Trying&) = delete;
  Trying& operator=(const Trying&) = delete;
  void was_wrong() { guesses_.reset(); }

 private:
  std::shared_ptr<Guesses> guesses_;  // The task may end after the node.
  const std::string user_;
  const std::string from_;
};

}  // namespace

Accounts::Accounts(ClusterView& view, Names& names, Forwarder& forwarder, const Identity& identity,
                   PasswordCost cost)
    : view_(view),
      names_(names),
      forwarder_(forwarder),
      identity_(identity),
      cost_(cost),
      hashes_(view.loop),
      issuers_(view) {
  const auto decoy = hash_password(hex(password_salt(view.random).view()),
                                   password_salt(view.random), cost);
  assert(decoy.ok());
  decoy_ = *decoy;
}

Task<Status> Accounts::create(std::string user, std::string password, std::uint64_t nonce) {
  CreationRecord record;
  record.nonce = nonce;
  CO_TRY_ASSIGN(const AddressKind kind, check_address(user));
  if (kind != AddressKind::kUser) co_return Error{Errc::kInvalid, "a user's name begins with @"};
  record.address = user;
  if (!password.empty()) {
    auto hashing = hash(std::move(password), "");
    CO_TRY_ASSIGN(record.password_hash, co_await hashing);
  }
  auto creating = names_.create(std::move(record));
  auto created = co_await creating;
  co_return created;
}

std::optional<AccountValue> account_of(storage::Store& store, const MailboxId& mailbox) {
  const auto stored = store.find_register(mailbox, kAccountKey);
  if (!stored) return std::nullopt;
  auto account = unpack<AccountValue>(stored->value);
  if (!account) return std::nullopt;
  const auto disabled = store.find_register(mailbox, kDisabledKey);
  if (disabled) account->disabled = is_disabled(*account, stored->stamp, disabled->value, disabled->stamp);
  return std::move(*account);
}

Task<Result<AccountValue>> Accounts::find(std::string user) {
  auto reading = read(std::move(user));
  CO_TRY_ASSIGN(Stamped found, co_await reading);
  co_return std::move(found.value);
}

Task<Result<Accounts::Stamped>> Accounts::read(std::string user) {
  CO_TRY(check_address(user));
  auto reading = find_registers(view_, mailbox_of(user), Bytes(kAccountKey), kAccountRegisters);
  CO_TRY_ASSIGN(const ReadRegistersReply found, co_await reading);
  CO_TRY_ASSIGN(auto account, stamped(found));
  if (!account) co_return Error{Errc::kNotFound, "there is no user " + user};
  co_return std::move(*account);
}

// Of the registers that begin with kAccountKey.
Result<std::optional<Accounts::Stamped>> Accounts::stamped(const ReadRegistersReply& found) {
  std::optional<Stamped> account;
  for (const auto& item : found.items) {
    if (item.key == kAccountKey) {
      TRY_ASSIGN(AccountValue value, unpack<AccountValue>(item.value.data));
      account = Stamped{std::move(value), item.stamp};
    } else if (item.key == kDisabledKey && account) {
      account->value.disabled = is_disabled(account->value, account->stamp, item.value.data, item.stamp);
    }
  }
  return account;
}

Task<Result<bool>> Accounts::has_ended(std::string user, std::uint64_t epoch) {
  CO_TRY(check_address(user));
  auto reading = read_registers(view_, mailbox_of(user), kAccountKey, "", kAccountRegisters);
  CO_TRY_ASSIGN(ReadRegistersReply found, co_await reading);
  CO_TRY_ASSIGN(auto account, stamped(found));
  // Forged, or the owners that answered lack the latest.
  if (!account || (account->value.epoch < epoch && !account->value.disabled)) {
    auto asking_all = read_registers(view_, mailbox_of(user), kAccountKey, "", kAccountRegisters, false,
                                     Answers::kAll);
    CO_TRY_ASSIGN(found, co_await asking_all);
    CO_TRY_ASSIGN(account, stamped(found));
    if (!account && found.of_all) co_return true;
    if (!account) co_return Error{Errc::kUnavailable, "not all owners say that there is no user " + user};
  }
  const AccountValue& value = account->value;
  co_return value.disabled || value.epoch > epoch || (found.of_all && value.epoch < epoch);
}

Task<Result<Accounts::Login>> Accounts::log_in(std::string user, std::string device, std::string password,
                                               std::string from) {
  if (!from.empty()) CO_TRY(guesses_->take(user, from, view_.loop.now()));
  Trying trying(from.empty() ? nullptr : guesses_, user, from);
  auto checking = check_login(user, std::move(device), std::move(password), from);
  auto login = co_await checking;
  if (!login && login.code() == Errc::kUnauthenticated) trying.was_wrong();
  co_return login;
}

Task<Result<Accounts::Login>> Accounts::check_login(std::string user, std::string device, std::string password,
                                                    std::string from) {
  CO_TRY_ASSIGN(HashQueue::Place place, hashes_.take_place(from));
  auto finding = find(user);
  auto account = co_await finding;
  if (!account && account.code() != Errc::kNotFound && account.code() != Errc::kInvalid) {
    co_return account.error();
  }
  const bool has_password = account && !account->password_hash.empty();
  auto verifying = verify(std::move(place), std::move(password), has_password ? account->password_hash : decoy_);
  const auto fits = co_await verifying;
  if (!fits && fits.code() == Errc::kOverloaded) co_return fits.error();
  if (!has_password || !fits) co_return Error{Errc::kUnauthenticated, std::string(kRefused)};
  if (account->disabled) co_return Error{Errc::kDenied, user + " is disabled"};
  co_return make_token(user, device, account->epoch, kTokenLifeMs);
}

Result<TokenClaims> Accounts::check(View token) const {
  return verify_token(token, [this](const NodeId& node) { return issuers_.key_of(node); }, view_.loop.wall_ms());
}

Task<Result<Accounts::Login>> Accounts::issue(std::string user, std::string device,
                                              std::int64_t life_ms) {
  auto finding = find(user);
  CO_TRY_ASSIGN(const AccountValue account, co_await finding);
  if (account.disabled) co_return Error{Errc::kDenied, user + " is disabled"};
  co_return make_token(user, device, account.epoch, life_ms);
}

Result<Accounts::Login> Accounts::make_token(const std::string& user, const std::string& device,
                                             std::uint64_t epoch, std::int64_t life_ms) {
  TokenClaims claims;
  claims.user = user;
  claims.device = device;
  claims.epoch = epoch;
  claims.issued_ms = view_.loop.wall_ms();
  claims.expires_ms = claims.issued_ms + life_ms;
  TRY_ASSIGN(std::string token, issue_token(identity_, claims));
  return Login{std::move(token), claims.expires_ms, epoch};
}

Task<Status> Accounts::set_password(std::string user, std::string password, std::string from) {
  auto hashing = hash(std::move(password), std::move(from));
  CO_TRY_ASSIGN(const std::string hashed, co_await hashing);
  auto changing = change(std::move(user), [&hashed](AccountValue& account) {
    account.password_hash = hashed;
  });
  auto changed = co_await changing;
  co_return changed;
}

// Its own register, which merges as a membership does: a password that is changed on the other side of a split at the
// same time does not undo it (hazards F18). The new epoch ends the sessions.
Task<Status> Accounts::set_disabled(std::string user, bool disabled) {
  auto reading = read(user);
  CO_TRY_ASSIGN(const Stamped account, co_await reading);
  const bool as_it_is = account.value.disabled == disabled;
  if (as_it_is && !disabled) co_return ok_status();
  if (!as_it_is) {
    auto changing = change(user, [disabled](AccountValue& value) { value.disabled = disabled; });
    CO_TRY(co_await changing);
  }
  const MailboxId mailbox = mailbox_of(user);
  auto writing = change_member(view_, forwarder_, mailbox, Bytes(kDisabledKey), {1, disabled, 0, std::move(user)});
  auto written = co_await writing;
  co_return written;
}

Task<Status> Accounts::log_out(std::string user) {
  auto changing = change(std::move(user), [](AccountValue&) {});
  auto changed = co_await changing;
  co_return changed;
}

// Sessions and tokens of before are over. Where two sides of a split change it, one of the two epochs stays, and no
// token has that but its own.
Task<Status> Accounts::change(std::string user, std::function<void(AccountValue&)> change) {
  Status written = ok_status();
  for (int attempt = 0; attempt < kChangeTries; ++attempt) {
    auto reading = read(user);
    CO_TRY_ASSIGN(Stamped account, co_await reading);
    change(account.value);
    const auto now = static_cast<std::uint64_t>(std::max<std::int64_t>(view_.loop.wall_ms(), 0));
    account.value.epoch = std::max(account.value.epoch, now) + 1 + view_.random.below(kEpochsAtOnce);
    WriteRegisterRequest request;
    request.mailbox = mailbox_of(user);
    request.merge = static_cast<std::uint8_t>(storage::MergeKind::kLww);
    request.key = Bytes(kAccountKey);
    request.value.data = pack(account.value);
    request.expected = account.stamp;
    request.stamp = stamp_after(view_, account.stamp);
    if (!request.stamp.is_zero() && request.stamp <= account.stamp) co_return written_ahead();
    auto writing = write_register(view_, forwarder_, std::move(request));
    written = co_await writing;
    if (written || written.code() != Errc::kExists) break;
  }
  co_return written;
}

Task<Result<std::string>> Accounts::hash(std::string password, std::string from) {
  CO_TRY(check_password(password));
  CO_TRY_ASSIGN(HashQueue::Place place, hashes_.take_place(from));
  auto result = std::make_shared<Result<std::string>>(Error{Errc::kInvalid, ""});
  auto hashing = hashes_.run(
      std::move(place),
      [result, password = std::move(password), salt = password_salt(view_.random), cost = cost_] {
        *result = hash_password(password, salt, cost);
      });
  co_await hashing;
  co_return std::move(*result);
}

Task<Status> Accounts::verify(HashQueue::Place place, std::string password, std::string hash) {
  auto result = std::make_shared<Status>(Error{Errc::kUnauthenticated, ""});
  auto verifying = hashes_.run(std::move(place), [result, password = std::move(password), hash = std::move(hash)] {
    *result = verify_password(password, hash);
  });
  co_await verifying;
  co_return *result;
}

}  // namespace starling::node
