// SPDX-License-Identifier: Apache-2.0
// SAEs and their codes.
#include "table.h"

static void create_rows(void) {
    suture_sae_config config = {.struct_size = sizeof config,
                                .d_in = D_A,
                                .d_sae = D_SAE,
                                .architecture = SUTURE_TOPK,
                                .k = K,
                                .normalization = SUTURE_NORMALIZATION_NONE};
    const suture_sae_config good = config;
    suture_sae_weights weights = {.struct_size = sizeof weights,
                                  .W_enc = *FLOATS(W_enc_data, D_A, D_SAE),
                                  .b_enc = *FLOATS(zeros, 1, D_SAE),
                                  .W_dec = *FLOATS(W_dec_data, D_SAE, D_A),
                                  .b_dec = *FLOATS(zeros, 1, D_A)};
    const suture_sae_weights good_weights = weights;
#define CREATE suture_sae_create(&config, &weights, &out_sae)
#define INIT suture_sae_init(&config, 0, &out_sae)
    ROW(INVALID, "config|NULL", "NULL", suture_sae_create(NULL, &weights, &out_sae));
    ROW(INVALID, "weights|NULL", "NULL", suture_sae_create(&config, NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_create(&config, &weights, NULL));
    SIZE_ROWS("config", config, CREATE);
    SIZE_ROWS("weights", weights, CREATE);
    ROW(INVALID, "config|NULL", "NULL", suture_sae_init(NULL, 0, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_init(&config, 0, NULL));
    SIZE_ROWS("config", config, INIT);

#define CONFIG_ROW(words, what, field, value) \
    do {                                      \
        config = good;                        \
        config.field = value;                 \
        ROW(INVALID, words, what, CREATE);    \
        ROW(INVALID, words, what, INIT);      \
        config = good;                        \
    } while (0)
    CONFIG_ROW("d_in|0", "zero", d_in, 0);
    CONFIG_ROW("d_in|-1", "negative", d_in, -1);
    CONFIG_ROW("d_in|9223372036854775807", "too large", d_in, INT64_MAX);
    CONFIG_ROW("d_sae|0", "zero", d_sae, 0);
    CONFIG_ROW("d_sae|-7", "negative", d_sae, -7);
    CONFIG_ROW("d_sae|9223372036854775807", "too large", d_sae, INT64_MAX);
    CONFIG_ROW("architecture|0", "left out", architecture, (suture_architecture)0);
    CONFIG_ROW("architecture|42", "unknown", architecture, (suture_architecture)42);
    CONFIG_ROW("normalization|42", "unknown", normalization, (suture_normalization)42);
    CONFIG_ROW("k|0", "zero", k, 0);
    CONFIG_ROW("k|-1", "negative", k, -1);
    CONFIG_ROW("k|9|8", "k > d_sae", k, D_SAE + 1);
    CONFIG_ROW("apply_b_dec_to_input|2", "neither 0 nor 1", apply_b_dec_to_input, 2);
    CONFIG_ROW("rescale_by_decoder_norm|-1", "neither 0 nor 1", rescale_by_decoder_norm, -1);
    config.normalization = SUTURE_NORMALIZATION_FIXED_SCALE;
    config.scale = 0;
    ROW(INVALID, "scale|0", "zero", CREATE);
    config.scale = NAN;
    ROW(INVALID, "scale|nan", "NaN", CREATE);
    config = good;
    config.d_in = config.d_sae = 2000000000;
    ROW(SUTURE_ERROR_OUT_OF_MEMORY, "2000000000", "beyond memory", INIT);
    config = good;
    config.architecture = SUTURE_GATED;
    ROW(UNSUPPORTED, "architecture", "no random start for Gated", INIT);
    config.architecture = SUTURE_BATCHTOPK;
    config.k = 0;
    ROW(INVALID, "k|0", "BatchTopK without k", INIT);
    config.k = D_SAE + 1;
    ROW(INVALID, "k|9", "BatchTopK with k above d_sae", INIT);
    config = good;

#define WEIGHT_ROW(words, what, field, ...) \
    do {                                    \
        weights = good_weights;             \
        weights.field = *(__VA_ARGS__);     \
        ROW(INVALID, words, what, CREATE);  \
        weights = good_weights;             \
    } while (0)
    WEIGHT_ROW("W_enc", "left out", W_enc, &(suture_matrix){0});
    WEIGHT_ROW("W_enc|4|3", "other d_in", W_enc, FLOATS(W_enc_data, 4, D_SAE));
    WEIGHT_ROW("W_enc|7|8", "other d_sae", W_enc, FLOATS(W_enc_data, D_A, 7));
    WEIGHT_ROW("W_dec|7|8", "other d_sae", W_dec, FLOATS(W_dec_data, 7, D_A));
    WEIGHT_ROW("W_dec|2|3", "other d_in", W_dec, FLOATS(W_dec_data, D_SAE, 2));
    WEIGHT_ROW("W_dec|NULL", "no data", W_dec, FLOATS(NULL, D_SAE, D_A));
    WEIGHT_ROW("b_enc|2|1", "two rows", b_enc, FLOATS(zeros, 2, D_SAE));
    WEIGHT_ROW("b_enc|dtype|5", "unknown dtype", b_enc, MATRIX(zeros, 1, D_SAE, 0, (suture_dtype)5));
    WEIGHT_ROW("b_dec|row_stride|1", "row_stride below cols", b_dec, MATRIX(zeros, 1, D_A, 1, SUTURE_FLOAT32));
    float bad[D_A * D_SAE] = {0};
    bad[D_SAE + 2] = NAN;
    WEIGHT_ROW("W_enc[1, 2]|nan", "NaN", W_enc, FLOATS(bad, D_A, D_SAE));
    config.architecture = SUTURE_JUMPRELU;
    ROW(INVALID, "threshold", "JumpReLU without threshold", CREATE);
    config.architecture = SUTURE_BATCHTOPK;
    ROW(INVALID, "threshold", "BatchTopK without threshold", CREATE);
    weights.threshold = *FLOATS(zeros, 1, D_SAE);
    ROW(INVALID, "threshold|8|1", "BatchTopK with many thresholds", CREATE);
    config.architecture = SUTURE_GATED;
    weights = good_weights;
    ROW(INVALID, "b_enc", "Gated with b_enc", CREATE);
    weights.b_enc = (suture_matrix){0};
    ROW(INVALID, "b_gate", "Gated without b_gate", CREATE);
}

void sae_rows(void) {
    create_rows();
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_info(NULL, &out_config));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_info(sae, NULL));
    SIZE_ROWS("out", out_config, suture_sae_info(sae, &out_config));
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_weight(NULL, SUTURE_SAE_W_ENC, &out_matrix));
    ROW(INVALID, "which|99", "unknown", suture_sae_weight(sae, (suture_sae_weight_name)99, &out_matrix));
    ROW(INVALID, "which|5|topk", "TopK has none", suture_sae_weight(sae, SUTURE_SAE_THRESHOLD, &out_matrix));
    ROW(INVALID, "which|6|topk", "TopK has none", suture_sae_weight(sae, SUTURE_SAE_B_GATE, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_weight(sae, SUTURE_SAE_W_ENC, NULL));
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_fold(NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_fold(sae, NULL));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_transfer_sae(NULL, sae, SUTURE_UP, NULL, &out_sae));
    ROW(INVALID, "sae|NULL", "NULL", suture_stitch_transfer_sae(stitch, NULL, SUTURE_UP, NULL, &out_sae));
    ROW(INVALID, "direction|7", "unknown", suture_stitch_transfer_sae(stitch, sae, (suture_direction)7, NULL, &out_sae));
    ROW(INVALID, "d_in|3|4", "a SAE of A sent down", suture_stitch_transfer_sae(stitch, sae, SUTURE_DOWN, NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL, NULL));
    ROW(UNSUPPORTED, "layer_norm", "per-token normalisation",
        suture_stitch_transfer_sae(stitch, layer_norm_sae, SUTURE_UP, NULL, &out_sae));

    suture_refit_config config = {.struct_size = sizeof config};
    suture_refit_report report = {.struct_size = sizeof report};
    const suture_refit_config good = config;
