// SPDX-License-Identifier: Apache-2.0
// The module: multi-phase initialisation, and the functions about the library as a whole.
#include "core.h"

static PyObject *set_threads(PyObject *module, PyObject *args) {
    int count;
    if (!PyArg_ParseTuple(args, "i", &count)) return NULL;
    suture_status status = suture_set_threads(count);
    if (status != SUTURE_OK) {
        core_raise(core_state_of(module), status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *cpu_info(PyObject *module, PyObject *unused) {
    (void)unused;
    suture_cpu_info_report report = {.struct_size = sizeof report};
    // The first call may start OpenBLAS anew.
    core_call call;
    core_call_begin(&call, core_state_of(module), NULL);
    suture_status status = suture_cpu_info(&report);
    if (core_call_end(&call, status) < 0) return NULL;
    return Py_BuildValue(
        "{s:s,s:s,s:s,s:s,s:i,s:i}", "kernels", report.kernels, "features", report.features, "blas_core",
        report.blas_core, "blas_core_detected", report.blas_core_detected, "threads", (int)report.threads,
        "processors", (int)report.processors);
}

static PyMethodDef functions[] = {
    {"set_threads", set_threads, METH_VARARGS, "set_threads(count): threads of each call; 0 for the default."},
    {"cpu_info", cpu_info, METH_NOARGS, "cpu_info(): kernels, OpenBLAS core type and threads in use."},
    {NULL, NULL, 0, NULL},
};

int core_add_library(PyObject *module, core_state *state) {
    (void)state;
    if (PyModule_AddStringConstant(module, "version", suture_version()) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}

static int execute(PyObject *module) {
    core_state *state = core_state_of(module);
    if (suture_abi_version() != SUTURE_ABI_VERSION) {
        PyErr_Format(
            PyExc_ImportError, "libsuture has interface version %d, expected %d: rebuild the package",
            (int)suture_abi_version(), SUTURE_ABI_VERSION);
        return -1;
    }
    static int (*const parts[])(PyObject *, core_state *) = {
        core_add_errors, core_add_library, core_add_rows, core_add_view, core_add_alignment, core_add_norms, core_add_moments,
        core_add_stitch, core_add_sae,     core_add_codes,      core_add_evaluation, core_add_trainer,
        core_add_fidelity, core_add_matches, core_add_carry,
        core_add_analysis,
        core_add_steering, core_add_site,
        core_add_probe,
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i](module, state) < 0) return -1;
    }
    return 0;
}

// Every object of the state, for the garbage collector.
#define FOR_ALL(state, apply) \
    apply((state)->suture_error); \
    apply((state)->format_error); \
    apply((state)->numerical_error); \
    apply((state)->unsupported_error); \
    apply((state)->internal_error); \
    apply((state)->rows); \
    apply((state)->view); \
    apply((state)->moments); \
    apply((state)->stitch); \
    apply((state)->sae); \
    apply((state)->codes); \
    apply((state)->evaluation); \
    apply((state)->trainer); \
    apply((state)->attribution); \
    apply((state)->fidelity); \
    apply((state)->matches); \
    apply((state)->carry); \
    apply((state)->structural); \
    apply((state)->statistics); \
    apply((state)->steering); \
    apply((state)->probe)

static int traverse(PyObject *module, visitproc visit, void *arg) {
    core_state *state = core_state_of(module);
    FOR_ALL(state, Py_VISIT);
    return 0;
}

static int clear(PyObject *module) {
    core_state *state = core_state_of(module);
    FOR_ALL(state, Py_CLEAR);
    return 0;
}

static void release(void *module) { clear(module); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "suture._core",
    .m_doc = "The C interface of Suture as Python objects. Private: use the package `suture`.",
    .m_size = sizeof(core_state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
