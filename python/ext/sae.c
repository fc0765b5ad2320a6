// SPDX-License-Identifier: Apache-2.0
// Sparse autoencoders: making, applying, keeping.
#include "core.h"

static const core_word architectures[] = {
    {"topk", SUTURE_TOPK}, {"batchtopk", SUTURE_BATCHTOPK}, {"jumprelu", SUTURE_JUMPRELU},
    {"relu", SUTURE_RELU}, {"gated", SUTURE_GATED},         {NULL, 0},
};
static const core_word normalizations[] = {
    {"none", SUTURE_NORMALIZATION_NONE},
    {"fixed_scale", SUTURE_NORMALIZATION_FIXED_SCALE},
    {"token_norm", SUTURE_NORMALIZATION_TOKEN_NORM},
    {"layer_norm", SUTURE_NORMALIZATION_LAYER_NORM},
    {NULL, 0},
};
static const core_word weights[] = {
    {"W_enc", SUTURE_SAE_W_ENC}, {"b_enc", SUTURE_SAE_B_ENC},         {"W_dec", SUTURE_SAE_W_DEC},
    {"b_dec", SUTURE_SAE_B_DEC}, {"threshold", SUTURE_SAE_THRESHOLD}, {"b_gate", SUTURE_SAE_B_GATE},
    {"b_mag", SUTURE_SAE_B_MAG}, {"r_mag", SUTURE_SAE_R_MAG},         {NULL, 0},
};

static suture_sae *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *wrap(core_state *state, suture_sae *handle) {
    PyObject *object = core_object_new(state->sae, handle);
    if (!object) suture_sae_destroy(handle);
    return object;
}

static int set_words(suture_sae_config *config, const char *architecture, const char *normalization) {
    int value;
    if (core_word_value(architectures, "architecture", architecture, &value) < 0) return -1;
    config->architecture = (suture_architecture)value;
    if (core_word_value(normalizations, "normalization", normalization, &value) < 0) return -1;
    config->normalization = (suture_normalization)value;
    return 0;
}

