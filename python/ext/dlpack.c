// SPDX-License-Identifier: Apache-2.0
// Arrays through DLPack (https://dmlc.github.io/dlpack/latest/), both capsule versions.
#include "rows.h"

// The parts of dlpack.h that a consumer needs.
typedef struct { int32_t type, id; } dl_device;
typedef struct { uint8_t code, bits; uint16_t lanes; } dl_dtype;
typedef struct {
    void *data;
    dl_device device;
    int32_t ndim;
    dl_dtype dtype;
    int64_t *shape;
    int64_t *strides; // elements; NULL: row by row
    uint64_t byte_offset;
} dl_tensor;
typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
} dl_managed;
typedef struct dl_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_versioned *);
    uint64_t flags;
    dl_tensor tensor;
} dl_versioned;

enum { DL_CPU = 1, DL_CUDA_HOST = 3, DL_ROCM_HOST = 11 };
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_COMPLEX = 5, DL_BOOL = 6 };

void core_rows_release_tensor(core_rows *self) {
    if (!self->tensor) return;
    if (self->tensor_is_versioned) {
        dl_versioned *managed = self->tensor;
        if (managed->deleter) managed->deleter(managed);
    } else {
        dl_managed *managed = self->tensor;
        if (managed->deleter) managed->deleter(managed);
    }
    self->tensor = NULL;
}

static int wrong_device(const char *name, long type) {
    PyErr_Format(
        PyExc_TypeError, "%s is on a device of DLPack type %ld%s, expected CPU memory: copy it first, such as by .cpu()",
        name, type, type == 2 ? " (CUDA)" : "");
    return -1;
}

// Memory of accelerators is refused before its producer is asked to export it, which would wait
// for the device.
static int check_device(PyObject *object, const char *name) {
    PyObject *device = PyObject_CallMethod(object, "__dlpack_device__", NULL);
    if (!device) return -1;
    PyObject *first = PySequence_GetItem(device, 0);
    Py_DECREF(device);
    if (!first) return -1;
    long type = PyLong_AsLong(first);
    Py_DECREF(first);
    if (type == -1 && PyErr_Occurred()) return -1;
    if (type != DL_CPU && type != DL_CUDA_HOST && type != DL_ROCM_HOST) return wrong_device(name, type);
    return 0;
}

// Producers from before DLPack 1.0 do not know `max_version`.
static PyObject *export(PyObject *object) {
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    if (!method) return NULL;
    PyObject *capsule = NULL;
    PyObject *none = PyTuple_New(0);
    PyObject *keywords = Py_BuildValue("{s:(ii)}", "max_version", 1, 0);
    if (none && keywords) {
        capsule = PyObject_Call(method, none, keywords);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            capsule = PyObject_Call(method, none, NULL);
        }
    }
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    Py_DECREF(method);
    return capsule;
}

static int read_dtype(core_rows *self, dl_dtype type, const char *name) {
    static const char *const codes[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
    if (type.lanes == 1 && type.code == DL_FLOAT && type.bits == 32) {
        self->dtype = SUTURE_FLOAT32;
    } else if (type.lanes == 1 && type.code == DL_FLOAT && type.bits == 64) {
        self->dtype = SUTURE_FLOAT64;
    } else if (type.lanes == 1 && type.code == DL_FLOAT && type.bits == 16) {
        self->dtype = SUTURE_FLOAT16;
    } else if (type.lanes == 1 && type.code == DL_BFLOAT && type.bits == 16) {
        self->dtype = SUTURE_BFLOAT16;
    } else {
        char found[64];
        const char *code = type.code < sizeof codes / sizeof *codes ? codes[type.code] : "type code ";
        PyOS_snprintf(found, sizeof found, "%s%d%s", code, type.bits, type.lanes == 1 ? "" : " (vectors)");
        return core_rows_wrong_dtype(name, found);
    }
    self->itemsize = type.bits / 8;
    return 0;
}

static int read_tensor(core_rows *self, const dl_tensor *tensor, const char *name) {
    if (tensor->device.type != DL_CPU && tensor->device.type != DL_CUDA_HOST && tensor->device.type != DL_ROCM_HOST) {
        return wrong_device(name, tensor->device.type);
    }
    if (read_dtype(self, tensor->dtype, name) < 0) return -1;
    if (tensor->ndim < 0 || tensor->ndim > MAX_DIMENSIONS) {
        PyErr_Format(
            PyExc_ValueError, "%s has %d dimensions, expected (N, d) or (batch, position, d)", name, (int)tensor->ndim);
        return -1;
    }
    self->ndim = tensor->ndim;
    int64_t below = self->itemsize;
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        self->shape[i] = tensor->shape[i];
        self->strides[i] = tensor->strides ? tensor->strides[i] * self->itemsize : below;
        below *= tensor->shape[i];
    }
    self->data = (char *)tensor->data + (tensor->data ? tensor->byte_offset : 0);
    return 0;
}

static int read_capsule(core_rows *self, PyObject *capsule, const char *name) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (!managed || PyCapsule_SetName(capsule, "used_dltensor_versioned") < 0) return -1;
        self->tensor = managed;
        self->tensor_is_versioned = true;
        // Of another major version only the deleter is where we think it is.
        if (managed->major != 1) {
            PyErr_Format(
                PyExc_BufferError, "%s is exported as DLPack %u.%u, expected version 1", name, managed->major,
                managed->minor);
            return -1;
        }
        return read_tensor(self, &managed->tensor, name);
    }
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        dl_managed *managed = PyCapsule_GetPointer(capsule, "dltensor");
        if (!managed || PyCapsule_SetName(capsule, "used_dltensor") < 0) return -1;
        self->tensor = managed;
        self->tensor_is_versioned = false;
        return read_tensor(self, &managed->tensor, name);
    }
    PyErr_Format(PyExc_TypeError, "%s.__dlpack__() returned no unused DLPack capsule", name);
    return -1;
}

int core_rows_from_dlpack(core_rows *self, PyObject *object, const char *name) {
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
        PyErr_Clear();
        return 1;
    }
    Py_DECREF(method);
    if (check_device(object, name) < 0) return -1;
    PyObject *capsule = export(object);
    if (!capsule) return -1;
    // On failure the tensor is released with `self`.
    int result = read_capsule(self, capsule, name);
    Py_DECREF(capsule);
    return result;
}
