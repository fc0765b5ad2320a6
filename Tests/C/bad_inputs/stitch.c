// SPDX-License-Identifier: Apache-2.0
// The library, moments and stitches.
#include "table.h"

void library_rows(void) {
    ROW(INVALID, "threads|-1", "negative", suture_set_threads(-1));
    ROW(INVALID, "threads|1025|1024", "beyond the limit", suture_set_threads(1025));
    ROW(INVALID, "out|NULL", "NULL", suture_cpu_info(NULL));
    SIZE_ROWS("out", out_cpu, suture_cpu_info(&out_cpu));
}

void alignment_rows(void) {
    const int64_t ends[] = {2, 5, 5, 9}, falling[] = {2, 5, 4, 9}, unknown[] = {-1, 2};
    int64_t *pairs_a = out_integers, *pairs_b = out_integers + 4, count = -7;
    ROW(INVALID, "ends_a|NULL", "NULL", suture_align(NULL, 4, ends, 4, pairs_a, pairs_b, &count));
    ROW(INVALID, "ends_b|NULL", "NULL", suture_align(ends, 4, NULL, 4, pairs_a, pairs_b, &count));
    ROW(INVALID, "count_a|-1", "negative", suture_align(ends, -1, ends, 4, pairs_a, pairs_b, &count));
    ROW(INVALID, "count_b|9223372036854775807", "beyond memory",
        suture_align(ends, 4, ends, INT64_MAX, pairs_a, pairs_b, &count));
    ROW(INVALID, "ends_a[2]|4 after 5", "a list that decreases",
        suture_align(falling, 4, ends, 4, pairs_a, pairs_b, &count));
    ROW(INVALID, "ends_b[2]|4 after 5", "a list that decreases",
        suture_align(ends, 4, falling, 4, pairs_a, pairs_b, &count));
    ROW(INVALID, "ends_b[0]|-1", "an end that is not known",
        suture_align(ends, 4, unknown, 2, pairs_a, pairs_b, &count));
    ROW(INVALID, "rows_a|NULL", "one of two NULL", suture_align(ends, 4, ends, 4, NULL, pairs_b, &count));
    ROW(INVALID, "rows_b|NULL", "one of two NULL", suture_align(ends, 4, ends, 4, pairs_a, NULL, &count));
    ROW(INVALID, "count|NULL", "NULL", suture_align(ends, 4, ends, 4, pairs_a, pairs_b, NULL));
    CHECK(count == -7, "count was written");
    CHECK(suture_align(NULL, 0, ends, 4, NULL, NULL, &count) == SUTURE_OK && count == 0, "an empty list");
}

