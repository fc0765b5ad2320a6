// SPDX-License-Identifier: Apache-2.0
// Feature analysis: attribution correlations, structural scores, statistics, logit weights.
#include "core.h"

static void *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *none_unless(int failed) {
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// Arrays that results go to, all of one length or None. Releases what it took on failure.
static int writable_arrays(PyObject **objects, const char *const *names, const char *formats, int64_t count,
                           Py_buffer *out) {
    for (int i = 0; formats[i]; i++) {
        if (core_writable_array(objects[i], names[i], formats[i], count, &out[i]) < 0) {
            while (i-- > 0) core_array_release(&out[i]);
            return -1;
        }
    }
    return 0;
}

static void release_arrays(Py_buffer *buffers, int count) {
    for (int i = 0; i < count; i++) core_array_release(&buffers[i]);
}

// ---------------------------------------------------------------------------------------------
// Attribution correlations
// ---------------------------------------------------------------------------------------------

static PyObject *attribution_create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    static const char *const names[] = {"W_dec_a", "W_U_a", "W_dec_b", "W_U_b"};
    PyObject *rows[4];
    suture_matrix matrices[4];
    if (!PyArg_ParseTuple(args, "O!O!O!O!", state->rows, &rows[0], state->rows, &rows[1], state->rows, &rows[2],
                          state->rows, &rows[3]))
        return NULL;
    for (int i = 0; i < 4; i++) {
        if (core_matrix(rows[i], names[i], &matrices[i]) < 0) return NULL;
    }
    suture_attribution *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status =
        suture_attribution_create(&matrices[0], &matrices[1], &matrices[2], &matrices[3], &handle);
    PyObject *made = core_call_end(&call, status) < 0 ? NULL : core_object_new(state->attribution, handle);
    if (!made) suture_attribution_destroy(handle);
    return made;
}

static PyObject *attribution_update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes_a, *codes_b, *next_object, *progress;
    if (!PyArg_ParseTuple(args, "O!O!OO", state->codes, &codes_a, state->codes, &codes_b, &next_object, &progress))
        return NULL;
    Py_buffer next;
    if (core_readable_array(next_object, "next_tokens", 'q', &next) < 0) return NULL;
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, progress);
        suture_status status = suture_attribution_update(handle_of(self), handle_of(codes_a), handle_of(codes_b),
                                                         next.buf, next.len / 8, &call.progress);
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    core_array_release(&next);
    return none_unless(failed);
}

static PyObject *attribution_merge(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *other;
    if (!PyArg_ParseTuple(args, "O!", state->attribution, &other)) return NULL;
    // An object can be merged into itself.
    if (other != self && core_read(other) < 0) return NULL;
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, NULL);
        suture_status status = suture_attribution_merge(handle_of(self), handle_of(other));
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    if (other != self) core_done_reading(other);
    return none_unless(failed);
}

// The caller gives arrays of d_sae elements; the handle does not tell d_sae, so it comes along.
static PyObject *attribution_read_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"correlation", "active_a", "active_b"};
    PyObject *objects[3];
    long long d_sae;
    if (!PyArg_ParseTuple(args, "LOOO", &d_sae, &objects[0], &objects[1], &objects[2])) return NULL;
    Py_buffer out[3];
    if (writable_arrays(objects, names, "dQQ", d_sae, out) < 0) return NULL;
    uint64_t tokens = 0;
    int failed = core_read(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status =
            suture_attribution_read(handle_of(self), out[0].buf, out[1].buf, out[2].buf, &tokens);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    release_arrays(out, 3);
    return failed ? NULL : PyLong_FromUnsignedLongLong(tokens);
}

