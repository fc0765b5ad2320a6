// SPDX-License-Identifier: Apache-2.0
// A stitch, and a SAE that it carries.
#include "workflow.h"

suture_stitch *test_stitch(const suture_moments *m, const char *folder) {
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

// SAE'(h) = up(SAE(down(h))), method.md section 4.
void test_transfer(const suture_stitch *stitch, const suture_sae *sae) {
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
