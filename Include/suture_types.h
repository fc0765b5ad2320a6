// SPDX-License-Identifier: Apache-2.0
//
// suture_types.h - the types of the Suture C interface: status codes, handles, matrices, settings
// and reports. Written by hand; the functions are in suture.h, which includes this file.
//
// Shapes: tokens are rows. Everything multiplies from the right: h (N, d) times P (d, d').
// Enumerators are numbered explicitly and only ever appended to. Values that are not listed are
// refused as errors. Settings and report structs begin with `struct_size`: set it to sizeof of the
// struct, so that later versions can grow it; a zeroed remainder means the documented defaults.

#ifndef SUTURE_TYPES_H
#define SUTURE_TYPES_H

#include <stddef.h>
#include <stdint.h>

// ---------------------------------------------------------------------------------------------
// Status
// ---------------------------------------------------------------------------------------------

/// What every fallible function returns. suture_last_error() has the sentence for people.
typedef enum suture_status {
    SUTURE_OK = 0,
    /// An argument is wrong: NULL, a shape, a range, an unknown enumerator, a non-finite value.
    SUTURE_ERROR_INVALID_ARGUMENT = 1,
    /// Memory could not be obtained.
    SUTURE_ERROR_OUT_OF_MEMORY = 2,
    /// A file could not be read or written.
    SUTURE_ERROR_IO = 3,
    /// A file or a byte string is not what it should be: cut short, damaged, of another format.
    SUTURE_ERROR_FORMAT = 4,
    /// The progress callback asked to stop. Every object is as valid as before the call.
    SUTURE_ERROR_CANCELLED = 5,
    /// The computation broke down: an eigenproblem did not converge, a loss is not finite.
    SUTURE_ERROR_NUMERICAL = 6,
    /// What was asked is understood but mathematically or technically not supported.
    SUTURE_ERROR_UNSUPPORTED = 7,
    /// A defect of this library. Please report it.
    SUTURE_ERROR_INTERNAL = 8
} suture_status;

// ---------------------------------------------------------------------------------------------
// Handles
// ---------------------------------------------------------------------------------------------
// Each is created by one function and released by its own _destroy, which accepts NULL. A handle
// may be used from several threads at a time as long as no call changes it.

/// Streaming means and second moments of paired activations of model A and model B.
typedef struct suture_moments { void *reserved; } suture_moments;
/// An affine map between two residual streams, in both directions.
typedef struct suture_stitch { void *reserved; } suture_stitch;
/// A sparse autoencoder.
typedef struct suture_sae { void *reserved; } suture_sae;
/// Sparse activations of a SAE on some tokens.
typedef struct suture_codes { void *reserved; } suture_codes;
/// Running metrics of a SAE over a stream of activations.
typedef struct suture_evaluation { void *reserved; } suture_evaluation;
/// A SAE in training, with its optimiser.
typedef struct suture_trainer { void *reserved; } suture_trainer;
/// Attribution correlations of two SAEs' features over a stream of codes.
typedef struct suture_attribution { void *reserved; } suture_attribution;
typedef struct suture_fidelity { void *reserved; } suture_fidelity;
/// Structural scores of features over sentences and their variants.
typedef struct suture_structural { void *reserved; } suture_structural;
/// Frequencies, activations and examples of features over a stream of codes.
typedef struct suture_feature_statistics { void *reserved; } suture_feature_statistics;
/// A direction in a residual stream, and how far along it to steer.
typedef struct suture_steering { void *reserved; } suture_steering;
/// A linear classifier of activations.
typedef struct suture_probe { void *reserved; } suture_probe;

// ---------------------------------------------------------------------------------------------
// Matrices
// ---------------------------------------------------------------------------------------------

/// Element types.
typedef enum suture_dtype {
    SUTURE_FLOAT32 = 1,
    SUTURE_FLOAT64 = 2,
    SUTURE_FLOAT16 = 3,
    SUTURE_BFLOAT16 = 4
} suture_dtype;

/// A matrix in the caller's memory, row by row; the library never frees or keeps it unless a
/// function says so. Elements within a row are adjacent.
typedef struct suture_matrix {
    /// First element. Any alignment. May be NULL only where rows or cols is 0.
    void *data;
    int64_t rows;
    int64_t cols;
    /// Elements (not bytes) from one row to the next; at least cols. 0 stands for cols.
    int64_t row_stride;
    suture_dtype dtype;
} suture_matrix;

