// Accounts: users, their passwords and tokens.
//
// A password is checked once, off the loop; then the device logs in by a token that any node verifies
// without a lookup. A token carries the account's auth epoch: a password change, a disabling or a logout raises
// the epoch, and whoever follows the mailbox cuts off sessions of an older one.
// The answer for an unknown user and for a wrong password is the same, and takes the same time. Anybody may ask for
// a check, so it costs nothing before it has its place among the hashes (hash_queue.h), and guessing is slowed
// (guesses.h).
// Thread: one loop; hashing runs on Loop::work.
#pragma once

#include "crypto/access/password.h"
#include "crypto/access/token.h"
#include "node/mailbox/guesses.h"
#include "node/mailbox/hash_queue.h"
#include "node/mailbox/issuers.h"
#include "node/mailbox/names.h"

namespace starling::node {

inline constexpr std::int64_t kTokenLifeMs = kTokenLifeMaxMs;

// As the registers of a mailbox in this store say; nothing where there is no account.
std::optional<AccountValue> account_of(storage::Store& store, const MailboxId& mailbox);

class Accounts {
 public:
  struct Login {
    std::string token;
    std::int64_t expires_ms = 0;
    std::uint64_t epoch = 0;
  };

  Accounts(ClusterView& view, Names& names, Forwarder& forwarder, const Identity& identity,
           PasswordCost cost);

  // An empty password: the account logs in by tokens that an operator issues. kExists.
  // `nonce` as in Names::create.
  overlay::Task<Status> create(std::string user, std::string password, std::uint64_t nonce);
  // kUnauthenticated, whether the user or the password is wrong. kOverloaded. `from`: the address that the device comes
  // from; empty for an operator, who may guess.
  overlay::Task<Result<Login>> log_in(std::string user, std::string device, std::string password, std::string from);
  // kUnauthenticated.
  [[nodiscard]] Result<TokenClaims> check(View token) const;
  // Issued by this node, for an account that exists. kNotFound.
  overlay::Task<Result<Login>> issue(std::string user, std::string device, std::int64_t life_ms);
  // `from` as for log_in.
  overlay::Task<Status> set_password(std::string user, std::string password, std::string from);
  overlay::Task<Status> set_disabled(std::string user, bool disabled);
  // Every session and token of the user ends; the password stays.
  overlay::Task<Status> log_out(std::string user);
  overlay::Task<Result<AccountValue>> find(std::string user);
  // Is what rests on this epoch over? The user is disabled, gone, or has another epoch: a higher one; or a lower one,
  // when every home owner answered, none of them behind: there never was a higher. kUnavailable, kTimeout: not known.
  overlay::Task<Result<bool>> has_ended(std::string user, std::uint64_t epoch);

 private:
  struct Stamped {
    AccountValue value;
    EntryId stamp;
  };
  overlay::Task<Result<Stamped>> read(std::string user);
  static Result<std::optional<Stamped>> stamped(const ReadRegistersReply& found);
  // Reads, lets `change` make the next value, and writes it, again when somebody else was faster.
  overlay::Task<Status> change(std::string user, std::function<void(AccountValue&)> change);
  overlay::Task<Result<Login>> check_login(std::string user, std::string device, std::string password,
                                           std::string from);
  overlay::Task<Result<std::string>> hash(std::string password, std::string from);
  overlay::Task<Status> verify(HashQueue::Place place, std::string password, std::string hash);
  Result<Login> make_token(const std::string& user, const std::string& device, std::uint64_t epoch,
                           std::int64_t life_ms);

  ClusterView& view_;
  Names& names_;
  Forwarder& forwarder_;
  const Identity& identity_;
  const PasswordCost cost_;
  std::string decoy_;         // A hash that no password fits, for unknown users.
  HashQueue hashes_;
  const std::shared_ptr<Guesses> guesses_ = std::make_shared<Guesses>();  // And of the tries under way.
  Issuers issuers_;
};

}  // namespace starling::node