void moments_rows(void) {
    ROW(INVALID, "d_a|0", "zero", suture_moments_create(0, D_B, &out_moments));
    ROW(INVALID, "d_a|-3", "negative", suture_moments_create(-3, D_B, &out_moments));
    ROW(INVALID, "d_b|0", "zero", suture_moments_create(D_A, 0, &out_moments));
    ROW(INVALID, "d_b|9223372036854775807", "too large", suture_moments_create(D_A, INT64_MAX, &out_moments));
    ROW(INVALID, "d_b|2000000000", "beyond what BLAS can index", suture_moments_create(D_A, 2000000000, &out_moments));
    ROW(SUTURE_ERROR_OUT_OF_MEMORY, "memory", "beyond this machine's memory",
        suture_moments_create(1 << 20, 1 << 20, &out_moments));
    ROW(INVALID, "out|NULL", "NULL", suture_moments_create(D_A, D_B, NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_update(NULL, &a, &b, NULL));
    ROW(INVALID, "moments|handle", "a stitch", suture_moments_update((suture_moments *)(void *)stitch, &a, &b, NULL));
    INPUT_ROWS("h_a", 2, D_A, suture_moments_update(moments, X, FLOATS(zeros, 2, D_B), NULL));
    INPUT_ROWS("h_b", 2, D_B, suture_moments_update(moments, FLOATS(zeros, 2, D_A), X, NULL));
    CONTENT_ROWS("h_a", ROWS, D_A, suture_moments_update(moments, X, &b, NULL));
    CONTENT_ROWS("h_b", ROWS, D_B, suture_moments_update(moments, &a, X, NULL));
    ROW(INVALID, "h_b|rows|59|60", "other rows than h_a",
        suture_moments_update(moments, &a, FLOATS(b_data, ROWS - 1, D_B), NULL));

    const int64_t rows[] = {0, 5, 2}, negative[] = {0, -1, 2}, beyond[] = {0, 1, ROWS};
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_update_pairs(NULL, &a, &b, rows, rows, 3, NULL));
    INPUT_ROWS("h_a", ROWS, D_A, suture_moments_update_pairs(moments, X, &b, rows, rows, 3, NULL));
    INPUT_ROWS("h_b", ROWS, D_B, suture_moments_update_pairs(moments, &a, X, rows, rows, 3, NULL));
    ROW(INVALID, "rows_a|NULL", "NULL", suture_moments_update_pairs(moments, &a, &b, NULL, rows, 3, NULL));
    ROW(INVALID, "rows_b|NULL", "NULL", suture_moments_update_pairs(moments, &a, &b, rows, NULL, 3, NULL));
    ROW(INVALID, "count|0|1", "no pairs", suture_moments_update_pairs(moments, &a, &b, rows, rows, 0, NULL));
    ROW(INVALID, "count|-3", "negative", suture_moments_update_pairs(moments, &a, &b, rows, rows, -3, NULL));
    ROW(INVALID, "count|9223372036854775807", "beyond memory",
        suture_moments_update_pairs(moments, &a, &b, rows, rows, INT64_MAX, NULL));
    ROW(INVALID, "rows_a[1]|-1|0 to 59", "a negative row",
        suture_moments_update_pairs(moments, &a, &b, negative, rows, 3, NULL));
    ROW(INVALID, "rows_b[2]|60|0 to 59", "a row beyond the last",
        suture_moments_update_pairs(moments, &a, &b, rows, beyond, 3, NULL));
    float gap[ROWS * D_A] = {0};
    gap[5 * D_A + 1] = NAN;
    ROW(INVALID, "h_a[5, 1]|nan", "NaN in a row of a pair",
        suture_moments_update_pairs(moments, FLOATS(gap, ROWS, D_A), &b, rows, rows, 3, NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_merge(NULL, moments));
    ROW(INVALID, "other|NULL", "NULL", suture_moments_merge(moments, NULL));
    ROW(INVALID, "other|3|4", "other sizes", suture_moments_merge(moments, square_moments));

    suture_moments *bounded = NULL;
    OK(suture_moments_create(D_A, D_B, &bounded));
    OK(suture_moments_set_norm_bounds(bounded, 5, 7, 0));
    ROW(INVALID, "norm_bound_a = inf|norm_bound_a = 5.0|norm_bound_b = 7.0", "other bounds",
        suture_moments_merge(bounded, moments));
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_set_norm_bounds(NULL, 5, 7, 0));
    ROW(INVALID, "norm_bound_a|0", "zero", suture_moments_set_norm_bounds(bounded, 0, 7, 0));
    ROW(INVALID, "norm_bound_a|nan", "NaN", suture_moments_set_norm_bounds(bounded, NAN, 7, 0));
    ROW(INVALID, "norm_bound_b|-3", "negative", suture_moments_set_norm_bounds(bounded, 5, -3, 0));
    ROW(INVALID, "estimated|2|0 or 1", "no truth value", suture_moments_set_norm_bounds(bounded, 5, 7, 2));
    ROW(INVALID, "moments|60 tokens", "after the first row", suture_moments_set_norm_bounds(moments, 5, 7, 0));
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_norms(NULL, &out_norms));
    ROW(INVALID, "out|NULL", "NULL", suture_moments_norms(moments, NULL));
    SIZE_ROWS("out", out_norms, suture_moments_norms(moments, &out_norms));
    suture_moments_destroy(bounded);

    ROW(INVALID, "h|NULL", "NULL", suture_row_norms(NULL, NULL, out_doubles));
    ROW(INVALID, "h|data|NULL", "data NULL", suture_row_norms(FLOATS(NULL, 2, D_A), NULL, out_doubles));
    ROW(INVALID, "h|dtype|99", "unknown dtype",
        suture_row_norms(MATRIX(zeros, 2, D_A, 0, (suture_dtype)99), NULL, out_doubles));
    ROW(INVALID, "h|cols|0", "no columns", suture_row_norms(FLOATS(zeros, 2, 0), NULL, out_doubles));
    ROW(INVALID, "h|rows|0", "no rows", suture_row_norms(FLOATS(zeros, 0, D_A), NULL, out_doubles));
    ROW(INVALID, "h|row_stride|2", "row_stride below cols",
        suture_row_norms(MATRIX(zeros, 2, D_A, D_A - 1, SUTURE_FLOAT32), NULL, out_doubles));
    CONTENT_ROWS("h", ROWS, D_A, suture_row_norms(X, NULL, out_doubles));
    ROW(INVALID, "norms|NULL", "NULL", suture_row_norms(&a, NULL, NULL));
    int64_t written = 0;
    ROW(INVALID, "rows|0", "no rows", suture_norm_sample(0, out_integers, 8, &written));
    ROW(INVALID, "rows|-1", "negative", suture_norm_sample(-1, out_integers, 8, &written));
    ROW(INVALID, "count|NULL", "NULL", suture_norm_sample(5, out_integers, 8, NULL));
    ROW(INVALID, "capacity|8|10", "too small", suture_norm_sample(10, out_integers, 8, &written));
    ROW(INVALID, "shards|NULL", "NULL", suture_norm_bound(NULL, 1, 5, out_doubles));
    ROW(INVALID, "shard_count|0", "no shards", suture_norm_bound(&a, 0, 5, out_doubles));
    ROW(INVALID, "bound|NULL", "NULL", suture_norm_bound(&a, 1, 5, NULL));
    ROW(INVALID, "multiple|0", "zero", suture_norm_bound(&a, 1, 0, out_doubles));
    ROW(INVALID, "multiple|-1", "negative", suture_norm_bound(&a, 1, -1, out_doubles));
    ROW(INVALID, "multiple|inf", "infinite", suture_norm_bound(&a, 1, INFINITY, out_doubles));
    ROW(INVALID, "multiple|nan", "NaN", suture_norm_bound(&a, 1, NAN, out_doubles));
    const suture_matrix unequal[2] = {a, b};
    ROW(INVALID, "shards[1]|columns", "other widths", suture_norm_bound(unequal, 2, 5, out_doubles));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_info(NULL, NULL, NULL, NULL));
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_read(NULL, out_doubles, NULL, NULL, NULL, NULL));
    ROW(INVALID, "moments|tokens", "no tokens yet",
        suture_moments_read(empty_moments, out_doubles, NULL, NULL, NULL, NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_serialize(NULL, NULL, 0, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_moments_serialize(moments, NULL, 0, NULL));
    ROW(INVALID, "capacity|10", "too small", suture_moments_serialize(moments, (uint8_t *)out_text, 10, &out_size));

    uint8_t bytes[4096];
    uint64_t size = 0;
    OK(suture_moments_serialize(moments, bytes, sizeof bytes, &size));
    ROW(INVALID, "bytes|NULL", "NULL", suture_moments_deserialize(NULL, 10, &out_moments));
    ROW(INVALID, "out|NULL", "NULL", suture_moments_deserialize(bytes, size, NULL));
    for (uint64_t cut = 0; cut < size; ++cut)
        ROW(FORMAT, "", "cut short", suture_moments_deserialize(bytes, cut, &out_moments));
    for (uint64_t at = 0; at < size; ++at) {
        bytes[at] ^= 0x10;
        ROW(FORMAT, "", "one byte damaged", suture_moments_deserialize(bytes, size, &out_moments));
        bytes[at] ^= 0x10;
    }
    ACCEPTS_NULL(suture_moments_destroy);

    ROW(INVALID, "moments|NULL", "NULL", suture_svcca(NULL, 0.99, &out_svcca));
    ROW(INVALID, "moments|tokens", "no tokens", suture_svcca(empty_moments, 0.99, &out_svcca));
    ROW(INVALID, "variance_kept|0", "zero", suture_svcca(moments, 0, &out_svcca));
    ROW(INVALID, "variance_kept|1.5", "above 1", suture_svcca(moments, 1.5, &out_svcca));
    ROW(INVALID, "variance_kept|nan", "NaN", suture_svcca(moments, NAN, &out_svcca));
    ROW(INVALID, "out|NULL", "NULL", suture_svcca(moments, 0.99, NULL));
    SIZE_ROWS("out", out_svcca, suture_svcca(moments, 0.99, &out_svcca));
    const suture_matrix *white = FLOATS(numbers, 2, 3);
    CONTENT_ROWS("white_b", 2, 3, suture_svcca_white(white, X, &out_svcca));
    CONTENT_ROWS("white_a", 2, 3, suture_svcca_white(X, white, &out_svcca));
    ROW(INVALID, "white_a|NULL", "NULL", suture_svcca_white(NULL, white, &out_svcca));
    ROW(INVALID, "white_b|1 rows|2", "other rows", suture_svcca_white(white, FLOATS(numbers, 1, 3), &out_svcca));
    ROW(INVALID, "out|NULL", "NULL", suture_svcca_white(white, white, NULL));
    SIZE_ROWS("out", out_svcca, suture_svcca_white(white, white, &out_svcca));
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_whiten(NULL, 0.99, &out_stitch, NULL));
    ROW(INVALID, "moments|tokens", "no tokens", suture_moments_whiten(empty_moments, 0.99, &out_stitch, NULL));
    ROW(INVALID, "variance_kept|0", "zero", suture_moments_whiten(moments, 0, &out_stitch, NULL));
    ROW(INVALID, "variance_kept|nan", "NaN", suture_moments_whiten(moments, NAN, NULL, &out_stitch));
}