// ---------------------------------------------------------------------------------------------
// Progress and cancellation
// ---------------------------------------------------------------------------------------------

/// Called from the calling thread at least every 50 ms of work with the work done and the whole
/// work (same unit; total is 0 where it is unknown). Return 0 to go on, anything else to cancel.
typedef int32_t (*suture_progress_callback)(void *context, uint64_t done, uint64_t total);

/// Pass NULL instead of a pointer to this struct, or a NULL callback, for no reports.
typedef struct suture_progress {
    suture_progress_callback callback;
    void *context;
} suture_progress;

// ---------------------------------------------------------------------------------------------
// The machine
// ---------------------------------------------------------------------------------------------

/// What suture_cpu_info() reports. Strings are static.
typedef struct suture_cpu_info_report {
    uint64_t struct_size;
    /// Kernels in use: "amx", "avx512bf16", "avx512", "avx2" or "portable".
    const char *kernels;
    /// CPU features found that matter here, separated by spaces.
    const char *features;
    /// OpenBLAS core type in use, such as "SkylakeX".
    const char *blas_core;
    /// OpenBLAS core type it would have used by itself; differs where Suture corrected it.
    const char *blas_core_detected;
    /// Threads a call uses.
    int32_t threads;
    /// Processors this process may run on.
    int32_t processors;
} suture_cpu_info_report;

// ---------------------------------------------------------------------------------------------
// Moments
// ---------------------------------------------------------------------------------------------

/// What moments know of the norms of one stream's rows.
typedef struct suture_stream_norms {
    /// Rows beyond this norm do not count; infinity where there is no bound.
    double norm_bound;
    /// Rows beyond it, and their share of the sum of squared norms of these and of the rows that count.
    uint64_t beyond;
    double share_beyond;
    /// Of the rows that count: the median norm (to 3 %, zeros left out) and the largest; 0 where they
    /// are not known, as of moments from bytes of version 1.
    double median;
    double largest;
    /// Of the rows that count, those of massive norm, more than five times the median; and which share
    /// of the variance is theirs at least.
    uint64_t massive;
    double massive_share;
} suture_stream_norms;

/// What moments know of the norms of their rows.
typedef struct suture_norms_report {
    uint64_t struct_size;
    /// Pairs of rows that do not count, because one of them is beyond its bound.
    uint64_t left_out;
    suture_stream_norms a;
    suture_stream_norms b;
    /// 1 if less than one row in twenty has more than a quarter of the variance of a stream: then a few
    /// rows decide what is fitted.
    int32_t carried_by_few;
    /// Whose bounds they are: 0 nobody has set any; 1 they are estimates, which other moments need not
    /// share; 2 they hold for all parts of the data.
    int32_t bounds;
} suture_norms_report;

// ---------------------------------------------------------------------------------------------
// Stitches
// ---------------------------------------------------------------------------------------------

/// Which way through a stitch.
typedef enum suture_direction {
    /// From model A (usually the smaller) to model B.
    SUTURE_UP = 1,
    /// From model B to model A.
    SUTURE_DOWN = 2
} suture_direction;

/// Which maps suture_stitch_fit() looks for.
typedef enum suture_stitch_method {
    /// Both directions together, with inversion terms (arXiv 2506.06609, eq. 1-3). The default.
    SUTURE_METHOD_JOINT = 0,
    /// Each direction by itself: least squares with a ridge. Without has_ridge the ridges are those of
    /// the least generalised cross-validation error, one for each direction.
    SUTURE_METHOD_RIDGE = 1,
    /// One orthogonal map (of unequal sizes: with orthonormal rows or columns) for both directions, and
    /// one number for each: orthogonal Procrustes.
    SUTURE_METHOD_PROCRUSTES = 2
} suture_stitch_method;

/// How the joint objective weighs the two streams.
typedef enum suture_objective_form {
    /// A stream's squared errors are divided by its mean variance per coordinate: four shares of
    /// unexplained variance, whatever the units. The default.
    SUTURE_OBJECTIVE_SCALED = 0,
    /// Squared errors as they are, the paper's eq. 3. Where one stream is much larger than the other,
    /// only the errors in its coordinates count.
    SUTURE_OBJECTIVE_RAW = 1
} suture_objective_form;

