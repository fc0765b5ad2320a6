// SPDX-License-Identifier: Apache-2.0
// Probes: fitting, applying, selection of features, pooling.
#include "core.h"

static suture_probe *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *wrap(core_state *state, suture_probe *handle) {
    PyObject *object = core_object_new(state->probe, handle);
    if (!object) suture_probe_destroy(handle);
    return object;
}

// ---------------------------------------------------------------------------------------------
// Samples
// ---------------------------------------------------------------------------------------------

/// Samples in one of the three forms, and what keeps their memory.
typedef struct {
    suture_samples samples;
    suture_matrix dense;
    suture_csr csr;
    PyObject *codes;
    Py_buffer starts;
    Py_buffer indices;
    Py_buffer values;
} core_samples;

static void release_samples(core_samples *self) {
    core_array_release(&self->starts);
    core_array_release(&self->indices);
    core_array_release(&self->values);
    if (self->codes) core_done_reading(self->codes);
}

static int take_csr(core_samples *self, PyObject *tuple) {
    long long cols;
    PyObject *starts, *indices, *values;
    const char *dtype;
    if (!PyArg_ParseTuple(tuple, "LOOOs", &cols, &starts, &indices, &values, &dtype)) return -1;
    if (core_readable_array(starts, "starts", 'q', &self->starts) < 0 ||
        core_readable_array(indices, "indices", 'i', &self->indices) < 0 ||
        core_readable_array(values, "values", dtype[0], &self->values) < 0) {
        return -1;
    }
    const int64_t rows = self->starts.len / 8 - 1;
    const int64_t *offsets = self->starts.buf;
    if (rows < 0 || offsets[rows] > self->indices.len / 4 ||
        offsets[rows] > self->values.len / self->values.itemsize) {
        PyErr_SetString(PyExc_ValueError, "x has fewer numbers than its row starts say, expected a CSR matrix");
        return -1;
    }
    self->csr.rows = rows;
    self->csr.cols = cols;
    self->csr.starts = offsets;
    self->csr.indices = self->indices.buf;
    self->csr.values = self->values.buf;
    self->csr.dtype = dtype[0] == 'd' ? SUTURE_FLOAT64 : SUTURE_FLOAT32;
    self->samples.csr = &self->csr;
    return 0;
}

/// `object` is a Rows, a Codes, or a tuple (cols, starts, indices, values, format). Release even
/// after a failure.
static int take_samples(core_state *state, PyObject *object, core_samples *self) {
    *self = (core_samples){.samples = {.struct_size = sizeof self->samples}};
    if (PyObject_TypeCheck(object, state->rows)) {
        self->samples.dense = &self->dense;
        return core_matrix(object, "x", &self->dense);
    }
    if (PyObject_TypeCheck(object, state->codes)) {
        if (core_read(object) < 0) return -1;
        self->codes = object;
        self->samples.codes = ((core_object *)object)->handle;
        return 0;
    }
    if (PyTuple_Check(object)) return take_csr(self, object);
    PyErr_SetString(PyExc_TypeError, "x is no samples, expected Rows, Codes or a tuple");
    return -1;
}

static int64_t sample_count(const core_samples *self) {
    if (self->samples.dense) return self->dense.rows;
    if (self->samples.csr) return self->csr.rows;
    suture_codes_view view = {.struct_size = sizeof view};
    return suture_codes_view_get(self->samples.codes, &view) == SUTURE_OK ? view.rows : 0;
}

/// An array of as many elements as there are samples; None where `optional`.
static int take_column(
    PyObject *object, const char *name, char format, int64_t count, bool optional, Py_buffer *out) {
    out->obj = NULL;
    out->buf = NULL;
    if (optional && object == Py_None) return 0;
    if (core_readable_array(object, name, format, out) < 0) {
        out->obj = NULL;
        return -1;
    }
    if (out->len / out->itemsize == count) return 0;
    PyErr_Format(
        PyExc_ValueError, "%s has %zd elements, expected %lld, one for each row of x", name, out->len / out->itemsize,
        (long long)count);
    return -1;
}

// ---------------------------------------------------------------------------------------------
// Fitting
// ---------------------------------------------------------------------------------------------

static PyObject *report_dict(const suture_probe_report *report) {
    return Py_BuildValue(
        "{s:d,s:d,s:d,s:i,s:O}", "objective", report->objective, "gradient_norm", report->gradient_norm, "seconds",
        report->seconds, "iterations", (int)report->iterations, "converged", report->converged ? Py_True : Py_False);
}

