// SPDX-License-Identifier: Apache-2.0
// What bad input gets: a table of calls that must fail, for every function of suture.h.
//
//   bad_inputs FOLDER        FOLDER: empty, writable
//
// A row is ROW(status, words, what is wrong, call): the call must return the status, and
// suture_last_error() must contain each of the words (separated by |): the argument, its value,
// what was expected. A failing argument writes nothing: after each row the out-pointers are looked
// at. The last lines of the output, `covers NAME`, are compared with the header by tools/test-c.sh,
// so that a function without a row fails the test.
#include <stdlib.h>
#include <sys/stat.h>

#include "check.h"

enum { D_A = 3, D_B = 4, ROWS = 60, D_SAE = 8, K = 2 };

#define INVALID SUTURE_ERROR_INVALID_ARGUMENT
#define FORMAT SUTURE_ERROR_FORMAT
#define IO SUTURE_ERROR_IO
#define UNSUPPORTED SUTURE_ERROR_UNSUPPORTED

// ---------------------------------------------------------------------------------------------
// Good objects to go wrong with
// ---------------------------------------------------------------------------------------------

static float a_data[ROWS * D_A];
static float b_data[ROWS * D_B];
static suture_matrix a;
static suture_matrix b;
static suture_moments *moments;
static suture_moments *empty_moments;
static suture_moments *square_moments;
static suture_stitch *stitch;
static suture_sae *sae;
static suture_sae *relu_sae;
static suture_sae *layer_norm_sae;
static suture_codes *codes;
static suture_codes *wide_codes;
static suture_evaluation *evaluation;
static suture_trainer *trainer;
static float W_enc_data[D_A * D_SAE];
static float W_dec_data[D_SAE * D_A];
static float zeros[64];
static float numbers[64];
static double huge_number[D_B] = {0, 1e300, 0, 0};
static char folder[2048];
static char path[4096];

// ---------------------------------------------------------------------------------------------
// Results that must stay as they are
// ---------------------------------------------------------------------------------------------

static char poison[1];
static suture_moments *out_moments;
static suture_stitch *out_stitch;
static suture_sae *out_sae;
static suture_codes *out_codes;
static suture_evaluation *out_evaluation;
static suture_trainer *out_trainer;
static suture_matrix out_matrix;
static float out_floats[ROWS * 8];
static double out_doubles[64];
static uint64_t out_size;
static char out_text[64];
static suture_svcca_report out_svcca;
static suture_objective out_objective;
static suture_stitch_report out_report;
static suture_codes_view out_view;
static suture_evaluation_report out_evaluation_report;
static suture_train_metrics out_metrics;
static suture_sae_config out_config;
static suture_cpu_info_report out_cpu;

static void poison_results(void) {
    out_moments = (suture_moments *)(void *)poison;
    out_stitch = (suture_stitch *)(void *)poison;
    out_sae = (suture_sae *)(void *)poison;
    out_codes = (suture_codes *)(void *)poison;
    out_evaluation = (suture_evaluation *)(void *)poison;
    out_trainer = (suture_trainer *)(void *)poison;
    for (size_t i = 0; i < sizeof out_floats / sizeof *out_floats; ++i) out_floats[i] = 77;
    for (size_t i = 0; i < sizeof out_doubles / sizeof *out_doubles; ++i) out_doubles[i] = 77;
    memset(out_text, 77, sizeof out_text);
    out_size = 77;
    memset(&out_matrix, 77, sizeof out_matrix);
#define POISON_REPORT(report) (memset(&report, 77, sizeof report), report.struct_size = sizeof report)
    POISON_REPORT(out_svcca);
    POISON_REPORT(out_objective);
    POISON_REPORT(out_report);
    POISON_REPORT(out_view);
    POISON_REPORT(out_evaluation_report);
    POISON_REPORT(out_metrics);
    POISON_REPORT(out_config);
    POISON_REPORT(out_cpu);
}

static int all_poison(const void *data, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (((const unsigned char *)data)[i] != 77) return 0;
    return 1;
}

static const char *written_result(void) {
    if ((void *)out_moments != poison || (void *)out_stitch != poison || (void *)out_sae != poison ||
        (void *)out_codes != poison || (void *)out_evaluation != poison || (void *)out_trainer != poison)
        return "a handle";
    for (size_t i = 0; i < sizeof out_floats / sizeof *out_floats; ++i)
        if (out_floats[i] != 77) return "an output matrix";
    for (size_t i = 0; i < sizeof out_doubles / sizeof *out_doubles; ++i)
        if (out_doubles[i] != 77) return "an output array";
    if (!all_poison(out_text, sizeof out_text)) return "a text";
    if (!all_poison(&out_matrix, sizeof out_matrix)) return "a weight";
#define REPORT_WRITTEN(report) (!all_poison((const char *)&report + 8, sizeof report - 8))
    if (REPORT_WRITTEN(out_svcca) || REPORT_WRITTEN(out_objective) || REPORT_WRITTEN(out_report) ||
        REPORT_WRITTEN(out_view) || REPORT_WRITTEN(out_evaluation_report) || REPORT_WRITTEN(out_metrics) ||
        REPORT_WRITTEN(out_config) || REPORT_WRITTEN(out_cpu))
        return "a report";
    return NULL;
}

// ---------------------------------------------------------------------------------------------
// Rows
// ---------------------------------------------------------------------------------------------

static char covered[128][64];
static int covered_count;

static void cover(const char *call) {
    char name[64];
    size_t length = strcspn(call, "( ");
    snprintf(name, sizeof name, "%.*s", (int)length, call);
    for (int i = 0; i < covered_count; ++i)
        if (strcmp(covered[i], name) == 0) return;
    snprintf(covered[covered_count++], sizeof covered[0], "%s", name);
}

static void row(const char *call, suture_status expected, const char *words, const char *what, suture_status status,
                int line) {
    cover(call);
    ++checks;
    const char *message = suture_last_error();
    const char *problem = NULL;
    char missing[160];
    if (status != expected) {
        problem = "another status";
    } else if (status == INVALID && strstr(message, "expected") == NULL) {
        problem = "the message does not say what was expected";
    } else if ((problem = written_result()) == NULL) {
        for (const char *word = words; *word != 0;) {
            const size_t length = strcspn(word, "|");
            char one[128];
            snprintf(one, sizeof one, "%.*s", (int)length, word);
            if (strstr(message, one) == NULL) {
                snprintf(missing, sizeof missing, "the message lacks '%s'", one);
                problem = missing;
                break;
            }
            word += length + (word[length] == '|');
        }
    }
    if (problem != NULL) {
        ++failures;
        printf("%s:%d: %.70s... (%s)\n    %s: status %d, expected %d; message: %s\n", __FILE__, line, call, what,
               problem, (int)status, (int)expected, message);
        poison_results();
    }
}

