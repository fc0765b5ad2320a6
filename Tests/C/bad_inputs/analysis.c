// SPDX-License-Identifier: Apache-2.0
// Feature analysis.
#include "table.h"

enum { VOCABULARY = 5 };

static void fidelity_rows(void) {
    ROW(INVALID, "out|NULL", "NULL", suture_fidelity_create(D_SAE, NULL));
    ROW(INVALID, "d_sae|0", "none", suture_fidelity_create(0, &out_fidelity));
    ROW(INVALID, "d_sae|-4", "negative", suture_fidelity_create(-4, &out_fidelity));
    ROW(INVALID, "d_sae|9223372036854775807", "beyond indices", suture_fidelity_create(INT64_MAX, &out_fidelity));

    suture_fidelity *fidelity = NULL, *other = NULL;
    OK(suture_fidelity_create(D_SAE, &fidelity));
    OK(suture_fidelity_create(D_SAE + 1, &other));
    ROW(INVALID, "fidelity|NULL", "NULL", suture_fidelity_update(NULL, codes, codes, NULL));
    ROW(INVALID, "fidelity|handle", "codes",
        suture_fidelity_update((suture_fidelity *)(void *)codes, codes, codes, NULL));
    ROW(INVALID, "codes_a|NULL", "NULL", suture_fidelity_update(fidelity, NULL, codes, NULL));
    ROW(INVALID, "codes_b|NULL", "NULL", suture_fidelity_update(fidelity, codes, NULL, NULL));
    ROW(INVALID, "codes_a|9|8", "other d_sae", suture_fidelity_update(fidelity, wide_codes, codes, NULL));
    ROW(INVALID, "codes_b|9|8", "other d_sae", suture_fidelity_update(fidelity, codes, wide_codes, NULL));
    suture_codes *one = NULL;
    const int32_t index = 0;
    OK(suture_codes_create(D_SAE, 1, 1, &index, numbers, &one));
    ROW(INVALID, "codes_b|1|2", "other rows", suture_fidelity_update(fidelity, codes, one, NULL));
    suture_codes_destroy(one);
    ROW(INVALID, "fidelity|NULL", "NULL", suture_fidelity_merge(NULL, fidelity));
    ROW(INVALID, "other|NULL", "NULL", suture_fidelity_merge(fidelity, NULL));
    ROW(INVALID, "other|9|8", "other d_sae", suture_fidelity_merge(fidelity, other));
    ROW(INVALID, "fidelity|NULL", "NULL", suture_fidelity_read(NULL, out_doubles, NULL, NULL, NULL, NULL, NULL));
    OK(suture_fidelity_read(fidelity, NULL, NULL, NULL, NULL, NULL, NULL));
    ROW(INVALID, "fidelity|NULL", "NULL", suture_fidelity_summarize(NULL, 10, &out_summary));
    ROW(INVALID, "min_count|0", "none", suture_fidelity_summarize(fidelity, 0, &out_summary));
    ROW(INVALID, "min_count|-1", "negative", suture_fidelity_summarize(fidelity, -1, &out_summary));
    ROW(INVALID, "out|NULL", "NULL", suture_fidelity_summarize(fidelity, 10, NULL));
    SIZE_ROWS("out", out_summary, suture_fidelity_summarize(fidelity, 10, &out_summary));
    suture_fidelity_destroy(other);
    suture_fidelity_destroy(fidelity);
    ACCEPTS_NULL(suture_fidelity_destroy);
}

