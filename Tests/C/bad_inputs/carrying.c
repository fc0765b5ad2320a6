// SPDX-License-Identifier: Apache-2.0
// Carrying by pairs.
#include "table.h"

void carrying_rows(void) {
    suture_carry *carry = NULL, *out_carry = NULL;
    suture_carry_config config = {.struct_size = sizeof config};
    const suture_carry_config good = config;
#define CREATE suture_carry_create(sae, D_B, &config, &out_carry)
    ROW(INVALID, "sae|NULL", "NULL", suture_carry_create(NULL, D_B, &config, &out_carry));
    ROW(INVALID, "out|NULL", "NULL", suture_carry_create(sae, D_B, &config, NULL));
    ROW(INVALID, "d_b|0", "none", suture_carry_create(sae, 0, &config, &out_carry));
    ROW(INVALID, "d_b|9223372036854775807", "beyond indices", suture_carry_create(sae, INT64_MAX, &config, &out_carry));
    ROW(INVALID, "config|NULL", "NULL", suture_carry_create(sae, D_B, NULL, &out_carry));
    SIZE_ROWS("config", config, CREATE);
#define CONFIG_ROW(words, what, field, value) \
    do {                                      \
        config = good;                        \
        config.field = value;                 \
        ROW(INVALID, words, what, CREATE);    \
        config = good;                        \
    } while (0)
    CONFIG_ROW("ridge|-1", "negative", ridge, -1);
    CONFIG_ROW("ridge|nan", "NaN", ridge, NAN);
    CONFIG_ROW("sample|-1", "negative", sample, -1);
    CONFIG_ROW("sample|9223372036854775807", "too large", sample, INT64_MAX);
    CONFIG_ROW("rounds|-2", "negative", rounds, -2);
    CONFIG_ROW("rounds|101", "too many", rounds, 101);

    OK(suture_carry_create(sae, D_B, &config, &carry));
    suture_carry_report report = {.struct_size = sizeof report};
    ROW(INVALID, "no rows", "no rows", suture_carry_finish(carry, NULL, NULL, &out_sae, NULL, NULL, NULL, NULL));
    ROW(INVALID, "carry|NULL", "NULL", suture_carry_update(NULL, &a, &b, NULL));
    ROW(INVALID, "carry|handle", "a SAE", suture_carry_update((suture_carry *)(void *)sae, &a, &b, NULL));
    INPUT_ROWS("a", ROWS, D_A, suture_carry_update(carry, X, &b, NULL));
    INPUT_ROWS("b", ROWS, D_B, suture_carry_update(carry, &a, X, NULL));
    CONTENT_ROWS("a", ROWS, D_A, suture_carry_update(carry, X, &b, NULL));
    CONTENT_ROWS("b", ROWS, D_B, suture_carry_update(carry, &a, X, NULL));
    ROW(INVALID, "no rows", "refused rows do not count",
        suture_carry_finish(carry, NULL, NULL, &out_sae, NULL, NULL, NULL, NULL));
    OK(suture_carry_update(carry, &a, &b, NULL));
    ROW(INVALID, "carry|NULL", "NULL", suture_carry_finish(NULL, NULL, NULL, &out_sae, NULL, NULL, NULL, NULL));
    ROW(INVALID, "out|NULL", "NULL", suture_carry_finish(carry, NULL, NULL, NULL, NULL, NULL, NULL, NULL));
    SIZE_ROWS("report", report, suture_carry_finish(carry, NULL, NULL, &out_sae, &report, NULL, NULL, NULL));
    suture_carry_destroy(carry);
    ACCEPTS_NULL(suture_carry_destroy);
}
