// SPDX-License-Identifier: Apache-2.0
// The inside of a `Rows` object, for the three files that fill it.

#ifndef SUTURE_CORE_ROWS_H
#define SUTURE_CORE_ROWS_H

#include "core.h"

// (layer, batch, head, position, d) has five; more than eight is a mistake.
#define MAX_DIMENSIONS 8

/// Somebody else's array, seen as rows of numbers. What keeps the memory alive is one of: an
/// exported buffer, a DLPack tensor, another Rows object, a block of our own.
typedef struct {
    PyObject_HEAD
    Py_buffer buffer;
    bool has_buffer;
    /// The managed tensor, and whether it is of the versioned kind.
    void *tensor;
    bool tensor_is_versioned;
    PyObject *base;
    void *memory;

    char *data;
    suture_dtype dtype;
    int itemsize;
    int ndim;
    /// Sizes, and distances in bytes.
    int64_t shape[MAX_DIMENSIONS];
    int64_t strides[MAX_DIMENSIONS];

    int64_t rows;
    int64_t cols;
    /// Whether the library can use the memory as it is, and with which distance (elements)
    /// between rows.
    bool direct;
    int64_t row_stride;
    bool writable;
} core_rows;

/// What the elements were called and what can be taken: a TypeError.
int core_rows_wrong_dtype(const char *name, const char *found);
/// Fill data, dtype, shape and strides from an exporter. 1: it does not export (no exception
/// set); -1: exception set.
int core_rows_from_buffer(core_rows *self, PyObject *object, const char *name, bool writable);
int core_rows_from_dlpack(core_rows *self, PyObject *object, const char *name);
void core_rows_release_tensor(core_rows *self);

#endif
