// SPDX-License-Identifier: Apache-2.0
//
// What the files of the extension share. Each file wraps one section of suture.h; every method
// parses its arguments, takes their memory, releases the GIL, calls one function of the library
// and hands the result back. There is no mathematics here.

#ifndef SUTURE_CORE_H
#define SUTURE_CORE_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <structmember.h>

#include "suture.h"

// ---------------------------------------------------------------------------------------------
// Module state
// ---------------------------------------------------------------------------------------------

typedef struct {
    PyObject *suture_error;
    PyObject *format_error;
    PyObject *numerical_error;
    PyObject *unsupported_error;
    PyObject *internal_error;
    PyTypeObject *rows;
    PyTypeObject *view;
    PyTypeObject *moments;
    PyTypeObject *stitch;
    PyTypeObject *sae;
    PyTypeObject *codes;
    PyTypeObject *evaluation;
    PyTypeObject *trainer;
    PyTypeObject *attribution;
    PyTypeObject *fidelity;
    PyTypeObject *matches;
    PyTypeObject *carry;
    PyTypeObject *structural;
    PyTypeObject *statistics;
    PyTypeObject *steering;
    PyTypeObject *probe;
} core_state;

static inline core_state *core_state_of(PyObject *module) { return PyModule_GetState(module); }
/// State of the module that made an object of one of our types (none of them can be subclassed).
static inline core_state *core_state_of_object(PyObject *object) { return PyType_GetModuleState(Py_TYPE(object)); }

// Each adds its types and functions to the module; -1 with an exception set on failure.
int core_add_errors(PyObject *module, core_state *state);
int core_add_library(PyObject *module, core_state *state);
int core_add_rows(PyObject *module, core_state *state);
int core_add_view(PyObject *module, core_state *state);
int core_add_alignment(PyObject *module, core_state *state);
int core_add_norms(PyObject *module, core_state *state);
int core_add_moments(PyObject *module, core_state *state);
int core_add_stitch(PyObject *module, core_state *state);
int core_add_sae(PyObject *module, core_state *state);
int core_add_codes(PyObject *module, core_state *state);
int core_add_evaluation(PyObject *module, core_state *state);
int core_add_trainer(PyObject *module, core_state *state);
int core_add_fidelity(PyObject *module, core_state *state);
int core_add_matches(PyObject *module, core_state *state);
int core_add_carry(PyObject *module, core_state *state);
int core_add_analysis(PyObject *module, core_state *state);
int core_add_site(PyObject *module, core_state *state);
int core_add_steering(PyObject *module, core_state *state);
int core_add_probe(PyObject *module, core_state *state);

/// Makes a type from `spec` and puts it in the module under its own name.
int core_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out);

// ---------------------------------------------------------------------------------------------
// Errors, and calls that take a while
// ---------------------------------------------------------------------------------------------

/// Sets the exception for a status other than SUTURE_OK, with this thread's message.
void core_raise(core_state *state, suture_status status);

/// A call without the GIL. `progress` goes to the library: at most every 30 ms it takes the GIL
/// back, lets Python handle signals, and calls `callable(done, total)`; what either raises stops
/// the call and becomes its exception.
typedef struct {
    core_state *state;
    PyObject *callable;
    PyThreadState *thread;
    int64_t last;
    bool stopped;
    suture_progress progress;
} core_call;

/// `callable` is borrowed; NULL or None for no reports.
void core_call_begin(core_call *call, core_state *state, PyObject *callable);
/// Takes the GIL back. -1 with an exception set unless all went well.
int core_call_end(core_call *call, suture_status status);

// ---------------------------------------------------------------------------------------------
// Handles
// ---------------------------------------------------------------------------------------------

/// A handle of the library as a Python object.
typedef struct {
    PyObject_HEAD
    void *handle;
    /// Calls that look at the handle now, and whether one changes it. Guarded by the GIL.
    int readers;
    bool written;
    PyObject *weak_references;
} core_object;

