// SPDX-License-Identifier: Apache-2.0
// Training.
#include "core.h"

static suture_trainer *handle_of(PyObject *object) { return ((core_object *)object)->handle; }

static PyObject *metrics_dict(const suture_train_metrics *value) {
    return Py_BuildValue(
        "{s:K,s:K,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:L,s:d,s:d,s:d,s:d}", "steps", (unsigned long long)value->steps, "tokens",
        (unsigned long long)value->tokens, "loss", value->loss, "sparsity_loss", value->sparsity_loss,
        "aux_loss", value->aux_loss, "pull_loss", value->pull_loss, "explained_variance", value->explained_variance,
        "explained_variance_average", value->explained_variance_average, "l0", value->l0, "dead",
        (long long)value->dead, "lr", value->lr, "seconds", value->seconds, "flops", value->flops, "flops_executed",
        value->flops_executed);
}

static PyObject *create(PyObject *module, PyObject *args, PyObject *options) {
    core_state *state = core_state_of(module);
    PyObject *sae;
    suture_train_config config;
    if (!PyArg_ParseTuple(args, "O!", state->sae, &sae) || core_train_config(options, &config) < 0) return NULL;
    if (core_read(sae) < 0) return NULL;
    suture_trainer *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_create(((core_object *)sae)->handle, &config, &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(sae);
    PyObject *made = failed ? NULL : core_object_new(state->trainer, handle);
    if (!made) suture_trainer_destroy(handle);
    return made;
}

// Codes of another model, or None.
static int optional_codes(core_state *state, PyObject *object, const suture_codes **out) {
    *out = NULL;
    if (object == Py_None) return 0;
    if (!PyObject_TypeCheck(object, state->codes)) {
        PyErr_SetString(PyExc_TypeError, "like is not a Codes object");
        return -1;
    }
    *out = ((core_object *)object)->handle;
    return 0;
}

// step(x, like, progress)
static PyObject *step(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *like, *progress;
    const suture_codes *codes;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(args, "O!OO", state->rows, &x, &like, &progress)) return NULL;
    if (optional_codes(state, like, &codes) < 0) return NULL;
    if (core_matrix(x, "x", &matrix) < 0 || core_write(self) < 0) return NULL;
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = codes
        ? suture_trainer_step_like(handle_of(self), &matrix, codes, &call.progress, &metrics)
        : suture_trainer_step(handle_of(self), &matrix, &call.progress, &metrics);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    return failed ? NULL : metrics_dict(&metrics);
}

/// Trainers that the call has to itself.
typedef struct {
    PyObject *objects;
    Py_ssize_t count;
    suture_trainer **handles;
    suture_train_metrics *metrics;
} trainer_list;

static void release_trainers(trainer_list *list) {
    for (Py_ssize_t i = 0; i < list->count; i++) core_done_writing(PyTuple_GetItem(list->objects, i));
    PyMem_Free(list->handles);
    PyMem_Free(list->metrics);
}

static int take_trainers(core_state *state, PyObject *objects, trainer_list *out) {
    Py_ssize_t count = PyTuple_Size(objects);
    size_t places = count ? (size_t)count : 1;
    trainer_list list = {.objects = objects};
    list.handles = PyMem_Malloc(places * sizeof *list.handles);
    list.metrics = PyMem_Malloc(places * sizeof *list.metrics);
    if (!list.handles || !list.metrics) {
        PyErr_NoMemory();
        goto failed;
    }
    for (; list.count < count; list.count++) {
        PyObject *object = PyTuple_GetItem(objects, list.count);
        if (!PyObject_TypeCheck(object, state->trainer)) {
            PyErr_SetString(PyExc_TypeError, "trainers holds something else than Trainer");
            goto failed;
        }
        if (core_write(object) < 0) goto failed;
        list.handles[list.count] = handle_of(object);
        list.metrics[list.count] = (suture_train_metrics){.struct_size = sizeof(suture_train_metrics)};
    }
    *out = list;
    return 0;
failed:
    release_trainers(&list);
    return -1;
}