#define ROW(status, words, what, call) row(#call, status, words, what, (call), __LINE__)

// For destroy functions: NULL is fine.
#define ACCEPTS_NULL(function) (cover(#function), function(NULL))

#define MATRIX(data, rows, cols, stride, dtype) (&(const suture_matrix){data, rows, cols, stride, dtype})
#define FLOATS(data, rows, cols) MATRIX(data, rows, cols, 0, SUTURE_FLOAT32)

// The rows that every input matrix gets. `call` uses X in its place; it should have `width` columns.
#define INPUT_ROWS(name, width, call)                                                                          \
    do {                                                                                                       \
        const suture_matrix *X = NULL;                                                                         \
        ROW(INVALID, name "|NULL", "NULL", call);                                                              \
        X = MATRIX(NULL, 2, width, 0, SUTURE_FLOAT32);                                                         \
        ROW(INVALID, name "|data|NULL", "data NULL", call);                                                    \
        X = MATRIX(zeros, 2, width, 0, (suture_dtype)99);                                                      \
        ROW(INVALID, name "|dtype|99", "unknown dtype", call);                                                 \
        X = MATRIX(zeros, 2, width, 0, (suture_dtype)0);                                                       \
        ROW(INVALID, name "|dtype|0", "dtype left out", call);                                                 \
        X = FLOATS(zeros, 2, width + 1);                                                                       \
        ROW(INVALID, name "|columns", "a column too many", call);                                              \
        X = FLOATS(zeros, 2, 0);                                                                               \
        ROW(INVALID, name "|cols|0", "no columns", call);                                                      \
        X = FLOATS(zeros, 2, -3);                                                                              \
        ROW(INVALID, name "|cols|-3", "negative columns", call);                                               \
        X = FLOATS(zeros, 2, INT64_MAX);                                                                       \
        ROW(INVALID, name "|cols|9223372036854775807", "more columns than can be", call);                      \
        X = FLOATS(zeros, -1, width);                                                                          \
        ROW(INVALID, name "|rows|-1", "negative rows", call);                                                  \
        X = FLOATS(zeros, 0, width);                                                                           \
        ROW(INVALID, name "|rows|0", "no rows", call);                                                         \
        X = FLOATS(zeros, INT64_MAX, width);                                                                   \
        ROW(INVALID, name "|9223372036854775807", "more rows than memory", call);                              \
        X = MATRIX(zeros, 2, width, width - 1, SUTURE_FLOAT32);                                                \
        ROW(INVALID, name "|row_stride|cols", "row_stride below cols", call);                                  \
        X = MATRIX(zeros, 2, width, -8, SUTURE_FLOAT32);                                                       \
        ROW(INVALID, name "|row_stride|-8", "negative row_stride", call);                                      \
        X = MATRIX(zeros, 3, width, INT64_MAX / 2, SUTURE_FLOAT32);                                            \
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
        ROW(INVALID, name "|align", "odd address", call);                                                      \
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

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(in_folder(name), "wb");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) abort();
}

static size_t read_file(const char *name, uint8_t *bytes, size_t capacity) {
    FILE *file = fopen(in_folder(name), "rb");
    if (file == NULL) abort();
    const size_t count = fread(bytes, 1, capacity, file);
    fclose(file);
    return count;
}

// ---------------------------------------------------------------------------------------------
// The table
// ---------------------------------------------------------------------------------------------

static void library_rows(void) {
    ROW(INVALID, "threads|-1", "negative", suture_set_threads(-1));
    ROW(INVALID, "threads|1025|1024", "beyond the limit", suture_set_threads(1025));
    ROW(INVALID, "out|NULL", "NULL", suture_cpu_info(NULL));
    SIZE_ROWS("out", out_cpu, suture_cpu_info(&out_cpu));
}

