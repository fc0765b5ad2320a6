// SPDX-License-Identifier: Apache-2.0
//
// Part of suture_types.h: steering vectors and probes.

#ifndef SUTURE_TYPES_PROBES_H
#define SUTURE_TYPES_PROBES_H

#include "basics.h"

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
