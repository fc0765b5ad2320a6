// SPDX-License-Identifier: Apache-2.0
// Training.
#include "core.h"

static suture_trainer *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *metrics_dict(const suture_train_metrics *value) {
    return Py_BuildValue(
        "{s:K,s:K,s:d,s:d,s:d,s:L,s:d,s:d}", "steps", (unsigned long long)value->steps, "tokens",
        (unsigned long long)value->tokens, "loss", value->loss, "explained_variance", value->explained_variance, "l0",
        value->l0, "dead", (long long)value->dead, "lr", value->lr, "seconds", value->seconds);
}

static PyObject *create(PyObject *module, PyObject *args, PyObject *options) {
    core_state *state = core_state_of(module);
    PyObject *sae;
    suture_train_config config;
    if (!PyArg_ParseTuple(args, "O!", state->sae, &sae) || core_train_config(options, &config) < 0) return NULL;
    if (core_read(sae) < 0) return NULL;
    suture_trainer *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_create(((core_object *)sae)->handle, &config, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(sae);
    PyObject *made = failed ? NULL : core_object_new(state->trainer, handle);
    if (!made) suture_trainer_destroy(handle);
    return made;
}

static PyObject *step(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *progress;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(args, "O!O", state->rows, &x, &progress)) return NULL;
    if (core_matrix(x, "x", &matrix) < 0 || core_write(self) < 0) return NULL;
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_trainer_step(handle_of(self), &matrix, &call.progress, &metrics);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    return failed ? NULL : metrics_dict(&metrics);
}

static PyObject *run(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *list, *progress;
    unsigned long long tokens;
    if (!PyArg_ParseTuple(args, "O!KO", &PyList_Type, &list, &tokens, &progress)) return NULL;
    // The tuple keeps the shards alive while the GIL is not held.
    PyObject *shards = PyList_AsTuple(list);
    if (!shards) return NULL;
    PyObject *result = NULL;
    Py_ssize_t count = PyTuple_Size(shards);
    suture_matrix *matrices = PyMem_Malloc((count ? (size_t)count : 1) * sizeof *matrices);
    if (!matrices) {
        PyErr_NoMemory();
        goto cleanup;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *shard = PyTuple_GetItem(shards, i);
        if (!PyObject_TypeCheck(shard, state->rows)) {
            PyErr_SetString(PyExc_TypeError, "shards holds something else than Rows");
            goto cleanup;
        }
        if (core_matrix(shard, "shards", &matrices[i]) < 0) goto cleanup;
    }
    if (core_write(self) < 0) goto cleanup;
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_trainer_run(handle_of(self), matrices, count, tokens, &call.progress, &metrics);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (!failed) result = metrics_dict(&metrics);
cleanup:
    PyMem_Free(matrices);
    Py_DECREF(shards);
    return result;
}

static PyObject *gradients_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"x", "W_enc", "b_enc", "W_dec", "b_dec"};
    core_state *state = core_state_of_object(self);
    PyTypeObject *rows = state->rows;
    PyObject *arrays[5];
    suture_matrix m[5];
    if (!PyArg_ParseTuple(
            args, "O!O!O!O!O!", rows, arrays, rows, arrays + 1, rows, arrays + 2, rows, arrays + 3, rows,
            arrays + 4)) {
        return NULL;
    }
    for (int i = 0; i < 5; i++) {
        if (core_matrix(arrays[i], names[i], &m[i]) < 0) return NULL;
    }
    if (core_read(self) < 0) return NULL;
    double loss = 0;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_gradients(handle_of(self), m, m + 1, m + 2, m + 3, m + 4, &loss);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    return failed ? NULL : PyFloat_FromDouble(loss);
}

static PyObject *sae(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    if (core_read(self) < 0) return NULL;
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_sae(handle_of(self), &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    PyObject *made = failed ? NULL : core_object_new(state->sae, handle);
    if (!made) suture_sae_destroy(handle);
    return made;
}

static void dealloc(PyObject *self) {
    suture_trainer_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"step", step, METH_VARARGS, "step(x, progress): dict of metrics."},
    {"run", run, METH_VARARGS, "run(shards, tokens, progress): dict of metrics."},
    {"gradients_into", gradients_into, METH_VARARGS, "gradients_into(x, W_enc, b_enc, W_dec, b_dec): the loss."},
    {"sae", sae, METH_NOARGS, "sae(): a copy of the SAE as it is now."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_trainer handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Trainer",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"trainer_create", (PyCFunction)(void (*)(void))create, METH_VARARGS | METH_KEYWORDS,
     "trainer_create(sae, /, *, settings of suture_train_config)."},
    {NULL, NULL, 0, NULL},
};

int core_add_trainer(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->trainer) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
