// SPDX-License-Identifier: Apache-2.0
// Moments, and SVCCA from them.
#include "core.h"

static suture_moments *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *wrap(core_state *state, suture_moments *handle) {
    PyObject *object = core_object_new(state->moments, handle);
    if (!object) suture_moments_destroy(handle);
    return object;
}

static PyObject *create(PyObject *module, PyObject *args) {
    long long d_a, d_b;
    if (!PyArg_ParseTuple(args, "LL", &d_a, &d_b)) return NULL;
    core_state *state = core_state_of(module);
    suture_moments *handle = NULL;
    suture_status status = suture_moments_create(d_a, d_b, &handle);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    return wrap(state, handle);
}

static PyObject *deserialize(PyObject *module, PyObject *args) {
    Py_buffer bytes;
    if (!PyArg_ParseTuple(args, "y*", &bytes)) return NULL;
    core_state *state = core_state_of(module);
    suture_moments *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_moments_deserialize(bytes.buf, (uint64_t)bytes.len, &handle);
    int failed = core_call_end(&call, status);
    PyBuffer_Release(&bytes);
    if (failed) {
        suture_moments_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static PyObject *update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *h_a, *h_b, *progress;
    suture_matrix a, b;
    if (!PyArg_ParseTuple(args, "O!O!O", state->rows, &h_a, state->rows, &h_b, &progress)) return NULL;
    if (core_matrix(h_a, "h_a", &a) < 0 || core_matrix(h_b, "h_b", &b) < 0 || core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_moments_update(handle_of(self), &a, &b, &call.progress);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *update_pairs(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *h_a, *h_b, *rows_a_object, *rows_b_object, *progress;
    suture_matrix a, b;
    if (!PyArg_ParseTuple(
            args, "O!O!OOO", state->rows, &h_a, state->rows, &h_b, &rows_a_object, &rows_b_object, &progress))
        return NULL;
    if (core_matrix(h_a, "h_a", &a) < 0 || core_matrix(h_b, "h_b", &b) < 0) return NULL;
    Py_buffer rows_a = {0}, rows_b = {0};
    bool failed = true;
    if (core_readable_array(rows_a_object, "rows_a", 'q', &rows_a) < 0) goto cleanup;
    if (core_readable_array(rows_b_object, "rows_b", 'q', &rows_b) < 0) goto cleanup;
    if (rows_a.len != rows_b.len) {
        PyErr_Format(PyExc_ValueError, "rows_b has %zd elements, expected %zd", rows_b.len / 8, rows_a.len / 8);
        goto cleanup;
    }
    if (core_write(self) < 0) goto cleanup;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_moments_update_pairs(
        handle_of(self), &a, &b, rows_a.buf, rows_b.buf, rows_a.len / 8, &call.progress);
    failed = core_call_end(&call, status) < 0;
    core_done_writing(self);
cleanup:
    core_array_release(&rows_a);
    core_array_release(&rows_b);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *merge(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *other;
    if (!PyArg_ParseTuple(args, "O!", state->moments, &other)) return NULL;
    if (core_read(other) < 0) return NULL;
    if (core_write(self) < 0) {
        core_done_reading(other);
        return NULL;
    }
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_moments_merge(handle_of(self), handle_of(other));
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    core_done_reading(other);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_norm_bounds(PyObject *self, PyObject *args) {
    double a, b;
    int estimated;
    if (!PyArg_ParseTuple(args, "ddp", &a, &b, &estimated)) return NULL;
    if (core_write(self) < 0) return NULL;
    suture_status status = suture_moments_set_norm_bounds(handle_of(self), a, b, estimated);
    core_done_writing(self);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *stream_norms(const suture_stream_norms *norms) {
    return Py_BuildValue(
        "{s:d,s:K,s:d,s:d,s:d,s:K,s:d}", "norm_bound", norms->norm_bound, "beyond", (unsigned long long)norms->beyond,
        "share_beyond", norms->share_beyond, "median", norms->median, "largest", norms->largest, "massive",
        (unsigned long long)norms->massive, "massive_share", norms->massive_share);
}

static PyObject *norms(PyObject *self, PyObject *unused) {
    (void)unused;
    suture_norms_report report = {.struct_size = sizeof report};
    if (core_read(self) < 0) return NULL;
    suture_status status = suture_moments_norms(handle_of(self), &report);
    core_done_reading(self);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue(
        "{s:K,s:N,s:N,s:O,s:i}", "left_out", (unsigned long long)report.left_out, "a", stream_norms(&report.a), "b",
        stream_norms(&report.b), "carried_by_few", report.carried_by_few ? Py_True : Py_False, "bounds",
        (int)report.bounds);
}

static PyObject *info(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t d_a = 0, d_b = 0;
    uint64_t tokens = 0;
    if (core_read(self) < 0) return NULL;
    suture_status status = suture_moments_info(handle_of(self), &d_a, &d_b, &tokens);
    core_done_reading(self);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue("(LLK)", (long long)d_a, (long long)d_b, (unsigned long long)tokens);
}

static PyObject *read_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"mean_a", "mean_b", "cov_aa", "cov_ab", "cov_bb"};
    PyObject *targets[5];
    if (!PyArg_ParseTuple(args, "OOOOO", targets, targets + 1, targets + 2, targets + 3, targets + 4)) return NULL;
    core_state *state = core_state_of_object(self);
    int64_t d_a = 0, d_b = 0;
    if (core_read(self) < 0) return NULL;
    PyObject *result = NULL;
    Py_buffer arrays[5] = {{0}};
    suture_status status = suture_moments_info(handle_of(self), &d_a, &d_b, NULL);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        goto cleanup;
    }
    const int64_t counts[] = {d_a, d_b, d_a * d_a, d_a * d_b, d_b * d_b};
    for (int i = 0; i < 5; i++) {
        if (core_writable_array(targets[i], names[i], 'd', counts[i], &arrays[i]) < 0) goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, NULL);
    status = suture_moments_read(
        handle_of(self), arrays[0].buf, arrays[1].buf, arrays[2].buf, arrays[3].buf, arrays[4].buf);
    if (core_call_end(&call, status) < 0) goto cleanup;
    Py_INCREF(Py_None);
    result = Py_None;
cleanup:
    for (int i = 0; i < 5; i++) core_array_release(&arrays[i]);
    core_done_reading(self);
    return result;
}

static PyObject *serialize(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    if (core_read(self) < 0) return NULL;
    PyObject *bytes = NULL;
    uint64_t size = 0;
    suture_status status = suture_moments_serialize(handle_of(self), NULL, 0, &size);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        goto cleanup;
    }
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes) goto cleanup;
    uint8_t *memory = (uint8_t *)PyBytes_AsString(bytes);
    core_call call;
    core_call_begin(&call, state, NULL);
    status = suture_moments_serialize(handle_of(self), memory, size, &size);
    if (core_call_end(&call, status) < 0) Py_CLEAR(bytes);
cleanup:
    core_done_reading(self);
    return bytes;
}

static PyObject *svcca(PyObject *self, PyObject *args) {
    double variance_kept;
    if (!PyArg_ParseTuple(args, "d", &variance_kept)) return NULL;
    if (core_read(self) < 0) return NULL;
    suture_svcca_report report = {.struct_size = sizeof report};
    core_call call;
    core_call_begin(&call, core_state_of_object(self), NULL);
    suture_status status = suture_svcca(handle_of(self), variance_kept, &report);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    return Py_BuildValue(
        "(dLL)", report.mean_correlation, (long long)report.kept_a, (long long)report.kept_b);
}

static PyObject *svcca_white(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *white_a, *white_b;
    suture_matrix a, b;
    if (!PyArg_ParseTuple(args, "O!O!", state->rows, &white_a, state->rows, &white_b)) return NULL;
    if (core_matrix(white_a, "white_a", &a) < 0 || core_matrix(white_b, "white_b", &b) < 0) return NULL;
    suture_svcca_report report = {.struct_size = sizeof report};
    core_call call;
    core_call_begin(&call, state, NULL);
    if (core_call_end(&call, suture_svcca_white(&a, &b, &report)) < 0) return NULL;
    return Py_BuildValue(
        "(dLL)", report.mean_correlation, (long long)report.kept_a, (long long)report.kept_b);
}

static PyObject *whiten(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    double variance_kept;
    if (!PyArg_ParseTuple(args, "d", &variance_kept)) return NULL;
    if (core_read(self) < 0) return NULL;
    suture_stitch *handles[2] = {NULL, NULL};
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_moments_whiten(handle_of(self), variance_kept, &handles[0], &handles[1]);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    PyObject *made[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        if (!failed) made[i] = core_object_new(state->stitch, handles[i]);
        if (!made[i]) suture_stitch_destroy(handles[i]);
    }
    if (made[0] && made[1]) return Py_BuildValue("(NN)", made[0], made[1]);
    Py_XDECREF(made[0]);
    Py_XDECREF(made[1]);
    return NULL;
}

static void dealloc(PyObject *self) {
    suture_moments_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(h_a, h_b, progress): suture_moments_update()."},
    {"update_pairs", update_pairs, METH_VARARGS,
     "update_pairs(h_a, h_b, rows_a, rows_b, progress): suture_moments_update_pairs()."},
    {"merge", merge, METH_VARARGS, "merge(other): suture_moments_merge()."},
    {"set_norm_bounds", set_norm_bounds, METH_VARARGS,
     "set_norm_bounds(norm_bound_a, norm_bound_b, estimated): suture_moments_set_norm_bounds()."},
    {"norms", norms, METH_NOARGS, "norms(): suture_moments_norms()."},
    {"info", info, METH_NOARGS, "info(): (d_a, d_b, tokens)."},
    {"read_into", read_into, METH_VARARGS,
     "read_into(mean_a, mean_b, cov_aa, cov_ab, cov_bb): writes float64 arrays; None for those not wanted."},
    {"serialize", serialize, METH_NOARGS, "serialize(): bytes."},
    {"whiten", whiten, METH_VARARGS, "whiten(variance_kept): (stitch, stitch) to white coordinates of each side."},
    {"svcca", svcca, METH_VARARGS, "svcca(variance_kept): (mean correlation, kept_a, kept_b)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_moments handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Moments",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"moments_create", create, METH_VARARGS, "moments_create(d_a, d_b)."},
    {"moments_deserialize", deserialize, METH_VARARGS, "moments_deserialize(bytes)."},
    {"svcca_white", svcca_white, METH_VARARGS, "svcca_white(white_a, white_b): (mean correlation, kept_a, kept_b)."},
    {NULL, NULL, 0, NULL},
};

int core_add_moments(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->moments) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
