// SPDX-License-Identifier: Apache-2.0
// Evaluation and training.
#include "table.h"

void evaluation_rows(void) {
    ROW(INVALID, "sae|NULL", "NULL", suture_evaluation_create(NULL, &out_evaluation));
    ROW(INVALID, "out|NULL", "NULL", suture_evaluation_create(sae, NULL));
    ROW(INVALID, "evaluation|no tokens", "no tokens", suture_evaluation_report_get(evaluation, &out_evaluation_report));
    ROW(INVALID, "evaluation|no tokens", "no tokens", suture_evaluation_features(evaluation, out_doubles, out_floats));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_update(NULL, &a, NULL));
    ROW(INVALID, "evaluation|handle", "a SAE",
        suture_evaluation_update((suture_evaluation *)(void *)sae, &a, NULL));
    INPUT_ROWS("x", 2, D_A, suture_evaluation_update(evaluation, X, NULL));
    CONTENT_ROWS("x", ROWS, D_A, suture_evaluation_update(evaluation, X, NULL));
    ROW(INVALID, "evaluation|no tokens", "refused tokens do not count",
        suture_evaluation_report_get(evaluation, &out_evaluation_report));
    OK(suture_evaluation_update(evaluation, &a, NULL));
    ROW(INVALID, "60 tokens", "after the first token", suture_evaluation_set_norm_bound(evaluation, 5));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_set_norm_bound(NULL, 5));
    ROW(INVALID, "norm_bound|0", "zero", suture_evaluation_set_norm_bound(evaluation, 0));
    ROW(INVALID, "norm_bound|nan", "NaN", suture_evaluation_set_norm_bound(evaluation, NAN));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_report_get(NULL, &out_evaluation_report));
    ROW(INVALID, "out|NULL", "NULL", suture_evaluation_report_get(evaluation, NULL));
    SIZE_ROWS("out", out_evaluation_report, suture_evaluation_report_get(evaluation, &out_evaluation_report));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_features(NULL, out_doubles, out_floats));
    ACCEPTS_NULL(suture_evaluation_destroy);
}

