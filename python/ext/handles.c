// SPDX-License-Identifier: Apache-2.0
// What the handle types have in common.
#include "core.h"

#include <string.h>

int core_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (!type) return -1;
    *out = (PyTypeObject *)type;
    const char *dot = strrchr(spec->name, '.');
    return PyModule_AddObjectRef(module, dot ? dot + 1 : spec->name, type);
}

PyMemberDef core_object_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(core_object, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyObject *core_object_new(PyTypeObject *type, void *handle) {
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self) ((core_object *)self)->handle = handle;
    return self;
}

void core_object_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (((core_object *)self)->weak_references) PyObject_ClearWeakRefs(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int taken(const char *how) {
    PyErr_Format(
        PyExc_RuntimeError,
        "this object is being %s by another call (of another thread, or around this one): wait until that returns",
        how);
    return -1;
}

int core_read(PyObject *object) {
    core_object *self = (core_object *)object;
    if (self->written) return taken("changed");
    self->readers += 1;
    return 0;
}

int core_write(PyObject *object) {
    core_object *self = (core_object *)object;
    if (self->written || self->readers > 0) return taken(self->written ? "changed" : "used");
    self->written = true;
    return 0;
}

void core_done_reading(PyObject *object) { ((core_object *)object)->readers -= 1; }

void core_done_writing(PyObject *object) { ((core_object *)object)->written = false; }

int core_word_value(const core_word *table, const char *argument, const char *word, int *out) {
    char known[256] = "";
    for (const core_word *entry = table; entry->word; entry++) {
        if (strcmp(entry->word, word) == 0) {
            *out = entry->value;
            return 0;
        }
        size_t used = strlen(known);
        PyOS_snprintf(known + used, sizeof known - used, "%s'%s'", used ? ", " : "", entry->word);
    }
    PyErr_Format(PyExc_ValueError, "%s is '%s', expected one of %s", argument, word, known);
    return -1;
}

const char *core_word_of(const core_word *table, int value) {
    for (const core_word *entry = table; entry->word; entry++) {
        if (entry->value == value) return entry->word;
    }
    return "unknown";
}

const core_word core_directions[] = {{"up", SUTURE_UP}, {"down", SUTURE_DOWN}, {NULL, 0}};
