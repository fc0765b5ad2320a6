// SPDX-License-Identifier: Apache-2.0
// Stitches: fitting, applying, carrying a SAE or a probe across.
#include "core.h"

static suture_stitch *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *wrap(core_state *state, suture_stitch *handle) {
    PyObject *object = core_object_new(state->stitch, handle);
    if (!object) suture_stitch_destroy(handle);
    return object;
}

static PyObject *objective_dict(const suture_objective *value) {
    return Py_BuildValue(
        "{s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:K}", "alpha", value->alpha, "up", value->up, "down",
        value->down, "a_round_trip", value->a_round_trip, "b_round_trip", value->b_round_trip, "total", value->total,
        "scaled_total", value->scaled_total, "up_explained_variance", value->up_explained_variance,
        "down_explained_variance", value->down_explained_variance, "a_round_trip_explained_variance",
        value->a_round_trip_explained_variance, "b_round_trip_explained_variance",
        value->b_round_trip_explained_variance, "variance_a", value->variance_a, "variance_b", value->variance_b,
        "tokens", (unsigned long long)value->tokens);
}

// Ridge None: the library chooses.
static PyObject *fit(PyObject *module, PyObject *args) {
    static const core_word methods[] = {
        {"joint", SUTURE_METHOD_JOINT}, {"ridge", SUTURE_METHOD_RIDGE}, {"procrustes", SUTURE_METHOD_PROCRUSTES},
        {NULL, 0},
    };
    static const core_word forms[] = {
        {"scaled", SUTURE_OBJECTIVE_SCALED}, {"raw", SUTURE_OBJECTIVE_RAW}, {NULL, 0},
    };
    core_state *state = core_state_of(module);
    PyObject *moments, *ridge, *progress;
    suture_stitch_config config = {.struct_size = sizeof config};
    const char *method_word, *form_word;
    int iterations, method, form;
    if (!PyArg_ParseTuple(
            args, "O!ddiOssO", state->moments, &moments, &config.alpha, &config.tolerance, &iterations, &ridge,
            &method_word, &form_word, &progress) ||
        core_word_value(methods, "method", method_word, &method) < 0 ||
        core_word_value(forms, "objective", form_word, &form) < 0) {
        return NULL;
    }
    config.method = (suture_stitch_method)method;
    config.objective = (suture_objective_form)form;
    config.max_iterations = iterations;
    config.has_ridge = ridge != Py_None;
    if (config.has_ridge) {
        config.ridge = PyFloat_AsDouble(ridge);
        if (config.ridge == -1 && PyErr_Occurred()) return NULL;
    }
    if (core_read(moments) < 0) return NULL;
    suture_stitch *handle = NULL;
    suture_stitch_report report = {.struct_size = sizeof report};
    report.before.struct_size = report.after.struct_size = sizeof report.before;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        suture_stitch_fit(((core_object *)moments)->handle, &config, &call.progress, &handle, &report);
    int failed = core_call_end(&call, status);
    core_done_reading(moments);
    if (failed) {
        suture_stitch_destroy(handle);
        return NULL;
    }
    PyObject *stitch = wrap(state, handle);
    PyObject *before = stitch ? objective_dict(&report.before) : NULL;
    PyObject *after = before ? objective_dict(&report.after) : NULL;
    if (!after) {
        Py_XDECREF(stitch);
        Py_XDECREF(before);
        return NULL;
    }
    return Py_BuildValue(
        "(N{s:N,s:N,s:d,s:d,s:d,s:i,s:O,s:L,s:L,s:I,s:d})", stitch, "before", before, "after", after, "gradient_norm",
        report.gradient_norm, "ridge_a", report.ridge_a, "ridge_b", report.ridge_b, "iterations", (int)report.iterations, "converged",
        report.converged ? Py_True : Py_False, "rank_a", (long long)report.rank_a, "rank_b", (long long)report.rank_b,
        "warnings", (unsigned int)report.warnings, "seconds", report.seconds);
}

