// SPDX-License-Identifier: Apache-2.0
// Steering vectors: fitting, applying, files. Carrying them across is a method of Stitch.
#include "core.h"

static suture_steering *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *wrap(core_state *state, suture_steering *handle) {
    PyObject *object = core_object_new(state->steering, handle);
    if (!object) suture_steering_destroy(handle);
    return object;
}

static PyObject *fit(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *positive, *negative, *progress;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyTuple_Type, &positive, &PyTuple_Type, &negative, &progress)) return NULL;
    suture_matrix *toward = core_matrices(state, positive, "positive");
    suture_matrix *away = toward ? core_matrices(state, negative, "negative") : NULL;
    suture_steering *handle = NULL;
    int failed = -1;
    if (away) {
        core_call call;
        core_call_begin(&call, state, progress);
        suture_status status = suture_steering_fit(
            toward, (int64_t)PyTuple_Size(positive), away, (int64_t)PyTuple_Size(negative), &call.progress, &handle);
        failed = core_call_end(&call, status);
    }
    PyMem_Free(toward);
    PyMem_Free(away);
    if (failed) {
        suture_steering_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *vector, *mean;
    double z_mean;
    suture_matrix direction, center;
    if (!PyArg_ParseTuple(args, "O!dO", state->rows, &vector, &z_mean, &mean)) return NULL;
    if (core_matrix(vector, "vector", &direction) < 0 || core_optional_matrix(mean, "mean", &center) < 0) return NULL;
    suture_steering *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_steering_create(&direction, z_mean, mean == Py_None ? NULL : &center, &handle);
    if (core_call_end(&call, status) < 0) {
        suture_steering_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static suture_status load_from(const char *path, void **out) {
    suture_steering *handle = NULL;
    suture_status status = suture_steering_load(path, &handle);
    *out = handle;
    return status;
}

static void destroy(void *handle) { suture_steering_destroy(handle); }

static PyObject *load(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    return core_load(args, state, state->steering, load_from, destroy);
}

static suture_status save_to(const void *handle, const char *path) { return suture_steering_save(handle, path); }

static PyObject *save(PyObject *self, PyObject *args) { return core_save(self, args, save_to); }

static PyObject *info(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t d = 0;
    double z_mean = 0;
    suture_status status = suture_steering_info(handle_of(self), &d, &z_mean, NULL);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue("(Ld)", (long long)d, z_mean);
}

static PyObject *vector(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    suture_matrix matrix;
    suture_status status = suture_steering_vector(handle_of(self), &matrix);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    return core_view_of_matrix(state, self, &matrix, true);
}

static PyObject *mean(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    suture_matrix matrix;
    suture_status status = suture_steering_mean(handle_of(self), &matrix);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    if (!matrix.data) Py_RETURN_NONE;
    return core_view_of_matrix(state, self, &matrix, true);
}

static PyObject *apply(PyObject *self, PyObject *args) {
    static const core_word modes[] = {
        {"clamp", SUTURE_STEERING_CLAMP},
        {"add", SUTURE_STEERING_ADD},
        {"ablate", SUTURE_STEERING_ABLATE},
        {NULL, 0},
    };
    core_state *state = core_state_of_object(self);
    const char *word;
    int mode;
    double strength;
    PyObject *h, *out, *progress;
    suture_matrix input, output;
    if (!PyArg_ParseTuple(args, "sdO!O!O", &word, &strength, state->rows, &h, state->rows, &out, &progress)) {
        return NULL;
    }
    if (core_word_value(modes, "mode", word, &mode) < 0 || core_matrix(h, "h", &input) < 0 ||
        core_matrix(out, "out", &output) < 0 || core_read(self) < 0) {
        return NULL;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_steering_apply(
        handle_of(self), (suture_steering_mode)mode, strength, &input, &call.progress, &output);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static suture_status text_of(const void *handle, char *json, uint64_t capacity, uint64_t *size) {
    return suture_steering_metadata(handle, json, capacity, size);
}

static PyObject *metadata(PyObject *self, PyObject *unused) {
    (void)unused;
    return core_text(self, text_of);
}

static suture_status set_text(void *handle, const char *json) { return suture_steering_set_metadata(handle, json); }

static PyObject *set_metadata(PyObject *self, PyObject *args) { return core_set_text(self, args, set_text); }

static void dealloc(PyObject *self) {
    suture_steering_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"info", info, METH_NOARGS, "info(): (d, z_mean)."},
    {"vector", vector, METH_NOARGS, "vector(): a View."},
    {"mean", mean, METH_NOARGS, "mean(): a View or None."},
    {"apply", apply, METH_VARARGS, "apply(mode, strength, h, out, progress)."},
    {"metadata", metadata, METH_NOARGS, "metadata(): JSON text."},
    {"set_metadata", set_metadata, METH_VARARGS, "set_metadata(json)."},
    {"save", save, METH_VARARGS, "save(path)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_steering handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Steering",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"steering_fit", fit, METH_VARARGS, "steering_fit(positive rows, negative rows, progress): a Steering."},
    {"steering_create", create, METH_VARARGS, "steering_create(vector, z_mean, mean or None)."},
    {"steering_load", load, METH_VARARGS, "steering_load(path)."},
    {NULL, NULL, 0, NULL},
};

int core_add_steering(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->steering) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
