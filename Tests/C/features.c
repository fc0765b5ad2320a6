// SPDX-License-Identifier: Apache-2.0
// Steering vectors, probes and feature analysis as a C program uses them, on numbers worked out by hand.
#include "check.h"

enum { TOKENS = 40, D_A = 2, D_B = 3 };

static suture_stitch *make_stitch(void) {
    // up: (x, y) to (x + 1, 2 y, 0); down: (x, y, z) to (x - 1, y / 2).
    static float P_up[] = {1, 0, 0, 0, 2, 0}, b_up[] = {1, 0, 0};
    static float P_down[] = {1, 0, 0, 0.5f, 0, 0}, b_down[] = {-1, 0};
    suture_matrix matrices[] = {
        float_matrix(P_up, D_A, D_B), float_matrix(b_up, 1, D_B), float_matrix(P_down, D_B, D_A),
        float_matrix(b_down, 1, D_A),
    };
    suture_stitch *stitch = NULL;
    OK(suture_stitch_create(matrices, matrices + 1, matrices + 2, matrices + 3, &stitch));
    return stitch;
}

static void steering(const suture_stitch *stitch, const char *folder) {
    // Means (3, 0) and (0, 4): the direction is (3, -4) / 5, and the positive tokens lie at 9 / 5 along it.
    float toward[] = {2, 0, 4, 0}, away[] = {0, 4};
    suture_matrix positive = float_matrix(toward, 2, D_A), negative = float_matrix(away, 1, D_A);
    suture_steering *vector = NULL, *moved = NULL, *loaded = NULL;
    OK(suture_steering_fit(&positive, 1, &negative, 1, NULL, &vector));
    int64_t d = 0;
    double z_mean = 0;
    int32_t has_mean = 0;
    OK(suture_steering_info(vector, &d, &z_mean, &has_mean));
    CHECK(d == D_A && has_mean == 1, "%lld, %d", (long long)d, (int)has_mean);
    CLOSE(z_mean, 1.8, 1e-6);

    float h[] = {10, 10}, steered[2];
    suture_matrix rows = float_matrix(h, 1, D_A), out = float_matrix(steered, 1, D_A);
    OK(suture_steering_apply(vector, SUTURE_STEERING_CLAMP, 1, &rows, NULL, &out));
    CLOSE(0.6 * steered[0] - 0.8 * steered[1], 1.8, 1e-5);
    CLOSE(0.8 * steered[0] + 0.6 * steered[1], 14, 1e-5);  // across the vector nothing moves

    // (3, -4) goes to (3, -8, 0), the mean (3, 0) to (4, 0, 0).
    OK(suture_stitch_transfer_steering(stitch, vector, SUTURE_UP, NULL, NULL, 0, NULL, &moved));
    suture_matrix view;
    OK(suture_steering_vector(moved, &view));
    const float *element = view.data;
    CLOSE(element[0], 3 / sqrt(73), 1e-6);
    CLOSE(element[1], -8 / sqrt(73), 1e-6);
    OK(suture_steering_info(moved, NULL, &z_mean, NULL));
    CLOSE(z_mean, 12 / sqrt(73), 1e-6);

    char path[4096];
    snprintf(path, sizeof path, "%s/vector.safetensors", folder);
    OK(suture_steering_save(vector, path));
    OK(suture_steering_load(path, &loaded));
    double again = 0;
    OK(suture_steering_info(vector, NULL, &z_mean, NULL));
    OK(suture_steering_info(loaded, NULL, &again, NULL));
    CHECK(z_mean == again, "%.17g against %.17g", z_mean, again);
    suture_steering_destroy(loaded);
    suture_steering_destroy(moved);
    suture_steering_destroy(vector);
}

