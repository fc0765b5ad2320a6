// SPDX-License-Identifier: Apache-2.0
//
// Part of suture_types.h: what every part uses: status codes, handles, matrices, progress, and the machine.

#ifndef SUTURE_TYPES_BASICS_H
#define SUTURE_TYPES_BASICS_H

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
/// How well the latents of two SAEs agree, over a stream of codes.
typedef struct suture_fidelity { void *reserved; } suture_fidelity;
/// Which latent of one SAE is most like each of another's, over a stream of codes.
typedef struct suture_matches { void *reserved; } suture_matches;
/// A SAE on its way to another model by paired rows.
typedef struct suture_carry { void *reserved; } suture_carry;
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

#endif