static void pull_rows(void) {
    suture_train_config config = {.struct_size = sizeof config, .pull = 0.5, .batch_size = 2};
    suture_trainer *pulled = NULL;
    OK(suture_trainer_create(sae, &config, &pulled));
    config.pull = -1;
    ROW(INVALID, "pull|-1", "negative", suture_trainer_create(sae, &config, &out_trainer));
    config.pull = NAN;
    ROW(INVALID, "pull|nan", "NaN", suture_trainer_create(sae, &config, &out_trainer));
    config.pull = 0.5;
    config.normalize_activations = SUTURE_NORMALIZE_EXPECTED_AVERAGE_ONLY_IN;
    ROW(INVALID, "pull|normalize_activations", "of scaled activations", suture_trainer_create(sae, &config, &out_trainer));

    const suture_matrix *x = FLOATS(a_data, 2, D_A);
    ROW(INVALID, "pull|0.5|codes", "a pull without codes", suture_trainer_step(pulled, x, NULL, &out_metrics));
#define STEP(trainer, x, like) suture_trainer_step_like(trainer, x, like, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL", STEP(NULL, x, codes));
    ROW(INVALID, "like|NULL", "NULL", STEP(pulled, x, NULL));
    ROW(INVALID, "like|handle", "a SAE", STEP(pulled, x, (suture_codes *)(void *)sae));
    ROW(INVALID, "codes|d_sae|9|8", "other latents", STEP(pulled, x, wide_codes));
    ROW(INVALID, "codes|2|60", "fewer than rows", STEP(pulled, &a, codes));
    ROW(INVALID, "pull|codes", "codes without a pull", STEP(trainer, x, codes));
    SIZE_ROWS("out", out_metrics, STEP(pulled, x, codes));
    INPUT_ROWS("x", 2, D_A, STEP(pulled, X, codes));

    float gradients[2 * D_A * D_SAE + D_SAE + D_A];
    const int64_t size = sizeof gradients / sizeof *gradients;
#define GRADIENTS_LIKE(trainer, x, like, out, count) \
    suture_trainer_gradients_like(trainer, x, like, NULL, out, count, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL", GRADIENTS_LIKE(NULL, x, codes, gradients, size));
    ROW(INVALID, "like|NULL", "NULL", GRADIENTS_LIKE(pulled, x, NULL, gradients, size));
    ROW(INVALID, "gradients|NULL", "NULL", GRADIENTS_LIKE(pulled, x, codes, NULL, size));
    ROW(INVALID, "count|7", "too few", GRADIENTS_LIKE(pulled, x, codes, gradients, 7));
    ROW(INVALID, "codes|d_sae|9|8", "other latents", GRADIENTS_LIKE(pulled, x, wide_codes, gradients, size));
    SIZE_ROWS("out", out_metrics, GRADIENTS_LIKE(pulled, x, codes, gradients, size));
    INPUT_ROWS("x", 2, D_A, GRADIENTS_LIKE(pulled, X, codes, gradients, size));

    suture_trainer *trainers[1] = {pulled}, *plain[1] = {trainer};
#define RUN_LIKE(trainers, count, shards, like, like_shards, like_count) \
    suture_trainers_run_like(trainers, count, shards, 1, like, like_shards, like_count, 2, NULL, &out_metrics)
    ROW(INVALID, "trainers|NULL", "NULL", RUN_LIKE(NULL, 1, &a, sae, &a, 1));
    ROW(INVALID, "trainer_count|0", "none", RUN_LIKE(trainers, 0, &a, sae, &a, 1));
    ROW(INVALID, "like|NULL", "NULL", RUN_LIKE(trainers, 1, &a, NULL, &a, 1));
    ROW(INVALID, "like_shards|NULL", "NULL", RUN_LIKE(trainers, 1, &a, sae, NULL, 1));
    ROW(INVALID, "like_shards_count|0", "none", RUN_LIKE(trainers, 1, &a, sae, &a, 0));
    ROW(INVALID, "like_shards have 2|60", "fewer rows", RUN_LIKE(trainers, 1, &a, sae, x, 1));
    ROW(INVALID, "pull|codes", "no pull", RUN_LIKE(plain, 1, &a, sae, &a, 1));
    ROW(INVALID, "pull|codes", "a pull without codes",
        suture_trainers_run(trainers, 1, &a, 1, 2, NULL, &out_metrics));
    SIZE_ROWS("out", out_metrics, RUN_LIKE(trainers, 1, &a, sae, &a, 1));
    INPUT_ROWS("shards[0]", 2, D_A, RUN_LIKE(trainers, 1, X, sae, &a, 1));
    INPUT_ROWS("like_shards[0]", ROWS, D_A, RUN_LIKE(trainers, 1, &a, sae, X, 1));
    suture_trainer_destroy(pulled);
}

void training_rows(void) {
    suture_train_config config = {.struct_size = sizeof config, .batch_size = 8};
    const suture_train_config good = config;
#define TRAINER suture_trainer_create(sae, &config, &out_trainer)
    ROW(INVALID, "sae|NULL", "NULL", suture_trainer_create(NULL, &config, &out_trainer));
    ROW(INVALID, "config|NULL", "NULL", suture_trainer_create(sae, NULL, &out_trainer));
    ROW(INVALID, "out|NULL", "NULL", suture_trainer_create(sae, &config, NULL));
    config.l0_coefficient = 1;
    ROW(INVALID, "l0_coefficient|relu", "not JumpReLU", suture_trainer_create(relu_sae, &config, &out_trainer));
    config = good;
    SIZE_ROWS("config", config, TRAINER);
#define TRAIN_ROW(words, what, field, value) \
    do {                                     \
        config = good;                       \
        config.field = value;                \
        ROW(INVALID, words, what, TRAINER);  \
        config = good;                       \
    } while (0)
    TRAIN_ROW("batch_size|-1", "negative", batch_size, -1);
    TRAIN_ROW("batch_size|9223372036854775807", "too large", batch_size, INT64_MAX);
    TRAIN_ROW("lr|-1", "negative", lr, -1);
    TRAIN_ROW("lr|nan", "NaN", lr, NAN);
    TRAIN_ROW("lr|inf", "infinite", lr, INFINITY);
    TRAIN_ROW("lr_scheduler|9", "unknown", lr_scheduler, (suture_lr_scheduler)9);
    TRAIN_ROW("lr_warm_up_steps|-1", "negative", lr_warm_up_steps, -1);
    TRAIN_ROW("total_steps|-1", "negative", total_steps, -1);
    TRAIN_ROW("total_steps|0|cosine", "not given", lr_scheduler, SUTURE_LR_COSINE);
    TRAIN_ROW("lr_end|-1", "negative", lr_end, -1);
    TRAIN_ROW("lr_end|nan", "NaN", lr_end, NAN);
    TRAIN_ROW("max_grad_norm|-1", "negative", max_grad_norm, -1);
    TRAIN_ROW("max_grad_norm|nan", "NaN", max_grad_norm, NAN);
    TRAIN_ROW("decoder_norm|9", "unknown", decoder_norm, (suture_decoder_norm)9);
    TRAIN_ROW("b_dec_init|9", "unknown", b_dec_init, (suture_b_dec_init)9);
    TRAIN_ROW("normalize_activations|9", "unknown", normalize_activations, (suture_normalize_activations)9);
    TRAIN_ROW("l0_coefficient|nan", "NaN", l0_coefficient, NAN);
    TRAIN_ROW("l1_coefficient|-1", "negative", l1_coefficient, -1);
    TRAIN_ROW("bandwidth|inf", "infinite", bandwidth, INFINITY);
    TRAIN_ROW("bandwidth|topk", "not JumpReLU", bandwidth, 1);
    TRAIN_ROW("sparsity_warm_up_steps|-1", "negative", sparsity_warm_up_steps, -1);
    TRAIN_ROW("aux_loss_coefficient|-1", "negative", aux_loss_coefficient, -1);
    TRAIN_ROW("aux_k|-1", "negative", aux_k, -1);
    TRAIN_ROW("dead_feature_window|-1", "negative", dead_feature_window, -1);
    TRAIN_ROW("beta1|1", "not below 1", beta1, 1);
    TRAIN_ROW("beta1|-0.5", "negative", beta1, -0.5);
    TRAIN_ROW("beta2|nan", "NaN", beta2, NAN);
    TRAIN_ROW("epsilon|-1", "negative", epsilon, -1);

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_step(NULL, &a, NULL, &out_metrics));
    ROW(INVALID, "trainer|handle", "a SAE",
        suture_trainer_step((suture_trainer *)(void *)sae, &a, NULL, &out_metrics));
    SIZE_ROWS("out", out_metrics, suture_trainer_step(trainer, &a, NULL, &out_metrics));
    INPUT_ROWS("x", 2, D_A, suture_trainer_step(trainer, X, NULL, &out_metrics));
    CONTENT_ROWS("x", ROWS, D_A, suture_trainer_step(trainer, X, NULL, &out_metrics));

#define RUN(shards, count, tokens) suture_trainer_run(trainer, shards, count, tokens, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_run(NULL, &a, 1, 8, NULL, &out_metrics));
    ROW(INVALID, "shards|NULL", "NULL", RUN(NULL, 1, 8));
    ROW(INVALID, "shard_count|0", "zero", RUN(&a, 0, 8));
    ROW(INVALID, "shard_count|-1", "negative", RUN(&a, -1, 8));
    ROW(INVALID, "tokens|0", "zero", RUN(&a, 1, 0));
    SIZE_ROWS("out", out_metrics, RUN(&a, 1, 8));
    INPUT_ROWS("shards[0]", 2, D_A, X == NULL ? RUN(NULL, 1, 8) : RUN(X, 1, 8));
    CONTENT_ROWS("shards[0]", ROWS, D_A, RUN(X, 1, ROWS));
    const suture_matrix shards[2] = {a, b};
    ROW(INVALID, "shards[1]|4|3", "another width", RUN(shards, 2, 8));

    suture_trainer *trainers[2] = {trainer, NULL};
#define RUN_ALL(trainers, count, shards, shard_count, tokens) \
    suture_trainers_run(trainers, count, shards, shard_count, tokens, NULL, &out_metrics)
    ROW(INVALID, "trainers|NULL", "NULL", RUN_ALL(NULL, 1, &a, 1, 8));
    ROW(INVALID, "trainers[1]|NULL", "a NULL among them", RUN_ALL(trainers, 2, &a, 1, 8));
    ROW(INVALID, "trainer_count|0", "zero", RUN_ALL(trainers, 0, &a, 1, 8));
    ROW(INVALID, "trainer_count|-1", "negative", RUN_ALL(trainers, -1, &a, 1, 8));
    trainers[1] = trainer;
    ROW(INVALID, "trainers|twice", "one twice", RUN_ALL(trainers, 2, &a, 1, 8));
    trainers[1] = (suture_trainer *)(void *)sae;
    ROW(INVALID, "trainers[1]|handle", "a SAE", RUN_ALL(trainers, 2, &a, 1, 8));
    ROW(INVALID, "shard_count|0", "zero", RUN_ALL(trainers, 1, &a, 0, 8));
    ROW(INVALID, "tokens|0", "zero", RUN_ALL(trainers, 1, &a, 1, 0));
    ROW(INVALID, "tokens|18446744073709551615", "more than can be counted", RUN_ALL(trainers, 1, &a, 1, UINT64_MAX));
    SIZE_ROWS("out", out_metrics, RUN_ALL(trainers, 1, &a, 1, 8));
    INPUT_ROWS("shards[0]", 2, D_A, X == NULL ? RUN_ALL(trainers, 1, NULL, 1, 8) : RUN_ALL(trainers, 1, X, 1, 8));
    CONTENT_ROWS("shards[0]", ROWS, D_A, RUN_ALL(trainers, 1, X, 1, ROWS));

    pull_rows();

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_check_data(NULL, &a, 1));
    ROW(INVALID, "shards|other values", "other rows", suture_trainer_check_data(trainer, &a, 1));
    ROW(INVALID, "shard_count|0", "zero", suture_trainer_check_data(trainer, &a, 0));
    INPUT_ROWS("shards[0]", 2, D_A, X == NULL ? suture_trainer_check_data(trainer, NULL, 1)
                                              : suture_trainer_check_data(trainer, X, 1));
    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_description(NULL, out_text, sizeof out_text, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_trainer_description(trainer, NULL, 0, NULL));
    ROW(INVALID, "capacity|1", "too small", suture_trainer_description(trainer, out_text, 1, &out_size));

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_save(NULL, in_folder("run")));
    ROW(INVALID, "folder|NULL", "NULL", suture_trainer_save(trainer, NULL));
    ROW(INVALID, "folder|UTF-8", "not UTF-8", suture_trainer_save(trainer, "\xff\xfe"));
    ROW(INVALID, "folder", "empty", suture_trainer_save(trainer, ""));
    write_file("a file", "x", 1);
    ROW(IO, "a file", "a file in its place", suture_trainer_save(trainer, in_folder("a file")));
    ROW(INVALID, "folder|NULL", "NULL", suture_trainer_load(NULL, &out_trainer));
    ROW(INVALID, "out|NULL", "NULL", suture_trainer_load(in_folder("run"), NULL));
    ROW(INVALID, "folder", "empty", suture_trainer_load("", &out_trainer));
    ROW(IO, "absent", "no such folder", suture_trainer_load(in_folder("absent"), &out_trainer));
    ROW(IO, "no checkpoint", "nothing in it", suture_trainer_load(folder, &out_trainer));

    enum { COUNT = 2 * D_A * D_SAE + D_SAE + D_A };
    static float flat[COUNT];
    static int64_t firings[D_SAE];