static void matches_rows(void) {
    ROW(INVALID, "out|NULL", "NULL", suture_matches_create(D_SAE, 3, NULL));
    ROW(INVALID, "d_sae_a|0", "none", suture_matches_create(0, 3, &out_matches));
    ROW(INVALID, "d_sae_b|-4", "negative", suture_matches_create(D_SAE, -4, &out_matches));
    ROW(INVALID, "d_sae_b|9223372036854775807", "beyond indices", suture_matches_create(3, INT64_MAX, &out_matches));

    suture_matches *matches = NULL;
    OK(suture_matches_create(D_SAE, D_SAE + 1, &matches));
    ROW(INVALID, "matches|NULL", "NULL", suture_matches_update(NULL, codes, wide_codes));
    ROW(INVALID, "matches|handle", "codes", suture_matches_update((suture_matches *)(void *)codes, codes, wide_codes));
    ROW(INVALID, "codes_a|NULL", "NULL", suture_matches_update(matches, NULL, wide_codes));
    ROW(INVALID, "codes_b|NULL", "NULL", suture_matches_update(matches, codes, NULL));
    ROW(INVALID, "codes_a|9|8", "other d_sae", suture_matches_update(matches, wide_codes, wide_codes));
    ROW(INVALID, "codes_b|8|9", "other d_sae", suture_matches_update(matches, codes, codes));
    suture_codes *one = NULL;
    const int32_t index = 0;
    OK(suture_codes_create(D_SAE, 1, 1, &index, numbers, &one));
    ROW(INVALID, "codes_b|2|1", "other rows", suture_matches_update(matches, one, wide_codes));
    suture_codes_destroy(one);
#define FIND(matches, count, summary) \
    suture_matches_find(matches, count, NULL, out_integers, out_doubles, out_doubles, out_doubles, &out_size, NULL, summary)
    ROW(INVALID, "matches|NULL", "NULL", FIND(NULL, 10, &out_matches_summary));
    OK(suture_matches_update(matches, codes, wide_codes));
    ROW(INVALID, "matches|2 pairs|128", "too few rows", FIND(matches, 10, &out_matches_summary));
    for (int i = 0; i < 63; ++i) OK(suture_matches_update(matches, codes, wide_codes));
    OK(suture_matches_find(matches, 10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL));
    ROW(INVALID, "min_count|0", "none", FIND(matches, 0, &out_matches_summary));
    ROW(INVALID, "min_count|-1", "negative", FIND(matches, -1, &out_matches_summary));
    SIZE_ROWS("summary", out_matches_summary, FIND(matches, 10, &out_matches_summary));
    suture_matches_destroy(matches);
    ACCEPTS_NULL(suture_matches_destroy);
}

static void attribution_rows(void) {
    const suture_matrix *dec_a = FLOATS(W_dec_data, D_SAE, D_A), *head_a = FLOATS(numbers, VOCABULARY, D_A);
    const suture_matrix *dec_b = FLOATS(numbers, D_SAE, D_B), *head_b = FLOATS(numbers, VOCABULARY, D_B);
#define CREATE(dec_a, head_a, dec_b, head_b) suture_attribution_create(dec_a, head_a, dec_b, head_b, &out_attribution)
    ROW(INVALID, "out|NULL", "NULL", suture_attribution_create(dec_a, head_a, dec_b, head_b, NULL));
    INPUT_ROWS("W_dec_b", D_SAE, D_B, CREATE(dec_a, head_a, X, head_b));
    INPUT_ROWS("unembedding_a", VOCABULARY, D_A, CREATE(dec_a, X, dec_b, head_b));
    INPUT_ROWS("unembedding_b", VOCABULARY, D_B, CREATE(dec_a, head_a, dec_b, X));
    CONTENT_ROWS("W_dec_a", D_SAE, D_A, CREATE(X, head_a, dec_b, head_b));
    CONTENT_ROWS("unembedding_b", VOCABULARY, D_B, CREATE(dec_a, head_a, dec_b, X));
    ROW(INVALID, "W_dec_a|NULL", "NULL", CREATE(NULL, head_a, dec_b, head_b));
    ROW(INVALID, "W_dec_b|7|8", "other d_sae", CREATE(dec_a, head_a, FLOATS(numbers, 7, D_B), head_b));
    ROW(INVALID, "unembedding_b|4|5", "other vocabulary", CREATE(dec_a, head_a, dec_b, FLOATS(numbers, 4, D_B)));

    suture_attribution *attribution = NULL, *other = NULL;
    OK(suture_attribution_create(dec_a, head_a, dec_b, head_b, &attribution));
    OK(suture_attribution_create(dec_a, FLOATS(numbers, 4, D_A), dec_b, FLOATS(numbers, 4, D_B), &other));
    const int64_t next[2] = {1, 4}, beyond[2] = {-1, 5}, far_beyond[2] = {INT64_MAX, 0};
#define UPDATE(a, b, next, count) suture_attribution_update(attribution, a, b, next, count, NULL)
    ROW(INVALID, "attribution|NULL", "NULL", suture_attribution_update(NULL, codes, codes, next, 2, NULL));
    ROW(INVALID, "attribution|handle", "codes",
        suture_attribution_update((suture_attribution *)(void *)codes, codes, codes, next, 2, NULL));
    ROW(INVALID, "codes_a|NULL", "NULL", UPDATE(NULL, codes, next, 2));
    ROW(INVALID, "codes_b|NULL", "NULL", UPDATE(codes, NULL, next, 2));
    ROW(INVALID, "codes_a|9|8", "other d_sae", UPDATE(wide_codes, codes, next, 2));
    ROW(INVALID, "codes_b|9|8", "other d_sae", UPDATE(codes, wide_codes, next, 2));
    suture_codes *one = NULL;
    const int32_t index = 0;
    OK(suture_codes_create(D_SAE, 1, 1, &index, numbers, &one));
    ROW(INVALID, "codes_b|1|2", "other rows", UPDATE(codes, one, next, 2));
    ROW(INVALID, "next_tokens|NULL", "NULL", UPDATE(codes, codes, NULL, 2));
    ROW(INVALID, "next_tokens|1|2", "too few", UPDATE(codes, codes, next, 1));
    ROW(INVALID, "count|-1", "negative", UPDATE(codes, codes, next, -1));
    ROW(INVALID, "count|9223372036854775807", "beyond memory", UPDATE(codes, codes, next, INT64_MAX));
    ROW(INVALID, "next_tokens[1]|5", "beyond the vocabulary", UPDATE(codes, codes, beyond, 2));
    ROW(INVALID, "next_tokens[0]|9223372036854775807", "far beyond", UPDATE(codes, codes, far_beyond, 2));
    ROW(INVALID, "attribution|NULL", "NULL", suture_attribution_merge(NULL, attribution));
    ROW(INVALID, "other|NULL", "NULL", suture_attribution_merge(attribution, NULL));
    ROW(INVALID, "other|4|5", "other vocabulary", suture_attribution_merge(attribution, other));
    ROW(INVALID, "attribution|NULL", "NULL", suture_attribution_read(NULL, out_doubles, NULL, NULL, &out_size));
    uint64_t tokens = 9;
    OK(suture_attribution_read(attribution, NULL, NULL, NULL, &tokens));
    if (tokens != 0) abort();

    // Weights whose product is beyond float32.
    float huge[D_SAE * D_B];
    for (int i = 0; i < D_SAE * D_B; ++i) huge[i] = 1e30f;
    suture_attribution *large = NULL;
    OK(suture_attribution_create(FLOATS(huge, D_SAE, D_A), FLOATS(huge, VOCABULARY, D_A), dec_b, head_b, &large));
    ROW(SUTURE_ERROR_NUMERICAL, "latent|float32", "overflow",
        suture_attribution_update(large, codes, codes, next, 2, NULL));
    suture_attribution_destroy(large);
    suture_codes_destroy(one);
    suture_attribution_destroy(other);
    suture_attribution_destroy(attribution);
    ACCEPTS_NULL(suture_attribution_destroy);
}