static void moments_rows(void) {
    ROW(INVALID, "d_a|0", "zero", suture_moments_create(0, D_B, &out_moments));
    ROW(INVALID, "d_a|-3", "negative", suture_moments_create(-3, D_B, &out_moments));
    ROW(INVALID, "d_b|0", "zero", suture_moments_create(D_A, 0, &out_moments));
    ROW(INVALID, "d_b|9223372036854775807", "too large", suture_moments_create(D_A, INT64_MAX, &out_moments));
    ROW(SUTURE_ERROR_OUT_OF_MEMORY, "2000000000", "beyond memory",
        suture_moments_create(2000000000, 2000000000, &out_moments));
    ROW(SUTURE_ERROR_OUT_OF_MEMORY, "1048576", "beyond this machine's memory",
        suture_moments_create(1 << 20, 1 << 20, &out_moments));
    ROW(INVALID, "out|NULL", "NULL", suture_moments_create(D_A, D_B, NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_update(NULL, &a, &b, NULL));
    ROW(INVALID, "moments|handle", "a stitch", suture_moments_update((suture_moments *)(void *)stitch, &a, &b, NULL));
    INPUT_ROWS("h_a", D_A, suture_moments_update(moments, X, FLOATS(zeros, 2, D_B), NULL));
    INPUT_ROWS("h_b", D_B, suture_moments_update(moments, FLOATS(zeros, 2, D_A), X, NULL));
    CONTENT_ROWS("h_a", ROWS, D_A, suture_moments_update(moments, X, &b, NULL));
    CONTENT_ROWS("h_b", ROWS, D_B, suture_moments_update(moments, &a, X, NULL));
    ROW(INVALID, "h_b|rows|59|60", "other rows than h_a",
        suture_moments_update(moments, &a, FLOATS(b_data, ROWS - 1, D_B), NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_merge(NULL, moments));
    ROW(INVALID, "other|NULL", "NULL", suture_moments_merge(moments, NULL));
    ROW(INVALID, "other|3|4", "other sizes", suture_moments_merge(moments, square_moments));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_info(NULL, NULL, NULL, NULL));
    ROW(INVALID, "moments|NULL", "NULL", suture_moments_read(NULL, out_doubles, NULL, NULL, NULL, NULL));
    ROW(INVALID, "moments|0|tokens", "no tokens yet",
        suture_moments_read(empty_moments, out_doubles, NULL, NULL, NULL, NULL));

    ROW(INVALID, "moments|NULL", "NULL", suture_moments_serialize(NULL, NULL, 0, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_moments_serialize(moments, NULL, 0, NULL));
    ROW(INVALID, "capacity|10", "too small", suture_moments_serialize(moments, (uint8_t *)out_text, 10, &out_size));

    uint8_t bytes[4096];
    uint64_t size = 0;
    OK(suture_moments_serialize(moments, bytes, sizeof bytes, &size));
    ROW(INVALID, "bytes|NULL", "NULL", suture_moments_deserialize(NULL, 10, &out_moments));
    ROW(INVALID, "out|NULL", "NULL", suture_moments_deserialize(bytes, size, NULL));
    for (uint64_t cut = 0; cut < size; ++cut)
        ROW(FORMAT, "", "cut short", suture_moments_deserialize(bytes, cut, &out_moments));
    for (uint64_t at = 0; at < size; ++at) {
        bytes[at] ^= 0x10;
        ROW(FORMAT, "", "one byte damaged", suture_moments_deserialize(bytes, size, &out_moments));
        bytes[at] ^= 0x10;
    }
    ACCEPTS_NULL(suture_moments_destroy);

    ROW(INVALID, "moments|NULL", "NULL", suture_svcca(NULL, 0.99, &out_svcca));
    ROW(INVALID, "moments|0|tokens", "no tokens", suture_svcca(empty_moments, 0.99, &out_svcca));
    ROW(INVALID, "variance_kept|0", "zero", suture_svcca(moments, 0, &out_svcca));
    ROW(INVALID, "variance_kept|1.5", "above 1", suture_svcca(moments, 1.5, &out_svcca));
    ROW(INVALID, "variance_kept|nan", "NaN", suture_svcca(moments, NAN, &out_svcca));
    ROW(INVALID, "out|NULL", "NULL", suture_svcca(moments, 0.99, NULL));
    SIZE_ROWS("out", out_svcca, suture_svcca(moments, 0.99, &out_svcca));
}

static void stitch_fit_rows(void) {
    suture_stitch_config config = {.struct_size = sizeof config, .alpha = 1};
#define FIT suture_stitch_fit(moments, &config, NULL, &out_stitch, &out_report)
    ROW(INVALID, "moments|NULL", "NULL", suture_stitch_fit(NULL, &config, NULL, &out_stitch, &out_report));
    ROW(INVALID, "moments|0|tokens", "no tokens",
        suture_stitch_fit(empty_moments, &config, NULL, &out_stitch, &out_report));
    ROW(INVALID, "config|NULL", "NULL", suture_stitch_fit(moments, NULL, NULL, &out_stitch, &out_report));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_fit(moments, &config, NULL, NULL, &out_report));
    SIZE_ROWS("config", config, FIT);
    SIZE_ROWS("report", out_report, FIT);
    const struct {
        suture_stitch_config known;
        uint64_t later;
    } newer = {{.struct_size = sizeof newer, .alpha = 1}, 5};
    ROW(UNSUPPORTED, "config|struct_size", "a setting of a later version",
        suture_stitch_fit(moments, &newer.known, NULL, &out_stitch, &out_report));
    config.alpha = -1;
    ROW(INVALID, "alpha|-1", "negative", FIT);
    config.alpha = NAN;
    ROW(INVALID, "alpha|nan", "NaN", FIT);
    config.alpha = INFINITY;
    ROW(INVALID, "alpha|inf", "infinite", FIT);
    config.alpha = 1;
    config.tolerance = -1e-3;
    ROW(INVALID, "tolerance|-0.001", "negative", FIT);
    config.tolerance = NAN;
    ROW(INVALID, "tolerance|nan", "NaN", FIT);
    config.tolerance = 0;
    config.max_iterations = -5;
    ROW(INVALID, "max_iterations|-5", "negative", FIT);
    config.max_iterations = 0;
    config.has_ridge = 2;
    ROW(INVALID, "has_ridge|2", "neither 0 nor 1", FIT);
    config.has_ridge = 1;
    config.ridge = -1;
    ROW(INVALID, "ridge|-1", "negative", FIT);
    config.ridge = NAN;
    ROW(INVALID, "ridge|nan", "NaN", FIT);
}

static void stitch_rows(void) {
    float P_up[D_A * D_B] = {1};
    float P_down[D_B * D_A] = {1};
    const suture_matrix *up = FLOATS(P_up, D_A, D_B);
    const suture_matrix *down = FLOATS(P_down, D_B, D_A);
    const suture_matrix *b_up = FLOATS(zeros, 1, D_B);
    const suture_matrix *b_down = FLOATS(zeros, 1, D_A);
    ROW(INVALID, "P_up|NULL", "NULL", suture_stitch_create(NULL, b_up, down, b_down, &out_stitch));
    ROW(INVALID, "b_up|NULL", "NULL", suture_stitch_create(up, NULL, down, b_down, &out_stitch));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_create(up, b_up, down, b_down, NULL));
    ROW(INVALID, "P_up|rows|0", "no rows", suture_stitch_create(FLOATS(P_up, 0, D_B), b_up, down, b_down, &out_stitch));
    ROW(INVALID, "P_up|dtype|9", "unknown dtype",
        suture_stitch_create(MATRIX(P_up, D_A, D_B, 0, (suture_dtype)9), b_up, down, b_down, &out_stitch));
    INPUT_ROWS("P_down", D_A, suture_stitch_create(up, b_up, X, b_down, &out_stitch));
    INPUT_ROWS("b_down", D_A, suture_stitch_create(up, b_up, down, X, &out_stitch));
    CONTENT_ROWS("P_up", D_A, D_B, suture_stitch_create(X, b_up, down, b_down, &out_stitch));
    CONTENT_ROWS("P_down", D_B, D_A, suture_stitch_create(up, b_up, X, b_down, &out_stitch));
    CONTENT_ROWS("b_up", 1, D_B, suture_stitch_create(up, X, down, b_down, &out_stitch));
    ROW(INVALID, "b_up|2|1", "two rows", suture_stitch_create(up, FLOATS(zeros, 2, D_B), down, b_down, &out_stitch));
    ROW(INVALID, "b_up", "float64 beyond float32",
        suture_stitch_create(up, MATRIX(huge_number, 1, D_B, 0, SUTURE_FLOAT64), down, b_down, &out_stitch));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_info(NULL, NULL, NULL));
    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_weight(NULL, SUTURE_STITCH_P_UP, &out_matrix));
    ROW(INVALID, "which|0", "unknown", suture_stitch_weight(stitch, (suture_stitch_weight_name)0, &out_matrix));
    ROW(INVALID, "which|99", "unknown", suture_stitch_weight(stitch, (suture_stitch_weight_name)99, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_weight(stitch, SUTURE_STITCH_P_UP, NULL));

    const suture_matrix *mapped = FLOATS(out_floats, 2, D_B);
    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_apply(NULL, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "stitch|handle", "a SAE",
        suture_stitch_apply((suture_stitch *)(void *)sae, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "direction|0", "unknown",
        suture_stitch_apply(stitch, (suture_direction)0, FLOATS(zeros, 2, D_A), NULL, mapped));
    ROW(INVALID, "direction|3", "unknown",
        suture_stitch_apply(stitch, (suture_direction)3, FLOATS(zeros, 2, D_A), NULL, mapped));
    INPUT_ROWS("h", D_A, suture_stitch_apply(stitch, SUTURE_UP, X, NULL, mapped));
    INPUT_ROWS("h", D_B, suture_stitch_apply(stitch, SUTURE_DOWN, X, NULL, FLOATS(out_floats, 2, D_A)));
    OUTPUT_ROWS("out", 2, D_B, suture_stitch_apply(stitch, SUTURE_UP, FLOATS(zeros, 2, D_A), NULL, X));
    CONTENT_ROWS("h", 1, D_A, suture_stitch_apply(stitch, SUTURE_UP, X, NULL, FLOATS(out_floats, 1, D_B)));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_objective(NULL, moments, 1, &out_objective));
    ROW(INVALID, "moments|NULL", "NULL", suture_stitch_objective(stitch, NULL, 1, &out_objective));
    ROW(INVALID, "moments|0|tokens", "no tokens", suture_stitch_objective(stitch, empty_moments, 1, &out_objective));
    ROW(INVALID, "moments|3|4", "other sizes", suture_stitch_objective(stitch, square_moments, 1, &out_objective));
    ROW(INVALID, "alpha|-2", "negative", suture_stitch_objective(stitch, moments, -2, &out_objective));
    ROW(INVALID, "alpha|nan", "NaN", suture_stitch_objective(stitch, moments, NAN, &out_objective));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_objective(stitch, moments, 1, NULL));
    SIZE_ROWS("out", out_objective, suture_stitch_objective(stitch, moments, 1, &out_objective));
    ACCEPTS_NULL(suture_stitch_destroy);
}

