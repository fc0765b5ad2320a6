// SPDX-License-Identifier: Apache-2.0
// Rows: which go together, their norms, and their moments.
#include "workflow.h"

void test_alignment(void) {
    // "ab cd" as two tokens, and as five of which the third ends within nothing of its own.
    const int64_t ends_a[] = {2, 5}, ends_b[] = {1, 2, 2, 4, 5};
    int64_t rows_a[2], rows_b[2], count = 0;
    OK(suture_align(ends_a, 2, ends_b, 5, NULL, NULL, &count));
    CHECK(count == 2, "%lld pairs", (long long)count);
    OK(suture_align(ends_a, 2, ends_b, 5, rows_a, rows_b, &count));
    CHECK(rows_a[0] == 0 && rows_a[1] == 1 && rows_b[0] == 2 && rows_b[1] == 4, "wrong pairs");

    float a_data[2 * D_A], b_data[5 * D_B], chosen[2 * D_B];
    for (int i = 0; i < 2 * D_A; i++) a_data[i] = (float)i;
    for (int i = 0; i < 5 * D_B; i++) b_data[i] = (float)(i * i);
    for (int i = 0; i < 2; i++) memcpy(chosen + i * D_B, b_data + rows_b[i] * D_B, D_B * sizeof(float));
    const suture_matrix a = {a_data, 2, D_A, 0, SUTURE_FLOAT32}, b = {b_data, 5, D_B, 0, SUTURE_FLOAT32};
    const suture_matrix picked = {chosen, 2, D_B, 0, SUTURE_FLOAT32};
    suture_moments *by_pairs = NULL, *by_copy = NULL;
    OK(suture_moments_create(D_A, D_B, &by_pairs));
    OK(suture_moments_create(D_A, D_B, &by_copy));
    OK(suture_moments_update_pairs(by_pairs, &a, &b, rows_a, rows_b, count, NULL));
    OK(suture_moments_update(by_copy, &a, &picked, NULL));
    double found[D_A * D_B], expected[D_A * D_B];
    OK(suture_moments_read(by_pairs, NULL, NULL, NULL, found, NULL));
    OK(suture_moments_read(by_copy, NULL, NULL, NULL, expected, NULL));
    CHECK(memcmp(found, expected, sizeof found) == 0, "pairs are not the rows that they name");
    suture_moments_destroy(by_pairs);
    suture_moments_destroy(by_copy);
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void test_norms(void) {
    // Rows of one norm for each, three of them massive.
    enum { N = 200 };
    static float a_data[N * D_A], b_data[N * D_B];
    for (int r = 0; r < N; ++r) {
        for (int i = 0; i < D_A; ++i) a_data[r * D_A + i] = sinf((float)(r * D_A + i));
        for (int i = 0; i < D_B; ++i) b_data[r * D_B + i] = cosf((float)(r * D_B + i));
    }
    for (int r = 7; r < N; r += 80) {
        for (int i = 0; i < D_A; ++i) a_data[r * D_A + i] = 1000;
    }
    const suture_matrix a = {a_data, N, D_A, 0, SUTURE_FLOAT32}, b = {b_data, N, D_B, 0, SUTURE_FLOAT32};
    double norms[N], sorted[N], bound = 0;
    OK(suture_row_norms(&a, NULL, norms));
    for (int r = 0; r < N; ++r) {
        double sum = 0;
        for (int i = 0; i < D_A; ++i) sum += (double)a_data[r * D_A + i] * a_data[r * D_A + i];
        CLOSE(norms[r], sqrt(sum), 1e-12 * sqrt(sum) + 1e-300);
    }
    int64_t count = 0, rows[N];
    OK(suture_norm_sample(N, rows, N, &count));
    CHECK(count == N && rows[0] == 0 && rows[N - 1] == N - 1, "%d rows", (int)count);
    memcpy(sorted, norms, sizeof sorted);
    qsort(sorted, N, sizeof *sorted, by_value);
    const suture_matrix parts[2] = {{a_data, 50, D_A, 0, SUTURE_FLOAT32},
                                    {a_data + 50 * D_A, N - 50, D_A, 0, SUTURE_FLOAT32}};
    OK(suture_norm_bound(parts, 2, 5, &bound));
    CLOSE(bound, 5 * (sorted[N / 2 - 1] + sorted[N / 2]) / 2, 1e-12);

    suture_norms_report report = {.struct_size = sizeof report};
    suture_moments *m = NULL;
    OK(suture_moments_create(D_A, D_B, &m));
    OK(suture_moments_update(m, &a, &b, NULL));
    OK(suture_moments_norms(m, &report));
    CHECK(report.left_out == 0 && report.a.massive == 3 && report.carried_by_few == 1 && report.bounds == 0,
        "%d %d", (int)report.a.massive, (int)report.bounds);
    suture_moments_destroy(m);

    OK(suture_moments_create(D_A, D_B, &m));
    OK(suture_moments_set_norm_bounds(m, bound, INFINITY, 0));
    OK(suture_moments_update(m, &a, &b, NULL));
    uint64_t tokens = 0;
    OK(suture_moments_info(m, NULL, NULL, &tokens));
    OK(suture_moments_norms(m, &report));
    CHECK(tokens == N - 3 && report.left_out == 3 && report.a.beyond == 3 && report.b.beyond == 0, "%d tokens",
        (int)tokens);
    CHECK(report.a.norm_bound == bound && report.b.norm_bound == INFINITY && report.bounds == 2, "%g",
        report.a.norm_bound);
    CHECK(report.carried_by_few == 0 && report.a.massive == 0 && report.a.largest <= bound, "%g", report.a.largest);
    CLOSE(report.a.median, sorted[N / 2], 0.05 * sorted[N / 2]);
    suture_moments_destroy(m);
}

suture_moments *test_moments(void) {
    suture_moments *m = NULL;
    OK(suture_moments_create(D_A, D_B, &m));
    // In two unequal pieces, the second as float64.
    const suture_matrix a = float_matrix(h_a, 123, D_A);
    const suture_matrix b = float_matrix(h_b, 123, D_B);
    OK(suture_moments_update(m, &a, &b, NULL));
    static double rest_a[(ROWS - 123) * D_A];
    static double rest_b[(ROWS - 123) * D_B];
    for (int i = 0; i < (ROWS - 123) * D_A; ++i) rest_a[i] = h_a[123 * D_A + i];
    for (int i = 0; i < (ROWS - 123) * D_B; ++i) rest_b[i] = h_b[123 * D_B + i];
    const suture_matrix a2 = {rest_a, ROWS - 123, D_A, 0, SUTURE_FLOAT64};
    const suture_matrix b2 = {rest_b, ROWS - 123, D_B, 0, SUTURE_FLOAT64};
    OK(suture_moments_update(m, &a2, &b2, NULL));

    int64_t d_a = 0;
    int64_t d_b = 0;
    uint64_t tokens = 0;
    OK(suture_moments_info(m, &d_a, &d_b, &tokens));
    CHECK(d_a == D_A && d_b == D_B && tokens == ROWS, "%d %d %d", (int)d_a, (int)d_b, (int)tokens);

    double mean_a[D_A];
    double mean_b[D_B];
    double cov_ab[D_A * D_B];
    OK(suture_moments_read(m, mean_a, mean_b, NULL, cov_ab, NULL));
    for (int i = 0; i < D_A; ++i) {
        double mean = 0;
        for (int r = 0; r < ROWS; ++r) mean += h_a[r * D_A + i];
        CLOSE(mean_a[i], mean / ROWS, 1e-12);
        for (int j = 0; j < D_B; ++j) {
            double sum = 0;
            for (int r = 0; r < ROWS; ++r) sum += (h_a[r * D_A + i] - mean_a[i]) * (h_b[r * D_B + j] - mean_b[j]);
            CLOSE(cov_ab[i * D_B + j], sum / ROWS, 1e-10);
        }
    }

    // To bytes and back; merged with itself the means stay and the tokens double.
    uint64_t size = 0;
    OK(suture_moments_serialize(m, NULL, 0, &size));
    uint8_t *bytes = malloc(size);
    OK(suture_moments_serialize(m, bytes, size, &size));
    suture_moments *copy = NULL;
    OK(suture_moments_deserialize(bytes, size, &copy));
    OK(suture_moments_merge(copy, m));
    OK(suture_moments_info(copy, NULL, NULL, &tokens));
    CHECK(tokens == 2 * ROWS, "%d", (int)tokens);
    double merged[D_A];
    OK(suture_moments_read(copy, merged, NULL, NULL, NULL, NULL));
    for (int i = 0; i < D_A; ++i) CLOSE(merged[i], mean_a[i], 1e-12);
    // One damaged byte is noticed.
    bytes[size / 2] ^= 4;
    suture_moments *damaged = NULL;
    CHECK(suture_moments_deserialize(bytes, size, &damaged) == SUTURE_ERROR_FORMAT, "%s", suture_last_error());
    CHECK(damaged == NULL, "an error wrote a handle");
    free(bytes);
    suture_moments_destroy(copy);

    suture_svcca_report svcca = {.struct_size = sizeof svcca};
    OK(suture_svcca(m, 0.99, &svcca));
    CHECK(svcca.mean_correlation > 0.9 && svcca.mean_correlation <= 1 + 1e-9, "%g", svcca.mean_correlation);
    CHECK(svcca.kept_a >= 1 && svcca.kept_a <= D_A && svcca.kept_b <= D_B, "%d %d", (int)svcca.kept_a, (int)svcca.kept_b);
    return m;
}