static void attribution_dealloc(PyObject *self) {
    suture_attribution_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef attribution_methods[] = {
    {"update", attribution_update, METH_VARARGS, "update(codes_a, codes_b, next_tokens, progress)."},
    {"merge", attribution_merge, METH_VARARGS, "merge(other)."},
    {"read_into", attribution_read_into, METH_VARARGS,
     "read_into(d_sae, correlation, active_a, active_b): float64 and uint64 arrays of d_sae; None if not wanted. "
     "Returns the tokens."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot attribution_slots[] = {
    {Py_tp_doc, "A suture_attribution handle."},
    {Py_tp_dealloc, attribution_dealloc},
    {Py_tp_methods, attribution_methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec attribution_spec = {
    .name = "suture._core.Attribution",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = attribution_slots,
};

// ---------------------------------------------------------------------------------------------
// Structural scores
// ---------------------------------------------------------------------------------------------

static PyObject *structural_create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    long long d_sae;
    if (!PyArg_ParseTuple(args, "L", &d_sae)) return NULL;
    suture_structural *handle = NULL;
    suture_status status = suture_structural_create(d_sae, &handle);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    PyObject *made = core_object_new(state->structural, handle);
    if (!made) suture_structural_destroy(handle);
    return made;
}

static PyObject *structural_update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes, *lengths_object, *progress;
    long long variants;
    if (!PyArg_ParseTuple(args, "O!OLO", state->codes, &codes, &lengths_object, &variants, &progress)) return NULL;
    Py_buffer lengths;
    if (core_readable_array(lengths_object, "lengths", 'q', &lengths) < 0) return NULL;
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, progress);
        suture_status status = suture_structural_update(handle_of(self), handle_of(codes), lengths.buf,
                                                        lengths.len / 8, variants, &call.progress);
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    core_array_release(&lengths);
    return none_unless(failed);
}

static PyObject *structural_read_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"score", "in_all", "in_any"};
    PyObject *objects[3];
    long long d_sae;
    if (!PyArg_ParseTuple(args, "LOOO", &d_sae, &objects[0], &objects[1], &objects[2])) return NULL;
    Py_buffer out[3];
    if (writable_arrays(objects, names, "dQQ", d_sae, out) < 0) return NULL;
    uint64_t sentences = 0;
    int failed = core_read(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status =
            suture_structural_read(handle_of(self), out[0].buf, out[1].buf, out[2].buf, &sentences);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    release_arrays(out, 3);
    return failed ? NULL : PyLong_FromUnsignedLongLong(sentences);
}

static void structural_dealloc(PyObject *self) {
    suture_structural_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef structural_methods[] = {
    {"update", structural_update, METH_VARARGS, "update(codes, lengths, variants, progress)."},
    {"read_into", structural_read_into, METH_VARARGS,
     "read_into(d_sae, score, in_all, in_any): float64 and uint64 arrays of d_sae; None if not wanted. Returns the "
     "sentences."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot structural_slots[] = {
    {Py_tp_doc, "A suture_structural handle."},
    {Py_tp_dealloc, structural_dealloc},
    {Py_tp_methods, structural_methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec structural_spec = {
    .name = "suture._core.Structural",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = structural_slots,
};

// ---------------------------------------------------------------------------------------------
// Feature statistics
// ---------------------------------------------------------------------------------------------

static PyObject *statistics_create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    long long d_sae, top;
    if (!PyArg_ParseTuple(args, "LL", &d_sae, &top)) return NULL;
    suture_feature_statistics *handle = NULL;
    suture_status status = suture_feature_statistics_create(d_sae, top, &handle);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    PyObject *made = core_object_new(state->statistics, handle);
    if (!made) suture_feature_statistics_destroy(handle);
    return made;
}

static PyObject *statistics_update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes, *progress;
    if (!PyArg_ParseTuple(args, "O!O", state->codes, &codes, &progress) || core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_feature_statistics_update(handle_of(self), handle_of(codes), &call.progress);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    return none_unless(failed);
}

static PyObject *statistics_read_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"frequency", "mean", "maximum"};
    PyObject *objects[3];
    long long d_sae;
    if (!PyArg_ParseTuple(args, "LOOO", &d_sae, &objects[0], &objects[1], &objects[2])) return NULL;
    Py_buffer out[3];
    if (writable_arrays(objects, names, "ddf", d_sae, out) < 0) return NULL;
    uint64_t tokens = 0;
    int failed = core_read(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status =
            suture_feature_statistics_read(handle_of(self), out[0].buf, out[1].buf, out[2].buf, &tokens);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    release_arrays(out, 3);
    return failed ? NULL : PyLong_FromUnsignedLongLong(tokens);
}

static PyObject *statistics_examples_into(PyObject *self, PyObject *args) {
    static const char *const names[] = {"rows", "values"};
    PyObject *objects[2];
    long long d_sae, top;
    int64_t count;
    if (!PyArg_ParseTuple(args, "LLOO", &d_sae, &top, &objects[0], &objects[1])) return NULL;
    if (__builtin_mul_overflow(d_sae, top, &count)) {
        PyErr_SetString(PyExc_ValueError, "d_sae times top is beyond memory, expected less");
        return NULL;
    }
    Py_buffer out[2];
    if (writable_arrays(objects, names, "qf", count, out) < 0) return NULL;
    int failed = core_read(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status = suture_feature_statistics_examples(handle_of(self), out[0].buf, out[1].buf);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    release_arrays(out, 2);
    return none_unless(failed);
}

static void statistics_dealloc(PyObject *self) {
    suture_feature_statistics_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef statistics_methods[] = {
    {"update", statistics_update, METH_VARARGS, "update(codes, progress)."},
    {"read_into", statistics_read_into, METH_VARARGS,
     "read_into(d_sae, frequency, mean, maximum): float64, float64 and float32 arrays of d_sae; None if not wanted. "
     "Returns the tokens."},
    {"examples_into", statistics_examples_into, METH_VARARGS,
     "examples_into(d_sae, top, rows, values): int64 and float32 arrays of d_sae * top."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot statistics_slots[] = {
    {Py_tp_doc, "A suture_feature_statistics handle."},
    {Py_tp_dealloc, statistics_dealloc},
    {Py_tp_methods, statistics_methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec statistics_spec = {
    .name = "suture._core.FeatureStatistics",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = statistics_slots,
};

// ---------------------------------------------------------------------------------------------
// Decoder and unembedding
// ---------------------------------------------------------------------------------------------

static PyObject *logit_weights(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    static const char *const names[] = {"up_tokens", "up_values", "down_tokens", "down_values"};
    PyObject *decoder_rows, *unembedding_rows, *progress, *objects[4];
    long long count;
    suture_matrix decoder, unembedding;
    if (!PyArg_ParseTuple(args, "O!O!LOOOOO", state->rows, &decoder_rows, state->rows, &unembedding_rows, &count,
                          &progress, &objects[0], &objects[1], &objects[2], &objects[3]))
        return NULL;
    if (core_matrix(decoder_rows, "W_dec", &decoder) < 0 || core_matrix(unembedding_rows, "W_U", &unembedding) < 0)
        return NULL;
    int64_t size;
    if (__builtin_mul_overflow(decoder.rows, count, &size)) {
        PyErr_Format(PyExc_ValueError, "count is %lld, expected what memory can hold", count);
        return NULL;
    }
    Py_buffer out[4];
    if (writable_arrays(objects, names, "ifif", size, out) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_logit_weights(&decoder, &unembedding, count, &call.progress, out[0].buf,
                                                out[1].buf, out[2].buf, out[3].buf);
    int failed = core_call_end(&call, status);
    release_arrays(out, 4);
    return none_unless(failed);
}

static PyObject *null_space_fraction(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *decoder_rows, *unembedding_rows, *progress, *fraction_object, *singular_object;
    double share;
    suture_matrix decoder, unembedding;
    if (!PyArg_ParseTuple(args, "O!O!dOOO", state->rows, &decoder_rows, state->rows, &unembedding_rows, &share,
                          &progress, &fraction_object, &singular_object))
        return NULL;
    if (core_matrix(decoder_rows, "W_dec", &decoder) < 0 || core_matrix(unembedding_rows, "W_U", &unembedding) < 0)
        return NULL;
    Py_buffer fraction, singular;
    if (core_writable_array(fraction_object, "fraction", 'd', decoder.rows, &fraction) < 0) return NULL;
    if (core_writable_array(singular_object, "singular_values", 'd', decoder.cols, &singular) < 0) {
        core_array_release(&fraction);
        return NULL;
    }
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        suture_null_space_fraction(&decoder, &unembedding, share, &call.progress, fraction.buf, singular.buf);
    int failed = core_call_end(&call, status);
    core_array_release(&fraction);
    core_array_release(&singular);
    return none_unless(failed);
}

static PyMethodDef functions[] = {
    {"attribution_create", attribution_create, METH_VARARGS, "attribution_create(W_dec_a, W_U_a, W_dec_b, W_U_b)."},
    {"structural_create", structural_create, METH_VARARGS, "structural_create(d_sae)."},
    {"statistics_create", statistics_create, METH_VARARGS, "statistics_create(d_sae, top)."},
    {"logit_weights", logit_weights, METH_VARARGS,
     "logit_weights(W_dec, W_U, count, progress, up_tokens, up_values, down_tokens, down_values)."},
    {"null_space_fraction", null_space_fraction, METH_VARARGS,
     "null_space_fraction(W_dec, W_U, share, progress, fraction, singular_values)."},
    {NULL, NULL, 0, NULL},
};

int core_add_analysis(PyObject *module, core_state *state) {
    if (core_add_type(module, &attribution_spec, &state->attribution) < 0) return -1;
    if (core_add_type(module, &structural_spec, &state->structural) < 0) return -1;
    if (core_add_type(module, &statistics_spec, &state->statistics) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
