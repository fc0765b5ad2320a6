// SPDX-License-Identifier: Apache-2.0
// Methods that objects with a file and metadata share: the functions of the library differ in the type of
// their handle only, so each object brings adaptors.
#include "core.h"

PyObject *core_load(
    PyObject *args, core_state *state, PyTypeObject *type, suture_status (*load)(const char *, void **),
    void (*destroy)(void *)) {
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path)) return NULL;
    void *handle = NULL;
    const char *text = PyBytes_AsString(path);
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = load(text, &handle);
    int failed = core_call_end(&call, status);
    Py_DECREF(path);
    PyObject *object = failed ? NULL : core_object_new(type, handle);
    if (!object) destroy(handle);
    return object;
}

PyObject *core_save(PyObject *self, PyObject *args, suture_status (*save)(const void *, const char *)) {
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path)) return NULL;
    if (core_read(self) < 0) {
        Py_DECREF(path);
        return NULL;
    }
    const char *text = PyBytes_AsString(path);
    core_call call;
    core_call_begin(&call, core_state_of_object(self), NULL);
    suture_status status = save(((core_object *)self)->handle, text);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    Py_DECREF(path);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

PyObject *core_text(PyObject *self, suture_status (*text_of)(const void *, char *, uint64_t, uint64_t *)) {
    if (core_read(self) < 0) return NULL;
    const void *handle = ((core_object *)self)->handle;
    PyObject *text = NULL;
    char *bytes = NULL;
    uint64_t size = 0;
    suture_status status = text_of(handle, NULL, 0, &size);
    if (status == SUTURE_OK) {
        bytes = PyMem_Malloc(size ? (size_t)size : 1);
        if (!bytes) {
            PyErr_NoMemory();
            goto cleanup;
        }
        status = text_of(handle, bytes, size, &size);
    }
    if (status == SUTURE_OK) {
        text = PyUnicode_FromString(bytes);
    } else {
        core_raise(core_state_of_object(self), status);
    }
cleanup:
    PyMem_Free(bytes);
    core_done_reading(self);
    return text;
}

PyObject *core_set_text(PyObject *self, PyObject *args, suture_status (*set)(void *, const char *)) {
    const char *text;
    if (!PyArg_ParseTuple(args, "s", &text) || core_write(self) < 0) return NULL;
    suture_status status = set(((core_object *)self)->handle, text);
    core_done_writing(self);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
        return NULL;
    }
    Py_RETURN_NONE;
}
