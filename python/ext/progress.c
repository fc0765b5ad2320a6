// SPDX-License-Identifier: Apache-2.0
// Calls without the GIL, and the way back in for signals and progress reports.
#include "core.h"

#include <time.h>

// The library reports at least every 50 ms of work; taking the GIL more often than this would
// only slow other threads down, and Ctrl-C is still noticed well within a quarter of a second.
#define REPORT_INTERVAL_NS (30 * 1000 * 1000)

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

// Runs on the thread that made the call, as suture_progress_callback promises.
static int32_t report(void *context, uint64_t done, uint64_t total) {
    core_call *call = context;
    // The library may ask again while its other threads come to rest. Python must not be entered
    // with an exception set.
    if (call->stopped) return 1;
    int64_t time = now();
    if (time - call->last < REPORT_INTERVAL_NS) return 0;
    PyEval_RestoreThread(call->thread);
    // Does nothing on threads other than the main one.
    call->stopped = PyErr_CheckSignals() < 0;
    if (!call->stopped && call->callable) {
        PyObject *result = PyObject_CallFunction(
            call->callable, "KK", (unsigned long long)done, (unsigned long long)total);
        call->stopped = result == NULL;
        Py_XDECREF(result);
    }
    // An exception stays with the thread state until core_call_end.
    call->last = now();
    call->thread = PyEval_SaveThread();
    return call->stopped;
}

void core_call_begin(core_call *call, core_state *state, PyObject *callable) {
    call->state = state;
    call->callable = callable == Py_None ? NULL : callable;
    call->last = now();
    call->stopped = false;
    call->progress.callback = report;
    call->progress.context = call;
    call->thread = PyEval_SaveThread();
}

int core_call_end(core_call *call, suture_status status) {
    PyEval_RestoreThread(call->thread);
    // What the callback or a signal handler raised comes first, even if the library had finished.
    if (PyErr_Occurred()) return -1;
    if (status == SUTURE_OK) return 0;
    core_raise(call->state, status);
    return -1;
}
