// SPDX-License-Identifier: Apache-2.0
// Carrying by pairs.
#include "table.h"

static void evidence_rows(void) {
    int64_t counts[D_SAE] = {0};
    double values[D_SAE] = {0};
    suture_latent_evidence evidence = {.struct_size = sizeof evidence,
                                       .rows = 10,
                                       .held_out_rows = 5,
                                       .source_latent = counts,
                                       .firings = counts,
                                       .r_squared = values,
                                       .correlation = values,
                                       .active_a = counts,
                                       .active_b = counts,
                                       .active_both = counts};
    const suture_latent_evidence good = evidence;
    int32_t known = 7;
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_evidence(NULL, &known, &evidence));
    ROW(INVALID, "known|NULL", "NULL", suture_sae_evidence(sae, NULL, &evidence));
    SIZE_ROWS("out", evidence, suture_sae_evidence(sae, &known, &evidence));
    CHECK(known == 7, "%d", (int)known);
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_set_evidence(NULL, &evidence));
    SIZE_ROWS("evidence", evidence, suture_sae_set_evidence(sae, &evidence));
#define EVIDENCE_ROW(words, what, field, value)                               \
    do {                                                                      \
        evidence = good;                                                      \
        evidence.field = value;                                               \
        ROW(INVALID, words, what, suture_sae_set_evidence(sae, &evidence));   \
        evidence = good;                                                      \
    } while (0)
    int64_t many[D_SAE] = {0, 11};
    double beyond[D_SAE] = {0, 0, 1.5};
    EVIDENCE_ROW("rows|-1", "negative", rows, -1);
    EVIDENCE_ROW("held_out_rows|-1", "negative", held_out_rows, -1);
    EVIDENCE_ROW("evidence->firings|NULL", "missing", firings, NULL);
    EVIDENCE_ROW("evidence->correlation|NULL", "missing", correlation, NULL);
    EVIDENCE_ROW("firings[1]|11|10", "more than rows", firings, many);
    EVIDENCE_ROW("active_both[1]|11|0", "more than either", active_both, many);
    EVIDENCE_ROW("correlation[2]|1.5", "above 1", correlation, beyond);
    // None of it has come through.
    OK(suture_sae_evidence(sae, &known, NULL));
    CHECK(known == 0, "%d", (int)known);
}

static void select_rows(void) {
    const int64_t two[2] = {5, 1}, twice[2] = {5, 5}, none[2] = {5, D_SAE}, negative[2] = {-1, 5};
#define SELECT(latents, count) suture_sae_select(sae, latents, count, &a, 1, NULL, &out_sae)
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_select(NULL, two, 2, &a, 1, NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_select(sae, two, 2, &a, 1, NULL, NULL));
    ROW(INVALID, "latents|NULL", "NULL", SELECT(NULL, 2));
    ROW(INVALID, "latent_count|0", "none", SELECT(two, 0));
    ROW(INVALID, "latent_count|9|8", "more than there are", SELECT(two, D_SAE + 1));
    ROW(INVALID, "latents[1]|5|twice", "twice", SELECT(twice, 2));
    ROW(INVALID, "latents[1]|8|7", "no such latent", SELECT(none, 2));
    ROW(INVALID, "latents[0]|-1", "negative", SELECT(negative, 2));
    ROW(INVALID, "shard_count|-1", "negative", suture_sae_select(sae, two, 2, &a, -1, NULL, &out_sae));
    ROW(INVALID, "shards|NULL", "NULL", suture_sae_select(sae, two, 2, NULL, 1, NULL, &out_sae));
    ROW(INVALID, "shards|empty|topk", "topk without rows", suture_sae_select(sae, two, 2, NULL, 0, NULL, &out_sae));
    INPUT_ROWS("shards[0]", ROWS, D_A, suture_sae_select(sae, two, 2, X, 1, NULL, &out_sae));
    CONTENT_ROWS("shards[0]", ROWS, D_A, suture_sae_select(sae, two, 2, X, 1, NULL, &out_sae));
}

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
    CONFIG_ROW("skip_decoder|2", "neither 0 nor 1", skip_decoder, 2);

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
    evidence_rows();
    select_rows();

    double values[8];
    uint8_t flags[4];
#define CARRY(MOMENTS, PROBE, RIDGE, OUT) \
    suture_moments_carry_probe(MOMENTS, PROBE, RIDGE, NULL, NULL, OUT, NULL, values)
    ROW(INVALID, "moments|NULL", "NULL", CARRY(NULL, probe, 0, &out_probe));
    ROW(INVALID, "moments|handle", "a SAE", CARRY((suture_moments *)(void *)sae, probe, 0, &out_probe));
    ROW(INVALID, "probe|NULL", "NULL", CARRY(moments, NULL, 0, &out_probe));
    ROW(INVALID, "out|NULL", "NULL", CARRY(moments, probe, 0, NULL));
    ROW(INVALID, "tokens", "no tokens", CARRY(empty_moments, probe, 0, &out_probe));
    ROW(INVALID, "ridge|-1", "negative", CARRY(moments, probe, -1, &out_probe));
    ROW(INVALID, "ridge|nan", "NaN", CARRY(moments, probe, NAN, &out_probe));
    ROW(INVALID, "ridge|10000000000000", "too large", CARRY(moments, probe, 1e13, &out_probe));
    ROW(INVALID, "first|-1", "negative", suture_carry_held_out(-1, 4, flags));
    ROW(INVALID, "count|-1", "negative", suture_carry_held_out(0, -1, flags));
    ROW(INVALID, "first|9223372036854775807", "beyond counting", suture_carry_held_out(INT64_MAX, 4, flags));
    ROW(INVALID, "out|NULL", "NULL", suture_carry_held_out(0, 4, NULL));
}
