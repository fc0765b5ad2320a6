// SPDX-License-Identifier: Apache-2.0
//
// Part of suture_types.h: sparse autoencoders, what a transfer does to them, and what is compared of them.

#ifndef SUTURE_TYPES_AUTOENCODERS_H
#define SUTURE_TYPES_AUTOENCODERS_H

#include "basics.h"

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
// Carrying by pairs
// ---------------------------------------------------------------------------------------------

/// Settings of suture_carry_create(). Zero in a field stands for its default.
typedef struct suture_carry_config {
    uint64_t struct_size;
    /// Of the regression, relative to the mean variance of B's coordinates, above 0; by default that of
    /// the least generalised cross-validation error.
    double ridge;
    /// Pairs of rows that are kept for calibration and rounds, taken evenly. Default 65536.
    int64_t sample;
    /// So many times the regression is repeated on what B's codes still lack of A's, at most 100;
    /// -1 for none. Default 2.
    int32_t rounds;
    /// 1: the decoder is not solved, for a caller of suture_sae_refit_decoder(); its rows are then those
    /// of regressions on each latent's codes alone. Default 0.
    int32_t skip_decoder;
} suture_carry_config;

/// What carrying by pairs found.
typedef struct suture_carry_report {
    uint64_t struct_size;
    /// Pairs of rows that the regression rests on, and pairs that it did not see.
    int64_t rows;
    int64_t held_out_rows;
    /// Latents that never fired in A, and others that B's rows predict no better than chance does:
    /// neither ever fires in B.
    int64_t silent;
    int64_t unpredicted;
    /// As in the settings.
    double ridge;
    double seconds;
} suture_carry_report;

// ---------------------------------------------------------------------------------------------
// Latents
// ---------------------------------------------------------------------------------------------

/// What is known of the latents of a carried SAE. Each array has d_sae elements, the caller's.
typedef struct suture_latent_evidence {
    uint64_t struct_size;
    /// Pairs of rows that the carrying rests on, and pairs that it did not see.
    int64_t rows;
    int64_t held_out_rows;
    /// Which latent of the source SAE each is.
    int64_t *source_latent;
    /// How often that one fired, of rows.
    int64_t *firings;
    /// Share of its variance that the rows of the target predict linearly; NaN where it does not vary.
    double *r_squared;
    /// Of activations in source and target on the held-out pairs; NaN where either never varies.
    double *correlation;
    /// Held-out pairs on which it fires in the source, in the target, and in both.
    int64_t *active_a;
    int64_t *active_b;
    int64_t *active_both;
} suture_latent_evidence;

// ---------------------------------------------------------------------------------------------
// Fidelity
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

// ---------------------------------------------------------------------------------------------
// Best matches
// ---------------------------------------------------------------------------------------------

/// How well the latents of one SAE are matched by another's, in a few numbers.
typedef struct suture_matches_summary {
    uint64_t struct_size;
    /// Pairs of rows; a half of them chose the matches.
    int64_t rows;
    /// Latents that fire at least min_count times in A: those that are judged.
    int64_t judged;
    /// Latents that fire in A, but more rarely.
    int64_t rare;
    /// Judged latents without a match in B, which count as 0.
    int64_t unmatched;
    /// Judged latents that are their match's match.
    int64_t mutual;
    /// Over judged latents: Pearson's correlation of activations with the match's, on the rows that
    /// judge, on those that chose, and with other tokens, as a control.
    suture_quartiles correlation;
    suture_quartiles chosen;
    suture_quartiles control;
    /// Share of A's active latents, over the rows that judge, whose match is active too: of all
    /// latents. NaN where none is active.
    double share_active;
} suture_matches_summary;

#endif