// 100,000 brackets: deep enough to end a parser that recurses without a limit.
static char deep_json[200001];

#define SET_METADATA_ROWS(setter, object, name)                                              \
    do {                                                                                     \
        ROW(INVALID, name "|NULL", "NULL", setter(NULL, "{}"));                              \
        ROW(INVALID, "json|NULL", "NULL", setter(object, NULL));                             \
        ROW(INVALID, "json", "empty", setter(object, ""));                                   \
        ROW(INVALID, "json", "cut short", setter(object, "{\"layer_a\": 1"));                \
        ROW(INVALID, "json", "no object", setter(object, "[1, 2]"));                         \
        ROW(INVALID, "json", "text after the end", setter(object, "{} {}"));                 \
        ROW(INVALID, "json", "a bad escape", setter(object, "{\"a\": \"\\ud800\"}"));        \
        ROW(INVALID, "json|UTF-8", "not UTF-8", setter(object, "{\"a\": \"\xff\"}"));        \
        ROW(INVALID, "json", "100,000 brackets", setter(object, deep_json));                 \
    } while (0)

#define METADATA_ROWS(getter, object, name)                                                               \
    do {                                                                                                  \
        ROW(INVALID, name "|NULL", "NULL", getter(NULL, out_text, sizeof out_text, &out_size));           \
        ROW(INVALID, "size|NULL", "NULL", getter(object, NULL, 0, NULL));                                 \
        ROW(INVALID, "capacity|1", "too small", getter(object, out_text, 1, &out_size));                  \
    } while (0)

static void metadata_rows(void) {
    memset(deep_json, '[', 100000);
    memset(deep_json + 100000, ']', 100000);
    SET_METADATA_ROWS(suture_stitch_set_metadata, stitch, "stitch");
    SET_METADATA_ROWS(suture_sae_set_metadata, sae, "sae");
    METADATA_ROWS(suture_stitch_metadata, stitch, "stitch");
    METADATA_ROWS(suture_sae_metadata, sae, "sae");
}

static void stitch_file_rows(void) {
    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_save(NULL, in_folder("x.safetensors")));
    ROW(INVALID, "path|NULL", "NULL", suture_stitch_save(stitch, NULL));
    ROW(INVALID, "path|UTF-8", "not UTF-8", suture_stitch_save(stitch, "\xff\xfe"));
    ROW(IO, "nowhere", "no such folder", suture_stitch_save(stitch, in_folder("nowhere/x.safetensors")));
    ROW(IO, folder, "a folder", suture_stitch_save(stitch, folder));
    ROW(INVALID, "path|NULL", "NULL", suture_stitch_load(NULL, &out_stitch));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_load(in_folder("x.safetensors"), NULL));
    ROW(IO, "absent.safetensors", "no such file", suture_stitch_load(in_folder("absent.safetensors"), &out_stitch));
    ROW(IO, folder, "a folder", suture_stitch_load(folder, &out_stitch));

    static uint8_t bytes[65536];
    OK(suture_stitch_save(stitch, in_folder("whole.safetensors")));
    const size_t size = read_file("whole.safetensors", bytes, sizeof bytes);
    for (size_t cut = 0; cut < size; cut += cut < 400 ? 1 : 7) {
        write_file("cut.safetensors", bytes, cut);
        ROW(FORMAT, "cut.safetensors", "cut short", suture_stitch_load(path, &out_stitch));
    }
    // Any damage of the header may be noticed or harmless, but is never a crash. The length comes first.
    for (size_t at = 0; at < size && at < 600; ++at) {
        bytes[at] ^= 0x15;
        write_file("damaged.safetensors", bytes, size);
        suture_stitch *loaded = NULL;
        const suture_status status = suture_stitch_load(path, &loaded);
        CHECK(status == SUTURE_OK || status == FORMAT || status == UNSUPPORTED, "byte %d: status %d, %s", (int)at,
              (int)status, suture_last_error());
        suture_stitch_destroy(loaded);
        bytes[at] ^= 0x15;
    }
    memset(bytes, 0xff, 8);
    write_file("damaged.safetensors", bytes, size);
    ROW(FORMAT, "damaged.safetensors", "a header of 2^64 bytes", suture_stitch_load(path, &out_stitch));
    const char none[] = "\x02\0\0\0\0\0\0\0{}";
    write_file("damaged.safetensors", none, 10);
    ROW(FORMAT, "damaged.safetensors|P_up", "no tensors", suture_stitch_load(path, &out_stitch));
}