// create(architecture, k, apply_b_dec_to_input, rescale_by_decoder_norm, normalization, scale,
// W_enc, b_enc, W_dec, b_dec, threshold, b_gate, b_mag, r_mag), None for what is lacking.
static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    const char *architecture, *normalization;
    long long k;
    int apply_b_dec, rescale;
    PyObject *arrays[8];
    suture_sae_config config = {.struct_size = sizeof config};
    suture_sae_weights values = {.struct_size = sizeof values};
    suture_matrix *const targets[8] = {
        &values.W_enc, &values.b_enc, &values.W_dec, &values.b_dec,
        &values.threshold, &values.b_gate, &values.b_mag, &values.r_mag,
    };
    if (!PyArg_ParseTuple(
            args, "sLppsdOOOOOOOO", &architecture, &k, &apply_b_dec, &rescale, &normalization, &config.scale, arrays,
            arrays + 1, arrays + 2, arrays + 3, arrays + 4, arrays + 5, arrays + 6, arrays + 7)) {
        return NULL;
    }
    if (set_words(&config, architecture, normalization) < 0) return NULL;
    for (int i = 0; i < 8; i++) {
        if (arrays[i] != Py_None && !PyObject_TypeCheck(arrays[i], state->rows)) {
            PyErr_Format(PyExc_TypeError, "%s is not a Rows object", weights[i].word);
            return NULL;
        }
        if (core_optional_matrix(arrays[i], weights[i].word, targets[i]) < 0) return NULL;
    }
    config.d_in = values.W_enc.rows;
    config.d_sae = values.W_enc.cols;
    config.k = k;
    config.apply_b_dec_to_input = apply_b_dec;
    config.rescale_by_decoder_norm = rescale;
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_sae_create(&config, &values, &handle);
    if (core_call_end(&call, status) < 0) {
        suture_sae_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

// init(d_in, d_sae, architecture, k, apply_b_dec_to_input, rescale_by_decoder_norm, seed)
static PyObject *init(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    const char *architecture;
    long long d_in, d_sae, k;
    int apply_b_dec, rescale;
    unsigned long long seed;
    suture_sae_config config = {.struct_size = sizeof config};
    if (!PyArg_ParseTuple(args, "LLsLppK", &d_in, &d_sae, &architecture, &k, &apply_b_dec, &rescale, &seed)) {
        return NULL;
    }
    if (set_words(&config, architecture, "none") < 0) return NULL;
    config.d_in = d_in;
    config.d_sae = d_sae;
    config.k = k;
    config.apply_b_dec_to_input = apply_b_dec;
    config.rescale_by_decoder_norm = rescale;
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_sae_init(&config, seed, &handle);
    if (core_call_end(&call, status) < 0) {
        suture_sae_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static suture_status load_from(const char *path, void **out) {
    suture_sae *handle = NULL;
    suture_status status = suture_sae_load(path, &handle);
    *out = handle;
    return status;
}

static void destroy(void *handle) { suture_sae_destroy(handle); }

static PyObject *load(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    return core_load(args, state, state->sae, load_from, destroy);
}

static suture_status save_to(const void *handle, const char *path) { return suture_sae_save(handle, path); }

static PyObject *save(PyObject *self, PyObject *args) { return core_save(self, args, save_to); }

static PyObject *info(PyObject *self, PyObject *unused) {
    (void)unused;
    suture_sae_config config = {.struct_size = sizeof config};
    suture_status status = suture_sae_info(handle_of(self), &config);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    return Py_BuildValue(
        "{s:L,s:L,s:s,s:L,s:O,s:O,s:s,s:d}", "d_in", (long long)config.d_in, "d_sae", (long long)config.d_sae,
        "architecture", core_word_of(architectures, (int)config.architecture), "k", (long long)config.k,
        "apply_b_dec_to_input", config.apply_b_dec_to_input ? Py_True : Py_False, "rescale_by_decoder_norm",
        config.rescale_by_decoder_norm ? Py_True : Py_False, "normalization",
        core_word_of(normalizations, (int)config.normalization), "scale", config.scale);
}

static PyObject *weight(PyObject *self, PyObject *args) {
    const char *name;
    int which;
    if (!PyArg_ParseTuple(args, "s", &name) || core_word_value(weights, "name", name, &which) < 0) return NULL;
    core_state *state = core_state_of_object(self);
    suture_matrix matrix;
    suture_status status = suture_sae_weight(handle_of(self), (suture_sae_weight_name)which, &matrix);
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    return core_view_of_matrix(state, self, &matrix, name[0] != 'W');
}

static PyObject *fold(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    if (core_read(self) < 0) return NULL;
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_sae_fold(handle_of(self), &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) {
        suture_sae_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static suture_status text_of(const void *handle, char *json, uint64_t capacity, uint64_t *size) {
    return suture_sae_metadata(handle, json, capacity, size);
}

static PyObject *metadata(PyObject *self, PyObject *unused) {
    (void)unused;
    return core_text(self, text_of);
}

static suture_status set_text(void *handle, const char *json) { return suture_sae_set_metadata(handle, json); }

static PyObject *set_metadata(PyObject *self, PyObject *args) { return core_set_text(self, args, set_text); }

static PyObject *encode(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *progress;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(args, "O!O", state->rows, &x, &progress)) return NULL;
    if (core_matrix(x, "x", &matrix) < 0 || core_read(self) < 0) return NULL;
    suture_codes *handle = NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_sae_encode(handle_of(self), &matrix, &call.progress, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    PyObject *codes = failed ? NULL : core_object_new(state->codes, handle);
    if (!codes) suture_codes_destroy(handle);
    return codes;
}

static PyObject *decode(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *codes, *out, *progress;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(args, "O!O!O", state->codes, &codes, state->rows, &out, &progress)) return NULL;
    if (core_matrix(out, "out", &matrix) < 0 || core_read(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status =
        suture_sae_decode(handle_of(self), ((core_object *)codes)->handle, &call.progress, &matrix);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *reconstruct(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *out, *progress;
    suture_matrix input, output;
    if (!PyArg_ParseTuple(args, "O!O!O", state->rows, &x, state->rows, &out, &progress)) return NULL;
    if (core_matrix(x, "x", &input) < 0 || core_matrix(out, "out", &output) < 0 || core_read(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_sae_reconstruct(handle_of(self), &input, &call.progress, &output);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// refit_decoder(shards, ridge, tolerance, tokens, max_iterations, tied_rounds, progress): (SAE, dict)
static PyObject *refit_decoder(PyObject *self, PyObject *args) {
    static const core_word solvers[] = {
        {"cholesky", SUTURE_REFIT_CHOLESKY}, {"conjugate_gradients", SUTURE_REFIT_CONJUGATE_GRADIENTS}, {NULL, 0},
    };
    core_state *state = core_state_of_object(self);
    PyObject *list, *progress;
    long long tokens;
    suture_refit_config config = {.struct_size = sizeof config};
    if (!PyArg_ParseTuple(
            args, "O!ddLiiO", &PyList_Type, &list, &config.ridge, &config.tolerance, &tokens, &config.max_iterations,
            &config.tied_rounds, &progress)) {
        return NULL;
    }
    config.tokens = tokens;
    // The tuple keeps the shards alive while the GIL is not held.
    PyObject *shards = PyList_AsTuple(list);
    suture_matrix *matrices = shards ? core_matrices(state, shards, "shards") : NULL;
    if (!matrices || core_read(self) < 0) {
        PyMem_Free(matrices);
        Py_XDECREF(shards);
        return NULL;
    }
    suture_sae *handle = NULL;
    suture_refit_report report = {.struct_size = sizeof report};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_sae_refit_decoder(
        handle_of(self), matrices, PyTuple_Size(shards), &config, &call.progress, &handle, &report);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    PyMem_Free(matrices);
    Py_DECREF(shards);
    PyObject *refitted = failed ? NULL : wrap(state, handle);
    if (!refitted) {
        if (failed) suture_sae_destroy(handle);
        return NULL;
    }
    return Py_BuildValue(
        "(N{s:K,s:L,s:d,s:d,s:s,s:i,s:d,s:O,s:d,s:d})", refitted, "tokens", (unsigned long long)report.tokens,
        "silent", (long long)report.silent, "explained_variance_before", report.explained_variance_before,
        "explained_variance_after", report.explained_variance_after, "solver",
        core_word_of(solvers, (int)report.solver), "iterations", (int)report.iterations, "residual", report.residual,
        "converged", report.converged ? Py_True : Py_False, "flops_executed", report.flops_executed, "seconds",
        report.seconds);
}

// Arrays of what is known of latents, int64 and then float64, in the order of suture_latent_evidence.
enum { EVIDENCE_ARRAYS = 7 };
static const char *const evidence_names[EVIDENCE_ARRAYS] = {
    "source_latent", "firings", "active_a", "active_b", "active_both", "r_squared", "correlation",
};

static int take_evidence(PyObject *const *objects, long long d_sae, Py_buffer *arrays, suture_latent_evidence *out) {
    void **const targets[EVIDENCE_ARRAYS] = {
        (void **)&out->source_latent, (void **)&out->firings,   (void **)&out->active_a,    (void **)&out->active_b,
        (void **)&out->active_both,   (void **)&out->r_squared, (void **)&out->correlation,
    };
    for (int i = 0; i < EVIDENCE_ARRAYS; i++) {
        if (core_writable_array(objects[i], evidence_names[i], i < 5 ? 'q' : 'd', d_sae, &arrays[i]) < 0) {
            while (i-- > 0) core_array_release(&arrays[i]);
            return -1;
        }
        *targets[i] = arrays[i].buf;
    }
    return 0;
}

// evidence_into(d_sae, *arrays): (rows, held_out_rows), or None where there is no evidence
static PyObject *evidence_into(PyObject *self, PyObject *args) {
    long long d_sae;
    PyObject *o[EVIDENCE_ARRAYS];
    Py_buffer arrays[EVIDENCE_ARRAYS];
    suture_latent_evidence values = {.struct_size = sizeof values};
    if (!PyArg_ParseTuple(args, "LOOOOOOO", &d_sae, &o[0], &o[1], &o[2], &o[3], &o[4], &o[5], &o[6]) ||
        take_evidence(o, d_sae, arrays, &values) < 0) {
        return NULL;
    }
    int32_t known = 0;
    int failed = core_read(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status = suture_sae_evidence(handle_of(self), &known, &values);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    for (int i = 0; i < EVIDENCE_ARRAYS; i++) core_array_release(&arrays[i]);
    if (failed) return NULL;
    if (!known) Py_RETURN_NONE;
    return Py_BuildValue("(LL)", (long long)values.rows, (long long)values.held_out_rows);
}

static PyObject *set_evidence(PyObject *self, PyObject *args) {
    long long rows, held_out_rows, d_sae;
    PyObject *o[EVIDENCE_ARRAYS];
    Py_buffer arrays[EVIDENCE_ARRAYS];
    suture_latent_evidence values = {.struct_size = sizeof values};
    if (!PyArg_ParseTuple(args, "LLLOOOOOOO", &rows, &held_out_rows, &d_sae, &o[0], &o[1], &o[2], &o[3], &o[4], &o[5],
                          &o[6]) ||
        take_evidence(o, d_sae, arrays, &values) < 0) {
        return NULL;
    }
    values.rows = rows;
    values.held_out_rows = held_out_rows;
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, core_state_of_object(self), NULL);
        suture_status status = suture_sae_set_evidence(handle_of(self), &values);
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    for (int i = 0; i < EVIDENCE_ARRAYS; i++) core_array_release(&arrays[i]);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// select(latents, shards, progress): SAE
static PyObject *select_latents(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *numbers, *list, *progress;
    Py_buffer latents;
    if (!PyArg_ParseTuple(args, "OO!O", &numbers, &PyList_Type, &list, &progress) ||
        core_readable_array(numbers, "latents", 'q', &latents) < 0) {
        return NULL;
    }
    // The tuple keeps the shards alive while the GIL is not held.
    PyObject *shards = PyList_AsTuple(list);
    suture_matrix *matrices = shards ? core_matrices(state, shards, "shards") : NULL;
    suture_sae *handle = NULL;
    int failed = !matrices || core_read(self) < 0;
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, progress);
        suture_status status = suture_sae_select(
            handle_of(self), latents.buf, latents.len / 8, matrices, PyTuple_Size(shards), &call.progress, &handle);
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    PyMem_Free(matrices);
    Py_XDECREF(shards);
    core_array_release(&latents);
    if (failed) {
        suture_sae_destroy(handle);
        return NULL;
    }
    return wrap(state, handle);
}

static void dealloc(PyObject *self) {
    suture_sae_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"info", info, METH_NOARGS, "info(): dict of the settings."},
    {"weight", weight, METH_VARARGS, "weight(name): a View."},
    {"fold", fold, METH_NOARGS, "fold(): a SAE."},
    {"metadata", metadata, METH_NOARGS, "metadata(): JSON text."},
    {"set_metadata", set_metadata, METH_VARARGS, "set_metadata(json)."},
    {"save", save, METH_VARARGS, "save(folder)."},
    {"encode", encode, METH_VARARGS, "encode(x, progress): Codes."},
    {"decode", decode, METH_VARARGS, "decode(codes, out, progress)."},
    {"refit_decoder", refit_decoder, METH_VARARGS,
     "refit_decoder(shards, ridge, tolerance, tokens, max_iterations, tied_rounds, progress): (SAE, dict)."},
    {"evidence_into", evidence_into, METH_VARARGS,
     "evidence_into(d_sae, source_latent, firings, active_a, active_b, active_both, r_squared, correlation): int64 and "
     "float64 arrays of d_sae. Returns (rows, held_out_rows), None where there is no evidence."},
    {"set_evidence", set_evidence, METH_VARARGS, "set_evidence(rows, held_out_rows, d_sae, *arrays)."},
    {"select", select_latents, METH_VARARGS, "select(latents, shards, progress): SAE; latents int64."},
    {"reconstruct", reconstruct, METH_VARARGS, "reconstruct(x, out, progress)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_sae handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.SAE",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"sae_create", create, METH_VARARGS,
     "sae_create(architecture, k, apply_b_dec_to_input, rescale_by_decoder_norm, normalization, scale, *weights)."},
    {"sae_init", init, METH_VARARGS,
     "sae_init(d_in, d_sae, architecture, k, apply_b_dec_to_input, rescale_by_decoder_norm, seed)."},
    {"sae_load", load, METH_VARARGS, "sae_load(folder)."},
    {NULL, NULL, 0, NULL},
};

int core_add_sae(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->sae) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
