// SPDX-License-Identifier: Apache-2.0
// The reference: what the compiler makes of the bodies for any CPU.

#define SK_TABLE sk_table_portable
#include "body.inc"
