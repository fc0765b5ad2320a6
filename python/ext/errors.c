// SPDX-License-Identifier: Apache-2.0
// The one table from statuses to exceptions.
#include "core.h"

void core_raise(core_state *state, suture_status status) {
    PyObject *type = state->internal_error;
    switch (status) {
    case SUTURE_ERROR_INVALID_ARGUMENT: type = PyExc_ValueError; break;
    case SUTURE_ERROR_OUT_OF_MEMORY: type = PyExc_MemoryError; break;
    case SUTURE_ERROR_IO: type = PyExc_OSError; break;
    case SUTURE_ERROR_FORMAT: type = state->format_error; break;
    case SUTURE_ERROR_CANCELLED: type = PyExc_KeyboardInterrupt; break;
    case SUTURE_ERROR_NUMERICAL: type = state->numerical_error; break;
    case SUTURE_ERROR_UNSUPPORTED: type = state->unsupported_error; break;
    case SUTURE_ERROR_INTERNAL:
    case SUTURE_OK: break;
    }
    PyErr_SetString(type, suture_last_error());
}

static PyObject *make(
    PyObject *module, const char *name, const char *attribute, const char *doc, PyObject *first, PyObject *second) {
    PyObject *bases = second ? PyTuple_Pack(2, first, second) : PyTuple_Pack(1, first);
    if (!bases) return NULL;
    PyObject *type = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
    Py_DECREF(bases);
    if (type && PyModule_AddObjectRef(module, attribute, type) < 0) Py_CLEAR(type);
    return type;
}

int core_add_errors(PyObject *module, core_state *state) {
    state->suture_error = make(
        module, "suture.SutureError", "SutureError", "What the errors that only Suture knows have in common.",
        PyExc_Exception, NULL);
    if (!state->suture_error) return -1;
    state->format_error = make(
        module, "suture.FormatError", "FormatError",
        "A file or byte string is cut short, damaged or of another format.", state->suture_error, PyExc_ValueError);
    if (!state->format_error) return -1;
    state->numerical_error = make(
        module, "suture.NumericalError", "NumericalError",
        "A computation broke down: no convergence, a loss that is not finite.", state->suture_error,
        PyExc_ArithmeticError);
    if (!state->numerical_error) return -1;
    state->unsupported_error = make(
        module, "suture.UnsupportedError", "UnsupportedError",
        "What was asked is understood, but mathematically or technically not supported.", state->suture_error,
        PyExc_NotImplementedError);
    if (!state->unsupported_error) return -1;
    state->internal_error = make(
        module, "suture.InternalError", "InternalError", "A defect of Suture. Please report it.", state->suture_error,
        PyExc_RuntimeError);
    return state->internal_error ? 0 : -1;
}