static void probes(const suture_stitch *stitch) {
    float x[TOKENS * D_A], mapped[TOKENS * D_B], one[TOKENS], other[TOKENS];
    int32_t labels[TOKENS];
    uint64_t state = 7;
    for (int i = 0; i < TOKENS; i++) {
        x[2 * i] = (float)noise(&state);
        x[2 * i + 1] = (float)noise(&state);
        labels[i] = x[2 * i] - x[2 * i + 1] + noise(&state) > 0;
    }
    suture_matrix matrix = float_matrix(x, TOKENS, D_A);
    suture_samples samples = {.struct_size = sizeof samples, .dense = &matrix};
    suture_probe_config config = {.struct_size = sizeof config, .C = 2, .tolerance = 1e-10};
    suture_probe_report report = {.struct_size = sizeof report};
    suture_probe *probe = NULL, *moved = NULL;
    OK(suture_probe_fit(&samples, labels, 2, NULL, &config, NULL, &probe, &report));
    CHECK(report.converged == 1, "%d steps", (int)report.iterations);
    suture_matrix weights, bias, logits = float_matrix(one, TOKENS, 1);
    OK(suture_probe_weight(probe, SUTURE_PROBE_WEIGHTS, &weights));
    OK(suture_probe_weight(probe, SUTURE_PROBE_BIAS, &bias));
    const float *w = weights.data;
    // The gradient of the penalised loss is 0 there.
    double slope[3] = {w[0], w[1], 0};
    for (int i = 0; i < TOKENS; i++) {
        const double logit = (double)w[0] * x[2 * i] + (double)w[1] * x[2 * i + 1] + *(const float *)bias.data;
        const double error = 2 * (1 / (1 + exp(-logit)) - labels[i]);
        slope[0] += error * x[2 * i];
        slope[1] += error * x[2 * i + 1];
        slope[2] += error;
    }
    for (int j = 0; j < 3; j++) CLOSE(slope[j], 0, 1e-5);

    // On rows of B the carried probe has the logits of the probe on what they map down to: x, up and down.
    suture_matrix up = float_matrix(mapped, TOKENS, D_B), carried = float_matrix(other, TOKENS, 1);
    OK(suture_stitch_apply(stitch, SUTURE_UP, &matrix, NULL, &up));
    OK(suture_stitch_transfer_probe(stitch, probe, SUTURE_UP, NULL, &moved));
    OK(suture_probe_logits(probe, &samples, NULL, &logits));
    suture_samples on_b = {.struct_size = sizeof on_b, .dense = &up};
    OK(suture_probe_logits(moved, &on_b, NULL, &carried));
    for (int i = 0; i < TOKENS; i++) CHECK(fabsf(one[i] - other[i]) < 1e-5f, "row %d: %g, %g", i, one[i], other[i]);
    suture_probe_destroy(moved);
    suture_probe_destroy(probe);
}

static void sites(void) {
    const char *const names[] = {"blocks.4.hook_resid_pre", "blocks.3.hook_resid_post", "transformer.h.3", "layers.3",
                                 "hidden_states.4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        suture_site site = {.struct_size = sizeof site};
        OK(suture_site_parse(names[i], 12, &site));
        CHECK(site.layer == 4 && site.model == NULL, "%s: layer %lld", names[i], (long long)site.layer);
        CHECK(strcmp(site.stream, "resid_pre") == 0, "%s: %s", names[i], site.stream);
        char name[64];
        uint64_t size = 0;
        OK(suture_site_name(&site, name, sizeof name, &size));
        CHECK(strcmp(name, names[0]) == 0 && size == strlen(name) + 1, "%s, %d bytes", name, (int)size);
    }
    suture_site site = {.struct_size = sizeof site}, other = {.struct_size = sizeof other, .model = "pythia-70m", .layer = 4};
    OK(suture_site_read("{\"model_name\": \"EleutherAI/pythia-70m\", \"hookpoint\": \"layers.3\"}", &site));
    CHECK(strcmp(site.model, "EleutherAI/pythia-70m") == 0, "%s", site.model);
    int32_t same = 0;
    OK(suture_site_matches(&site, &other, &same));
    CHECK(same == 1, "%d", (int)same);
    other.model = "pythia-70m-deduped";
    OK(suture_site_matches(&site, &other, &same));
    CHECK(same == 0, "%d", (int)same);
    OK(suture_site_read("{}", &site));
    CHECK(site.model == NULL && site.layer == -1, "layer %lld", (long long)site.layer);
    OK(suture_site_parse("blocks.3.attn.hook_z", 0, &site));
    CHECK(strcmp(site.stream, "attn.hook_z") == 0 && site.layer == 3, "%s", site.stream);
}

static void pooling(void) {
    float tokens[] = {1, 0, 3, 2, 5, 5}, pooled[4];
    const int64_t sample[] = {0, 0, 1};
    suture_matrix matrix = float_matrix(tokens, 3, 2), out = float_matrix(pooled, 2, 2);
    OK(suture_pool(&matrix, 1, sample, 2, NULL, &out));
    const float means[] = {2, 1, 5, 5};
    for (int i = 0; i < 4; i++) CLOSE(pooled[i], means[i], 0);

    const int32_t labels[] = {0, 0, 1};
    int64_t best = -1;
    suture_samples samples = {.struct_size = sizeof samples, .dense = &matrix};
    OK(suture_features_select(&samples, labels, 2, 1, NULL, &best));
    CHECK(best == 1, "%lld", (long long)best);  // means 2 and 5, 1 and 5
}