static void fit_rows(void) {
    suture_stitch_config config = {.struct_size = sizeof config, .alpha = 1};
#define FIT suture_stitch_fit(moments, &config, NULL, &out_stitch, &out_report)
    ROW(INVALID, "moments|NULL", "NULL", suture_stitch_fit(NULL, &config, NULL, &out_stitch, &out_report));
    ROW(INVALID, "moments|tokens", "no tokens",
        suture_stitch_fit(empty_moments, &config, NULL, &out_stitch, &out_report));
    ROW(INVALID, "config|NULL", "NULL", suture_stitch_fit(moments, NULL, NULL, &out_stitch, &out_report));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_fit(moments, &config, NULL, NULL, &out_report));
    SIZE_ROWS("config", config, FIT);
    SIZE_ROWS("report", out_report, FIT);
    const struct {
        suture_stitch_config known;
        uint64_t later;
    } newer = {{.struct_size = sizeof newer, .alpha = 1}, 5};
    ROW(UNSUPPORTED, "config|struct_size", "a setting of a later version",
        suture_stitch_fit(moments, &newer.known, NULL, &out_stitch, &out_report));
    config.alpha = -1;
    ROW(INVALID, "alpha|-1", "negative", FIT);
    config.alpha = NAN;
    ROW(INVALID, "alpha|nan", "NaN", FIT);
    config.alpha = INFINITY;
    ROW(INVALID, "alpha|inf", "infinite", FIT);
    config.alpha = 1;
    config.tolerance = -1e-3;
    ROW(INVALID, "tolerance|-0.001", "negative", FIT);
    config.tolerance = NAN;
    ROW(INVALID, "tolerance|nan", "NaN", FIT);
    config.tolerance = 0;
    config.max_iterations = -5;
    ROW(INVALID, "max_iterations|-5", "negative", FIT);
    config.max_iterations = 0;
    config.has_ridge = 2;
    ROW(INVALID, "has_ridge|2", "neither 0 nor 1", FIT);
    config.has_ridge = 1;
    config.ridge = -1;
    ROW(INVALID, "ridge|-1", "negative", FIT);
    config.ridge = NAN;
    ROW(INVALID, "ridge|nan", "NaN", FIT);
    config.ridge = 0.5;
    config.method = SUTURE_METHOD_PROCRUSTES;
    ROW(INVALID, "ridge|procrustes", "a ridge for a method without", FIT);
    config.has_ridge = 0;
    config.method = (suture_stitch_method)3;
    ROW(INVALID, "config->method|3", "unknown", FIT);
    config.method = SUTURE_METHOD_JOINT;
    config.objective = (suture_objective_form)7;
    ROW(INVALID, "config->objective|7", "unknown", FIT);
}