#define REFIT(shards, count) suture_sae_refit_decoder(sae, shards, count, &config, NULL, &out_sae, &report)
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_refit_decoder(NULL, &a, 1, &config, NULL, &out_sae, &report));
    ROW(INVALID, "shards|NULL", "NULL", REFIT(NULL, 1));
    ROW(INVALID, "shard_count|0", "zero", REFIT(&a, 0));
    ROW(INVALID, "shard_count|-1", "negative", REFIT(&a, -1));
    ROW(INVALID, "config|NULL", "NULL", suture_sae_refit_decoder(sae, &a, 1, NULL, NULL, &out_sae, &report));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_refit_decoder(sae, &a, 1, &config, NULL, NULL, &report));
    SIZE_ROWS("config", config, REFIT(&a, 1));
    SIZE_ROWS("report", report, REFIT(&a, 1));
    INPUT_ROWS("shards[0]", 2, D_A, X == NULL ? REFIT(NULL, 1) : REFIT(X, 1));
    CONTENT_ROWS("shards[0]", ROWS, D_A, REFIT(X, 1));
    const suture_matrix shards[2] = {a, b};
    ROW(INVALID, "shards[1]|4|3", "another width", REFIT(shards, 2));
    ROW(UNSUPPORTED, "layer_norm", "per-token normalisation",
        suture_sae_refit_decoder(layer_norm_sae, &a, 1, &config, NULL, &out_sae, &report));