static void structural_rows(void) {
    ROW(INVALID, "d_sae|0", "zero", suture_structural_create(0, &out_structural));
    ROW(INVALID, "d_sae|-1", "negative", suture_structural_create(-1, &out_structural));
    ROW(INVALID, "d_sae|9223372036854775807", "too large", suture_structural_create(INT64_MAX, &out_structural));
    ROW(INVALID, "out|NULL", "NULL", suture_structural_create(D_SAE, NULL));
    suture_structural *structural = NULL;
    OK(suture_structural_create(D_SAE, &structural));
    const int64_t lengths[4] = {1, 1, 0, 0}, wrong[2] = {-1, 3}, overflow[2] = {INT64_MAX, INT64_MAX};
#define SCORE(codes, lengths, texts, variants) \
    suture_structural_update(structural, codes, lengths, texts, variants, NULL)
    ROW(INVALID, "structural|NULL", "NULL", suture_structural_update(NULL, codes, lengths, 2, 2, NULL));
    ROW(INVALID, "codes|NULL", "NULL", SCORE(NULL, lengths, 2, 2));
    ROW(INVALID, "codes|9|8", "other d_sae", SCORE(wide_codes, lengths, 2, 2));
    ROW(INVALID, "lengths|NULL", "NULL", SCORE(codes, NULL, 2, 2));
    ROW(INVALID, "text_count|-2", "negative", SCORE(codes, lengths, -2, 2));
    ROW(INVALID, "text_count|9223372036854775807", "beyond memory", SCORE(codes, lengths, INT64_MAX, 2));
    ROW(INVALID, "lengths|0|2", "none", SCORE(codes, lengths, 0, 2));
    ROW(INVALID, "lengths|3|2", "part of a sentence", SCORE(codes, lengths, 3, 2));
    ROW(INVALID, "variants|1", "one", SCORE(codes, lengths, 2, 1));
    ROW(INVALID, "variants|0", "zero", SCORE(codes, lengths, 2, 0));
    ROW(INVALID, "variants|-9223372036854775808", "negative", SCORE(codes, lengths, 2, INT64_MIN));
    ROW(INVALID, "lengths[0]|-1", "negative length", SCORE(codes, wrong, 2, 2));
    ROW(INVALID, "lengths[0]|9223372036854775807", "overflow", SCORE(codes, overflow, 2, 2));
    ROW(INVALID, "lengths|0|2", "too short", SCORE(codes, lengths + 2, 2, 2));
    ROW(INVALID, "structural|NULL", "NULL", suture_structural_read(NULL, out_doubles, NULL, NULL, &out_size));
    OK(SCORE(codes, lengths, 4, 2));
    suture_structural_destroy(structural);
    ACCEPTS_NULL(suture_structural_destroy);
}

