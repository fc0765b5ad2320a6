// SPDX-License-Identifier: Apache-2.0
// Arrays through the buffer protocol.
#include "rows.h"

#include <string.h>

int core_rows_wrong_dtype(const char *name, const char *found) {
    PyErr_Format(
        PyExc_TypeError, "%s has dtype %s, expected float32, float64, float16 or bfloat16 (native byte order)", name,
        found);
    return -1;
}

static int read_format(core_rows *self, const char *name) {
    const char *format = self->buffer.format ? self->buffer.format : "B";
    const char *type = format;
    bool foreign = *type == '>' || *type == '!';
    if (strchr("@=<>!", *type) && *type) type += 1;
    if (!foreign && strcmp(type, "f") == 0) {
        self->dtype = SUTURE_FLOAT32;
        self->itemsize = 4;
    } else if (!foreign && strcmp(type, "d") == 0) {
        self->dtype = SUTURE_FLOAT64;
        self->itemsize = 8;
    } else if (!foreign && strcmp(type, "e") == 0) {
        self->dtype = SUTURE_FLOAT16;
        self->itemsize = 2;
    } else if (strcmp(type, "2x") == 0 || strcmp(type, "xx") == 0) {
        // NumPy has no bfloat16: two-byte voids (dtype V2) is what ml_dtypes' arrays are once they
        // have been through a file.
        self->dtype = SUTURE_BFLOAT16;
        self->itemsize = 2;
    } else {
        char found[80];
        static const struct { char format; const char *word; } words[] = {
            {'?', "bool"},   {'b', "int8"},   {'B', "uint8"},  {'h', "int16"},    {'H', "uint16"},
            {'i', "int32"},  {'I', "uint32"}, {'l', "int64"},  {'L', "uint64"},   {'q', "int64"},
            {'Q', "uint64"}, {'f', "float32"}, {'d', "float64"}, {'e', "float16"}, {'g', "long double"},
        };
        const char *word = NULL;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            if (type[0] == words[i].format && type[1] == 0) word = words[i].word;
        }
        if (strcmp(type, "Zf") == 0) word = "complex64";
        if (strcmp(type, "Zd") == 0) word = "complex128";
        if (word) {
            PyOS_snprintf(found, sizeof found, "%s%s", foreign ? "big-endian " : "", word);
        } else {
            PyOS_snprintf(found, sizeof found, "with buffer format '%.40s'", format);
        }
        return core_rows_wrong_dtype(name, found);
    }
    return 0;
}

int core_rows_from_buffer(core_rows *self, PyObject *object, const char *name, bool writable) {
    if (!PyObject_CheckBuffer(object)) return 1;
    if (PyObject_GetBuffer(object, &self->buffer, writable ? PyBUF_RECORDS : PyBUF_RECORDS_RO) < 0) {
        // jax offers the buffer protocol, but not for bfloat16; DLPack has that.
        if (!writable && PyObject_HasAttrString(object, "__dlpack__")) {
            PyErr_Clear();
            return 1;
        }
        return -1;
    }
    self->has_buffer = true;
    if (read_format(self, name) < 0) return -1;
    if (self->buffer.itemsize != self->itemsize) {
        return core_rows_wrong_dtype(name, self->buffer.format ? self->buffer.format : "B");
    }
    if (self->buffer.ndim > MAX_DIMENSIONS) {
        PyErr_Format(
            PyExc_ValueError, "%s has %d dimensions, expected (N, d) or (batch, position, d)", name, self->buffer.ndim);
        return -1;
    }
    self->ndim = self->buffer.ndim;
    for (int i = 0; i < self->ndim; i++) {
        self->shape[i] = self->buffer.shape[i];
        self->strides[i] = self->buffer.strides[i];
    }
    self->data = self->buffer.buf;
    return 0;
}

static int take_array(PyObject *object, const char *name, char format, int flags, Py_buffer *out) {
    memset(out, 0, sizeof *out);
    if (PyObject_GetBuffer(object, out, flags | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) return -1;
    const char *found = out->format ? out->format : "B";
    if (strchr("@=<", found[0]) && found[0]) found += 1;
    // NumPy calls int32 'i' or 'l' and int64 'l' or 'q' (uint64 alike), as the platform has it.
    bool same = found[0] == format || (format == 'i' && found[0] == 'l' && out->itemsize == 4) ||
                (format == 'q' && found[0] == 'l' && out->itemsize == 8) ||
                (format == 'Q' && found[0] == 'L' && out->itemsize == 8);
    if (!same || found[1] != 0) {
        PyErr_Format(PyExc_TypeError, "%s has buffer format '%s', expected '%c'", name, found, format);
        PyBuffer_Release(out);
        return -1;
    }
    return 0;
}

int core_writable_array(PyObject *object, const char *name, char format, int64_t count, Py_buffer *out) {
    memset(out, 0, sizeof *out);
    if (object == Py_None) return 0;
    if (take_array(object, name, format, PyBUF_WRITABLE, out) < 0) return -1;
    if (out->len / out->itemsize != count) {
        PyErr_Format(
            PyExc_ValueError, "%s has %zd elements, expected %lld", name, out->len / out->itemsize, (long long)count);
        PyBuffer_Release(out);
        memset(out, 0, sizeof *out);
        return -1;
    }
    return 0;
}

int core_readable_array(PyObject *object, const char *name, char format, Py_buffer *out) {
    return take_array(object, name, format, PyBUF_SIMPLE, out);
}

void core_array_release(Py_buffer *buffer) {
    if (buffer->obj) PyBuffer_Release(buffer);
}
