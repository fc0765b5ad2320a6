// SPDX-License-Identifier: Apache-2.0
// Alignment of two tokenizers.
#include "core.h"

static PyObject *align(PyObject *module, PyObject *args) {
    PyObject *objects[4];
    if (!PyArg_ParseTuple(args, "OOOO", objects, objects + 1, objects + 2, objects + 3)) return NULL;
    Py_buffer a = {0}, b = {0}, rows_a = {0}, rows_b = {0};
    PyObject *result = NULL;
    if (core_readable_array(objects[0], "ends_a", 'q', &a) < 0) goto cleanup;
    if (core_readable_array(objects[1], "ends_b", 'q', &b) < 0) goto cleanup;
    int64_t count_a = a.len / 8, count_b = b.len / 8;
    int64_t room = count_a < count_b ? count_a : count_b, count = 0;
    if (core_writable_array(objects[2], "rows_a", 'q', room, &rows_a) < 0) goto cleanup;
    if (core_writable_array(objects[3], "rows_b", 'q', room, &rows_b) < 0) goto cleanup;
    core_call call;
    core_call_begin(&call, core_state_of(module), NULL);
    suture_status status = suture_align(a.buf, count_a, b.buf, count_b, rows_a.buf, rows_b.buf, &count);
    if (core_call_end(&call, status) < 0) goto cleanup;
    result = PyLong_FromLongLong((long long)count);
cleanup:
    core_array_release(&a);
    core_array_release(&b);
    core_array_release(&rows_a);
    core_array_release(&rows_b);
    return result;
}

static PyMethodDef functions[] = {
    {"align", align, METH_VARARGS, "align(ends_a, ends_b, rows_a, rows_b): the number of pairs; suture_align()."},
    {NULL, NULL, 0, NULL},
};

int core_add_alignment(PyObject *module, core_state *state) {
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