static void sae_create_rows(void) {
    suture_sae_config config = {.struct_size = sizeof config,
                                .d_in = D_A,
                                .d_sae = D_SAE,
                                .architecture = SUTURE_TOPK,
                                .k = K,
                                .normalization = SUTURE_NORMALIZATION_NONE};
    const suture_sae_config good = config;
    suture_sae_weights weights = {.struct_size = sizeof weights,
                                  .W_enc = *FLOATS(W_enc_data, D_A, D_SAE),
                                  .b_enc = *FLOATS(zeros, 1, D_SAE),
                                  .W_dec = *FLOATS(W_dec_data, D_SAE, D_A),
                                  .b_dec = *FLOATS(zeros, 1, D_A)};
    const suture_sae_weights good_weights = weights;
#define CREATE suture_sae_create(&config, &weights, &out_sae)
#define INIT suture_sae_init(&config, 0, &out_sae)
    ROW(INVALID, "config|NULL", "NULL", suture_sae_create(NULL, &weights, &out_sae));
    ROW(INVALID, "weights|NULL", "NULL", suture_sae_create(&config, NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_create(&config, &weights, NULL));
    SIZE_ROWS("config", config, CREATE);
    SIZE_ROWS("weights", weights, CREATE);
    ROW(INVALID, "config|NULL", "NULL", suture_sae_init(NULL, 0, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_init(&config, 0, NULL));
    SIZE_ROWS("config", config, INIT);

#define CONFIG_ROW(words, what, field, value) \
    do {                                      \
        config = good;                        \
        config.field = value;                 \
        ROW(INVALID, words, what, CREATE);    \
        ROW(INVALID, words, what, INIT);      \
        config = good;                        \
    } while (0)
    CONFIG_ROW("d_in|0", "zero", d_in, 0);
    CONFIG_ROW("d_in|-1", "negative", d_in, -1);
    CONFIG_ROW("d_in|9223372036854775807", "too large", d_in, INT64_MAX);
    CONFIG_ROW("d_sae|0", "zero", d_sae, 0);
    CONFIG_ROW("d_sae|-7", "negative", d_sae, -7);
    CONFIG_ROW("d_sae|9223372036854775807", "too large", d_sae, INT64_MAX);
    CONFIG_ROW("architecture|0", "left out", architecture, (suture_architecture)0);
    CONFIG_ROW("architecture|42", "unknown", architecture, (suture_architecture)42);
    CONFIG_ROW("normalization|42", "unknown", normalization, (suture_normalization)42);
    CONFIG_ROW("k|0", "zero", k, 0);
    CONFIG_ROW("k|-1", "negative", k, -1);
    CONFIG_ROW("k|9|8", "k > d_sae", k, D_SAE + 1);
    CONFIG_ROW("apply_b_dec_to_input|2", "neither 0 nor 1", apply_b_dec_to_input, 2);
    CONFIG_ROW("rescale_by_decoder_norm|-1", "neither 0 nor 1", rescale_by_decoder_norm, -1);
    config.normalization = SUTURE_NORMALIZATION_FIXED_SCALE;
    config.scale = 0;
    ROW(INVALID, "scale|0", "zero", CREATE);
    config.scale = NAN;
    ROW(INVALID, "scale|nan", "NaN", CREATE);
    config = good;
    config.d_in = config.d_sae = 2000000000;
    ROW(SUTURE_ERROR_OUT_OF_MEMORY, "2000000000", "beyond memory", INIT);
    config = good;
    config.architecture = SUTURE_JUMPRELU;
    ROW(UNSUPPORTED, "architecture", "no random start for JumpReLU", INIT);
    config = good;

#define WEIGHT_ROW(words, what, field, ...) \
    do {                                    \
        weights = good_weights;             \
        weights.field = *(__VA_ARGS__);     \
        ROW(INVALID, words, what, CREATE);  \
        weights = good_weights;             \
    } while (0)
    WEIGHT_ROW("W_enc", "left out", W_enc, &(suture_matrix){0});
    WEIGHT_ROW("W_enc|4|3", "other d_in", W_enc, FLOATS(W_enc_data, 4, D_SAE));
    WEIGHT_ROW("W_enc|7|8", "other d_sae", W_enc, FLOATS(W_enc_data, D_A, 7));
    WEIGHT_ROW("W_dec|7|8", "other d_sae", W_dec, FLOATS(W_dec_data, 7, D_A));
    WEIGHT_ROW("W_dec|2|3", "other d_in", W_dec, FLOATS(W_dec_data, D_SAE, 2));
    WEIGHT_ROW("W_dec|NULL", "no data", W_dec, FLOATS(NULL, D_SAE, D_A));
    WEIGHT_ROW("b_enc|2|1", "two rows", b_enc, FLOATS(zeros, 2, D_SAE));
    WEIGHT_ROW("b_enc|dtype|5", "unknown dtype", b_enc, MATRIX(zeros, 1, D_SAE, 0, (suture_dtype)5));
    WEIGHT_ROW("b_dec|row_stride|1", "row_stride below cols", b_dec, MATRIX(zeros, 1, D_A, 1, SUTURE_FLOAT32));
    float bad[D_A * D_SAE] = {0};
    bad[D_SAE + 2] = NAN;
    WEIGHT_ROW("W_enc[1, 2]|nan", "NaN", W_enc, FLOATS(bad, D_A, D_SAE));
    config.architecture = SUTURE_JUMPRELU;
    ROW(INVALID, "threshold", "JumpReLU without threshold", CREATE);
    config.architecture = SUTURE_BATCHTOPK;
    ROW(INVALID, "threshold", "BatchTopK without threshold", CREATE);
    weights.threshold = *FLOATS(zeros, 1, D_SAE);
    ROW(INVALID, "threshold|8|1", "BatchTopK with many thresholds", CREATE);
    config.architecture = SUTURE_GATED;
    weights = good_weights;
    ROW(INVALID, "b_gate", "Gated without b_gate", CREATE);
}

static void sae_rows(void) {
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_info(NULL, &out_config));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_info(sae, NULL));
    SIZE_ROWS("out", out_config, suture_sae_info(sae, &out_config));
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_weight(NULL, SUTURE_SAE_W_ENC, &out_matrix));
    ROW(INVALID, "which|99", "unknown", suture_sae_weight(sae, (suture_sae_weight_name)99, &out_matrix));
    ROW(INVALID, "threshold", "TopK has none", suture_sae_weight(sae, SUTURE_SAE_THRESHOLD, &out_matrix));
    ROW(INVALID, "b_gate", "TopK has none", suture_sae_weight(sae, SUTURE_SAE_B_GATE, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_weight(sae, SUTURE_SAE_W_ENC, NULL));
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_fold(NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_fold(sae, NULL));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_transfer_sae(NULL, sae, SUTURE_UP, &out_sae));
    ROW(INVALID, "sae|NULL", "NULL", suture_stitch_transfer_sae(stitch, NULL, SUTURE_UP, &out_sae));
    ROW(INVALID, "direction|7", "unknown", suture_stitch_transfer_sae(stitch, sae, (suture_direction)7, &out_sae));
    ROW(INVALID, "d_in|3|4", "a SAE of A sent down", suture_stitch_transfer_sae(stitch, sae, SUTURE_DOWN, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL));
    ROW(UNSUPPORTED, "layer_norm", "per-token normalisation",
        suture_stitch_transfer_sae(stitch, layer_norm_sae, SUTURE_UP, &out_sae));
    OK(suture_stitch_set_metadata(stitch, "{\"model_a\": \"small\", \"layer_a\": 2}"));
    OK(suture_sae_set_metadata(sae, "{\"model_name\": \"other\"}"));
    ROW(INVALID, "other|small", "a SAE of another model", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, &out_sae));
    OK(suture_sae_set_metadata(sae, "{\"model_name\": \"small\", \"hook_name\": \"blocks.5.hook_resid_pre\"}"));
    ROW(INVALID, "5|2", "a SAE of another layer", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, &out_sae));
    OK(suture_stitch_set_metadata(stitch, "{}"));
    OK(suture_sae_set_metadata(sae, "{}"));
    ACCEPTS_NULL(suture_sae_destroy);
}