static PyObject *run(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    PyObject *trainers, *list, *like, *like_list, *progress, *result = NULL;
    unsigned long long tokens;
    int taking;
    if (!PyArg_ParseTuple(
            args, "O!O!OO!KpO", &PyList_Type, &trainers, &PyList_Type, &list, &like, &PyList_Type, &like_list, &tokens,
            &taking, &progress)) {
        return NULL;
    }
    if (like != Py_None && !PyObject_TypeCheck(like, state->sae)) {
        PyErr_SetString(PyExc_TypeError, "like is not a SAE");
        return NULL;
    }
    // Tuples keep trainers and shards alive while the GIL is not held.
    PyObject *objects = PyList_AsTuple(trainers), *shards = PyList_AsTuple(list), *others = PyList_AsTuple(like_list);
    suture_matrix *matrices = objects && shards && others ? core_matrices(state, shards, "shards") : NULL;
    suture_matrix *like_matrices = matrices ? core_matrices(state, others, "like_shards") : NULL;
    trainer_list taken;
    int reads_like = 0;
    if (!like_matrices) goto cleanup;
    if (like != Py_None) {
        if (core_read(like) < 0) goto cleanup;
        reads_like = 1;
    }
    if (take_trainers(state, objects, &taken) < 0) goto cleanup;
    core_call call;
    core_call_begin(&call, state, progress);
    suture_train_metrics *metrics_out = taking ? taken.metrics : NULL;
    suture_status status = like == Py_None
        ? suture_trainers_run(
              taken.handles, taken.count, matrices, PyTuple_Size(shards), tokens, &call.progress, metrics_out)
        : suture_trainers_run_like(
              taken.handles, taken.count, matrices, PyTuple_Size(shards), ((core_object *)like)->handle, like_matrices,
              PyTuple_Size(others), tokens, &call.progress, metrics_out);
    if (core_call_end(&call, status) == 0) {
        result = PyList_New(taking ? taken.count : 0);
        for (Py_ssize_t i = 0; taking && result && i < taken.count; i++) {
            PyObject *metrics = metrics_dict(&taken.metrics[i]);
            if (!metrics || PyList_SetItem(result, i, metrics) < 0) Py_CLEAR(result);
        }
    }
    release_trainers(&taken);
cleanup:
    if (reads_like) core_done_reading(like);
    PyMem_Free(matrices);
    PyMem_Free(like_matrices);
    Py_XDECREF(objects);
    Py_XDECREF(shards);
    Py_XDECREF(others);
    return result;
}

