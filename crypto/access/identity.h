// Identity: the one key pair that makes a process a node.
//
// The pair is Ed25519; links need X25519, and those keys are derived from the same pair, so a list
// of members with one public key each is enough to check a signature and to recognise a link's
// peer. The node id is the fingerprint of the public key, so an id cannot be claimed without the
// key. A signature means what the signed bytes say: begin them with a word for their purpose.
// Thread: any after construction; const.
#pragma once

#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

struct NodeTag;
using NodeId = Fixed<NodeTag, 16>;
struct PublicKeyTag;
using PublicKey = Fixed<PublicKeyTag, 32>;  // Ed25519.
struct SignatureTag;
using Signature = Fixed<SignatureTag, 64>;
struct DhPublicTag;
using DhPublic = Fixed<DhPublicTag, 32>;  // X25519.

// An X25519 pair, static or ephemeral.
struct DhKeyPair {
  SecretKey secret;
  DhPublic public_key;
};
DhKeyPair dh_key_pair(const SecretKey& secret);

class Identity {
 public:
  static Identity generate(Random& random);
  // 32 bytes, as seed() gave them. kInvalid for another length.
  static Result<Identity> from_seed(View seed);

  [[nodiscard]] SecretKey seed() const;  // Enough to rebuild the identity; keep it on disk only.
  [[nodiscard]] const PublicKey& public_key() const { return public_key_; }
  [[nodiscard]] const NodeId& node_id() const { return node_id_; }
  [[nodiscard]] const DhKeyPair& dh_keys() const { return dh_keys_; }
  [[nodiscard]] Signature sign(View message) const;

 private:
  explicit Identity(const SecretKey& seed);

  Secret<64> secret_key_;
  PublicKey public_key_;
  NodeId node_id_;
  DhKeyPair dh_keys_;
};

bool verify(const PublicKey& key, View message, const Signature& signature);
NodeId fingerprint(const PublicKey& key);
// The static key that a node with this public key shows on its links. kInvalid for bytes that are
// no point of the curve's main group.
Result<DhPublic> dh_public(const PublicKey& key);

}  // namespace starling
