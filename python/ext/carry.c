// SPDX-License-Identifier: Apache-2.0
// Carrying by pairs.
#include "core.h"

static suture_carry *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *create(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *sae;
    long long d_b, sample;
    int rounds, skip_decoder;
    suture_carry_config config = {.struct_size = sizeof config};
    if (!PyArg_ParseTuple(args, "O!LdLip", state->sae, &sae, &d_b, &config.ridge, &sample, &rounds, &skip_decoder)) return NULL;
    config.sample = sample;
    config.rounds = rounds ? rounds : -1;
    config.skip_decoder = skip_decoder;
    if (core_read(sae) < 0) return NULL;
    suture_carry *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_carry_create(((core_object *)sae)->handle, d_b, &config, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(sae);
    if (failed) return NULL;
    PyObject *made = core_object_new(state->carry, handle);
    if (!made) suture_carry_destroy(handle);
    return made;
}

static PyObject *update(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *rows_a, *rows_b, *progress;
    suture_matrix a, b;
    if (!PyArg_ParseTuple(args, "O!O!O", state->rows, &rows_a, state->rows, &rows_b, &progress)) return NULL;
    if (core_matrix(rows_a, "a", &a) < 0 || core_matrix(rows_b, "b", &b) < 0 || core_write(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_carry_update(handle_of(self), &a, &b, &call.progress);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

// finish(d_sae, site, firings, r_squared, progress): (SAE, Fidelity, dict)
static PyObject *finish(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    long long d_sae;
    PyObject *place, *objects[2], *progress;
    suture_site storage;
    const suture_site *site;
    if (!PyArg_ParseTuple(args, "LOOOO", &d_sae, &place, &objects[0], &objects[1], &progress) ||
        core_optional_site(place, &storage, &site) < 0) {
        return NULL;
    }
    Py_buffer firings, r_squared;
    if (core_writable_array(objects[0], "firings", 'Q', d_sae, &firings) < 0) return NULL;
    if (core_writable_array(objects[1], "r_squared", 'd', d_sae, &r_squared) < 0) {
        core_array_release(&firings);
        return NULL;
    }
    suture_sae *sae = NULL;
    suture_fidelity *fidelity = NULL;
    suture_carry_report report = {.struct_size = sizeof report};
    int failed = core_write(self);
    if (!failed) {
        core_call call;
        core_call_begin(&call, state, progress);
        suture_status status = suture_carry_finish(
            handle_of(self), site, &call.progress, &sae, &report, firings.buf, r_squared.buf, &fidelity);
        failed = core_call_end(&call, status);
        core_done_writing(self);
    }
    core_array_release(&r_squared);
    core_array_release(&firings);
    PyObject *made = NULL, *compared = NULL;
    if (!failed) {
        made = core_object_new(state->sae, sae);
        if (made) sae = NULL;
        compared = made ? core_object_new(state->fidelity, fidelity) : NULL;
        if (compared) fidelity = NULL;
    }
    suture_sae_destroy(sae);
    suture_fidelity_destroy(fidelity);
    if (!compared) {
        Py_XDECREF(made);
        return NULL;
    }
    return Py_BuildValue(
        "(NN{s:L,s:L,s:L,s:L,s:d,s:d})", made, compared, "rows", (long long)report.rows, "held_out_rows",
        (long long)report.held_out_rows, "silent", (long long)report.silent, "unpredicted",
        (long long)report.unpredicted, "ridge", report.ridge, "seconds", report.seconds);
}

// carry_probe(moments, probe, outputs, ridge, site, r_squared, progress): (Probe, ridge)
static PyObject *carry_probe(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *moments, *probe, *place, *object, *progress;
    long long outputs;
    double ridge, used = 0;
    suture_site storage;
    const suture_site *site;
    if (!PyArg_ParseTuple(
            args, "O!O!LdOOO", state->moments, &moments, state->probe, &probe, &outputs, &ridge, &place, &object,
            &progress) ||
        core_optional_site(place, &storage, &site) < 0) {
        return NULL;
    }
    Py_buffer r_squared;
    if (core_writable_array(object, "r_squared", 'd', outputs, &r_squared) < 0) return NULL;
    suture_probe *handle = NULL;
    int failed = -1;
    if (core_read(moments) == 0) {
        if (core_read(probe) == 0) {
            core_call call;
            core_call_begin(&call, state, progress);
            suture_status status = suture_moments_carry_probe(
                ((core_object *)moments)->handle, ((core_object *)probe)->handle, ridge, site, &call.progress,
                &handle, &used, r_squared.buf);
            failed = core_call_end(&call, status);
            core_done_reading(probe);
        }
        core_done_reading(moments);
    }
    core_array_release(&r_squared);
    PyObject *made = failed ? NULL : core_object_new(state->probe, handle);
    if (!made) {
        suture_probe_destroy(handle);
        return NULL;
    }
    return Py_BuildValue("(Nd)", made, used);
}

static PyObject *held_out(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    long long first, count;
    if (!PyArg_ParseTuple(args, "LL", &first, &count)) return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count < 0 ? 0 : (Py_ssize_t)count);
    if (!bytes) return NULL;
    suture_status status = suture_carry_held_out(first, count, (uint8_t *)PyBytes_AsString(bytes));
    if (status == SUTURE_OK) return bytes;
    Py_DECREF(bytes);
    core_raise(state, status);
    return NULL;
}

static void dealloc(PyObject *self) {
    suture_carry_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(rows_a, rows_b, progress)."},
    {"finish", finish, METH_VARARGS,
     "finish(d_sae, site, firings, r_squared, progress): (SAE, Fidelity, dict); arrays of d_sae."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_carry handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Carry",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"carry_create", create, METH_VARARGS, "carry_create(sae, d_b, ridge, sample, rounds, skip_decoder)."},
    {"carry_probe", carry_probe, METH_VARARGS,
     "carry_probe(moments, probe, outputs, ridge, site, r_squared, progress): (Probe, ridge)."},
    {"carry_held_out", held_out, METH_VARARGS, "carry_held_out(first, count): bytes, 1 for each pair held out."},
    {NULL, NULL, 0, NULL},
};

int core_add_carry(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->carry) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