// fit(x, labels, classes, weights, features, sizes, C, tolerance, max_iterations, standardize,
// balanced, progress): a list of (Probe, report); features and sizes None for one fit to all.
static PyObject *fit(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *x, *labels_object, *weights_object, *features_object, *sizes_object, *progress;
    long long classes;
    int iterations, standardize, balanced;
    suture_probe_config config = {.struct_size = sizeof config};
    if (!PyArg_ParseTuple(
            args, "OOLOOOddippO", &x, &labels_object, &classes, &weights_object, &features_object, &sizes_object,
            &config.C, &config.tolerance, &iterations, &standardize, &balanced, &progress)) {
        return NULL;
    }
    config.max_iterations = iterations;
    config.standardize = standardize;
    config.balanced = balanced;
    core_samples samples;
    Py_buffer labels = {0}, weights = {0}, features = {0}, sizes = {0};
    suture_probe **handles = NULL;
    suture_probe_report *reports = NULL;
    PyObject *list = NULL;
    Py_ssize_t count = 1;
    const bool sparse = features_object != Py_None;
    if (take_samples(state, x, &samples) < 0) goto cleanup;
    if (take_column(labels_object, "labels", 'i', sample_count(&samples), false, &labels) < 0 ||
        take_column(weights_object, "sample_weight", 'd', sample_count(&samples), true, &weights) < 0) {
        goto cleanup;
    }
    if (sparse) {
        if (core_readable_array(features_object, "features", 'q', &features) < 0 ||
            core_readable_array(sizes_object, "sizes", 'q', &sizes) < 0) {
            goto cleanup;
        }
        count = sizes.len / 8;
    }
    handles = PyMem_Calloc((size_t)count + 1, sizeof *handles);
    reports = PyMem_Calloc((size_t)count + 1, sizeof *reports);
    if (!handles || !reports) {
        PyErr_NoMemory();
        goto cleanup;
    }
    for (Py_ssize_t i = 0; i < count; i++) reports[i].struct_size = sizeof *reports;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        sparse ? suture_probe_fit_sparse(
                     &samples.samples, labels.buf, classes, weights.buf, features.buf, features.len / 8, sizes.buf,
                     count, &config, &call.progress, handles, reports)
               : suture_probe_fit(
                     &samples.samples, labels.buf, classes, weights.buf, &config, &call.progress, handles, reports);
    if (core_call_end(&call, status) < 0) goto cleanup;
    list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *probe = core_object_new(state->probe, handles[i]);
        if (probe) handles[i] = NULL;
        PyObject *report = probe ? report_dict(&reports[i]) : NULL;
        PyObject *pair = report ? PyTuple_Pack(2, probe, report) : NULL;
        Py_XDECREF(probe);
        Py_XDECREF(report);
        if (!pair || PyList_Append(list, pair) < 0) Py_CLEAR(list);
        Py_XDECREF(pair);
    }
cleanup:
    for (Py_ssize_t i = 0; handles && i < count; i++) suture_probe_destroy(handles[i]);
    PyMem_Free(handles);
    PyMem_Free(reports);
    core_array_release(&sizes);
    core_array_release(&features);
    core_array_release(&weights);
    core_array_release(&labels);
    release_samples(&samples);
    return list;
}

