// SPDX-License-Identifier: Apache-2.0
//
// Part of suture_types.h: moments, stitches, and sites in models.

#ifndef SUTURE_TYPES_STITCHES_H
#define SUTURE_TYPES_STITCHES_H

#include "basics.h"

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
    /// Default 1e-4: the objective is then mostly within 1e-6 of its end, and within 1e-5 where
    /// little is left unexplained or alpha is 10.
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

#endif
