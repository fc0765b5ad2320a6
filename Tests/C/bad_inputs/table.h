// SPDX-License-Identifier: Apache-2.0
// What bad input gets: a table of calls that must fail, for every function of suture.h.
//
// A row is ROW(status, words, what is wrong, call): the call must return the status, and
// suture_last_error() must contain each of the words (separated by |): the argument, its value,
// what was expected. A failing argument writes nothing: after each row the results that calls point
// to are looked at. The last lines of the output, `covers NAME`, are compared with the header by
// tools/test-c.sh, so that a function without a row fails the test.
#ifndef SUTURE_TESTS_TABLE_H
#define SUTURE_TESTS_TABLE_H

#include <stdlib.h>

#define CHECK_SHARED
#include "../check.h"

enum { D_A = 3, D_B = 4, ROWS = 60, D_SAE = 8, K = 2 };

#define INVALID SUTURE_ERROR_INVALID_ARGUMENT
#define FORMAT SUTURE_ERROR_FORMAT
#define IO SUTURE_ERROR_IO
#define UNSUPPORTED SUTURE_ERROR_UNSUPPORTED

// Good objects and numbers to go wrong with.
extern float a_data[ROWS * D_A];
extern float b_data[ROWS * D_B];
extern suture_matrix a;
extern suture_matrix b;
extern suture_moments *moments;
extern suture_moments *empty_moments;
extern suture_moments *square_moments;
extern suture_stitch *stitch;
extern suture_sae *sae;
extern suture_sae *relu_sae;
extern suture_sae *layer_norm_sae;
extern suture_codes *codes;
extern suture_codes *wide_codes;
extern suture_evaluation *evaluation;
extern suture_trainer *trainer;
extern suture_probe *probe;
extern float W_enc_data[D_A * D_SAE];
extern float W_dec_data[D_SAE * D_A];
extern float zeros[64];
extern float numbers[64];
extern double huge_number[D_B];

// Results that must stay as they are.
extern suture_moments *out_moments;
extern suture_stitch *out_stitch;
extern suture_sae *out_sae;
extern suture_codes *out_codes;
extern suture_evaluation *out_evaluation;
extern suture_trainer *out_trainer;
extern suture_attribution *out_attribution;
extern suture_fidelity *out_fidelity;
extern suture_fidelity_summary out_summary;
extern suture_matches *out_matches;
extern suture_matches_summary out_matches_summary;
extern suture_structural *out_structural;
extern suture_feature_statistics *out_statistics;
extern suture_steering *out_steering;
extern suture_probe *out_probe;
extern suture_matrix out_matrix;
extern float out_floats[ROWS * 8];
extern double out_doubles[64];
extern uint64_t out_size;
extern char out_text[64];
extern suture_norms_report out_norms;
extern suture_svcca_report out_svcca;
extern suture_objective out_objective;
extern suture_stitch_report out_report;
extern suture_codes_view out_view;
extern suture_evaluation_report out_evaluation_report;
extern suture_train_metrics out_metrics;
extern suture_sae_config out_config;
extern suture_cpu_info_report out_cpu;
extern suture_probe_report out_probe_report;
extern suture_site out_site;
extern int64_t out_integers[8];

// A path in the folder of the test; valid until the next call.
extern char folder[2048];
const char *in_folder(const char *name);
void write_file(const char *name, const void *bytes, size_t count);
size_t read_file(const char *name, uint8_t *bytes, size_t capacity);

void cover(const char *call);
void row(const char *call, suture_status expected, const char *words, const char *what, suture_status status,
         const char *file, int line);
// In two steps, so that macros within `call` are spelt out.
#define ROW(status, words, what, call) ROW_SPELT(status, words, what, call)
#define ROW_SPELT(status, words, what, call) row(#call, status, words, what, (call), __FILE__, __LINE__)

// For destroy functions: NULL is fine.
#define ACCEPTS_NULL(function) (cover(#function), function(NULL))

#define MATRIX(data, rows, cols, stride, dtype) (&(const suture_matrix){data, rows, cols, stride, dtype})
#define FLOATS(data, rows, cols) MATRIX(data, rows, cols, 0, SUTURE_FLOAT32)

