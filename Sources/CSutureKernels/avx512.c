// SPDX-License-Identifier: Apache-2.0
// The same bodies for CPUs with AVX-512.

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "table.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#define SK_TABLE sk_table_avx512
#define SK_OFFER_SCORES sk_offer_avx512
#include "body.inc"
#pragma clang attribute pop
#endif