/// Settings of suture_stitch_fit(). Zero in a field stands for its default.
typedef struct suture_stitch_config {
    uint64_t struct_size;
    /// Weight of the two inversion terms, finite and >= 0. No default: 0 means 0. The paper uses 1.
    double alpha;
    /// Stop when the relative decrease of a step and the relative gradient norm fall below it.
    /// Default 1e-4: the objective is then within 3e-6 of its end, mostly within 1e-7.
    double tolerance;
    /// Most steps. Default 1000.
    int32_t max_iterations;
    /// Set to 1 to use `ridge` as it is; 0 chooses 0, or 1e-10 where a covariance has not full rank.
    int32_t has_ridge;
    /// Ridge relative to the mean diagonal of each covariance, >= 0. Not for SUTURE_METHOD_PROCRUSTES.
    double ridge;
    suture_stitch_method method;
    /// Of SUTURE_METHOD_JOINT.
    suture_objective_form objective;
} suture_stitch_config;

/// The terms of the stitching objective: mean squared errors over tokens and coordinates, and what
/// they are as shares of the variance.
typedef struct suture_objective {
    uint64_t struct_size;
    double alpha;
    /// MSE(up(h_A), h_B).
    double up;
    /// MSE(down(h_B), h_A).
    double down;
    /// MSE(down(up(h_A)), h_A), before the factor alpha.
    double a_round_trip;
    /// MSE(up(down(h_B)), h_B), before the factor alpha.
    double b_round_trip;
    /// up + down + alpha * (a_round_trip + b_round_trip): the paper's eq. 3.
    double total;
    /// Variance of h_B that up(h_A) explains: 1 - MSE / variance; likewise of h_A by down(h_B). 0
    /// where there is no variance.
    double up_explained_variance;
    double down_explained_variance;
    /// Rows the figures rest on.
    uint64_t tokens;
    /// Mean variance per coordinate of the two streams, in these rows.
    double variance_a;
    double variance_b;
    /// Variance of h_A that comes back from the round trip through B, and of h_B through A.
    double a_round_trip_explained_variance;
    double b_round_trip_explained_variance;
    /// The same sum as total, of unexplained shares of variance: each term divided by the variance of
    /// its stream. What SUTURE_OBJECTIVE_SCALED minimises.
    double scaled_total;
} suture_objective;

/// Bits of `warnings` in suture_stitch_report.
typedef enum suture_warning {
    /// A covariance has not full rank (few tokens, dead coordinates). Unless a ridge was given, 1e-10
    /// was added to the variances, and directions without variance are mapped to nothing.
    SUTURE_WARNING_RANK_DEFICIENT = 1,
    /// max_iterations was reached before the tolerance.
    SUTURE_WARNING_NOT_CONVERGED = 2,
    /// Fewer than ten tokens per dimension: held-out error will be well above the fitted one.
    SUTURE_WARNING_FEW_TOKENS = 4,
    /// SUTURE_OBJECTIVE_RAW was asked for, and one stream's coordinates are more than three times as
    /// large as the other's (roots of the mean variances): the other's errors hardly count.
    SUTURE_WARNING_UNLIKE_SCALES = 8,
    /// A few rows of massive norm carry much of the variance, and so the fit is theirs; see
    /// suture_moments_norms().
    SUTURE_WARNING_FEW_ROWS = 16
} suture_warning;

/// What a fit did.
typedef struct suture_stitch_report {
    uint64_t struct_size;
    /// Objective at the start (least squares, the solution for alpha = 0) and at the end, on the fitted
    /// rows, of float32 weights. The same where there are no steps.
    suture_objective before;
    suture_objective after;
    /// Norm of the gradient at the end, relative to that at P = 0, both in coordinates in which the
    /// activations that are read are white and those that are predicted have a mean variance of 1.
    double gradient_norm;
    /// Ridge added to the covariance of A, for the way up, and to that of B, for the way down, relative
    /// to their mean diagonals.
    double ridge_a;
    double ridge_b;
    int32_t iterations;
    int32_t converged;
    /// Numerical ranks of the two covariances.
    int64_t rank_a;
    int64_t rank_b;
    /// Bits of suture_warning.
    uint32_t warnings;
    double seconds;
} suture_stitch_report;

/// The weights of a stitch.
typedef enum suture_stitch_weight_name {
    /// (d_a, d_b)
    SUTURE_STITCH_P_UP = 1,
    /// (1, d_b)
    SUTURE_STITCH_B_UP = 2,
    /// (d_b, d_a)
    SUTURE_STITCH_P_DOWN = 3,
    /// (1, d_a)
    SUTURE_STITCH_B_DOWN = 4
} suture_stitch_weight_name;