void stitch_rows(void) {
    fit_rows();
    float P_up[D_A * D_B] = {1};
    float P_down[D_B * D_A] = {1};
    const suture_matrix *up = FLOATS(P_up, D_A, D_B);
    const suture_matrix *down = FLOATS(P_down, D_B, D_A);
    const suture_matrix *b_up = FLOATS(zeros, 1, D_B);
    const suture_matrix *b_down = FLOATS(zeros, 1, D_A);
    ROW(INVALID, "P_up|NULL", "NULL", suture_stitch_create(NULL, b_up, down, b_down, &out_stitch));
    ROW(INVALID, "b_up|NULL", "NULL", suture_stitch_create(up, NULL, down, b_down, &out_stitch));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_create(up, b_up, down, b_down, NULL));
    ROW(INVALID, "P_up|rows|0", "no rows", suture_stitch_create(FLOATS(P_up, 0, D_B), b_up, down, b_down, &out_stitch));
    ROW(INVALID, "P_up|dtype|9", "unknown dtype",
        suture_stitch_create(MATRIX(P_up, D_A, D_B, 0, (suture_dtype)9), b_up, down, b_down, &out_stitch));
    INPUT_ROWS("P_down", D_B, D_A, suture_stitch_create(up, b_up, X, b_down, &out_stitch));
    INPUT_ROWS("b_down", 1, D_A, suture_stitch_create(up, b_up, down, X, &out_stitch));
    CONTENT_ROWS("P_up", D_A, D_B, suture_stitch_create(X, b_up, down, b_down, &out_stitch));
    CONTENT_ROWS("P_down", D_B, D_A, suture_stitch_create(up, b_up, X, b_down, &out_stitch));
    CONTENT_ROWS("b_up", 1, D_B, suture_stitch_create(up, X, down, b_down, &out_stitch));
    ROW(INVALID, "b_up|2|1", "two rows", suture_stitch_create(up, FLOATS(zeros, 2, D_B), down, b_down, &out_stitch));
    ROW(INVALID, "b_up", "float64 beyond float32",
        suture_stitch_create(up, MATRIX(huge_number, 1, D_B, 0, SUTURE_FLOAT64), down, b_down, &out_stitch));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_info(NULL, NULL, NULL));
    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_weight(NULL, SUTURE_STITCH_P_UP, &out_matrix));
    ROW(INVALID, "which|0", "unknown", suture_stitch_weight(stitch, (suture_stitch_weight_name)0, &out_matrix));
    ROW(INVALID, "which|99", "unknown", suture_stitch_weight(stitch, (suture_stitch_weight_name)99, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_weight(stitch, SUTURE_STITCH_P_UP, NULL));

    const suture_matrix *mapped = FLOATS(out_floats, 2, D_B);
    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_apply(NULL, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "stitch|handle", "a SAE",
        suture_stitch_apply((suture_stitch *)(void *)sae, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "direction|0", "unknown",
        suture_stitch_apply(stitch, (suture_direction)0, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "direction|3", "unknown",
        suture_stitch_apply(stitch, (suture_direction)3, FLOATS(zeros, 2, D_A), NULL, mapped));
    INPUT_ROWS("h", 2, D_A, suture_stitch_apply(stitch, SUTURE_UP, X, NULL, mapped));
    INPUT_ROWS("h", 2, D_B, suture_stitch_apply(stitch, SUTURE_DOWN, X, NULL, FLOATS(out_floats, 2, D_A)));
    OUTPUT_ROWS("out", 2, D_B, suture_stitch_apply(stitch, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, X));
    CONTENT_ROWS("h", 1, D_A, suture_stitch_apply(stitch, SUTURE_UP, X, NULL, FLOATS(out_floats, 1, D_B)));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_objective(NULL, moments, 1, &out_objective));
    ROW(INVALID, "moments|NULL", "NULL", suture_stitch_objective(stitch, NULL, 1, &out_objective));
    ROW(INVALID, "moments|tokens", "no tokens", suture_stitch_objective(stitch, empty_moments, 1, &out_objective));
    ROW(INVALID, "moments|3|4", "other sizes", suture_stitch_objective(stitch, square_moments, 1, &out_objective));
    ROW(INVALID, "alpha|-2", "negative", suture_stitch_objective(stitch, moments, -2, &out_objective));
    ROW(INVALID, "alpha|nan", "NaN", suture_stitch_objective(stitch, moments, NAN, &out_objective));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_objective(stitch, moments, 1, NULL));
    SIZE_ROWS("out", out_objective, suture_stitch_objective(stitch, moments, 1, &out_objective));
    ACCEPTS_NULL(suture_stitch_destroy);
}