static void statistics_rows(void) {
    ROW(INVALID, "d_sae|0", "zero", suture_feature_statistics_create(0, 1, &out_statistics));
    ROW(INVALID, "d_sae|9223372036854775807", "too large", suture_feature_statistics_create(INT64_MAX, 1, &out_statistics));
    ROW(INVALID, "top|-1", "negative", suture_feature_statistics_create(D_SAE, -1, &out_statistics));
    ROW(INVALID, "top|10001", "too many", suture_feature_statistics_create(D_SAE, 10001, &out_statistics));
    ROW(INVALID, "out|NULL", "NULL", suture_feature_statistics_create(D_SAE, 1, NULL));
    suture_feature_statistics *statistics = NULL;
    OK(suture_feature_statistics_create(D_SAE, 2, &statistics));
    ROW(INVALID, "statistics|NULL", "NULL", suture_feature_statistics_update(NULL, codes, NULL));
    ROW(INVALID, "codes|NULL", "NULL", suture_feature_statistics_update(statistics, NULL, NULL));
    ROW(INVALID, "codes|9|8", "other d_sae", suture_feature_statistics_update(statistics, wide_codes, NULL));
    ROW(INVALID, "statistics|NULL", "NULL", suture_feature_statistics_read(NULL, out_doubles, NULL, NULL, &out_size));
    ROW(INVALID, "statistics|no tokens", "no tokens yet",
        suture_feature_statistics_read(statistics, out_doubles, NULL, NULL, &out_size));
    ROW(INVALID, "statistics|NULL", "NULL", suture_feature_statistics_examples(NULL, NULL, out_floats));
    suture_feature_statistics_destroy(statistics);
    ACCEPTS_NULL(suture_feature_statistics_destroy);
}

void analysis_rows(void) {
    fidelity_rows();
    matches_rows();
    attribution_rows();
    structural_rows();
    statistics_rows();
    const suture_matrix *dec = FLOATS(W_dec_data, D_SAE, D_A), *head = FLOATS(numbers, VOCABULARY, D_A);
#define WEIGHTS(dec, head, count) suture_logit_weights(dec, head, count, NULL, NULL, out_floats, NULL, out_floats)
    INPUT_ROWS("unembedding", VOCABULARY, D_A, WEIGHTS(dec, X, 2));
    CONTENT_ROWS("unembedding", VOCABULARY, D_A, WEIGHTS(dec, X, 2));
    CONTENT_ROWS("W_dec", D_SAE, D_A, WEIGHTS(X, head, 2));
    ROW(INVALID, "W_dec|NULL", "NULL", WEIGHTS(NULL, head, 2));
    ROW(INVALID, "count|0", "zero", WEIGHTS(dec, head, 0));
    ROW(INVALID, "count|-1", "negative", WEIGHTS(dec, head, -1));
    ROW(INVALID, "count|6|5", "beyond the vocabulary", WEIGHTS(dec, head, 6));
    ROW(INVALID, "count|9223372036854775807", "overflow", WEIGHTS(dec, head, INT64_MAX));
#define FRACTION(dec, head, share) suture_null_space_fraction(dec, head, share, NULL, out_doubles, NULL)
    INPUT_ROWS("unembedding", VOCABULARY, D_A, FRACTION(dec, X, 0.02));
    CONTENT_ROWS("unembedding", VOCABULARY, D_A, FRACTION(dec, X, 0.02));
    CONTENT_ROWS("W_dec", D_SAE, D_A, FRACTION(X, head, 0.02));
    ROW(INVALID, "W_dec|NULL", "NULL", FRACTION(NULL, head, 0.02));
    ROW(INVALID, "unembedding|zero", "zeros", FRACTION(dec, FLOATS(zeros, VOCABULARY, D_A), 0.02));
    ROW(INVALID, "share|0", "zero", FRACTION(dec, head, 0));
    ROW(INVALID, "share|1.5", "above 1", FRACTION(dec, head, 1.5));
    ROW(INVALID, "share|nan", "NaN", FRACTION(dec, head, NAN));
}