static void sae_file_rows(void) {
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_save(NULL, in_folder("x")));
    ROW(INVALID, "folder|NULL", "NULL", suture_sae_save(sae, NULL));
    ROW(INVALID, "folder|UTF-8", "not UTF-8", suture_sae_save(sae, "\xff\xfe"));
    write_file("a-file", "x", 1);
    ROW(IO, "a-file", "a file in its place", suture_sae_save(sae, in_folder("a-file")));
    ROW(INVALID, "folder|NULL", "NULL", suture_sae_load(NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_load(in_folder("sae"), NULL));
    ROW(IO, "absent", "no such folder", suture_sae_load(in_folder("absent"), &out_sae));
    ROW(IO, "a-file", "a file in its place", suture_sae_load(in_folder("a-file"), &out_sae));

    OK(suture_sae_save(sae, in_folder("sae")));
    static uint8_t weights[65536];
    static uint8_t config[65536];
    const size_t weights_size = read_file("sae/sae_weights.safetensors", weights, sizeof weights);
    const size_t config_size = read_file("sae/cfg.json", config, sizeof config);
#define LOAD suture_sae_load(in_folder("sae"), &out_sae)
    for (size_t cut = 0; cut < weights_size; cut += cut < 300 ? 5 : 31) {
        write_file("sae/sae_weights.safetensors", weights, cut);
        ROW(FORMAT, "sae_weights.safetensors", "weights cut short", LOAD);
    }
    remove(in_folder("sae/sae_weights.safetensors"));
    ROW(IO, "sae_weights.safetensors", "no weights", LOAD);
    write_file("sae/sae_weights.safetensors", weights, weights_size);
    // Without the closing brace nothing is complete.
    size_t end = config_size;
    while (end > 0 && config[end - 1] != '}') --end;
    for (size_t cut = 0; cut < end; cut += 3) {
        write_file("sae/cfg.json", config, cut);
        ROW(FORMAT, "cfg.json", "settings cut short", LOAD);
    }
#define CONFIG_TEXT(status, words, what, text)               \
    do {                                                     \
        write_file("sae/cfg.json", text, strlen(text));      \
        ROW(status, "cfg.json|" words, what, LOAD);          \
    } while (0)
#define TOPK_JSON(k, d_in)                                                             \
    "{\"architecture\": \"topk\", \"k\": " k ", \"d_in\": " d_in ", \"d_sae\": 8, "     \
    "\"apply_b_dec_to_input\": false, \"normalize_activations\": \"none\", \"dtype\": \"float32\"}"
    CONFIG_TEXT(FORMAT, "", "no object", "[]");
    CONFIG_TEXT(FORMAT, "architecture", "no architecture", "{}");
    CONFIG_TEXT(UNSUPPORTED, "transcoder", "unknown architecture", "{\"architecture\": \"transcoder\"}");
    CONFIG_TEXT(FORMAT, "d_in", "other d_in than the weights", TOPK_JSON("2", "5"));
    CONFIG_TEXT(FORMAT, "k|9", "k > d_sae", TOPK_JSON("9", "3"));
    CONFIG_TEXT(FORMAT, "k", "k is a text", TOPK_JSON("\"2\"", "3"));
    CONFIG_TEXT(FORMAT, "k", "k beyond 64 bits", TOPK_JSON("100000000000000000000", "3"));
    remove(in_folder("sae/cfg.json"));
    ROW(IO, "cfg.json", "no settings", LOAD);
}

static void codes_rows(void) {
    const suture_matrix *x = FLOATS(zeros, 2, D_A);
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_encode(NULL, x, NULL, &out_codes));
    ROW(INVALID, "sae|handle", "codes", suture_sae_encode((suture_sae *)(void *)codes, x, NULL, &out_codes));
    ROW(INVALID, "out|NULL", "NULL", suture_sae_encode(sae, x, NULL, NULL));
    INPUT_ROWS("x", D_A, suture_sae_encode(sae, X, NULL, &out_codes));
    CONTENT_ROWS("x", ROWS, D_A, suture_sae_encode(sae, X, NULL, &out_codes));

    const int32_t indices[4] = {0, 7, 3, -1};
    const float values[4] = {1, 2, 3, 0};