static void analysis(void) {
    // Two latents on three tokens; the second is active on the last token only.
    const int32_t indices[] = {0, 0, 1};
    const float values_a[] = {1, 2, 1}, values_b[] = {2, 4, 3};
    suture_codes *a = NULL, *b = NULL;
    OK(suture_codes_create(2, 3, 1, indices, values_a, &a));
    OK(suture_codes_create(2, 3, 1, indices, values_b, &b));
    float identity[] = {1, 0, 0, 1}, vocabulary[] = {1, 1, 2, 0};
    suture_matrix W_dec = float_matrix(identity, 2, 2), unembedding = float_matrix(vocabulary, 2, 2);
    suture_attribution *attribution = NULL;
    OK(suture_attribution_create(&W_dec, &unembedding, &W_dec, &unembedding, &attribution));
    const int64_t next[] = {0, 1, 0};
    OK(suture_attribution_update(attribution, a, b, next, 3, NULL));
    double correlation[2];
    uint64_t tokens = 0;
    OK(suture_attribution_read(attribution, correlation, NULL, NULL, &tokens));
    CHECK(tokens == 3, "%llu", (unsigned long long)tokens);
    for (int i = 0; i < 2; i++) CLOSE(correlation[i], 1, 1e-12);  // one side is a multiple of the other
    suture_attribution_destroy(attribution);

    suture_fidelity *fidelity = NULL;
    OK(suture_fidelity_create(2, &fidelity));
    OK(suture_fidelity_update(fidelity, a, b, NULL));
    uint64_t both[2];
    OK(suture_fidelity_read(fidelity, correlation, NULL, NULL, NULL, NULL, both));
    for (int i = 0; i < 2; i++) CLOSE(correlation[i], 1, 1e-12);
    CHECK(both[0] == 2 && both[1] == 1, "%llu, %llu", (unsigned long long)both[0], (unsigned long long)both[1]);
    suture_fidelity_summary summary = {.struct_size = sizeof summary};
    OK(suture_fidelity_summarize(fidelity, 2, &summary));
    CHECK(summary.judged == 1 && summary.rare == 1 && summary.silent == 0, "%lld, %lld, %lld",
          (long long)summary.judged, (long long)summary.rare, (long long)summary.silent);
    CLOSE(summary.correlation.median, 1, 1e-12);
    CLOSE(summary.share_active, 1, 0);
    suture_fidelity_destroy(fidelity);

    // The same three tokens again and again, until both halves have 96 of them.
    suture_matches *matches = NULL;
    OK(suture_matches_create(2, 2, &matches));
    for (int i = 0; i < 64; i++) OK(suture_matches_update(matches, a, b));
    int64_t match[2], match_b[2];
    suture_matches_summary matched = {.struct_size = sizeof matched};
    OK(suture_matches_find(matches, 65, NULL, match, correlation, NULL, NULL, NULL, match_b, &matched));
    CHECK(match[0] == 0 && match[1] == 1, "%lld, %lld", (long long)match[0], (long long)match[1]);
    CHECK(match_b[0] == 0 && match_b[1] == 1, "%lld, %lld", (long long)match_b[0], (long long)match_b[1]);
    for (int i = 0; i < 2; i++) CLOSE(correlation[i], 1, 1e-12);
    CHECK(matched.judged == 1 && matched.rare == 1 && matched.mutual == 1 && matched.rows == 192, "%lld, %lld, %lld, %lld",
          (long long)matched.judged, (long long)matched.rare, (long long)matched.mutual, (long long)matched.rows);
    CLOSE(matched.share_active, 1, 0);
    suture_matches_destroy(matches);

    suture_feature_statistics *statistics = NULL;
    OK(suture_feature_statistics_create(2, 1, &statistics));
    OK(suture_feature_statistics_update(statistics, b, NULL));
    double frequency[2];
    float maximum[2];
    OK(suture_feature_statistics_read(statistics, frequency, NULL, maximum, NULL));
    CLOSE(frequency[0], 2.0 / 3, 1e-12);
    CLOSE(maximum[1], 3, 0);
    suture_feature_statistics_destroy(statistics);

    // One sentence and one variant, of one and two tokens: latent 0 is in both, latent 1 in the variant.
    suture_structural *structural = NULL;
    OK(suture_structural_create(2, &structural));
    const int64_t lengths[] = {1, 2};
    OK(suture_structural_update(structural, a, lengths, 2, 2, NULL));
    double score[2];
    OK(suture_structural_read(structural, score, NULL, NULL, NULL));
    CLOSE(score[0], 1, 0);
    CLOSE(score[1], 0, 0);
    suture_structural_destroy(structural);

    // The unembedding's columns are (1, 2) and (1, 0): W_U W_U' = [[2, 2], [2, 4]].
    double fraction[2], singular[2];
    OK(suture_null_space_fraction(&W_dec, &unembedding, 0.5, NULL, fraction, singular));
    CLOSE(singular[0], sqrt(3 - sqrt(5)), 1e-12);
    CLOSE(fraction[0] * fraction[0] + fraction[1] * fraction[1], 1, 1e-12);
    suture_codes_destroy(a);
    suture_codes_destroy(b);
}

