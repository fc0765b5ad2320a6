// SPDX-License-Identifier: Apache-2.0
// Sparse codes.
#include "core.h"

static suture_codes *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *create(PyObject *module, PyObject *args) {
    long long d_sae, rows, width;
    PyObject *indices_object, *values_object;
    if (!PyArg_ParseTuple(args, "LLLOO", &d_sae, &rows, &width, &indices_object, &values_object)) return NULL;
    core_state *state = core_state_of(module);
    Py_buffer indices, values;
    int64_t count;
    if (rows < 0 || width < 0 || __builtin_mul_overflow(rows, width, &count)) {
        PyErr_Format(PyExc_ValueError, "indices has shape (%lld, %lld), which is no shape", rows, width);
        return NULL;
    }
    if (core_readable_array(indices_object, "indices", 'i', &indices) < 0) return NULL;
    if (core_readable_array(values_object, "values", 'f', &values) < 0) {
        core_array_release(&indices);
        return NULL;
    }
    PyObject *made = NULL;
    suture_codes *handle = NULL;
    if (indices.len / 4 != count || values.len / 4 != count) {
        PyErr_Format(
            PyExc_ValueError, "indices and values have %zd and %zd elements, expected %lld", indices.len / 4,
            values.len / 4, (long long)count);
        goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_codes_create(d_sae, rows, width, indices.buf, values.buf, &handle);
    if (core_call_end(&call, status) == 0) made = core_object_new(state->codes, handle);
    if (!made) suture_codes_destroy(handle);
cleanup:
    core_array_release(&indices);
    core_array_release(&values);
    return made;
}

// (d_sae, indices, values, counts), the arrays as views of the codes' memory.
static PyObject *arrays(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    suture_codes_view view = {.struct_size = sizeof view};
    suture_status status = suture_codes_view_get(handle_of(self), &view);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    PyObject *indices = core_view_new(state, self, view.indices, 'i', view.rows, view.width);
    PyObject *values = core_view_new(state, self, view.values, 'f', view.rows, view.width);
    PyObject *counts = core_view_new(state, self, view.counts, 'i', view.rows, -1);
    if (!indices || !values || !counts) {
        Py_XDECREF(indices);
        Py_XDECREF(values);
        Py_XDECREF(counts);
        return NULL;
    }
    return Py_BuildValue("(LNNN)", (long long)view.d_sae, indices, values, counts);
}

static void dealloc(PyObject *self) {
    suture_codes_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"arrays", arrays, METH_NOARGS, "arrays(): (d_sae, indices, values, counts), the last three as Views."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_codes handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Codes",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"codes_create", create, METH_VARARGS, "codes_create(d_sae, rows, width, indices, values)."},
    {NULL, NULL, 0, NULL},
};

int core_add_codes(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->codes) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
