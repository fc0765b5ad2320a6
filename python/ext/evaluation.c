// SPDX-License-Identifier: Apache-2.0
// Running metrics of a SAE.
#include "core.h"

static suture_evaluation *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *sae;
    if (!PyArg_ParseTuple(args, "O!", state->sae, &sae) || core_read(sae) < 0) return NULL;
    suture_evaluation *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_evaluation_create(((core_object *)sae)->handle, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(sae);
    PyObject *made = failed ? NULL : core_object_new(state->evaluation, handle);
    if (!made) suture_evaluation_destroy(handle);
    return made;
}

static PyObject *update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *progress;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(args, "O!O", state->rows, &x, &progress)) return NULL;
    if (core_matrix(x, "x", &matrix) < 0 || core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_evaluation_update(handle_of(self), &matrix, &call.progress);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_norm_bound(PyObject *self, PyObject *args) {
    double bound;
    if (!PyArg_ParseTuple(args, "d", &bound) || core_write(self) < 0) return NULL;
    suture_status status = suture_evaluation_set_norm_bound(handle_of(self), bound);
    core_done_writing(self);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *report(PyObject *self, PyObject *unused) {
    (void)unused;
    if (core_read(self) < 0) return NULL;
    suture_evaluation_report value = {.struct_size = sizeof value};
    core_call call;
    core_call_begin(&call, core_state_of_object(self), NULL);
    suture_status status = suture_evaluation_report_get(handle_of(self), &value);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    return Py_BuildValue(
        "{s:K,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:K,s:d,s:K,s:d,s:d,s:d,s:d,s:d,s:d}", "tokens", (unsigned long long)value.tokens, "explained_variance",
        value.explained_variance, "fvu", value.fvu, "l0", value.l0, "dead_fraction", value.dead_fraction, "mse",
        value.mse, "cosine", value.cosine, "norm_ratio", value.norm_ratio, "norm_bound",
        value.norm_bound, "beyond", (unsigned long long)value.beyond, "share_beyond", value.share_beyond,
        "tokens_ordinary", (unsigned long long)value.tokens_ordinary, "explained_variance_ordinary",
        value.explained_variance_ordinary, "fvu_ordinary", value.fvu_ordinary, "l0_ordinary", value.l0_ordinary,
        "mse_ordinary", value.mse_ordinary, "cosine_ordinary", value.cosine_ordinary, "norm_ratio_ordinary",
        value.norm_ratio_ordinary);
}

// The caller gives arrays of d_sae elements; the handle does not tell d_sae, so it comes along.
static PyObject *features_into(PyObject *self, PyObject *args) {
    PyObject *frequency_object, *maximum_object;
    long long d_sae;
    if (!PyArg_ParseTuple(args, "LOO", &d_sae, &frequency_object, &maximum_object)) return NULL;
    Py_buffer frequency, maximum;
    if (core_writable_array(frequency_object, "frequency", 'd', d_sae, &frequency) < 0) return NULL;
    if (core_writable_array(maximum_object, "maximum", 'f', d_sae, &maximum) < 0) {
        core_array_release(&frequency);
        return NULL;
    }
    PyObject *result = NULL;
    if (core_read(self) == 0) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status = suture_evaluation_features(handle_of(self), frequency.buf, maximum.buf);
        if (core_call_end(&call, status) == 0) {
            Py_INCREF(Py_None);
            result = Py_None;
        }
        core_done_reading(self);
    }
    core_array_release(&frequency);
    core_array_release(&maximum);
    return result;
}

static void dealloc(PyObject *self) {
    suture_evaluation_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(x, progress): suture_evaluation_update()."},
    {"set_norm_bound", set_norm_bound, METH_VARARGS, "set_norm_bound(norm_bound): before the first token."},
    {"report", report, METH_NOARGS, "report(): dict of the metrics."},
    {"features_into", features_into, METH_VARARGS,
     "features_into(d_sae, frequency, maximum): writes float64 and float32 arrays of d_sae; None if not wanted."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_evaluation handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Evaluation",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"evaluation_create", create, METH_VARARGS, "evaluation_create(sae)."},
    {NULL, NULL, 0, NULL},
};

int core_add_evaluation(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->evaluation) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