static PyObject *check_data(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *list;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &list)) return NULL;
    PyObject *shards = PyList_AsTuple(list);
    suture_matrix *matrices = shards ? core_matrices(state, shards, "shards") : NULL;
    int failed = -1;
    if (matrices && core_read(self) == 0) {
        core_call call;
        core_call_begin(&call, state, NULL);
        suture_status status = suture_trainer_check_data(handle_of(self), matrices, PyTuple_Size(shards));
        failed = core_call_end(&call, status);
        core_done_reading(self);
    }
    PyMem_Free(matrices);
    Py_XDECREF(shards);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *save(PyObject *self, PyObject *args) {
    const char *folder;
    if (!PyArg_ParseTuple(args, "s", &folder) || core_read(self) < 0) return NULL;
    core_call call;
    core_call_begin(&call, core_state_of_object(self), NULL);
    suture_status status = suture_trainer_save(handle_of(self), folder);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *load(PyObject *module, PyObject *args) {
    core_state *state = core_state_of(module);
    const char *folder;
    if (!PyArg_ParseTuple(args, "s", &folder)) return NULL;
    suture_trainer *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_load(folder, &handle);
    PyObject *made = core_call_end(&call, status) < 0 ? NULL : core_object_new(state->trainer, handle);
    if (!made) suture_trainer_destroy(handle);
    return made;
}

static PyObject *description(PyObject *self, PyObject *unused) {
    (void)unused;
    if (core_read(self) < 0) return NULL;
    PyObject *text = NULL;
    uint64_t size = 0;
    suture_status status = suture_trainer_description(handle_of(self), NULL, 0, &size);
    char *json = status == SUTURE_OK ? PyMem_Malloc(size) : NULL;
    if (json) status = suture_trainer_description(handle_of(self), json, size, &size);
    if (status != SUTURE_OK) {
        core_raise(core_state_of_object(self), status);
    } else if (!json) {
        PyErr_NoMemory();
    } else {
        text = PyUnicode_FromString(json);
    }
    PyMem_Free(json);
    core_done_reading(self);
    return text;
}

static PyObject *gradients_into(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *x, *like, *gradients_object, *firings_object, *progress;
    long long count, d_sae;
    const suture_codes *codes;
    suture_matrix matrix;
    if (!PyArg_ParseTuple(
            args, "O!OOLOLO", state->rows, &x, &like, &gradients_object, &count, &firings_object, &d_sae, &progress) ||
        optional_codes(state, like, &codes) < 0 || core_matrix(x, "x", &matrix) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    Py_buffer gradients, firings;
    if (core_writable_array(firings_object, "firings", 'q', d_sae, &firings) < 0) return NULL;
    if (core_writable_array(gradients_object, "gradients", 'f', count, &gradients) < 0) {
        core_array_release(&firings);
        return NULL;
    }
    if (core_read(self) < 0) goto cleanup;
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = codes
        ? suture_trainer_gradients_like(
              handle_of(self), &matrix, codes, &call.progress, gradients.buf, count, firings.buf, &metrics)
        : suture_trainer_gradients(
              handle_of(self), &matrix, &call.progress, gradients.buf, count, firings.buf, &metrics);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    if (!failed) result = metrics_dict(&metrics);
cleanup:
    core_array_release(&gradients);
    core_array_release(&firings);
    return result;
}

static PyObject *apply(PyObject *self, PyObject *args) {
    core_state *state = core_state_of_object(self);
    PyObject *gradients_object, *firings_object, *progress;
    unsigned long long tokens;
    if (!PyArg_ParseTuple(args, "OKOO", &gradients_object, &tokens, &firings_object, &progress)) return NULL;
    PyObject *result = NULL;
    Py_buffer gradients, firings = {0};
    if (core_readable_array(gradients_object, "gradients", 'f', &gradients) < 0) return NULL;
    if (firings_object != Py_None && core_readable_array(firings_object, "firings", 'q', &firings) < 0) {
        core_array_release(&gradients);
        return NULL;
    }
    if (core_write(self) < 0) goto cleanup;
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    core_call call;
    core_call_begin(&call, state, progress);
    suture_status status = suture_trainer_apply(
        handle_of(self), gradients.buf, gradients.len / gradients.itemsize, tokens, firings.buf, &call.progress,
        &metrics);
    int failed = core_call_end(&call, status);
    core_done_writing(self);
    if (!failed) result = metrics_dict(&metrics);
cleanup:
    core_array_release(&gradients);
    core_array_release(&firings);
    return result;
}

static PyObject *sae(PyObject *self, PyObject *unused) {
    (void)unused;
    core_state *state = core_state_of_object(self);
    if (core_read(self) < 0) return NULL;
    suture_sae *handle = NULL;
    core_call call;
    core_call_begin(&call, state, NULL);
    suture_status status = suture_trainer_sae(handle_of(self), &handle);
    int failed = core_call_end(&call, status);
    core_done_reading(self);
    PyObject *made = failed ? NULL : core_object_new(state->sae, handle);
    if (!made) suture_sae_destroy(handle);
    return made;
}

static void dealloc(PyObject *self) {
    suture_trainer_destroy(handle_of(self));
    core_object_free(self);
}

static PyMethodDef methods[] = {
    {"step", step, METH_VARARGS, "step(x, like, progress): dict of metrics; like None or Codes."},
    {"check_data", check_data, METH_VARARGS, "check_data(shards): ValueError unless it was run on these."},
    {"save", save, METH_VARARGS, "save(folder): writes a checkpoint."},
    {"description", description, METH_NOARGS, "description(): JSON text."},
    {"gradients_into", gradients_into, METH_VARARGS,
     "gradients_into(x, like, gradients, count, firings, d_sae, progress): dict of metrics; like None or Codes."},
    {"apply", apply, METH_VARARGS,
     "apply(gradients, tokens, firings, progress): dict of metrics; firings is None or has d_sae elements."},
    {"sae", sae, METH_NOARGS, "sae(): a copy of the SAE as it is now."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A suture_trainer handle."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, core_object_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "suture._core.Trainer",
    .basicsize = sizeof(core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"trainer_create", (PyCFunction)(void (*)(void))create, METH_VARARGS | METH_KEYWORDS,
     "trainer_create(sae, /, *, settings of suture_train_config)."},
    {"trainer_load", load, METH_VARARGS, "trainer_load(folder): from a checkpoint."},
    {"trainers_run", run, METH_VARARGS, 
     "trainers_run(trainers, shards, like, like_shards, tokens, taking, progress): a dict of metrics for each, where "
     "they are taken; like None or a SAE."},
    {NULL, NULL, 0, NULL},
};

int core_add_trainer(PyObject *module, core_state *state) {
    if (core_add_type(module, &spec, &state->trainer) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
