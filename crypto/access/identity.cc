#include "crypto/access/identity.h"

#include <sodium.h>

#include "crypto/hash.h"

namespace starling {

DhKeyPair dh_key_pair(const SecretKey& secret) {
  DhKeyPair out{secret, {}};
  crypto_scalarmult_base(out.public_key.raw.data(), secret.raw.data());
  return out;
}

Identity::Identity(const SecretKey& seed) {
  crypto_sign_seed_keypair(public_key_.raw.data(), secret_key_.raw.data(), seed.raw.data());
  node_id_ = fingerprint(public_key_);
  SecretKey dh_secret;
  crypto_sign_ed25519_sk_to_curve25519(dh_secret.raw.data(), secret_key_.raw.data());
  dh_keys_ = dh_key_pair(dh_secret);
}

Identity Identity::generate(Random& random) { return Identity(SecretKey::random(random)); }

Result<Identity> Identity::from_seed(View seed) {
  SecretKey key;
  if (!SecretKey::from(seed, key)) {
    return Error{Errc::kInvalid, "an identity seed has 32 bytes, this one has " +
                                     std::to_string(seed.size()) + ": restore the identity file"};
  }
  return Identity(key);
}

SecretKey Identity::seed() const {
  SecretKey out;
  crypto_sign_ed25519_sk_to_seed(out.raw.data(), secret_key_.raw.data());
  return out;
}

Signature Identity::sign(View message) const {
  Signature out;
  crypto_sign_detached(out.raw.data(), nullptr, octets(message), message.size(),
                       secret_key_.raw.data());
  return out;
}

bool verify(const PublicKey& key, View message, const Signature& signature) {
  return crypto_sign_verify_detached(signature.raw.data(), octets(message), message.size(),
                                     key.raw.data()) == 0;
}

NodeId fingerprint(const PublicKey& key) { return blake2b_id<NodeId>({key.view()}); }

Result<DhPublic> dh_public(const PublicKey& key) {
  DhPublic out;
  if (crypto_sign_ed25519_pk_to_curve25519(out.raw.data(), key.raw.data()) != 0) {
    return Error{Errc::kInvalid, "not a usable Ed25519 public key"};
  }
  return out;
}

}  // namespace starling
