// SPDX-License-Identifier: Apache-2.0
//
// Part of suture_types.h: sparse autoencoders in training.

#ifndef SUTURE_TYPES_TRAINING_H
#define SUTURE_TYPES_TRAINING_H

#include "basics.h"

// ---------------------------------------------------------------------------------------------
// Training
// ---------------------------------------------------------------------------------------------

/// How the learning rate goes after its warm-up.
typedef enum suture_lr_scheduler {
    SUTURE_LR_CONSTANT = 1,
    /// In a straight line from lr to lr_end (torch.optim.lr_scheduler.LinearLR).
    SUTURE_LR_LINEAR = 2,
    /// Half a cosine wave from lr to lr_end (torch.optim.lr_scheduler.CosineAnnealingLR).
    SUTURE_LR_COSINE = 3
} suture_lr_scheduler;

/// What training does about the norms of the decoder rows.
typedef enum suture_decoder_norm {
    /// Rows have norm 1: a row's gradient loses its component along the row before it is clipped and
    /// enters Adam, and the row is divided by its norm after the step.
    SUTURE_DECODER_NORM_UNIT = 1,
    /// Rows are divided by their norms after the step, and nothing else (arXiv 2506.06609, appendix D).
    SUTURE_DECODER_NORM_UNIT_UNPROJECTED = 2,
    /// Rows keep whatever norms they get, from the start on; latents are ranked by pre-activation times
    /// the norm of their row, the length of what they contribute. A SAE may come with
    /// rescale_by_decoder_norm, and the trained one has it set.
    SUTURE_DECODER_NORM_FREE = 3
} suture_decoder_norm;

/// Where b_dec begins.
typedef enum suture_b_dec_init {
    /// As it is in the SAE.
    SUTURE_B_DEC_KEEP = 1,
    SUTURE_B_DEC_ZERO = 2,
    /// The mean of the activations.
    SUTURE_B_DEC_MEAN = 3,
    /// The point with the least sum of distances to the activations.
    SUTURE_B_DEC_GEOMETRIC_MEDIAN = 4
} suture_b_dec_init;

/// What activations are multiplied by before training sees them.
typedef enum suture_normalize_activations {
    SUTURE_NORMALIZE_NONE = 1,
    /// sqrt(d_in) / mean norm, one number for all tokens, as in SAELens. SAEs taken from the trainer are
    /// for unscaled activations all the same: the factor is folded into their weights.
    SUTURE_NORMALIZE_EXPECTED_AVERAGE_ONLY_IN = 2
} suture_normalize_activations;

/// Settings of a training run. Zero in a field stands for its default.
typedef struct suture_train_config {
    uint64_t struct_size;
    /// Tokens a step. Default 4096.
    int64_t batch_size;
    /// Adam's step size, before lr_scheduler. Default 1e-4.
    double lr;
    /// Default SUTURE_LR_CONSTANT.
    suture_lr_scheduler lr_scheduler;
    /// Steps in which the learning rate rises: lr / lr_warm_up_steps in the first, lr in the last of
    /// them. Default 0.
    int64_t lr_warm_up_steps;
    /// Where the linear and the cosine scheduler end. Default 0.
    double lr_end;
    /// Steps of the whole training, warm-up included: where the linear and the cosine scheduler reach
    /// lr_end, at which later steps stay. They need it, above lr_warm_up_steps.
    int64_t total_steps;
    /// Adam's decay rates. Defaults 0.9 and 0.999.
    double beta1;
    double beta2;
    /// Added to the root of the second moment. Default 1e-8.
    double epsilon;
    /// Largest norm of the gradients, over all weights together: larger ones are scaled down to it, as
    /// by torch.nn.utils.clip_grad_norm_, at the cost of computing them twice (a step took 11 % longer
    /// at d_in 512, d_sae 8192, k 32). Default: as they are.
    double max_grad_norm;
    /// Default SUTURE_DECODER_NORM_UNIT_UNPROJECTED.
    suture_decoder_norm decoder_norm;
    /// Taken from up to 65,536 of the activations, drawn evenly, before the first step. Default
    /// SUTURE_B_DEC_KEEP.
    suture_b_dec_init b_dec_init;
    /// From the same sample; losses are those of scaled activations. Default SUTURE_NORMALIZE_NONE.
    suture_normalize_activations normalize_activations;
    /// JumpReLU: weight of the mean number of active latents in the loss. Default 1. Given for another
    /// architecture, this and the following are errors.
    double l0_coefficient;
    /// ReLU: weight of the mean sum of activations in the loss. Default 1.
    double l1_coefficient;
    /// JumpReLU: width of the window around a threshold in which pre-activations count for its gradient.
    /// Default 0.05.
    double bandwidth;
    /// JumpReLU, ReLU: steps in which the coefficient rises from 0 in a straight line. Default 0.
    int64_t sparsity_warm_up_steps;
    /// TopK, BatchTopK: weight of the auxiliary loss, in which the aux_k dead latents of the largest
    /// pre-activations reconstruct what the active ones leave. Default: without.
    double aux_loss_coefficient;
    /// Default d_in / 2.
    int64_t aux_k;
    /// Any architecture: latents that have not fired for so many tokens are dead. Default 1,000,000.
    int64_t dead_feature_window;
    /// Order of the tokens. Every value is valid, 0 included.
    uint64_t seed;
    /// Weight of the pull towards codes of another model, which steps then need
    /// (suture_trainer_step_like(), suture_trainers_run_like()). Default: without.
    double pull;
} suture_train_config;

/// One training step, or the mean of several.
typedef struct suture_train_metrics {
    uint64_t struct_size;
    /// Steps and tokens so far.
    uint64_t steps;
    uint64_t tokens;
    /// Mean over tokens of |x - x_hat|^2 (summed over coordinates).
    double loss;
    /// Of JumpReLU the coefficient times the mean number of active latents, of ReLU times the mean sum of
    /// activations; else 0.
    double sparsity_loss;
    /// aux_loss_coefficient times the auxiliary loss of dead latents.
    double aux_loss;
    /// 1 - loss / variance of the batch.
    double explained_variance;
    double l0;
    /// Latents that have not fired within the last dead_feature_window tokens (or since the start, if
    /// fewer).
    int64_t dead;
    /// Learning rate of the last step.
    double lr;
    double seconds;
    /// 1 - loss / variance with exponential moving averages of both over all steps: each step counts
    /// 0.95 times as much as the one after it, so it is mostly about the last 20.
    double explained_variance_average;
    /// Floating-point operations of all steps (multiplication and addition are two), as a dense
    /// implementation takes them: 12 d_in d_sae a token, torch's flop counter on the forward and
    /// backward pass of SAELens' TopK.
    double flops;
    /// Those of this library's steps: 2 d_in d_sae + 7 d_in a token, 10 d_in for each active latent of a
    /// token, and 16 for each weight of W_dec, 13 for each other weight, a step; with
    /// apply_b_dec_to_input another 2 d_in d_sae a step, with SUTURE_DECODER_NORM_UNIT 4 d_in d_sae (with
    /// SUTURE_DECODER_NORM_FREE d_sae a token instead of d_in d_sae a step), with max_grad_norm 4 d_in for each active latent of a token and 2 for each weight.
    double flops_executed;
    /// config->pull times the mean over tokens of the squared distance from the codes of another model.
    double pull_loss;
} suture_train_metrics;

#endif
