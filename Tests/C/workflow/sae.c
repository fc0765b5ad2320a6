// SPDX-License-Identifier: Apache-2.0
// A SAE: codes, metrics, files.
#include "workflow.h"

suture_sae *test_sae(const char *folder) {
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
