// SPDX-License-Identifier: Apache-2.0
// `Rows`: an array of any kind seen as token rows, without a copy where the library can read it
// as it is, and in copied blocks where it cannot.
#include "rows.h"

#include <string.h>

// ---------------------------------------------------------------------------------------------
// Layout
// ---------------------------------------------------------------------------------------------

static int wrong_shape(const core_rows *self, const char *name, bool vector) {
    char shape[160] = "(";
    for (int i = 0; i < self->ndim; i++) {
        size_t used = strlen(shape);
        PyOS_snprintf(
            shape + used, sizeof shape - used, self->ndim == 1 ? "%lld," : i ? ", %lld" : "%lld",
            (long long)self->shape[i]);
    }
    PyErr_Format(
        PyExc_ValueError, "%s has shape %s), expected %s", name, shape,
        vector ? "(d,) or (1, d)" : "(N, d) or (batch, position, d)");
    return -1;
}

static bool last_axis_is_adjacent(const core_rows *self) {
    return self->cols <= 1 || self->strides[self->ndim - 1] == self->itemsize;
}

// Distance in elements between rows if `axis` runs over rows of adjacent elements; -1 if the
// library cannot use it. An axis of length one may have any stride.
static int64_t usable_stride(const core_rows *self, int64_t count, int64_t stride) {
    if (count <= 1) return self->cols;
    if (stride % self->itemsize != 0 || stride / self->itemsize < self->cols) return -1;
    return stride / self->itemsize;
}

// Axis whose stride is that of the merged axes `first ... ndim - 2`; axes of length one say nothing.
static int64_t merged_stride(const core_rows *self, int first) {
    for (int i = self->ndim - 2; i >= first; i--) {
        if (self->shape[i] != 1) return self->strides[i];
    }
    return self->cols * self->itemsize;
}

static bool mergeable_from(const core_rows *self, int first) {
    // Compared between neighbours that are longer than one.
    int inner = -1;
    for (int i = self->ndim - 2; i >= first; i--) {
        if (self->shape[i] == 1) continue;
        if (inner >= 0 && self->strides[i] != self->strides[inner] * self->shape[inner]) return false;
        inner = i;
    }
    return true;
}