#define GRADIENTS(x, count) suture_trainer_gradients(trainer, x, NULL, flat, count, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL",
        suture_trainer_gradients(NULL, &a, NULL, flat, COUNT, firings, &out_metrics));
    ROW(INVALID, "gradients|NULL", "NULL",
        suture_trainer_gradients(trainer, &a, NULL, NULL, COUNT, NULL, &out_metrics));
    ROW(INVALID, "count|-1", "negative", GRADIENTS(&a, -1));
    ROW(INVALID, "count|1|d_sae", "too small", GRADIENTS(&a, 1));
    SIZE_ROWS("out", out_metrics, GRADIENTS(&a, COUNT));
    INPUT_ROWS("x", 2, D_A, GRADIENTS(X, COUNT));
    CONTENT_ROWS("x", ROWS, D_A, GRADIENTS(X, COUNT));

#define APPLY(count, tokens) suture_trainer_apply(trainer, flat, count, tokens, firings, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_apply(NULL, flat, COUNT, 8, NULL, NULL, &out_metrics));
    ROW(INVALID, "gradients|NULL", "NULL", suture_trainer_apply(trainer, NULL, COUNT, 8, NULL, NULL, &out_metrics));
    ROW(INVALID, "count|0", "zero", APPLY(0, 8));
    ROW(INVALID, "tokens|0", "zero", APPLY(COUNT, 0));
    ROW(INVALID, "tokens|18446744073709551615", "too large", APPLY(COUNT, UINT64_MAX));
    ROW(INVALID, "tokens|9223372036854775807", "too large", APPLY(COUNT, INT64_MAX));
    SIZE_ROWS("out", out_metrics, APPLY(COUNT, 8));
    firings[1] = -1;
    ROW(INVALID, "firings[1]|-1", "negative", APPLY(COUNT, 8));
    firings[1] = 0;
    flat[7] = NAN;
    ROW(INVALID, "gradients[7]|nan", "NaN", APPLY(COUNT, 8));
    flat[7] = -INFINITY;
    ROW(INVALID, "gradients[7]|-inf", "infinite", APPLY(COUNT, 8));
    flat[7] = 2e18f;
    ROW(INVALID, "gradients[7]|2e+18", "too large", APPLY(COUNT, 8));
    flat[7] = 0;

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_sae(NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_trainer_sae(trainer, NULL));
    ACCEPTS_NULL(suture_trainer_destroy);
}
