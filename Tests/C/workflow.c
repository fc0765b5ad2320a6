// SPDX-License-Identifier: Apache-2.0
// The whole interface used as a C program would use it, every number compared with a plain loop.
//
//   workflow FOLDER      FOLDER: empty, writable, for the files that are saved and loaded
#include <stdlib.h>

#include "check.h"

enum { D_A = 6, D_B = 9, ROWS = 500, D_SAE = 24, K = 4 };

static float h_a[ROWS * D_A];
static float h_b[ROWS * D_B];
static char path[4096];

// h_B is an affine image of h_A plus noise: a stitch can explain most of it.
static void make_data(void) {
    uint64_t state = 7;
    float map[D_A * D_B];
    for (int i = 0; i < D_A * D_B; ++i) map[i] = (float)noise(&state);
    for (int r = 0; r < ROWS; ++r) {
        for (int i = 0; i < D_A; ++i) h_a[r * D_A + i] = (float)(noise(&state) + 0.5 * i);
        for (int j = 0; j < D_B; ++j) {
            double value = 2.0 + 0.1 * noise(&state);
            for (int i = 0; i < D_A; ++i) value += (double)h_a[r * D_A + i] * map[i * D_B + j];
            h_b[r * D_B + j] = (float)value;
        }
    }
}