static int set_layout(core_rows *self, const char *name, bool vector) {
    if (vector && self->ndim == 1) {
        // A bias: one row.
        self->ndim = 2;
        self->shape[1] = self->shape[0];
        self->strides[1] = self->strides[0];
        self->shape[0] = 1;
        self->strides[0] = 0;
    }
    if (self->ndim < 2) return wrong_shape(self, name, vector);
    int64_t rows = 1;
    for (int i = 0; i < self->ndim - 1; i++) {
        if (__builtin_mul_overflow(rows, self->shape[i], &rows)) return wrong_shape(self, name, vector);
    }
    self->rows = rows;
    self->cols = self->shape[self->ndim - 1];
    if (self->cols < 1) return wrong_shape(self, name, vector);
    self->row_stride = self->cols;
    self->direct = true;
    if (rows == 0) return 0;
    self->direct = last_axis_is_adjacent(self) && mergeable_from(self, 0);
    if (self->direct) {
        int64_t stride = usable_stride(self, rows, merged_stride(self, 0));
        self->direct = stride > 0;
        if (self->direct) self->row_stride = stride;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Copies
// ---------------------------------------------------------------------------------------------

// First element of a row.
static const char *row_start(const core_rows *self, int64_t row) {
    const char *start = self->data;
    for (int i = self->ndim - 2; i >= 0; i--) {
        start += (row % self->shape[i]) * self->strides[i];
        row /= self->shape[i];
    }
    return start;
}

static void copy_row(const core_rows *self, int64_t row, char *target) {
    const char *source = row_start(self, row);
    int64_t stride = self->strides[self->ndim - 1];
    if (last_axis_is_adjacent(self)) {
        memcpy(target, source, (size_t)(self->cols * self->itemsize));
        return;
    }
    // Constant sizes, so that each is a plain move.
    switch (self->itemsize) {
    case 2:
        for (int64_t i = 0; i < self->cols; i++) memcpy(target + 2 * i, source + i * stride, 2);
        break;
    case 4:
        for (int64_t i = 0; i < self->cols; i++) memcpy(target + 4 * i, source + i * stride, 4);
        break;
    default:
        for (int64_t i = 0; i < self->cols; i++) memcpy(target + 8 * i, source + i * stride, 8);
        break;
    }
}

static core_rows *new_matrix(core_rows *self, int64_t rows, char *data, int64_t row_stride) {
    core_rows *made = (core_rows *)PyType_GenericAlloc(Py_TYPE((PyObject *)self), 0);
    if (!made) return NULL;
    made->data = data;
    made->dtype = self->dtype;
    made->itemsize = self->itemsize;
    made->ndim = 2;
    made->rows = made->shape[0] = rows;
    made->cols = made->shape[1] = self->cols;
    made->row_stride = row_stride;
    made->strides[0] = row_stride * self->itemsize;
    made->strides[1] = self->itemsize;
    made->direct = true;
    return made;
}

// A part of the same memory.
static core_rows *new_part(core_rows *self, int64_t rows, const char *data, int64_t row_stride) {
    core_rows *made = new_matrix(self, rows, (char *)data, row_stride);
    if (!made) return NULL;
    Py_INCREF((PyObject *)self);
    made->base = (PyObject *)self;
    made->writable = self->writable;
    return made;
}

// An uninitialised matrix with memory of its own.
static core_rows *new_copy(core_rows *self, int64_t rows) {
    int64_t bytes;
    if (__builtin_mul_overflow(rows, self->cols * self->itemsize, &bytes)) return (core_rows *)PyErr_NoMemory();
    char *memory = PyMem_Malloc((size_t)(bytes > 0 ? bytes : 1));
    if (!memory) return (core_rows *)PyErr_NoMemory();
    core_rows *made = new_matrix(self, rows, memory, self->cols);
    if (made) {
        made->memory = memory;
    } else {
        PyMem_Free(memory);
    }
    return made;
}

static PyObject *block(PyObject *object, PyObject *args) {
    core_rows *self = (core_rows *)object;
    long long start, stop;
    if (!PyArg_ParseTuple(args, "LL", &start, &stop)) return NULL;
    if (start < 0 || stop < start || stop > self->rows) {
        PyErr_Format(
            PyExc_ValueError, "block is [%lld, %lld), expected within 0 to %lld", start, stop, (long long)self->rows);
        return NULL;
    }
    if (self->direct) {
        const char *data = self->data + start * self->row_stride * self->itemsize;
        return (PyObject *)new_part(self, stop - start, stop > start ? data : self->data, self->row_stride);
    }
    core_rows *made = new_copy(self, stop - start);
    if (!made) return NULL;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t row = start; row < stop; row++) {
        copy_row(self, row, made->data + (row - start) * self->cols * self->itemsize);
    }
    Py_END_ALLOW_THREADS
    return (PyObject *)made;
}

static PyObject *take(PyObject *object, PyObject *args) {
    core_rows *self = (core_rows *)object;
    PyObject *array;
    if (!PyArg_ParseTuple(args, "O", &array)) return NULL;
    Py_buffer picks;
    if (core_readable_array(array, "rows", 'q', &picks) < 0) return NULL;
    const int64_t *rows = picks.buf;
    const int64_t count = picks.len / 8;
    for (int64_t i = 0; i < count; i++) {
        if (rows[i] >= 0 && rows[i] < self->rows) continue;
        PyErr_Format(
            PyExc_ValueError, "rows[%lld] is %lld, expected 0 to %lld", (long long)i, (long long)rows[i],
            (long long)self->rows - 1);
        core_array_release(&picks);
        return NULL;
    }
    core_rows *made = new_copy(self, count);
    if (made) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t i = 0; i < count; i++) copy_row(self, rows[i], made->data + i * self->cols * self->itemsize);
        Py_END_ALLOW_THREADS
    }
    core_array_release(&picks);
    return (PyObject *)made;
}

// The same rows, in order, as matrices that need no copy: `x[:, 1:]` of a (batch, position, d)
// array is one matrix for each element of the batch.
static PyObject *pieces(PyObject *object, PyObject *unused) {
    (void)unused;
    core_rows *self = (core_rows *)object;
    if (self->direct) return Py_BuildValue("[O]", object);
    if (!last_axis_is_adjacent(self)) Py_RETURN_NONE;
    int first = self->ndim - 2;
    while (first > 0 && mergeable_from(self, first - 1)) first -= 1;
    int64_t piece_rows = 1;
    for (int i = first; i < self->ndim - 1; i++) piece_rows *= self->shape[i];
    int64_t stride = usable_stride(self, piece_rows, merged_stride(self, first));
    if (stride < 0) {
        // Rows that overlap or run backwards: each by itself.
        piece_rows = 1;
        stride = self->cols;
    }
    PyObject *list = PyList_New(0);
    if (!list) return NULL;
    for (int64_t row = 0; row < self->rows; row += piece_rows) {
        core_rows *piece = new_part(self, piece_rows, row_start(self, row), stride);
        if (!piece || PyList_Append(list, (PyObject *)piece) < 0) {
            Py_XDECREF((PyObject *)piece);
            Py_DECREF(list);
            return NULL;
        }
        Py_DECREF((PyObject *)piece);
    }
    return list;
}

// ---------------------------------------------------------------------------------------------
// Handing rows to the library
// ---------------------------------------------------------------------------------------------

