// SPDX-License-Identifier: Apache-2.0
// Sites: which stream of which model, as tuples (model or None, layer or None, stream).
#include "core.h"

int core_site(PyObject *tuple, suture_site *out) {
    PyObject *layer;
    suture_site site = {.struct_size = sizeof site, .layer = -1};
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a site is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "zOs", &site.model, &layer, &site.stream)) return -1;
    if (layer != Py_None) {
        site.layer = PyLong_AsLongLong(layer);
        if (site.layer == -1 && PyErr_Occurred()) return -1;
    }
    *out = site;
    return 0;
}

int core_optional_site(PyObject *tuple, suture_site *storage, const suture_site **site) {
    *site = NULL;
    if (tuple == Py_None) return 0;
    if (core_site(tuple, storage) < 0) return -1;
    *site = storage;
    return 0;
}

static PyObject *made(core_state *state, suture_status status, const suture_site *site) {
    if (status != SUTURE_OK) {
        core_raise(state, status);
        return NULL;
    }
    if (site->layer < 0) return Py_BuildValue("(zOs)", site->model, Py_None, site->stream);
    return Py_BuildValue("(zLs)", site->model, (long long)site->layer, site->stream);
}

static PyObject *parse(PyObject *module, PyObject *args) {
    const char *name;
    long long n_layers;
    suture_site site = {.struct_size = sizeof site};
    if (!PyArg_ParseTuple(args, "sL", &name, &n_layers)) return NULL;
    return made(core_state_of(module), suture_site_parse(name, n_layers, &site), &site);
}

static PyObject *read_metadata(PyObject *module, PyObject *args) {
    const char *json;
    suture_site site = {.struct_size = sizeof site};
    if (!PyArg_ParseTuple(args, "s", &json)) return NULL;
    return made(core_state_of(module), suture_site_read(json, &site), &site);
}

static PyObject *name_of(PyObject *module, PyObject *args) {
    PyObject *tuple;
    suture_site site;
    char name[64];
    uint64_t size;
    if (!PyArg_ParseTuple(args, "O", &tuple) || core_site(tuple, &site) < 0) return NULL;
    suture_status status = suture_site_name(&site, name, sizeof name, &size);
    if (status != SUTURE_OK) {
        core_raise(core_state_of(module), status);
        return NULL;
    }
    return PyUnicode_FromString(name);
}

static PyObject *matches(PyObject *module, PyObject *args) {
    PyObject *one, *two;
    suture_site site, other;
    int32_t same = 0;
    if (!PyArg_ParseTuple(args, "OO", &one, &two) || core_site(one, &site) < 0 || core_site(two, &other) < 0) {
        return NULL;
    }
    suture_status status = suture_site_matches(&site, &other, &same);
    if (status != SUTURE_OK) {
        core_raise(core_state_of(module), status);
        return NULL;
    }
    return PyBool_FromLong(same);
}

static PyMethodDef functions[] = {
    {"site_parse", parse, METH_VARARGS, "site_parse(name, n_layers or 0): (model, layer, stream)."},
    {"site_read", read_metadata, METH_VARARGS, "site_read(json): (model, layer, stream)."},
    {"site_name", name_of, METH_VARARGS, "site_name(site): blocks.{layer}.hook_resid_pre, or ''."},
    {"site_matches", matches, METH_VARARGS, "site_matches(site, other)."},
    {NULL, NULL, 0, NULL},
};

int core_add_site(PyObject *module, core_state *state) {
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