static PyObject *create(PyObject *module, PyObject *args) {
    static const char *const names[] = {"P_up", "b_up", "P_down", "b_down"};
    core_state *state = core_state_of(module);
    PyTypeObject *rows = state->rows;
    PyObject *arrays[4];
    suture_matrix matrices[4];
    if (!PyArg_ParseTuple(
            args, "O!O!O!O!", rows, arrays, rows, arrays + 1, rows, arrays + 2, rows, arrays + 3)) {
        return NULL;
    }
    for (int i = 0; i < 4; i++) {
        if (core_matrix(arrays[i], names[i], &matrices[i]) < 0) return NULL;
    }
    suture_stitch *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_stitch_create(matrices, matrices + 1, matrices + 2, matrices + 3, &handle);
    if (core_call_end(&call, status) < 0) {
        suture_stitch_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static suture_status load_from(const char *path, void **out) {
    suture_stitch *handle = NULL;
    suture_status status = suture_stitch_load(path, &handle);
    *out = handle;
    return status;
}

static void destroy(void *handle) { suture_stitch_destroy(handle); }

static PyObject *load(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    return core_load(args, state, state->stitch, load_from, destroy);
}

static suture_status save_to(const void *handle, const char *path) { return suture_stitch_save(handle, path); }

static PyObject *save(PyObject *self, PyObject *args) { return core_save(self, args, save_to); }

static PyObject *info(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t d_a = 0, d_b = 0;
    suture_status status = suture_stitch_info(handle_of(self), &d_a, &d_b);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue("(LL)", (long long)d_a, (long long)d_b);
}

static PyObject *weight(PyObject *self, PyObject *args) {
    static const core_word words[] = {
        {"P_up", SUTURE_STITCH_P_UP},     {"b_up", SUTURE_STITCH_B_UP}, {"P_down", SUTURE_STITCH_P_DOWN},
        {"b_down", SUTURE_STITCH_B_DOWN}, {NULL, 0},
    };
    const char *name;
    int which;
    if (!PyArg_ParseTuple(args, "s", &name) || core_word_value(words, "name", name, &which) < 0) return NULL;
    core_state *state = core_state_of_object(self);
    suture_matrix matrix;
    suture_status status = suture_stitch_weight(handle_of(self), (suture_stitch_weight_name)which, &matrix);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    return core_view_of_matrix(state, self, &matrix, name[0] == 'b');
}

static PyObject *apply(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    const char *word;
    int direction;
    PyObject *h, *out, *progress;
    suture_matrix input, output;
    if (!PyArg_ParseTuple(args, "sO!O!O", &word, state->rows, &h, state->rows, &out, &progress)) return NULL;
    if (core_word_value(core_directions, "direction", word, &direction) < 0 || core_matrix(h, "h", &input) < 0 ||
        core_matrix(out, "out", &output) < 0 || core_read(self) < 0) {
        return NULL;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        suture_stitch_apply(handle_of(self), (suture_direction)direction, &input, &call.progress, &output);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *objective(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *moments;
    double alpha;
    if (!PyArg_ParseTuple(args, "O!d", state->moments, &moments, &alpha)) return NULL;
    if (core_read(moments) < 0) return NULL;
    if (core_read(self) < 0) {
        core_done_reading(moments);
        return NULL;
    }
    suture_objective value = {.struct_size = sizeof value};
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status =
        suture_stitch_objective(handle_of(self), ((core_object *)moments)->handle, alpha, &value);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    core_done_reading(moments);
    return failed ? NULL : objective_dict(&value);
}

static suture_status text_of(const void *handle, char *json, uint64_t capacity, uint64_t *size) {
    return suture_stitch_metadata(handle, json, capacity, size);
}

static PyObject *metadata(PyObject *self, PyObject *unused) {
    (void)unused;
    return core_text(self, text_of);
}

static suture_status set_text(void *handle, const char *json) { return suture_stitch_set_metadata(handle, json); }

static PyObject *set_metadata(PyObject *self, PyObject *args) { return core_set_text(self, args, set_text); }

static PyObject *transfer_sae(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *sae, *place;
    const char *word;
    int direction;
    suture_site storage;
    const suture_site *site;
    if (!PyArg_ParseTuple(args, "O!sO", state->sae, &sae, &word, &place)) return NULL;
    if (core_word_value(core_directions, "direction", word, &direction) < 0 ||
        core_optional_site(place, &storage, &site) < 0 || core_read(self) < 0) {
        return NULL;
    }
    if (core_read(sae) < 0) {
        core_done_reading(self);
        return NULL;
    }
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_stitch_transfer_sae(
        handle_of(self), ((core_object *)sae)->handle, (suture_direction)direction, site, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(sae);
    core_done_reading(self);
    PyObject *made = failed ? NULL : core_object_new(state->sae, handle);
    if (!made) suture_sae_destroy(handle);
    return made;
}

// Activations None: z_mean from the mapped mean.
static PyObject *transfer_steering(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *vector, *place, *acts, *progress;
    const char *word;
    int direction;
    suture_site storage;
    const suture_site *site;
    if (!PyArg_ParseTuple(args, "O!sOOO", state->steering, &vector, &word, &place, &acts, &progress)) return NULL;
    if (core_word_value(core_directions, "direction", word, &direction) < 0 ||
        core_optional_site(place, &storage, &site) < 0) {
        return NULL;
    }
    suture_matrix *shards = acts == Py_None ? NULL : core_matrices(state, acts, "acts");
    if (acts != Py_None && !shards) return NULL;
    suture_steering *handle = NULL;
    int failed = -1;
    if (core_read(self) == 0) {
        if (core_read(vector) == 0) {
            core_call call;
            core_call_begin(&call, state, progress);
            suture_status status = suture_stitch_transfer_steering(
                handle_of(self), ((core_object *)vector)->handle, (suture_direction)direction, site, shards,
                shards ? (int64_t)PyTuple_Size(acts) : 0, &call.progress, &handle);
            failed = core_call_end(&call, status);
            core_done_reading(vector);
        }
        core_done_reading(self);
    }
    PyMem_Free(shards);
    PyObject *made = failed ? NULL : core_object_new(state->steering, handle);
    if (!made) suture_steering_destroy(handle);
    return made;
}

static PyObject *transfer_probe(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *probe, *place;
    const char *word;
    int direction;
    suture_site storage;
    const suture_site *site;
    if (!PyArg_ParseTuple(args, "O!sO", state->probe, &probe, &word, &place)) return NULL;
    if (core_word_value(core_directions, "direction", word, &direction) < 0 ||
        core_optional_site(place, &storage, &site) < 0 || core_read(self) < 0) {
        return NULL;
    }
    if (core_read(probe) < 0) {
        core_done_reading(self);
        return NULL;
    }
    suture_probe *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_stitch_transfer_probe(
        handle_of(self), ((core_object *)probe)->handle, (suture_direction)direction, site, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(probe);
    core_done_reading(self);
    PyObject *made = failed ? NULL : core_object_new(state->probe, handle);
    if (!made) suture_probe_destroy(handle);
    return made;
}

static void dealloc(PyObject *self) {
    suture_stitch_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"info", info, METH_NOARGS, "info(): (d_a, d_b)."},
    {"weight", weight, METH_VARARGS, "weight(name): a View."},
    {"apply", apply, METH_VARARGS, "apply(direction, h, out, progress)."},
    {"objective", objective, METH_VARARGS, "objective(moments, alpha): dict of the terms."},
    {"metadata", metadata, METH_NOARGS, "metadata(): JSON text."},
    {"set_metadata", set_metadata, METH_VARARGS, "set_metadata(json)."},
    {"save", save, METH_VARARGS, "save(path)."},
    {"transfer_sae", transfer_sae, METH_VARARGS, "transfer_sae(sae, direction, site or None)."},
    {"transfer_steering", transfer_steering, METH_VARARGS,
     "transfer_steering(vector, direction, site or None, rows or None, progress)."},
    {"transfer_probe", transfer_probe, METH_VARARGS, "transfer_probe(probe, direction, site or None)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_stitch handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Stitch",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"stitch_fit", fit, METH_VARARGS,
     "stitch_fit(moments, alpha, tolerance, max_iterations, ridge or None, progress): (Stitch, report)."},
    {"stitch_create", create, METH_VARARGS, "stitch_create(P_up, b_up, P_down, b_down)."},
    {"stitch_load", load, METH_VARARGS, "stitch_load(path)."},
    {NULL, NULL, 0, NULL},
};

int core_add_stitch(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->stitch) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