int core_matrix(PyObject *object, const char *name, suture_matrix *out) {
    core_rows *self = (core_rows *)object;
    if (!self->direct) {
        PyErr_Format(PyExc_ValueError, "%s is not contiguous, expected a block of it", name);
        return -1;
    }
    *out = (suture_matrix){
        .data = self->data,
        .rows = self->rows,
        .cols = self->cols,
        .row_stride = self->row_stride,
        .dtype = self->dtype,
    };
    return 0;
}

suture_matrix *core_matrices(core_state *state, PyObject *tuple, const char *name) {
    Py_ssize_t count = PyTuple_Size(tuple);
    suture_matrix *matrices = PyMem_Malloc((count > 0 ? (size_t)count : 1) * sizeof *matrices);
    if (!matrices) return (suture_matrix *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (!PyObject_TypeCheck(item, state->rows)) {
            PyErr_Format(PyExc_TypeError, "%s holds something else than Rows", name);
        } else if (core_matrix(item, name, &matrices[i]) == 0) {
            continue;
        }
        PyMem_Free(matrices);
        return NULL;
    }
    return matrices;
}

int core_optional_matrix(PyObject *object, const char *name, suture_matrix *out) {
    if (object == Py_None) {
        *out = (suture_matrix){0};
        return 0;
    }
    return core_matrix(object, name, out);
}

// ---------------------------------------------------------------------------------------------
// The type
// ---------------------------------------------------------------------------------------------

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"array", "name", "vector", "writable", NULL};
    PyObject *array;
    const char *name;
    int vector = 0, writable = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Os|pp", names, &array, &name, &vector, &writable)) return NULL;
    core_rows *self = (core_rows *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->writable = writable;
    int status = core_rows_from_buffer(self, array, name, writable);
    if (status > 0 && !writable) status = core_rows_from_dlpack(self, array, name);
    if (status > 0) {
        PyObject *kind = PyType_GetName(Py_TYPE(array));
        if (kind) {
            PyErr_Format(
                PyExc_TypeError,
                "%s is a %U, expected an array (NumPy, torch on the CPU, or another with the buffer protocol or DLPack)",
                name, kind);
            Py_DECREF(kind);
        }
    }
    if (status != 0 || set_layout(self, name, vector) < 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void dealloc(PyObject *object) {
    core_rows *self = (core_rows *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->has_buffer) PyBuffer_Release(&self->buffer);
    if (self->tensor) {
        // The deleter may run Python code; it must not disturb an exception on its way.
        PyObject *kind, *value, *trace;
        PyErr_Fetch(&kind, &value, &trace);
        core_rows_release_tensor(self);
        PyErr_Restore(kind, value, trace);
    }
    Py_XDECREF(self->base);
    PyMem_Free(self->memory);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *get_shape(PyObject *object, void *closure) {
    (void)closure;
    core_rows *self = (core_rows *)object;
    PyObject *shape = PyTuple_New(self->ndim);
    for (int i = 0; shape && i < self->ndim; i++) {
        PyObject *size = PyLong_FromLongLong(self->shape[i]);
        if (!size || PyTuple_SetItem(shape, i, size) < 0) Py_CLEAR(shape);
    }
    return shape;
}

static PyObject *get_address(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromVoidPtr(((core_rows *)object)->data);
}

static PyObject *get_dtype(PyObject *object, void *closure) {
    (void)closure;
    static const core_word words[] = {
        {"float32", SUTURE_FLOAT32},   {"float64", SUTURE_FLOAT64}, {"float16", SUTURE_FLOAT16},
        {"bfloat16", SUTURE_BFLOAT16}, {NULL, 0},
    };
    return PyUnicode_FromString(core_word_of(words, (int)((core_rows *)object)->dtype));
}

static PyMethodDef methods[] = {
    {"block", block, METH_VARARGS, "block(start, stop): these rows as a matrix, copied only if they must be."},
    {"take", take, METH_VARARGS, "take(rows): a copy of the rows that an int64 array names."},
    {"pieces", pieces, METH_NOARGS, "pieces(): all rows as matrices without a copy, or None if that cannot be."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"rows", T_LONGLONG, offsetof(core_rows, rows), READONLY, "Number of rows: all axes but the last."},
    {"cols", T_LONGLONG, offsetof(core_rows, cols), READONLY, "Length of the last axis."},
    {"direct", T_BOOL, offsetof(core_rows, direct), READONLY, "Whether it can be used without a copy."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"shape", get_shape, NULL, "Shape of the array.", NULL},
    {"address", get_address, NULL, "Address of the first element.", NULL},
    {"dtype", get_dtype, NULL, "Name of the element type.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Rows(array, name, vector=False, writable=False): an array as token rows. `name` is for messages."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Rows",
    .basicsize = sizeof(core_rows),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_rows(PyObject *module, core_state *state) { return core_add_type(module, &spec, &state->rows); }