static void carrying(const char *folder) {
    // B's rows are A's and their difference, so that B predicts whatever is linear in A.
    enum { ROWS = 2000, LATENTS = 4 };
    static float rows_a[ROWS * D_A], rows_b[ROWS * D_B];
    uint32_t state = 1;
    for (int i = 0; i < ROWS * D_A; i++) {
        state = state * 1664525u + 1013904223u;
        rows_a[i] = (float)(state >> 8) / 8388608 - 1;
    }
    for (int i = 0; i < ROWS; i++) {
        const float x = rows_a[i * D_A], y = rows_a[i * D_A + 1];
        rows_b[i * D_B] = x, rows_b[i * D_B + 1] = y, rows_b[i * D_B + 2] = x - y;
    }
    suture_matrix a = float_matrix(rows_a, ROWS, D_A), b = float_matrix(rows_b, ROWS, D_B);
    // Latent 3 never fires.
    float W_enc[] = {1, 0, -1, 0, 0, 1, 0, 0}, b_enc[] = {-0.5f, -0.5f, -0.5f, -1}, b_dec[] = {0, 0};
    float W_dec[] = {1, 0, 0, 1, -1, 0, 0, 1};
    suture_sae_weights weights = {.struct_size = sizeof weights,
                                  .W_enc = float_matrix(W_enc, D_A, LATENTS),
                                  .b_enc = float_matrix(b_enc, 1, LATENTS),
                                  .W_dec = float_matrix(W_dec, LATENTS, D_A),
                                  .b_dec = float_matrix(b_dec, 1, D_A)};
    suture_sae_config config = {.struct_size = sizeof config,
                                .d_in = D_A,
                                .d_sae = LATENTS,
                                .architecture = SUTURE_RELU,
                                .normalization = SUTURE_NORMALIZATION_NONE};
    suture_sae *sae = NULL, *carried = NULL, *loaded = NULL, *part = NULL;
    OK(suture_sae_create(&config, &weights, &sae));
    suture_carry_config options = {.struct_size = sizeof options};
    suture_carry *carry = NULL;
    OK(suture_carry_create(sae, D_B, &options, &carry));
    OK(suture_carry_update(carry, &a, &b, NULL));
    suture_carry_report report = {.struct_size = sizeof report};
    suture_fidelity *fidelity = NULL;
    OK(suture_carry_finish(carry, NULL, NULL, &carried, &report, NULL, NULL, &fidelity));
    CHECK(report.silent == 1 && report.rows + report.held_out_rows == ROWS, "%lld silent, %lld and %lld rows",
          (long long)report.silent, (long long)report.rows, (long long)report.held_out_rows);

    // What was found comes along, through a file and a selection.
    char path[4096];
    snprintf(path, sizeof path, "%s/carried", folder);
    OK(suture_sae_save(carried, path));
    OK(suture_sae_load(path, &loaded));
    const int64_t chosen[] = {2, 0};
    OK(suture_sae_select(loaded, chosen, 2, NULL, 0, NULL, &part));
    double correlation[2], found[LATENTS];
    int64_t source[2];
    int32_t known = 0;
    suture_latent_evidence evidence = {
        .struct_size = sizeof evidence, .source_latent = source, .correlation = correlation};
    OK(suture_sae_evidence(part, &known, &evidence));
    CHECK(known == 1 && evidence.rows == report.rows, "%d, %lld rows", (int)known, (long long)evidence.rows);
    OK(suture_fidelity_read(fidelity, found, NULL, NULL, NULL, NULL, NULL));
    for (int i = 0; i < 2; i++) {
        CHECK(source[i] == chosen[i], "%lld", (long long)source[i]);
        CLOSE(correlation[i], found[chosen[i]], 0);
        CHECK(correlation[i] > 0.9, "%g", correlation[i]);
    }
    OK(suture_sae_set_evidence(part, NULL));
    OK(suture_sae_evidence(part, &known, NULL));
    CHECK(known == 0, "%d", (int)known);
    suture_sae_destroy(part);
    suture_sae_destroy(loaded);
    suture_sae_destroy(carried);
    suture_sae_destroy(sae);
    suture_fidelity_destroy(fidelity);
    suture_carry_destroy(carry);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    suture_stitch *stitch = make_stitch();
    steering(stitch, argv[1]);
    probes(stitch);
    sites();
    pooling();
    analysis();
    carrying(argv[1]);
    suture_stitch_destroy(stitch);
    return finish("features");
}