// The rows that every input matrix gets. `call` uses X in its place; (height, width) is its right shape.
#define INPUT_ROWS(name, height, width, call)                                                                          \
    do {                                                                                                       \
        const suture_matrix *X = NULL;                                                                         \
        ROW(INVALID, name "|NULL", "NULL", call);                                                              \
        X = MATRIX(NULL, height, width, 0, SUTURE_FLOAT32);                                                         \
        ROW(INVALID, name "|data|NULL", "data NULL", call);                                                    \
        X = MATRIX(zeros, height, width, 0, (suture_dtype)99);                                                      \
        ROW(INVALID, name "|dtype|99", "unknown dtype", call);                                                 \
        X = MATRIX(zeros, height, width, 0, (suture_dtype)0);                                                       \
        ROW(INVALID, name "|dtype|0", "dtype left out", call);                                                 \
        X = FLOATS(zeros, height, width + 1);                                                                       \
        ROW(INVALID, name "|columns", "a column too many", call);                                              \
        X = FLOATS(zeros, height, 0);                                                                               \
        ROW(INVALID, name "|cols|0", "no columns", call);                                                      \
        X = FLOATS(zeros, height, -3);                                                                              \
        ROW(INVALID, name "|cols|-3", "negative columns", call);                                               \
        X = FLOATS(zeros, height, INT64_MAX);                                                                       \
        ROW(INVALID, name "|cols|9223372036854775807", "more columns than can be", call);                      \
        X = FLOATS(zeros, -1, width);                                                                          \
        ROW(INVALID, name "|rows|-1", "negative rows", call);                                                  \
        X = FLOATS(zeros, 0, width);                                                                           \
        ROW(INVALID, name "|rows|0", "no rows", call);                                                         \
        X = FLOATS(zeros, INT64_MAX, width);                                                                   \
        ROW(INVALID, name "|9223372036854775807", "more rows than memory", call);                              \
        X = MATRIX(zeros, height, width, width - 1, SUTURE_FLOAT32);                                                \
        ROW(INVALID, name "|row_stride|cols", "row_stride below cols", call);                                  \
        X = MATRIX(zeros, height, width, -8, SUTURE_FLOAT32);                                                       \
        ROW(INVALID, name "|row_stride|-8", "negative row_stride", call);                                      \
        X = MATRIX(zeros, height, width, INT64_MAX / 2, SUTURE_FLOAT32);                                            \
        ROW(INVALID, name "|row_stride|4611686018427387903", "row_stride beyond memory", call);                \
    } while (0)

// The rows that activations get beside: content. `rows` is their number where it is fixed.
#define CONTENT_ROWS(name, rows, width, call)                                                                  \
    do {                                                                                                       \
        float content[ROWS * 8] = {0};                                                                         \
        const suture_matrix *X = FLOATS(content, rows, width);                                                 \
        content[((rows) - 1) * (width) + 1] = NAN;                                                             \
        ROW(INVALID, name "|nan|1]", "NaN in the last row", call);                                             \
        content[((rows) - 1) * (width) + 1] = -INFINITY;                                                       \
        ROW(INVALID, name "|-inf|1]", "infinity in the last row", call);                                       \
    } while (0)

// The rows that every output matrix gets.
#define OUTPUT_ROWS(name, rows, cols, call)                                                                    \
    do {                                                                                                       \
        const suture_matrix *X = NULL;                                                                         \
        ROW(INVALID, name "|NULL", "NULL", call);                                                              \
        X = MATRIX(NULL, rows, cols, 0, SUTURE_FLOAT32);                                                       \
        ROW(INVALID, name "|data|NULL", "data NULL", call);                                                    \
        X = MATRIX(out_floats, rows, cols, 0, SUTURE_FLOAT64);                                                 \
        ROW(INVALID, name "|dtype|float64|float32", "another dtype", call);                                    \
        X = MATRIX(out_floats, rows, cols, 0, (suture_dtype)-1);                                               \
        ROW(INVALID, name "|dtype", "unknown dtype", call);                                                    \
        X = FLOATS((char *)out_floats + 1, rows, cols);                                                        \
        ROW(INVALID, name "|aligned", "odd address", call);                                                      \
        X = FLOATS(out_floats, (rows) + 1, cols);                                                              \
        ROW(INVALID, name "|rows", "a row too many", call);                                                    \
        X = FLOATS(out_floats, rows, (cols) + 1);                                                              \
        ROW(INVALID, name "|columns", "a column too many", call);                                              \
        X = MATRIX(out_floats, rows, cols, (cols) - 1, SUTURE_FLOAT32);                                        \
        ROW(INVALID, name "|row_stride", "row_stride below cols", call);                                       \
    } while (0)

// The rows that a struct with struct_size gets.
#define SIZE_ROWS(name, variable, call)                                    \
    do {                                                                   \
        const uint64_t size_ = variable.struct_size;                       \
        variable.struct_size = 0;                                          \
        ROW(INVALID, name "|struct_size|0", "struct_size left out", call); \
        variable.struct_size = UINT64_MAX;                                 \
        ROW(INVALID, name "|struct_size", "huge struct_size", call);       \
        variable.struct_size = size_;                                      \
    } while (0)

void library_rows(void);
void alignment_rows(void);
void moments_rows(void);
void stitch_rows(void);
void metadata_rows(void);
void file_rows(void);
void sae_rows(void);
void codes_rows(void);
void evaluation_rows(void);
void training_rows(void);
void carrying_rows(void);
void analysis_rows(void);
void steering_rows(void);
void probe_rows(void);
void site_rows(void);

#endif