#define CODES(d_sae, rows, width, indices, values) suture_codes_create(d_sae, rows, width, indices, values, &out_codes)
    ROW(INVALID, "d_sae|0", "zero", CODES(0, 2, 2, indices, values));
    ROW(INVALID, "d_sae|9223372036854775807", "too large", CODES(INT64_MAX, 2, 2, indices, values));
    ROW(INVALID, "rows|-1", "negative", CODES(D_SAE, -1, 2, indices, values));
    ROW(INVALID, "width|-1", "negative", CODES(D_SAE, 2, -1, indices, values));
    ROW(INVALID, "width|9|8", "more slots than latents", CODES(D_SAE, 2, 9, indices, values));
    ROW(INVALID, "rows|9223372036854775807", "overflow", CODES(D_SAE, INT64_MAX, 2, indices, values));
    ROW(INVALID, "indices|NULL", "NULL", CODES(D_SAE, 2, 2, NULL, values));
    ROW(INVALID, "values|NULL", "NULL", CODES(D_SAE, 2, 2, indices, NULL));
    ROW(INVALID, "out|NULL", "NULL", suture_codes_create(D_SAE, 2, 2, indices, values, NULL));
    const int32_t beyond[4] = {0, 1, 8, -1};
    ROW(INVALID, "indices[1, 0]|8", "no such latent", CODES(D_SAE, 2, 2, beyond, values));
    const int32_t twice[4] = {0, 1, 5, 5};
    const float four[4] = {1, 2, 3, 4};
    ROW(INVALID, "indices[1|5", "a latent twice", CODES(D_SAE, 2, 2, twice, four));
    const float not_a_number[4] = {1, NAN, 3, 0};
    ROW(INVALID, "values[0, 1]|nan", "NaN", CODES(D_SAE, 2, 2, indices, not_a_number));

    ROW(INVALID, "codes|NULL", "NULL", suture_codes_view_get(NULL, &out_view));
    ROW(INVALID, "out|NULL", "NULL", suture_codes_view_get(codes, NULL));
    SIZE_ROWS("out", out_view, suture_codes_view_get(codes, &out_view));
    ACCEPTS_NULL(suture_codes_destroy);

    const suture_matrix *out = FLOATS(out_floats, 2, D_A);
    ROW(INVALID, "sae|NULL", "NULL", suture_sae_decode(NULL, codes, NULL, out));
    ROW(INVALID, "codes|NULL", "NULL", suture_sae_decode(sae, NULL, NULL, out));
    ROW(INVALID, "d_sae|9|8", "codes of another SAE", suture_sae_decode(sae, wide_codes, NULL, out));
    OUTPUT_ROWS("out", 2, D_A, suture_sae_decode(sae, codes, NULL, X));

    ROW(INVALID, "sae|NULL", "NULL", suture_sae_reconstruct(NULL, x, NULL, out));
    INPUT_ROWS("x", D_A, suture_sae_reconstruct(sae, X, NULL, out));
    OUTPUT_ROWS("out", 2, D_A, suture_sae_reconstruct(sae, x, NULL, X));
    CONTENT_ROWS("x", 1, D_A, suture_sae_reconstruct(sae, X, NULL, FLOATS(out_floats, 1, D_A)));
}

static void evaluation_rows(void) {
    ROW(INVALID, "sae|NULL", "NULL", suture_evaluation_create(NULL, &out_evaluation));
    ROW(INVALID, "out|NULL", "NULL", suture_evaluation_create(sae, NULL));
    ROW(INVALID, "evaluation|0|tokens", "no tokens", suture_evaluation_report_get(evaluation, &out_evaluation_report));
    ROW(INVALID, "evaluation|0|tokens", "no tokens", suture_evaluation_features(evaluation, out_doubles, out_floats));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_update(NULL, &a, NULL));
    ROW(INVALID, "evaluation|handle", "a SAE",
        suture_evaluation_update((suture_evaluation *)(void *)sae, &a, NULL));
    INPUT_ROWS("x", D_A, suture_evaluation_update(evaluation, X, NULL));
    CONTENT_ROWS("x", ROWS, D_A, suture_evaluation_update(evaluation, X, NULL));
    ROW(INVALID, "evaluation|0|tokens", "refused tokens do not count",
        suture_evaluation_report_get(evaluation, &out_evaluation_report));
    OK(suture_evaluation_update(evaluation, &a, NULL));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_report_get(NULL, &out_evaluation_report));
    ROW(INVALID, "out|NULL", "NULL", suture_evaluation_report_get(evaluation, NULL));
    SIZE_ROWS("out", out_evaluation_report, suture_evaluation_report_get(evaluation, &out_evaluation_report));
    ROW(INVALID, "evaluation|NULL", "NULL", suture_evaluation_features(NULL, out_doubles, out_floats));
    ACCEPTS_NULL(suture_evaluation_destroy);
}

static void training_rows(void) {
    suture_train_config config = {.struct_size = sizeof config, .batch_size = 8};
    const suture_train_config good = config;
#define TRAINER suture_trainer_create(sae, &config, &out_trainer)
    ROW(INVALID, "sae|NULL", "NULL", suture_trainer_create(NULL, &config, &out_trainer));
    ROW(INVALID, "config|NULL", "NULL", suture_trainer_create(sae, NULL, &out_trainer));
    ROW(INVALID, "out|NULL", "NULL", suture_trainer_create(sae, &config, NULL));
    ROW(UNSUPPORTED, "ReLU", "not TopK", suture_trainer_create(relu_sae, &config, &out_trainer));
    SIZE_ROWS("config", config, TRAINER);
#define TRAIN_ROW(words, what, field, value) \
    do {                                     \
        config = good;                       \
        config.field = value;                \
        ROW(INVALID, words, what, TRAINER);  \
        config = good;                       \
    } while (0)
    TRAIN_ROW("batch_size|-1", "negative", batch_size, -1);
    TRAIN_ROW("batch_size|9223372036854775807", "too large", batch_size, INT64_MAX);
    TRAIN_ROW("lr|-1", "negative", lr, -1);
    TRAIN_ROW("lr|nan", "NaN", lr, NAN);
    TRAIN_ROW("lr|inf", "infinite", lr, INFINITY);
    TRAIN_ROW("beta1|1", "not below 1", beta1, 1);
    TRAIN_ROW("beta1|-0.5", "negative", beta1, -0.5);
    TRAIN_ROW("beta2|nan", "NaN", beta2, NAN);
    TRAIN_ROW("epsilon|-1", "negative", epsilon, -1);

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_step(NULL, &a, NULL, &out_metrics));
    ROW(INVALID, "trainer|handle", "a SAE",
        suture_trainer_step((suture_trainer *)(void *)sae, &a, NULL, &out_metrics));
    SIZE_ROWS("out", out_metrics, suture_trainer_step(trainer, &a, NULL, &out_metrics));
    INPUT_ROWS("x", D_A, suture_trainer_step(trainer, X, NULL, &out_metrics));
    CONTENT_ROWS("x", ROWS, D_A, suture_trainer_step(trainer, X, NULL, &out_metrics));

