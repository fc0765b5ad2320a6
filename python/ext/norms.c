// SPDX-License-Identifier: Apache-2.0
// Norms of rows, and the bounds that follow from them.
#include "core.h"

static PyObject *row_norms(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *h_object, *target, *progress;
    suture_matrix h;
    if (!PyArg_ParseTuple(args, "O!OO", state->rows, &h_object, &target, &progress)) return NULL;
    if (core_matrix(h_object, "h", &h) < 0) return NULL;
    Py_buffer norms = {0};
    if (core_writable_array(target, "norms", 'd', h.rows, &norms) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_row_norms(&h, &call.progress, norms.buf);
    int failed = core_call_end(&call, status);
    core_array_release(&norms);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *norm_sample(PyObject *module, PyObject *args) {
    long long rows;
    PyObject *target;
    if (!PyArg_ParseTuple(args, "LO", &rows, &target)) return NULL;
    core_state *state = core_state_of(module);
    int64_t count = 0;
    suture_status status = suture_norm_sample(rows, NULL, 0, &count);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    if (target == Py_None) return PyLong_FromLongLong(count);
    Py_buffer indices = {0};
    if (core_writable_array(target, "indices", 'q', count, &indices) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    status = suture_norm_sample(rows, indices.buf, count, &count);
    int failed = core_call_end(&call, status);
    core_array_release(&indices);
    return failed ? NULL : PyLong_FromLongLong(count);
}

static PyObject *norm_bound(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *tuple;
    double multiple, bound = 0;
    if (!PyArg_ParseTuple(args, "O!d", &PyTuple_Type, &tuple, &multiple)) return NULL;
    suture_matrix *shards = core_matrices(state, tuple, "shards");
    if (!shards) return NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_norm_bound(shards, PyTuple_Size(tuple), multiple, &bound);
    int failed = core_call_end(&call, status);
    PyMem_Free(shards);
    return failed ? NULL : PyFloat_FromDouble(bound);
}

static PyMethodDef functions[] = {
    {"row_norms", row_norms, METH_VARARGS, "row_norms(h, norms, progress): suture_row_norms()."},
    {"norm_sample", norm_sample, METH_VARARGS,
     "norm_sample(rows, indices): the number of rows in the sample; suture_norm_sample(). indices may be None."},
    {"norm_bound", norm_bound, METH_VARARGS, "norm_bound(shards, multiple): suture_norm_bound()."},
    {NULL, NULL, 0, NULL},
};

int core_add_norms(PyObject *module, core_state *state) {
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
