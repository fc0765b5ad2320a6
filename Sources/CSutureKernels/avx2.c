// SPDX-License-Identifier: Apache-2.0
// The same bodies for CPUs with AVX2.

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "table.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define SK_TABLE sk_table_avx2
#define SK_OFFER_SCORES offer
#include "body.inc"
#pragma clang attribute pop
#endif
