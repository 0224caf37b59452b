#include "crypto/init.h"

#include <sodium.h>

namespace starling {

Status crypto_init() {
  if (sodium_init() < 0) {
    return Error{Errc::kIo, "libsodium found no source of randomness: check /dev/urandom"};
  }
  return ok_status();
}

}  // namespace starling