// select(x, labels, classes, k, out, progress)
static PyObject *select_features(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *x, *labels_object, *out_object, *progress;
    long long classes, k;
    if (!PyArg_ParseTuple(args, "OOLLOO", &x, &labels_object, &classes, &k, &out_object, &progress)) return NULL;
    core_samples samples;
    Py_buffer labels = {0}, out = {0};
    int failed = -1;
    if (take_samples(state, x, &samples) < 0 ||
        take_column(labels_object, "labels", 'i', sample_count(&samples), false, &labels) < 0 ||
        core_writable_array(out_object, "out", 'q', k, &out) < 0) {
        goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_features_select(&samples.samples, labels.buf, classes, k, &call.progress, out.buf);
    failed = core_call_end(&call, status);
cleanup:
    core_array_release(&out);
    core_array_release(&labels);
    release_samples(&samples);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *weights, *bias;
    const char *classes;
    suture_matrix matrix, vector;
    if (!PyArg_ParseTuple(args, "O!O!z", state->rows, &weights, state->rows, &bias, &classes)) return NULL;
    if (core_matrix(weights, "weights", &matrix) < 0 || core_matrix(bias, "bias", &vector) < 0) return NULL;
    suture_probe *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_probe_create(&matrix, &vector, classes, &handle);
    if (core_call_end(&call, status) < 0) {
        suture_probe_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

// ---------------------------------------------------------------------------------------------
// Pooling
// ---------------------------------------------------------------------------------------------

// pool(shards, sample, samples, out, progress)
static PyObject *pool(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *tuple, *sample_object, *out_object, *progress;
    long long samples;
    if (!PyArg_ParseTuple(
            args, "O!OLO!O", &PyTuple_Type, &tuple, &sample_object, &samples, state->rows, &out_object, &progress)) {
        return NULL;
    }
    suture_matrix out;
    Py_buffer sample = {0};
    suture_matrix *shards = core_matrices(state, tuple, "shards");
    int failed = -1;
    if (!shards) return NULL;
    int64_t rows = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++) rows += shards[i].rows;
    if (take_column(sample_object, "sample", 'q', rows, false, &sample) < 0 ||
        core_matrix(out_object, "out", &out) < 0) {
        goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_pool(shards, PyTuple_Size(tuple), sample.buf, samples, &call.progress, &out);
    failed = core_call_end(&call, status);
cleanup:
    core_array_release(&sample);
    PyMem_Free(shards);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// codes_pool(codes, sample, samples, progress)
static PyObject *codes_pool(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *codes, *sample_object, *progress;
    long long samples;
    if (!PyArg_ParseTuple(args, "O!OLO", state->codes, &codes, &sample_object, &samples, &progress)) return NULL;
    core_samples input;
    Py_buffer sample = {0};
    suture_codes *handle = NULL;
    int failed = -1;
    if (take_samples(state, codes, &input) < 0 ||
        take_column(sample_object, "sample", 'q', sample_count(&input), false, &sample) < 0) {
        goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_codes_pool(input.samples.codes, sample.buf, samples, &call.progress, &handle);
    failed = core_call_end(&call, status);
cleanup:
    core_array_release(&sample);
    release_samples(&input);
    PyObject *made = failed ? NULL : core_object_new(state->codes, handle);
    if (!made) suture_codes_destroy(handle);
    return made;
}

// ---------------------------------------------------------------------------------------------
// Methods
// ---------------------------------------------------------------------------------------------

static suture_status load_from(const char *path, void **out) {
    suture_probe *handle = NULL;
    suture_status status = suture_probe_load(path, &handle);
    *out = handle;
    return status;
}

static void destroy(void *handle) { suture_probe_destroy(handle); }

static PyObject *load(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    return core_load(args, state, state->probe, load_from, destroy);
}

static suture_status save_to(const void *handle, const char *path) { return suture_probe_save(handle, path); }

static PyObject *save(PyObject *self, PyObject *args) { return core_save(self, args, save_to); }

static PyObject *info(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t outputs = 0, d_in = 0;
    suture_status status = suture_probe_info(handle_of(self), &outputs, &d_in);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue("(LL)", (long long)outputs, (long long)d_in);
}

static PyObject *weight(PyObject *self, PyObject *args) {
    static const core_word words[] = {{"weights", SUTURE_PROBE_WEIGHTS}, {"bias", SUTURE_PROBE_BIAS}, {NULL, 0}};
    const char *name;
    int which;
    if (!PyArg_ParseTuple(args, "s", &name) || core_word_value(words, "name", name, &which) < 0) return NULL;
    core_state *state = core_state_of_object(self);
    suture_matrix matrix;
    suture_status status = suture_probe_weight(handle_of(self), (suture_probe_weight_name)which, &matrix);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    return core_view_of_matrix(state, self, &matrix, which == SUTURE_PROBE_BIAS);
}

static PyObject *logits(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *out_object, *progress;
    if (!PyArg_ParseTuple(args, "OO!O", &x, state->rows, &out_object, &progress)) return NULL;
    core_samples samples;
    suture_matrix out;
    int failed = -1;
    if (take_samples(state, x, &samples) < 0 || core_matrix(out_object, "out", &out) < 0 || core_read(self) < 0) {
        goto cleanup;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_probe_logits(handle_of(self), &samples.samples, &call.progress, &out);
    failed = core_call_end(&call, status);
    core_done_reading(self);
cleanup:
    release_samples(&samples);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static suture_status metadata_text(const void *handle, char *text, uint64_t capacity, uint64_t *size) {
    return suture_probe_metadata(handle, text, capacity, size);
}

static PyObject *metadata(PyObject *self, PyObject *unused) {
    (void)unused;
    return core_text(self, metadata_text);
}

static suture_status classes_text(const void *handle, char *text, uint64_t capacity, uint64_t *size) {
    return suture_probe_classes(handle, text, capacity, size);
}

static PyObject *classes(PyObject *self, PyObject *unused) {
    (void)unused;
    return core_text(self, classes_text);
}

static suture_status set_text(void *handle, const char *json) { return suture_probe_set_metadata(handle, json); }

static PyObject *set_metadata(PyObject *self, PyObject *args) { return core_set_text(self, args, set_text); }

static void dealloc(PyObject *self) {
    suture_probe_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"info", info, METH_NOARGS, "info(): (outputs, d_in)."},
    {"weight", weight, METH_VARARGS, "weight(name): a View."},
    {"logits", logits, METH_VARARGS, "logits(x, out, progress)."},
    {"classes", classes, METH_NOARGS, "classes(): JSON text."},
    {"metadata", metadata, METH_NOARGS, "metadata(): JSON text."},
    {"set_metadata", set_metadata, METH_VARARGS, "set_metadata(json)."},
    {"save", save, METH_VARARGS, "save(path)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_probe handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Probe",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"probe_fit", fit, METH_VARARGS,
     "probe_fit(x, labels, classes, weights, features, sizes, C, tolerance, max_iterations, standardize, balanced, "
     "progress): list of (Probe, report)."},
    {"probe_create", create, METH_VARARGS, "probe_create(weights, bias, classes or None)."},
    {"probe_load", load, METH_VARARGS, "probe_load(path)."},
    {"features_select", select_features, METH_VARARGS, "features_select(x, labels, classes, k, out, progress)."},
    {"pool", pool, METH_VARARGS, "pool(shards, sample, samples, out, progress)."},
    {"codes_pool", codes_pool, METH_VARARGS, "codes_pool(codes, sample, samples, progress): Codes."},
    {NULL, NULL, 0, NULL},
};

int core_add_probe(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->probe) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