#define REFIT_ROW(words, what, field, value) \
    do {                                     \
        config = good;                       \
        config.field = value;                \
        ROW(INVALID, words, what, REFIT(&a, 1)); \
        config = good;                       \
    } while (0)
    REFIT_ROW("ridge|-1", "negative", ridge, -1);
    REFIT_ROW("ridge|nan", "NaN", ridge, NAN);
    REFIT_ROW("ridge|inf", "infinite", ridge, INFINITY);
    REFIT_ROW("tolerance|-1", "negative", tolerance, -1);
    REFIT_ROW("tolerance|nan", "NaN", tolerance, NAN);
    REFIT_ROW("tokens|-1", "negative", tokens, -1);
    REFIT_ROW("tied_rounds|-1", "negative", tied_rounds, -1);
    REFIT_ROW("tied_rounds|1001", "too many", tied_rounds, 1001);
    REFIT_ROW("max_iterations|-1", "negative", max_iterations, -1);

    OK(suture_stitch_set_metadata(stitch, "{\"model_a\": \"small\", \"layer_a\": 2}"));
    OK(suture_sae_set_metadata(sae, "{\"model_name\": \"other\"}"));
    ROW(INVALID, "other|small", "a SAE of another model", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL, &out_sae));
    OK(suture_sae_set_metadata(sae, "{\"model_name\": \"small\", \"hook_name\": \"blocks.5.hook_resid_pre\"}"));
    ROW(INVALID, "5|2", "a SAE of another layer", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL, &out_sae));
    OK(suture_stitch_set_metadata(stitch, "{}"));
    OK(suture_sae_set_metadata(sae, "{}"));
    ACCEPTS_NULL(suture_sae_destroy);
}

void codes_rows(void) {
    const suture_matrix *x = FLOATS(zeros, 2, D_A);
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_encode(NULL, x, NULL, &out_codes));
    ROW(INVALID, "sae|handle", "codes", suture_sae_encode((suture_sae *)(void *)codes, x, NULL, &out_codes));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_encode(sae, x, NULL, NULL));
    INPUT_ROWS("x", 2, D_A, suture_sae_encode(sae, X, NULL, &out_codes));
    CONTENT_ROWS("x", ROWS, D_A, suture_sae_encode(sae, X, NULL, &out_codes));

    const int32_t indices[4] = {0, 7, 3, -1};
    const float values[4] = {1, 2, 3, 0};
#define CODES(d_sae, rows, width, indices, values) suture_codes_create(d_sae, rows, width, indices, values, &out_codes)
    ROW(INVALID, "d_sae|0", "zero", CODES(0, 2, 2, indices, values));
    ROW(INVALID, "d_sae|9223372036854775807", "too large", CODES(INT64_MAX, 2, 2, indices, values));
    ROW(INVALID, "rows|-1", "negative", CODES(D_SAE, -1, 2, indices, values));
    ROW(INVALID, "width|-1", "negative", CODES(D_SAE, 2, -1, indices, values));
    ROW(INVALID, "width|9|8", "more slots than latents", CODES(D_SAE, 2, 9, indices, values));
    ROW(INVALID, "rows|9223372036854775807", "overflow", CODES(D_SAE, INT64_MAX, 2, indices, values));
    ROW(INVALID, "indices|NULL", "NULL", CODES(D_SAE, 2, 2, NULL, values));
    ROW(INVALID, "values|NULL", "NULL", CODES(D_SAE, 2, 2, indices, NULL));
    ROW(INVALID, "out|NULL", "NULL", suture_codes_create(D_SAE, 2, 2, indices, values, NULL));
    const int32_t beyond[4] = {0, 1, 8, -1};
    ROW(INVALID, "indices[1, 0]|8", "no such latent", CODES(D_SAE, 2, 2, beyond, values));
    const int32_t twice[4] = {0, 1, 5, 5};
    const float four[4] = {1, 2, 3, 4};
    ROW(INVALID, "indices[1|5", "a latent twice", CODES(D_SAE, 2, 2, twice, four));
    const float not_a_number[4] = {1, NAN, 3, 0};
    ROW(INVALID, "values[0, 1]|nan", "NaN", CODES(D_SAE, 2, 2, indices, not_a_number));

    ROW(INVALID, "codes|NULL", "NULL", suture_codes_view_get(NULL, &out_view));
    ROW(INVALID, "out|NULL", "NULL", suture_codes_view_get(codes, NULL));
    SIZE_ROWS("out", out_view, suture_codes_view_get(codes, &out_view));
    ACCEPTS_NULL(suture_codes_destroy);

    const suture_matrix *out = FLOATS(out_floats, 2, D_A);
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_decode(NULL, codes, NULL, out));
    ROW(INVALID, "codes|NULL", "NULL", suture_sae_decode(sae, NULL, NULL, out));
    ROW(INVALID, "d_sae|9|8", "codes of another SAE", suture_sae_decode(sae, wide_codes, NULL, out));
    OUTPUT_ROWS("out", 2, D_A, suture_sae_decode(sae, codes, NULL, X));

    ROW(INVALID, "sae|NULL", "NULL", suture_sae_reconstruct(NULL, x, NULL, out));
    INPUT_ROWS("x", 2, D_A, suture_sae_reconstruct(sae, X, NULL, out));
    OUTPUT_ROWS("out", 2, D_A, suture_sae_reconstruct(sae, x, NULL, X));
    CONTENT_ROWS("x", 1, D_A, suture_sae_reconstruct(sae, X, NULL, FLOATS(out_floats, 1, D_A)));
}
