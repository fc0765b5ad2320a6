// SPDX-License-Identifier: Apache-2.0
// Fidelity of carried features.
#include "core.h"

static void *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    long long d_sae;
    if (!PyArg_ParseTuple(args, "L", &d_sae)) return NULL;
    suture_fidelity *handle = NULL;
    suture_status status = suture_fidelity_create(d_sae, &handle);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    PyObject *made = core_object_new(state->fidelity, handle);
    if (!made) suture_fidelity_destroy(handle);
    return made;
}

static PyObject *update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes_a, *codes_b, *progress;
    if (!PyArg_ParseTuple(args, "O!O!O", state->codes, &codes_a, state->codes, &codes_b, &progress)) return NULL;
    if (core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        suture_fidelity_update(handle_of(self), handle_of(codes_a), handle_of(codes_b), &call.progress);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *merge(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *other;
    if (!PyArg_ParseTuple(args, "O!", state->fidelity, &other)) return NULL;
    // An object can be merged into itself.
    if (other != self && core_read(other) < 0) return NULL;
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, NULL);
        suture_status status = suture_fidelity_merge(handle_of(self), handle_of(other));
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    if (other != self) core_done_reading(other);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// The caller gives arrays of d_sae elements; the handle does not tell d_sae, so it comes along.
static PyObject *read_into(PyObject *self, PyObject *args) {
    enum { COUNT = 6 };
    static const char *const names[COUNT] = {"correlation", "standard_error", "control",
                                             "active_a",    "active_b",       "active_both"};
    static const char formats[] = "dddQQQ";
    PyObject *objects[COUNT];
    long long d_sae;
    if (!PyArg_ParseTuple(args, "LOOOOOO", &d_sae, &objects[0], &objects[1], &objects[2], &objects[3], &objects[4],
                          &objects[5]))
        return NULL;
    Py_buffer out[COUNT];
    int taken = 0, failed = 0;
    for (; taken < COUNT; taken++) {
        if (core_writable_array(objects[taken], names[taken], formats[taken], d_sae, &out[taken]) < 0) break;
    }
    failed = taken < COUNT || core_read(self) < 0;
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status = suture_fidelity_read(handle_of(self), out[0].buf, out[1].buf, out[2].buf, out[3].buf,
                                                    out[4].buf, out[5].buf);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    while (taken-- > 0) core_array_release(&out[taken]);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *quartiles(const suture_quartiles *value) {
    return Py_BuildValue("(ddd)", value->lower, value->median, value->upper);
}

static PyObject *summarize(PyObject *self, PyObject *args) {
    long long min_count;
    if (!PyArg_ParseTuple(args, "L", &min_count)) return NULL;
    if (core_read(self) < 0) return NULL;
    suture_fidelity_summary value = {.struct_size = sizeof value};
    core_call call;
    core_call_begin(&call, core_state_of_object(self), NULL);
    suture_status status = suture_fidelity_summarize(handle_of(self), min_count, &value);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:N,s:N,s:N,s:d}", "rows", (long long)value.rows, "judged", (long long)value.judged, "rare",
        (long long)value.rare, "silent", (long long)value.silent, "correlation", quartiles(&value.correlation), "f1",
        quartiles(&value.f1), "control", quartiles(&value.control), "share_active", value.share_active);
}

static void dealloc(PyObject *self) {
    suture_fidelity_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(codes_a, codes_b, progress)."},
    {"merge", merge, METH_VARARGS, "merge(other)."},
    {"read_into", read_into, METH_VARARGS,
     "read_into(d_sae, correlation, standard_error, control, active_a, active_b, active_both): float64 and uint64 "
     "arrays of d_sae; None if not wanted."},
    {"summarize", summarize, METH_VARARGS, "summarize(min_count): dict."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_fidelity handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Fidelity",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"fidelity_create", create, METH_VARARGS, "fidelity_create(d_sae)."},
    {NULL, NULL, 0, NULL},
};

int core_add_fidelity(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->fidelity) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
