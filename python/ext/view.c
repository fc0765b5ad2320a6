// SPDX-License-Identifier: Apache-2.0
// Read-only arrays over memory of the library: np.asarray(view) shares it and keeps its owner
// alive.
#include "core.h"

typedef struct {
    PyObject_HEAD
    PyObject *owner;
    const void *data;
    char format[2];
    int ndim;
    Py_ssize_t itemsize;
    Py_ssize_t shape[2];
    Py_ssize_t strides[2];
} core_view;

static int get_buffer(PyObject *object, Py_buffer *out, int flags) {
    core_view *self = (core_view *)object;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE) {
        out->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "memory of the library is read-only: work on a copy");
        return -1;
    }
    Py_ssize_t length = self->itemsize;
    for (int i = 0; i < self->ndim; i++) length *= self->shape[i];
    out->buf = (void *)self->data;
    Py_INCREF(object);
    out->obj = object;
    out->len = length;
    out->itemsize = self->itemsize;
    out->readonly = 1;
    out->ndim = self->ndim;
    out->format = (flags & PyBUF_FORMAT) == PyBUF_FORMAT ? self->format : NULL;
    out->shape = (flags & PyBUF_ND) == PyBUF_ND ? self->shape : NULL;
    out->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
    out->suboffsets = NULL;
    out->internal = NULL;
    return 0;
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((core_view *)object)->owner);
    PyObject_Free(object);
    Py_DECREF(type);
}

PyObject *core_view_new(core_state *state, PyObject *owner, const void *data, char format, int64_t rows, int64_t cols) {
    // NumPy refuses a NULL pointer even for an empty array.
    static const double nothing = 0;
    core_view *self = (core_view *)PyType_GenericAlloc(state->view, 0);
    if (!self) return NULL;
    Py_INCREF(owner);
    self->owner = owner;
    self->data = data ? data : &nothing;
    self->format[0] = format;
    self->itemsize = format == 'd' ? 8 : 4;
    self->ndim = cols < 0 ? 1 : 2;
    self->shape[0] = (Py_ssize_t)rows;
    self->shape[1] = cols < 0 ? 1 : (Py_ssize_t)cols;
    self->strides[1] = self->itemsize;
    self->strides[0] = self->itemsize * self->shape[1];
    return (PyObject *)self;
}

PyObject *core_view_of_matrix(core_state *state, PyObject *owner, const suture_matrix *matrix, bool flat) {
    if (matrix->dtype != SUTURE_FLOAT32 || (matrix->row_stride != 0 && matrix->row_stride != matrix->cols)) {
        PyErr_SetString(state->internal_error, "weights are not contiguous float32");
        return NULL;
    }
    if (flat && matrix->rows == 1) return core_view_new(state, owner, matrix->data, 'f', matrix->cols, -1);
    return core_view_new(state, owner, matrix->data, 'f', matrix->rows, matrix->cols);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "A read-only array over memory of the library."},
    {Py_tp_dealloc, dealloc},
    {Py_bf_getbuffer, get_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.View",
    .basicsize = sizeof(core_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int core_add_view(PyObject *module, core_state *state) { return core_add_type(module, &spec, &state->view); }
