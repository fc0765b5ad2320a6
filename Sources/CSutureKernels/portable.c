// SPDX-License-Identifier: Apache-2.0
// The reference: what the compiler makes of the bodies for any CPU.

#define SK_TABLE sk_table_portable
#define SK_OFFER_SCORES offer
#include "body.inc"