/// Wraps a handle, which it takes; destroys nothing on failure (the caller does).
PyObject *core_object_new(PyTypeObject *type, void *handle);
void core_object_free(PyObject *self);
extern PyMemberDef core_object_members[];

/// The library forbids other calls on a handle while one changes it. These turn that into a
/// RuntimeError: enter returns -1 if the handle is taken.
int core_read(PyObject *object);
int core_write(PyObject *object);
void core_done_reading(PyObject *object);
void core_done_writing(PyObject *object);

// ---------------------------------------------------------------------------------------------
// Files and metadata of objects
// ---------------------------------------------------------------------------------------------

/// An object of `type` from the file at the path that is the only argument.
PyObject *core_load(
    PyObject *args, core_state *state, PyTypeObject *type, suture_status (*load)(const char *, void **),
    void (*destroy)(void *));
/// Writes an object to the path that is the only argument.
PyObject *core_save(PyObject *self, PyObject *args, suture_status (*save)(const void *, const char *));
/// The text that a function of the library writes about a handle, such as its metadata.
PyObject *core_text(PyObject *self, suture_status (*text_of)(const void *, char *, uint64_t, uint64_t *));
/// Gives a handle the text that is the only argument.
PyObject *core_set_text(PyObject *self, PyObject *args, suture_status (*set)(void *, const char *));

// ---------------------------------------------------------------------------------------------
// Arrays in and out
// ---------------------------------------------------------------------------------------------

/// The matrix of a `Rows` object that needs no copy. -1 with an exception set otherwise.
int core_matrix(PyObject *rows, const char *name, suture_matrix *out);
/// Likewise, or a zeroed matrix for None.
int core_optional_matrix(PyObject *rows, const char *name, suture_matrix *out);

/// The matrices of a tuple of `Rows` objects, which must outlive them; free with PyMem_Free. NULL with
/// an exception set otherwise.
suture_matrix *core_matrices(core_state *state, PyObject *tuple, const char *name);

/// A writable C-contiguous array of `count` elements of one format character, or NULL data for
/// None. Release with core_array_release.
int core_writable_array(PyObject *object, const char *name, char format, int64_t count, Py_buffer *out);
/// A readable one of any length.
int core_readable_array(PyObject *object, const char *name, char format, Py_buffer *out);
void core_array_release(Py_buffer *buffer);

/// A read-only array over memory of `owner`, which it keeps alive. `cols` < 0: one-dimensional.
PyObject *core_view_new(core_state *state, PyObject *owner, const void *data, char format, int64_t rows, int64_t cols);
/// The same over a float32 matrix; one-dimensional if it has one row and `flat`.
PyObject *core_view_of_matrix(core_state *state, PyObject *owner, const suture_matrix *matrix, bool flat);

// ---------------------------------------------------------------------------------------------
// Sites
// ---------------------------------------------------------------------------------------------

/// A site from a tuple (model or None, layer or None, stream), whose texts it borrows. -1 with an
/// exception set otherwise.
int core_site(PyObject *tuple, suture_site *out);
/// Likewise; *site is `storage`, or NULL for None.
int core_optional_site(PyObject *tuple, suture_site *storage, const suture_site **site);

// ---------------------------------------------------------------------------------------------
// Names
// ---------------------------------------------------------------------------------------------

/// A word of the Python interface and the enumerator it stands for. Tables end with a NULL word.
typedef struct {
    const char *word;
    int value;
} core_word;

/// ValueError that lists the table if the word is not there.
int core_word_value(const core_word *table, const char *argument, const char *word, int *out);
const char *core_word_of(const core_word *table, int value);

/// Up or down.
extern const core_word core_directions[];

/// The settings of a training run from keywords with the names of the fields, enumerators as words; what
/// is not there stays 0, the default. -1 with an exception set on failure.
int core_train_config(PyObject *keywords, suture_train_config *out);

#endif