/// Canonical correlations of two residual streams (SVCCA).
typedef struct suture_svcca_report {
    uint64_t struct_size;
    /// Mean canonical correlation, in [0, 1].
    double mean_correlation;
    /// Singular directions kept on each side.
    int64_t kept_a;
    int64_t kept_b;
} suture_svcca_report;

// ---------------------------------------------------------------------------------------------
// Sparse autoencoders
// ---------------------------------------------------------------------------------------------

/// Activation functions.
typedef enum suture_architecture {
    /// The k largest pre-activations of each token, then ReLU.
    SUTURE_TOPK = 1,
    /// At inference: ReLU, kept where above one threshold common to all latents.
    SUTURE_BATCHTOPK = 2,
    /// relu(pre) where pre > threshold, one threshold a latent.
    SUTURE_JUMPRELU = 3,
    /// ReLU ("standard" in SAELens).
    SUTURE_RELU = 4,
    /// (gate pre-activation > 0) * relu(magnitude pre-activation).
    SUTURE_GATED = 5
} suture_architecture;

/// What happens to activations before the encoder, and is undone after the decoder.
typedef enum suture_normalization {
    SUTURE_NORMALIZATION_NONE = 1,
    /// One fixed factor, `scale`: x * scale in, x_hat / scale out. Affine: it can be folded.
    SUTURE_NORMALIZATION_FIXED_SCALE = 2,
    /// Each token is divided by its norm / sqrt(d_in) (SAELens: constant_norm_rescale).
    SUTURE_NORMALIZATION_TOKEN_NORM = 3,
    /// Each token is centred and divided by its standard deviation (SAELens: layer_norm).
    SUTURE_NORMALIZATION_LAYER_NORM = 4
} suture_normalization;

/// Shape and behaviour of a SAE.
typedef struct suture_sae_config {
    uint64_t struct_size;
    int64_t d_in;
    int64_t d_sae;
    suture_architecture architecture;
    /// Active latents a token, 1 to d_sae; TopK needs it. BatchTopK: their mean number in training, 0
    /// where it is not known. Others ignore it.
    int64_t k;
    /// 1: x - b_dec enters the encoder; 0: x does.
    int32_t apply_b_dec_to_input;
    /// 1: pre-activations are multiplied by the norm of their decoder row before the activation
    /// function and divided by it before decoding (SAELens: rescale_acts_by_decoder_norm).
    int32_t rescale_by_decoder_norm;
    /// 0 stands for SUTURE_NORMALIZATION_NONE.
    suture_normalization normalization;
    /// With SUTURE_NORMALIZATION_FIXED_SCALE: the factor, finite and > 0. Else ignored.
    double scale;
} suture_sae_config;

/// The weights of a SAE.
typedef enum suture_sae_weight_name {
    /// (d_in, d_sae)
    SUTURE_SAE_W_ENC = 1,
    /// (1, d_sae); Gated has b_gate and b_mag instead.
    SUTURE_SAE_B_ENC = 2,
    /// (d_sae, d_in)
    SUTURE_SAE_W_DEC = 3,
    /// (1, d_in)
    SUTURE_SAE_B_DEC = 4,
    /// (1, d_sae) for JumpReLU, (1, 1) for BatchTopK.
    SUTURE_SAE_THRESHOLD = 5,
    /// (1, d_sae), Gated.
    SUTURE_SAE_B_GATE = 6,
    /// (1, d_sae), Gated.
    SUTURE_SAE_B_MAG = 7,
    /// (1, d_sae), Gated.
    SUTURE_SAE_R_MAG = 8
} suture_sae_weight_name;

/// Weights to build a SAE from. Leave what the architecture lacks zeroed ({0}).
typedef struct suture_sae_weights {
    uint64_t struct_size;
    suture_matrix W_enc;
    suture_matrix b_enc;
    suture_matrix W_dec;
    suture_matrix b_dec;
    suture_matrix threshold;
    suture_matrix b_gate;
    suture_matrix b_mag;
    suture_matrix r_mag;
} suture_sae_weights;

