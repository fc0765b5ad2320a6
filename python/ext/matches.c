// SPDX-License-Identifier: Apache-2.0
// Best matches of two SAEs.
#include "core.h"

static void *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    long long d_sae_a, d_sae_b;
    if (!PyArg_ParseTuple(args, "LL", &d_sae_a, &d_sae_b)) return NULL;
    suture_matches *handle = NULL;
    suture_status status = suture_matches_create(d_sae_a, d_sae_b, &handle);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    PyObject *made = core_object_new(state->matches, handle);
    if (!made) suture_matches_destroy(handle);
    return made;
}

static PyObject *update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes_a, *codes_b;
    if (!PyArg_ParseTuple(args, "O!O!", state->codes, &codes_a, state->codes, &codes_b)) return NULL;
    if (core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_matches_update(handle_of(self), handle_of(codes_a), handle_of(codes_b));
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *quartiles(const suture_quartiles *value) {
    return Py_BuildValue("(ddd)", value->lower, value->median, value->upper);
}

// The caller gives arrays of d_sae_a elements, the last one of d_sae_b; the handle does not tell them, so
// they come along.
static PyObject *find(PyObject *self, PyObject *args) {
    enum { COUNT = 6 };
    static const char *const names[COUNT] = {"match", "correlation", "chosen", "control", "active", "match_b"};
    static const char formats[] = "qdddQq";
    PyObject *objects[COUNT], *progress;
    long long min_count, d_sae_a, d_sae_b;
    if (!PyArg_ParseTuple(args, "LLLOOOOOOO", &d_sae_a, &d_sae_b, &min_count, &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4], &objects[5], &progress))
        return NULL;
    Py_buffer out[COUNT];
    int taken = 0;
    for (; taken < COUNT; taken++) {
        long long count = taken == COUNT - 1 ? d_sae_b : d_sae_a;
        if (core_writable_array(objects[taken], names[taken], formats[taken], count, &out[taken]) < 0) break;
    }
    suture_matches_summary value = {.struct_size = sizeof value};
    int failed = taken < COUNT || core_read(self) < 0;
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), progress);
        suture_status status =
            suture_matches_find(handle_of(self), min_count, &call.progress, out[0].buf, out[1].buf, out[2].buf,
                                out[3].buf, out[4].buf, out[5].buf, &value);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    while (taken-- > 0) core_array_release(&out[taken]);
    if (failed) return NULL;
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:L,s:N,s:N,s:N,s:d}", "rows", (long long)value.rows, "judged", (long long)value.judged,
        "rare", (long long)value.rare, "unmatched", (long long)value.unmatched, "mutual", (long long)value.mutual,
        "correlation", quartiles(&value.correlation), "chosen", quartiles(&value.chosen), "control",
        quartiles(&value.control), "share_active", value.share_active);
}

static void dealloc(PyObject *self) {
    suture_matches_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(codes_a, codes_b)."},
    {"find", find, METH_VARARGS,
     "find(d_sae_a, d_sae_b, min_count, match, correlation, chosen, control, active, match_b, progress): dict; fills "
     "int64, float64 (three) and uint64 arrays of d_sae_a, and an int64 array of d_sae_b."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_matches handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Matches",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"matches_create", create, METH_VARARGS, "matches_create(d_sae_a, d_sae_b)."},
    {NULL, NULL, 0, NULL},
};

int core_add_matches(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->matches) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
