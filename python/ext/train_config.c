// SPDX-License-Identifier: Apache-2.0
// Settings of training: keywords to suture_train_config.
#include "core.h"

static const core_word lr_schedulers[] = {
    {"constant", SUTURE_LR_CONSTANT}, {"linear", SUTURE_LR_LINEAR}, {"cosine", SUTURE_LR_COSINE}, {NULL, 0},
};
static const core_word decoder_norms[] = {
    {"unit", SUTURE_DECODER_NORM_UNIT}, {"unit_unprojected", SUTURE_DECODER_NORM_UNIT_UNPROJECTED}, {"free", SUTURE_DECODER_NORM_FREE}, {NULL, 0},
};
static const core_word b_dec_inits[] = {
    {"keep", SUTURE_B_DEC_KEEP},
    {"zero", SUTURE_B_DEC_ZERO},
    {"mean", SUTURE_B_DEC_MEAN},
    {"geometric_median", SUTURE_B_DEC_GEOMETRIC_MEDIAN},
    {NULL, 0},
};
static const core_word normalizations[] = {
    {"none", SUTURE_NORMALIZE_NONE},
    {"expected_average_only_in", SUTURE_NORMALIZE_EXPECTED_AVERAGE_ONLY_IN},
    {NULL, 0},
};

/// The enumerator of a word, 0 for NULL.
static int optional_word(const core_word *table, const char *argument, const char *word, int *out) {
    *out = 0;
    return word ? core_word_value(table, argument, word, out) : 0;
}

int core_train_config(PyObject *keywords, suture_train_config *out) {
    static char *names[] = {
        "batch_size", "lr", "lr_scheduler", "lr_warm_up_steps", "lr_end", "total_steps", "beta1", "beta2", "epsilon",
        "max_grad_norm", "decoder_norm", "b_dec_init", "normalize_activations", "l0_coefficient", "l1_coefficient", "bandwidth",
        "sparsity_warm_up_steps", "aux_loss_coefficient", "aux_k", "dead_feature_window", "seed", "pull", NULL,
    };
    suture_train_config config = {.struct_size = sizeof config};
    long long batch_size = 0, lr_warm_up_steps = 0, total_steps = 0, sparsity_warm_up_steps = 0, aux_k = 0, dead_feature_window = 0;
    unsigned long long seed = 0;
    const char *lr_scheduler = NULL, *decoder_norm = NULL, *b_dec_init = NULL, *normalize_activations = NULL;
    PyObject *none = PyTuple_New(0);
    if (!none) return -1;
    int parsed = PyArg_ParseTupleAndKeywords(
        none, keywords, "|$LdsLdLddddsssdddLdLLKd", names, &batch_size, &config.lr, &lr_scheduler, &lr_warm_up_steps,
        &config.lr_end, &total_steps, &config.beta1, &config.beta2, &config.epsilon, &config.max_grad_norm, &decoder_norm, &b_dec_init,
        &normalize_activations, &config.l0_coefficient, &config.l1_coefficient, &config.bandwidth,
        &sparsity_warm_up_steps, &config.aux_loss_coefficient, &aux_k, &dead_feature_window, &seed,
        &config.pull);
    Py_DECREF(none);
    int value;
    if (!parsed || optional_word(lr_schedulers, "lr_scheduler", lr_scheduler, &value) < 0) return -1;
    config.lr_scheduler = (suture_lr_scheduler)value;
    if (optional_word(decoder_norms, "decoder_norm", decoder_norm, &value) < 0) return -1;
    config.decoder_norm = (suture_decoder_norm)value;
    if (optional_word(b_dec_inits, "b_dec_init", b_dec_init, &value) < 0) return -1;
    config.b_dec_init = (suture_b_dec_init)value;
    if (optional_word(normalizations, "normalize_activations", normalize_activations, &value) < 0) return -1;
    config.normalize_activations = (suture_normalize_activations)value;
    config.batch_size = batch_size;
    config.lr_warm_up_steps = lr_warm_up_steps;
    config.total_steps = total_steps;
    config.sparsity_warm_up_steps = sparsity_warm_up_steps;
    config.aux_k = aux_k;
    config.dead_feature_window = dead_feature_window;
    config.seed = seed;
    *out = config;
    return 0;
}