/// Sparse codes as three arrays owned by the suture_codes handle.
typedef struct suture_codes_view {
    uint64_t struct_size;
    /// Tokens.
    int64_t rows;
    /// Slots a token: k for TopK, else the most latents that any of the tokens has active.
    int64_t width;
    /// Latents of the SAE they came from.
    int64_t d_sae;
    /// (rows, width): latent of each slot, largest value first; -1 in empty slots.
    const int32_t *indices;
    /// (rows, width): activation in each slot, > 0; 0 in empty slots.
    const float *values;
    /// (rows): slots in use.
    const int32_t *counts;
} suture_codes_view;

/// Metrics of a SAE over all tokens seen by a suture_evaluation.
typedef struct suture_evaluation_report {
    uint64_t struct_size;
    uint64_t tokens;
    /// 1 - sum |x - x_hat|^2 / sum |x - mean|^2, over all tokens and coordinates.
    double explained_variance;
    /// Fraction of variance unexplained: 1 - explained_variance.
    double fvu;
    /// Mean active latents a token.
    double l0;
    /// Latents that fired on none of the tokens, as a fraction of d_sae.
    double dead_fraction;
    /// Mean over tokens and coordinates.
    double mse;
    /// Mean over tokens of the cosine between x and x_hat.
    double cosine;
    /// Mean over tokens of |x_hat| / |x|.
    double norm_ratio;
    /// The norm up to which tokens are ordinary, infinity if all are; how many are beyond it, and their
    /// share of the variance.
    double norm_bound;
    uint64_t beyond;
    double share_beyond;
    /// The metrics over ordinary tokens; NaN if there are none.
    uint64_t tokens_ordinary;
    double explained_variance_ordinary;
    double fvu_ordinary;
    double l0_ordinary;
    double mse_ordinary;
    double cosine_ordinary;
    double norm_ratio_ordinary;
} suture_evaluation_report;

// ---------------------------------------------------------------------------------------------
// Sites
// ---------------------------------------------------------------------------------------------

/// Which stream of which model. Texts that the library writes stay valid until this thread's next call
/// of suture_site_parse() or suture_site_read().
typedef struct suture_site {
    uint64_t struct_size;
    /// NULL where it is not known.
    const char *model;
    /// "resid_pre" (or NULL): the residual stream before block `layer`. Others by name: "mlp_out" or
    /// "attn.hook_z" of block `layer`, "embed", "final_norm".
    const char *stream;
    /// 0 is what enters the first block, the number of blocks what leaves the last, before the final
    /// norm; -1 where it is not known.
    int64_t layer;
} suture_site;

// ---------------------------------------------------------------------------------------------
// Transfer
// ---------------------------------------------------------------------------------------------

/// How suture_sae_refit_decoder() solved its normal equations.
typedef enum suture_refit_solver {
    /// Their matrix (d_sae, d_sae), factorised.
    SUTURE_REFIT_CHOLESKY = 1,
    /// Conjugate gradients, without the matrix.
    SUTURE_REFIT_CONJUGATE_GRADIENTS = 2
} suture_refit_solver;

/// Settings of suture_sae_refit_decoder(). Zero in a field stands for its default.
typedef struct suture_refit_config {
    uint64_t struct_size;
    /// Pull towards the present decoder, in tokens, above 0: each row counts as much as so many more
    /// tokens on which its latent fires, as strongly as it does on average, and is right. Default 30.
    double ridge;
    /// Of conjugate gradients: stop when the residual of every column is at most this part of that at
    /// the start, in the norm of the inverse diagonal. Above 0; default 1e-3.
    double tolerance;
    /// Tokens at most for each solution, taken evenly from all rows; default all.
    int64_t tokens;
    /// After the refit: so many times the encoder is tied to the decoder and the decoder refitted,
    /// 0 to 1000. SUTURE_TOPK only. Default 0.
    int32_t tied_rounds;
    /// Of conjugate gradients: most steps. Default 200.
    int32_t max_iterations;
} suture_refit_config;

/// What a decoder refit did.
typedef struct suture_refit_report {
    uint64_t struct_size;
    /// Tokens of the last solution.
    uint64_t tokens;
    /// Latents that fired on none of them: it left their decoder rows as they were.
    int64_t silent;
    /// Of the SAE as it was, over the tokens of the first solution, and of the new one over those of the
    /// last; NaN if they do not vary.
    double explained_variance_before;
    double explained_variance_after;
    /// Products and sums carried out in all: the dense encoder product (2 d_in d_sae a token), and what
    /// the active latents and the solver need.
    double flops_executed;
    double seconds;
    /// Of conjugate gradients: the last residual, as for `tolerance`; 0 for Cholesky.
    double residual;
    /// Of conjugate gradients; 0 for Cholesky.
    int32_t iterations;
    /// Whether the tolerance was reached.
    int32_t converged;
    suture_refit_solver solver;
} suture_refit_report;

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
} suture_train_metrics;

