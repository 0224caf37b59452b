// Starts the library under crypto/. Call it first in main and in each test program.
//
// Invariant: a second call does nothing.
// Thread: any, before the others start.
#pragma once

#include "crypto/result.h"

namespace starling {

// kIo when the machine offers no source of randomness: nothing may run then.
Status crypto_init();

}  // namespace starling