#define RUN(shards, count, tokens) suture_trainer_run(trainer, shards, count, tokens, NULL, &out_metrics)
    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_run(NULL, &a, 1, 8, NULL, &out_metrics));
    ROW(INVALID, "shards|NULL", "NULL", RUN(NULL, 1, 8));
    ROW(INVALID, "shard_count|0", "zero", RUN(&a, 0, 8));
    ROW(INVALID, "shard_count|-1", "negative", RUN(&a, -1, 8));
    ROW(INVALID, "tokens|0", "zero", RUN(&a, 1, 0));
    SIZE_ROWS("out", out_metrics, RUN(&a, 1, 8));
    INPUT_ROWS("shards[0]", D_A, X == NULL ? RUN(NULL, 1, 8) : RUN(X, 1, 8));
    CONTENT_ROWS("shards[0]", ROWS, D_A, RUN(X, 1, ROWS));
    const suture_matrix shards[2] = {a, b};
    ROW(INVALID, "shards[1]|4|3", "another width", RUN(shards, 2, 8));

    const suture_matrix *W_enc = FLOATS(out_floats, D_A, D_SAE);
    const suture_matrix *b_enc = FLOATS(out_floats + 40, 1, D_SAE);
    const suture_matrix *W_dec = FLOATS(out_floats + 80, D_SAE, D_A);
    const suture_matrix *b_dec = FLOATS(out_floats + 120, 1, D_A);
    double *loss = out_doubles;
    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_gradients(NULL, &a, W_enc, b_enc, W_dec, b_dec, loss));
    ROW(INVALID, "loss|NULL", "NULL", suture_trainer_gradients(trainer, &a, W_enc, b_enc, W_dec, b_dec, NULL));
    INPUT_ROWS("x", D_A, suture_trainer_gradients(trainer, X, W_enc, b_enc, W_dec, b_dec, loss));
    CONTENT_ROWS("x", ROWS, D_A, suture_trainer_gradients(trainer, X, W_enc, b_enc, W_dec, b_dec, loss));
    OUTPUT_ROWS("W_enc", D_A, D_SAE, suture_trainer_gradients(trainer, &a, X, b_enc, W_dec, b_dec, loss));
    OUTPUT_ROWS("b_enc", 1, D_SAE, suture_trainer_gradients(trainer, &a, W_enc, X, W_dec, b_dec, loss));
    OUTPUT_ROWS("W_dec", D_SAE, D_A, suture_trainer_gradients(trainer, &a, W_enc, b_enc, X, b_dec, loss));
    OUTPUT_ROWS("b_dec", 1, D_A, suture_trainer_gradients(trainer, &a, W_enc, b_enc, W_dec, X, loss));

    ROW(INVALID, "trainer|NULL", "NULL", suture_trainer_sae(NULL, &out_sae));
    ROW(INVALID, "out|NULL", "NULL", suture_trainer_sae(trainer, NULL));
    ACCEPTS_NULL(suture_trainer_destroy);
}

// ---------------------------------------------------------------------------------------------

static void make_objects(void) {
    uint64_t state = 11;
    for (int i = 0; i < ROWS * D_A; ++i) a_data[i] = (float)noise(&state);
    for (int i = 0; i < ROWS * D_B; ++i) b_data[i] = (float)noise(&state);
    for (int i = 0; i < D_A * D_SAE; ++i) W_enc_data[i] = (float)noise(&state);
    for (int i = 0; i < D_A * D_SAE; ++i) W_dec_data[i] = (float)noise(&state);
    for (int i = 0; i < 64; ++i) numbers[i] = 1;
    a = float_matrix(a_data, ROWS, D_A);
    b = float_matrix(b_data, ROWS, D_B);
    OK(suture_moments_create(D_A, D_B, &moments));
    OK(suture_moments_update(moments, &a, &b, NULL));
    OK(suture_moments_create(D_A, D_B, &empty_moments));
    OK(suture_moments_create(D_A, D_A, &square_moments));
    OK(suture_moments_update(square_moments, &a, &a, NULL));
    const suture_stitch_config fit = {.struct_size = sizeof fit, .alpha = 1};
    OK(suture_stitch_fit(moments, &fit, NULL, &stitch, NULL));
    suture_sae_config config = {.struct_size = sizeof config,
                                .d_in = D_A,
                                .d_sae = D_SAE,
                                .architecture = SUTURE_TOPK,
                                .k = K,
                                .normalization = SUTURE_NORMALIZATION_NONE};
    OK(suture_sae_init(&config, 1, &sae));
    config.architecture = SUTURE_RELU;
    OK(suture_sae_init(&config, 1, &relu_sae));
    const suture_sae_weights weights = {.struct_size = sizeof weights,
                                        .W_enc = *FLOATS(W_enc_data, D_A, D_SAE),
                                        .b_enc = *FLOATS(zeros, 1, D_SAE),
                                        .W_dec = *FLOATS(W_dec_data, D_SAE, D_A),
                                        .b_dec = *FLOATS(zeros, 1, D_A)};
    config.architecture = SUTURE_TOPK;
    config.normalization = SUTURE_NORMALIZATION_LAYER_NORM;
    OK(suture_sae_create(&config, &weights, &layer_norm_sae));
    OK(suture_sae_encode(sae, FLOATS(a_data, 2, D_A), NULL, &codes));
    const int32_t indices[2] = {8, 0};
    OK(suture_codes_create(D_SAE + 1, 2, 1, indices, numbers, &wide_codes));
    OK(suture_evaluation_create(sae, &evaluation));
    const suture_train_config train = {.struct_size = sizeof train, .batch_size = 8};
    OK(suture_trainer_create(sae, &train, &trainer));
}

static void destroy_objects(void) {
    suture_trainer_destroy(trainer);
    suture_evaluation_destroy(evaluation);
    suture_codes_destroy(wide_codes);
    suture_codes_destroy(codes);
    suture_sae_destroy(layer_norm_sae);
    suture_sae_destroy(relu_sae);
    suture_sae_destroy(sae);
    suture_stitch_destroy(stitch);
    suture_moments_destroy(square_moments);
    suture_moments_destroy(empty_moments);
    suture_moments_destroy(moments);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    snprintf(folder, sizeof folder, "%s", argv[1]);
    make_objects();
    if (failures != 0) return finish("bad_inputs.c");
    poison_results();
    library_rows();
    moments_rows();
    stitch_fit_rows();
    stitch_rows();
    metadata_rows();
    stitch_file_rows();
    sae_create_rows();
    sae_rows();
    sae_file_rows();
    codes_rows();
    evaluation_rows();
    training_rows();
    destroy_objects();
    for (int i = 0; i < covered_count; ++i) printf("covers %s\n", covered[i]);
    return finish("bad_inputs.c");
}