// ---------------------------------------------------------------------------------------------
// Steering vectors
// ---------------------------------------------------------------------------------------------

/// What steering does to an activation h along the vector v.
typedef enum suture_steering_mode {
    /// h + (strength z_mean - <h, v>) v: every token comes to lie where the positive texts do.
    SUTURE_STEERING_CLAMP = 1,
    /// h + strength z_mean v.
    SUTURE_STEERING_ADD = 2,
    /// h - <h, v> v.
    SUTURE_STEERING_ABLATE = 3
} suture_steering_mode;

// ---------------------------------------------------------------------------------------------
// Probes
// ---------------------------------------------------------------------------------------------

/// Quartiles of a number over latents; NaN where there are none.
typedef struct suture_quartiles {
    double lower;
    double median;
    double upper;
} suture_quartiles;

/// How well the latents of one SAE agree with those of another, in a few numbers.
typedef struct suture_fidelity_summary {
    uint64_t struct_size;
    /// Pairs of rows.
    int64_t rows;
    /// Latents that fire at least min_count times in A: those that are judged.
    int64_t judged;
    /// Latents that fire in A, but more rarely.
    int64_t rare;
    /// Judged latents that never fire in B; their correlation and F1 count as 0.
    int64_t silent;
    /// Over judged latents: Pearson's correlation of activations, F1 of firing, and the correlation
    /// with other tokens, as a control.
    suture_quartiles correlation;
    suture_quartiles f1;
    suture_quartiles control;
    /// Share of A's active latents, over rows, that are active in B too: of all latents. NaN where
    /// none is active.
    double share_active;
} suture_fidelity_summary;

/// Compressed sparse rows in the caller's memory.
typedef struct suture_csr {
    int64_t rows;
    int64_t cols;
    /// (rows + 1): row r has the numbers starts[r] to starts[r + 1] - 1. starts[0] is 0.
    const int64_t *starts;
    /// (starts[rows]): columns, ascending within each row.
    const int32_t *indices;
    /// (starts[rows]): numbers, of type dtype.
    const void *values;
    /// SUTURE_FLOAT32 or SUTURE_FLOAT64.
    suture_dtype dtype;
} suture_csr;

/// Samples, one a row, in one of three forms; the other two pointers are NULL.
typedef struct suture_samples {
    uint64_t struct_size;
    /// (N, d), any element type.
    const suture_matrix *dense;
    /// (N, d_sae)
    const suture_codes *codes;
    const suture_csr *csr;
} suture_samples;

/// Settings of suture_probe_fit(). Zero in a field stands for its default.
typedef struct suture_probe_config {
    uint64_t struct_size;
    /// Weight of the losses beside the penalty 0.5 |w|^2, above 0, as scikit-learn means it. Default 1.
    double C;
    /// Stop when the Newton step, whose length bounds the distance of the weights from the minimum, is
    /// below it relative to 1 + |w|. Above 0; default 1e-6.
    double tolerance;
    /// Most Newton steps. Default 100.
    int32_t max_iterations;
    /// 1: fit to columns divided by their standard deviation; the weights are those of the columns as
    /// they are.
    int32_t standardize;
    /// 1: both sides of each output count the same, whatever their numbers of samples.
    int32_t balanced;
} suture_probe_config;

/// What a fit did; of several outputs the sum, the largest, or whether all.
typedef struct suture_probe_report {
    uint64_t struct_size;
    /// 0.5 |w|^2 + C sum of weight log(1 + exp(-margin)).
    double objective;
    /// Norm of its gradient at the end.
    double gradient_norm;
    double seconds;
    /// Newton steps.
    int32_t iterations;
    int32_t converged;
} suture_probe_report;

/// The weights of a probe.
typedef enum suture_probe_weight_name {
    /// (outputs, d_in)
    SUTURE_PROBE_WEIGHTS = 1,
    /// (1, outputs)
    SUTURE_PROBE_BIAS = 2
} suture_probe_weight_name;

#endif