static const char *in_folder(const char *folder, const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static suture_moments *test_moments(void) {
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

// y = x P + b, in a loop.
static void affine(const float *x, int rows, int in, const float *P, const float *b, int out, double *y) {
    for (int r = 0; r < rows; ++r) {
        for (int j = 0; j < out; ++j) {
            double sum = b[j];
            for (int i = 0; i < in; ++i) sum += (double)x[r * in + i] * P[i * out + j];
            y[r * out + j] = sum;
        }
    }
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void test_norms(void) {
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

static void test_alignment(void) {
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

static suture_stitch *test_stitch(const suture_moments *m, const char *folder) {
    const suture_stitch_config config = {.struct_size = sizeof config, .alpha = 1};
    suture_stitch_report report = {.struct_size = sizeof report};
    suture_stitch *stitch = NULL;
    OK(suture_stitch_fit(m, &config, NULL, &stitch, &report));
    CHECK(report.converged == 1 && report.after.total <= report.before.total, "%g %g", report.before.total,
          report.after.total);
    CHECK(report.after.up_explained_variance > 0.9, "%g", report.after.up_explained_variance);
    CHECK(report.rank_a == D_A && report.rank_b == D_B, "%d %d", (int)report.rank_a, (int)report.rank_b);

    int64_t d_a = 0;
    int64_t d_b = 0;
    OK(suture_stitch_info(stitch, &d_a, &d_b));
    CHECK(d_a == D_A && d_b == D_B, "%d %d", (int)d_a, (int)d_b);
    suture_matrix P_up;
    suture_matrix b_up;
    suture_matrix P_down;
    suture_matrix b_down;
    OK(suture_stitch_weight(stitch, SUTURE_STITCH_P_UP, &P_up));
    OK(suture_stitch_weight(stitch, SUTURE_STITCH_B_UP, &b_up));
    OK(suture_stitch_weight(stitch, SUTURE_STITCH_P_DOWN, &P_down));
    OK(suture_stitch_weight(stitch, SUTURE_STITCH_B_DOWN, &b_down));
    CHECK(P_up.rows == D_A && P_up.cols == D_B && P_up.dtype == SUTURE_FLOAT32, "%d", (int)P_up.rows);
    CHECK(b_down.rows == 1 && b_down.cols == D_A, "%d", (int)b_down.cols);

    // apply against a loop, into rows of a wider matrix.
    static float wide[ROWS * (D_B + 3)];
    const suture_matrix a = float_matrix(h_a, ROWS, D_A);
    suture_matrix up = float_matrix(wide, ROWS, D_B);
    up.row_stride = D_B + 3;
    OK(suture_stitch_apply(stitch, SUTURE_UP, &a, NULL, &up));
    static double expected[ROWS * D_B];
    static float mapped[ROWS * D_B];
    affine(h_a, ROWS, D_A, P_up.data, b_up.data, D_B, expected);
    double up_error = 0;
    for (int r = 0; r < ROWS; ++r) {
        for (int j = 0; j < D_B; ++j) {
            const float value = wide[r * (D_B + 3) + j];
            mapped[r * D_B + j] = value;
            CLOSE(value, expected[r * D_B + j], 1e-4);
            up_error += pow((double)h_b[r * D_B + j] - expected[r * D_B + j], 2);
        }
    }
    CHECK(wide[D_B] == 0 && wide[ROWS * (D_B + 3) - 1] == 0, "apply wrote between the rows");

    // The objective's terms are what the maps do to the rows.
    suture_objective objective = {.struct_size = sizeof objective};
    OK(suture_stitch_objective(stitch, m, 1, &objective));
    CLOSE(objective.up, up_error / (ROWS * D_B), 1e-6);
    static double round_trip[ROWS * D_A];
    affine(mapped, ROWS, D_B, P_down.data, b_down.data, D_A, round_trip);
    double trip_error = 0;
    for (int i = 0; i < ROWS * D_A; ++i) trip_error += pow((double)h_a[i] - round_trip[i], 2);
    CLOSE(objective.a_round_trip, trip_error / (ROWS * D_A), 1e-6);
    CLOSE(objective.total,
          objective.up + objective.down + objective.alpha * (objective.a_round_trip + objective.b_round_trip), 1e-12);
    CLOSE(objective.total, report.after.total, 1e-6);

    // Metadata, file, and a stitch built from the weights: all give the same map.
    OK(suture_stitch_set_metadata(stitch, "{\"model_a\":\"small\",\"layer_a\":2,\"model_b\":\"large\",\"layer_b\":3}"));
    OK(suture_stitch_save(stitch, in_folder(folder, "stitch.safetensors")));
    suture_stitch *loaded = NULL;
    OK(suture_stitch_load(path, &loaded));
    uint64_t size = 0;
    OK(suture_stitch_metadata(loaded, NULL, 0, &size));
    char *json = malloc(size);
    OK(suture_stitch_metadata(loaded, json, size, &size));
    CHECK(strlen(json) + 1 == size && strstr(json, "\"small\"") != NULL, "%s", json);
    free(json);
    suture_stitch *built = NULL;
    OK(suture_stitch_create(&P_up, &b_up, &P_down, &b_down, &built));
    static float again[ROWS * D_B];
    const suture_matrix again_out = float_matrix(again, ROWS, D_B);
    OK(suture_stitch_apply(loaded, SUTURE_UP, &a, NULL, &again_out));
    CHECK(memcmp(again, mapped, sizeof again) == 0, "a loaded stitch maps differently");
    memset(again, 0, sizeof again);
    OK(suture_stitch_apply(built, SUTURE_UP, &a, NULL, &again_out));
    CHECK(memcmp(again, mapped, sizeof again) == 0, "a rebuilt stitch maps differently");
    suture_stitch_destroy(loaded);
    suture_stitch_destroy(built);
    return stitch;
}

static suture_sae *test_sae(const char *folder) {
    // A random start, then the same SAE built from its weights with biases that matter.
    const suture_sae_config config = {.struct_size = sizeof config,
                                      .d_in = D_A,
                                      .d_sae = D_SAE,
                                      .architecture = SUTURE_TOPK,
                                      .k = K,
                                      .normalization = SUTURE_NORMALIZATION_NONE};
    suture_sae *start = NULL;
    OK(suture_sae_init(&config, 3, &start));
    suture_sae_weights weights = {.struct_size = sizeof weights};
    OK(suture_sae_weight(start, SUTURE_SAE_W_ENC, &weights.W_enc));
    OK(suture_sae_weight(start, SUTURE_SAE_W_DEC, &weights.W_dec));
    float b_enc[D_SAE];
    float b_dec[D_A];
    for (int j = 0; j < D_SAE; ++j) b_enc[j] = 0.01f * (float)j;
    for (int i = 0; i < D_A; ++i) b_dec[i] = 0.5f * (float)i;
    weights.b_enc = float_matrix(b_enc, 1, D_SAE);
    weights.b_dec = float_matrix(b_dec, 1, D_A);
    suture_sae *sae = NULL;
    OK(suture_sae_create(&config, &weights, &sae));

    suture_sae_config info = {.struct_size = sizeof info};
    OK(suture_sae_info(sae, &info));
    CHECK(info.d_in == D_A && info.d_sae == D_SAE && info.k == K && info.architecture == SUTURE_TOPK, "%d", (int)info.k);

    // Encode against a loop that looks for the k largest.
    const float *W_enc = weights.W_enc.data;
    const float *W_dec = weights.W_dec.data;
    const suture_matrix x = float_matrix(h_a, ROWS, D_A);
    suture_codes *codes = NULL;
    OK(suture_sae_encode(sae, &x, NULL, &codes));
    suture_codes_view view = {.struct_size = sizeof view};
    OK(suture_codes_view_get(codes, &view));
    CHECK(view.rows == ROWS && view.width == K && view.d_sae == D_SAE, "%d %d", (int)view.rows, (int)view.width);
    static double pre[ROWS * D_SAE];
    affine(h_a, ROWS, D_A, W_enc, b_enc, D_SAE, pre);
    static double reconstructed[ROWS * D_A];
    double active = 0;
    double error = 0;
    for (int r = 0; r < ROWS; ++r) {
        double *row = pre + r * D_SAE;
        for (int i = 0; i < D_A; ++i) reconstructed[r * D_A + i] = b_dec[i];
        int count = 0;
        for (int slot = 0; slot < K; ++slot) {
            int best = 0;
            for (int j = 1; j < D_SAE; ++j)
                if (row[j] > row[best]) best = j;
            if (row[best] <= 0) break;
            CHECK(view.indices[r * K + slot] == best, "row %d slot %d: %d, expected %d", r, slot,
                  view.indices[r * K + slot], best);
            CLOSE(view.values[r * K + slot], row[best], 1e-4);
            for (int i = 0; i < D_A; ++i) reconstructed[r * D_A + i] += row[best] * W_dec[best * D_A + i];
            row[best] = -INFINITY;
            ++count;
        }
        CHECK(view.counts[r] == count, "row %d: %d active, expected %d", r, view.counts[r], count);
        active += count;
        for (int i = 0; i < D_A; ++i) error += pow(h_a[r * D_A + i] - reconstructed[r * D_A + i], 2);
    }

    // Decode: from these codes, from codes built of the arrays, and in one go.
    static float decoded[ROWS * D_A];
    static float other[ROWS * D_A];
    const suture_matrix decoded_out = float_matrix(decoded, ROWS, D_A);
    const suture_matrix other_out = float_matrix(other, ROWS, D_A);
    OK(suture_sae_decode(sae, codes, NULL, &decoded_out));
    for (int i = 0; i < ROWS * D_A; ++i) CLOSE(decoded[i], reconstructed[i], 1e-3);
    suture_codes *rebuilt = NULL;
    OK(suture_codes_create(D_SAE, ROWS, K, view.indices, view.values, &rebuilt));
    OK(suture_sae_decode(sae, rebuilt, NULL, &other_out));
    CHECK(memcmp(decoded, other, sizeof decoded) == 0, "rebuilt codes decode differently");
    OK(suture_sae_reconstruct(sae, &x, NULL, &other_out));
    for (int i = 0; i < ROWS * D_A; ++i) CLOSE(decoded[i], other[i], 1e-5);
    suture_codes_destroy(rebuilt);
    suture_codes_destroy(codes);

    // Evaluation in two pieces against the same sums.
    suture_evaluation *evaluation = NULL;
    OK(suture_evaluation_create(sae, &evaluation));
    const suture_matrix first = float_matrix(h_a, 77, D_A);
    const suture_matrix second = float_matrix(h_a + 77 * D_A, ROWS - 77, D_A);
    OK(suture_evaluation_update(evaluation, &first, NULL));
    OK(suture_evaluation_update(evaluation, &second, NULL));
    suture_evaluation_report report = {.struct_size = sizeof report};
    OK(suture_evaluation_report_get(evaluation, &report));
    double variance = 0;
    for (int i = 0; i < D_A; ++i) {
        double mean = 0;
        for (int r = 0; r < ROWS; ++r) mean += h_a[r * D_A + i] / (double)ROWS;
        for (int r = 0; r < ROWS; ++r) variance += pow(h_a[r * D_A + i] - mean, 2);
    }
    CHECK(report.tokens == ROWS, "%d", (int)report.tokens);
    CLOSE(report.l0, active / ROWS, 1e-12);
    CLOSE(report.mse, error / (ROWS * D_A), 1e-4 * error / (ROWS * D_A));
    CLOSE(report.explained_variance, 1 - error / variance, 1e-4 * error / variance);
    CLOSE(report.fvu, 1 - report.explained_variance, 1e-12);
    double frequency[D_SAE];
    float maximum[D_SAE];
    OK(suture_evaluation_features(evaluation, frequency, maximum));
    double total = 0;
    int dead = 0;
    for (int j = 0; j < D_SAE; ++j) {
        total += frequency[j];
        dead += frequency[j] == 0;
        CHECK((maximum[j] > 0) == (frequency[j] > 0), "latent %d: frequency %g, maximum %g", j, frequency[j],
              (double)maximum[j]);
    }
    CLOSE(total, report.l0, 1e-9);
    CLOSE(report.dead_fraction, (double)dead / D_SAE, 1e-12);
    suture_evaluation_destroy(evaluation);

    // Folding the decoder norms and a file leave the function as it is.
    suture_sae *folded = NULL;
    OK(suture_sae_fold(sae, &folded));
    OK(suture_sae_reconstruct(folded, &x, NULL, &other_out));
    for (int i = 0; i < ROWS * D_A; ++i) CLOSE(decoded[i], other[i], 1e-3);
    OK(suture_sae_set_metadata(sae, "{\"model_name\":\"small\",\"hook_name\":\"blocks.2.hook_resid_pre\"}"));
    OK(suture_sae_save(sae, in_folder(folder, "sae")));
    suture_sae *loaded = NULL;
    OK(suture_sae_load(path, &loaded));
    OK(suture_sae_reconstruct(loaded, &x, NULL, &other_out));
    CHECK(memcmp(decoded, other, sizeof decoded) == 0, "a loaded SAE computes differently");
    uint64_t size = 0;
    OK(suture_sae_metadata(loaded, NULL, 0, &size));
    char *json = malloc(size);
    OK(suture_sae_metadata(loaded, json, size, &size));
    CHECK(strstr(json, "blocks.2.hook_resid_pre") != NULL, "%s", json);
    free(json);
    suture_sae_destroy(loaded);
    suture_sae_destroy(folded);
    suture_sae_destroy(start);
    return sae;
}

// SAE'(h) = up(SAE(down(h))), method.md section 4.
static void test_transfer(const suture_stitch *stitch, const suture_sae *sae) {
    suture_sae *moved = NULL;
    OK(suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL, &moved));
    static float down[ROWS * D_A];
    static float middle[ROWS * D_A];
    static float up[ROWS * D_B];
    static float direct[ROWS * D_B];
    const suture_matrix b = float_matrix(h_b, ROWS, D_B);
    const suture_matrix down_m = float_matrix(down, ROWS, D_A);
    const suture_matrix middle_m = float_matrix(middle, ROWS, D_A);
    const suture_matrix up_m = float_matrix(up, ROWS, D_B);
    const suture_matrix direct_m = float_matrix(direct, ROWS, D_B);
    OK(suture_stitch_apply(stitch, SUTURE_DOWN, &b, NULL, &down_m));
    OK(suture_sae_reconstruct(sae, &down_m, NULL, &middle_m));
    OK(suture_stitch_apply(stitch, SUTURE_UP, &middle_m, NULL, &up_m));
    OK(suture_sae_reconstruct(moved, &b, NULL, &direct_m));
    // A token whose k-th and next pre-activation are equal to rounding may choose the other one.
    int differing = 0;
    for (int r = 0; r < ROWS; ++r) {
        for (int j = 0; j < D_B; ++j) {
            if (fabsf(up[r * D_B + j] - direct[r * D_B + j]) > 2e-3f) {
                ++differing;
                break;
            }
        }
    }
    CHECK(differing <= 2, "%d rows differ", differing);
    suture_sae_destroy(moved);
}

static void test_training(const suture_sae *sae) {
    const suture_train_config config = {.struct_size = sizeof config, .batch_size = 100, .lr = 1e-2};
    suture_trainer *trainer = NULL;
    OK(suture_trainer_create(sae, &config, &trainer));
    const suture_matrix x = float_matrix(h_a, 100, D_A);

    // A step in two halves is the step: same weights, from the mean of two batches' gradients too.
    enum { COUNT = 2 * D_A * D_SAE + D_SAE + D_A };
    static float whole[COUNT], half[2][COUNT], mean[COUNT];
    static int64_t firings[D_SAE], part[2][D_SAE];
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    OK(suture_trainer_gradients(trainer, &x, NULL, whole, COUNT, firings, &metrics));
    const double loss = metrics.loss;
    double active = 0;
    for (int j = 0; j < D_SAE; ++j) active += (double)firings[j];
    CLOSE(active / 100, metrics.l0, 1e-9);
    for (int i = 0; i < 2; ++i) {
        const suture_matrix rows = float_matrix(h_a + i * 50 * D_A, 50, D_A);
        OK(suture_trainer_gradients(trainer, &rows, NULL, half[i], COUNT, part[i], NULL));
    }
    double squares = 0, off = 0;
    for (int i = 0; i < COUNT; ++i) {
        mean[i] = (half[0][i] + half[1][i]) / 2;
        squares += whole[i] * whole[i];
        off += pow(mean[i] - whole[i], 2);
    }
    CHECK(off < 1e-10 * squares, "%g of %g", off, squares);
    for (int j = 0; j < D_SAE; ++j) CHECK(part[0][j] + part[1][j] == firings[j], "%d", j);
    suture_trainer *other = NULL;
    OK(suture_trainer_create(sae, &config, &other));
    OK(suture_trainer_apply(other, whole, COUNT, 100, firings, NULL, &metrics));
    CHECK(metrics.steps == 1 && metrics.tokens == 100 && isnan(metrics.loss), "%d", (int)metrics.steps);
    const int64_t dead = metrics.dead;
    OK(suture_trainer_step(trainer, &x, NULL, &metrics));
    CHECK(metrics.dead == dead, "%d, not %d", (int)metrics.dead, (int)dead);
    suture_sae *one = NULL, *two = NULL;
    OK(suture_trainer_sae(trainer, &one));
    OK(suture_trainer_sae(other, &two));
    for (int which = SUTURE_SAE_W_ENC; which <= SUTURE_SAE_B_DEC; ++which) {
        suture_matrix m, n;
        OK(suture_sae_weight(one, (suture_sae_weight_name)which, &m));
        OK(suture_sae_weight(two, (suture_sae_weight_name)which, &n));
        CHECK(memcmp(m.data, n.data, (size_t)(m.rows * m.cols) * sizeof(float)) == 0, "%d", which);
    }
    suture_sae_destroy(one);
    suture_sae_destroy(two);
    suture_trainer_destroy(other);
    CLOSE(metrics.loss, loss, 1e-5 * loss);
    CHECK(metrics.steps == 1 && metrics.tokens == 100, "%d %d", (int)metrics.steps, (int)metrics.tokens);

    // Over shards, the loss goes down; the decoder rows keep norm 1.
    const suture_matrix shards[2] = {float_matrix(h_a, 200, D_A), float_matrix(h_a + 200 * D_A, ROWS - 200, D_A)};
    OK(suture_trainer_run(trainer, shards, 2, 20000, NULL, &metrics));
    CHECK(metrics.loss < 0.7 * loss, "%g, at the start %g", metrics.loss, loss);
    CHECK(metrics.tokens == 20100, "%d", (int)metrics.tokens);
    suture_sae *trained = NULL;
    OK(suture_trainer_sae(trainer, &trained));
    suture_matrix W_dec;
    OK(suture_sae_weight(trained, SUTURE_SAE_W_DEC, &W_dec));
    for (int j = 0; j < D_SAE; ++j) {
        double norm = 0;
        for (int i = 0; i < D_A; ++i) norm += pow(((const float *)W_dec.data)[j * D_A + i], 2);
        CLOSE(norm, 1, 1e-5);
    }
    suture_sae_destroy(trained);
    suture_trainer_destroy(trainer);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    make_data();
    suture_cpu_info_report cpu = {.struct_size = sizeof cpu};
    OK(suture_cpu_info(&cpu));
    printf("Suture %s, %s kernels, OpenBLAS core %s, %d threads\n", suture_version(), cpu.kernels, cpu.blas_core,
           (int)cpu.threads);
    CHECK(suture_abi_version() == SUTURE_ABI_VERSION, "%d", (int)suture_abi_version());
    CHECK(strcmp(suture_version(), SUTURE_VERSION) == 0, "%s", suture_version());
    OK(suture_set_threads(2));

    test_alignment();
    test_norms();
    suture_moments *moments = test_moments();
    suture_stitch *stitch = test_stitch(moments, argv[1]);
    suture_sae *sae = test_sae(argv[1]);
    test_transfer(stitch, sae);
    test_training(sae);
    suture_sae_destroy(sae);
    suture_stitch_destroy(stitch);
    suture_moments_destroy(moments);
    return finish("workflow.c");
}
