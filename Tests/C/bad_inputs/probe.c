// SPDX-License-Identifier: Apache-2.0
// Probes, feature selection and pooling.
#include "table.h"

static int32_t labels[ROWS];
static double weights[ROWS];
static int64_t sample[ROWS];
static const int64_t features[3] = {2, 0, 1};
static const int64_t sizes[2] = {1, 3};
static suture_samples samples = {.struct_size = sizeof samples, .dense = &a};
static suture_probe_config config = {.struct_size = sizeof config};

// The rows of everything that takes samples. `call` uses `samples`.
#define SAMPLES_ROWS(call)                                                                          \
    do {                                                                                            \
        SIZE_ROWS("samples", samples, call);                                                        \
        samples.dense = NULL;                                                                       \
        ROW(INVALID, "samples|dense|codes|csr", "none of the three", call);                         \
        samples.dense = &a;                                                                         \
        samples.codes = codes;                                                                      \
        ROW(INVALID, "samples|dense|codes|csr", "two of the three", call);                          \
        samples.codes = (const suture_codes *)(const void *)stitch;                                 \
        samples.dense = NULL;                                                                       \
        ROW(INVALID, "codes|handle", "a stitch for codes", call);                                   \
        samples.codes = NULL;                                                                       \
        const int64_t starts[3] = {0, 1, 2}, late[3] = {1, 1, 2}, back[3] = {0, 2, 1};              \
        const int64_t far[3] = {0, 1 << 20, 2};                                                     \
        const int32_t indices[2] = {0, 2}, beyond[2] = {0, D_A}, negative[2] = {-1, 0};             \
        const float values[2] = {1, 2}, bad[2] = {1, NAN};                                          \
        suture_csr csr = {2, D_A, starts, indices, values, SUTURE_FLOAT32};                         \
        const suture_csr good = csr;                                                                \
        samples.csr = &csr;                                                                         \
        csr.rows = 0;                                                                               \
        ROW(INVALID, "x|rows|0", "no rows", call);                                                  \
        csr.rows = INT64_MAX;                                                                       \
        ROW(INVALID, "x|rows|9223372036854775807", "more rows than can be", call);                  \
        csr = good, csr.cols = -1;                                                                  \
        ROW(INVALID, "x|cols|-1", "negative columns", call);                                        \
        csr = good, csr.starts = NULL;                                                              \
        ROW(INVALID, "x|starts|NULL", "starts NULL", call);                                         \
        csr = good, csr.indices = NULL;                                                             \
        ROW(INVALID, "x|indices|NULL", "indices NULL", call);                                       \
        csr = good, csr.values = NULL;                                                              \
        ROW(INVALID, "x|values|NULL", "values NULL", call);                                         \
        csr = good, csr.dtype = (suture_dtype)99;                                                   \
        ROW(INVALID, "x|dtype|99", "unknown dtype", call);                                          \
        csr = good, csr.starts = late;                                                              \
        ROW(INVALID, "x|starts[0]|1", "starts that begin late", call);                              \
        csr = good, csr.starts = back;                                                              \
        ROW(INVALID, "x|starts[2]|1", "starts that go back", call);                                 \
        csr = good, csr.starts = far;                                                               \
        ROW(INVALID, "x|starts[2]|2", "a start beyond the last", call);                             \
        csr = good, csr.indices = beyond;                                                           \
        ROW(INVALID, "x|indices[1]|3", "a column beyond the last", call);                           \
        csr = good, csr.indices = negative;                                                         \
        ROW(INVALID, "x|indices[0]|-1", "a negative column", call);                                 \
        csr = good, csr.values = bad;                                                               \
        ROW(INVALID, "x|values[1]|nan", "NaN", call);                                               \
        samples.csr = NULL;                                                                         \
        samples.dense = &a;                                                                         \
    } while (0)

// The rows of everything that takes samples with labels. `call` uses `samples`, L and CLASSES.
#define LABELS_ROWS(call)                                                                           \
    do {                                                                                            \
        const int32_t *L = labels;                                                                  \
        int64_t CLASSES = 2;                                                                        \
        SAMPLES_ROWS(call);                                                                         \
        suture_matrix bad = a;                                                                      \
        bad.cols = 0;                                                                               \
        samples.dense = &bad;                                                                       \
        ROW(INVALID, "x|cols|0", "no columns", call);                                               \
        float content[ROWS * D_A] = {0};                                                            \
        content[5] = NAN;                                                                           \
        bad = *FLOATS(content, ROWS, D_A);                                                          \
        ROW(INVALID, "x[1, 2]|nan", "NaN", call);                                                   \
        content[5] = INFINITY;                                                                      \
        ROW(INVALID, "x[1, 2]|inf", "infinity", call);                                              \
        samples.dense = &a;                                                                         \
        L = NULL;                                                                                   \
        ROW(INVALID, "labels|NULL", "labels NULL", call);                                           \
        L = labels;                                                                                 \
        CLASSES = 1;                                                                                \
        ROW(INVALID, "classes|1", "one class", call);                                               \
        CLASSES = INT64_MAX;                                                                        \
        ROW(INVALID, "classes|9223372036854775807", "more classes than can be", call);              \
        CLASSES = 3;                                                                                \
        ROW(INVALID, "labels|class 2|3 classes", "a class without samples", call);                  \
        CLASSES = 2;                                                                                \
        labels[3] = 2;                                                                              \
        ROW(INVALID, "labels[3]|2", "a label beyond the last", call);                               \
        labels[3] = -1;                                                                             \
        ROW(INVALID, "labels[3]|-1", "a negative label", call);                                     \
        labels[3] = 1;                                                                              \
    } while (0)

// The rows of the two fits.
#define FIT_ROWS(call)                                                                              \
    do {                                                                                            \
        const double *W = weights;                                                                  \
        LABELS_ROWS(call);                                                                          \
        const int32_t *L = labels;                                                                  \
        const int64_t CLASSES = 2;                                                                  \
        SIZE_ROWS("config", config, call);                                                          \
        SIZE_ROWS("report", out_probe_report, call);                                                \
        config.C = -1;                                                                              \
        ROW(INVALID, "C|-1.0", "negative", call);                                                   \
        config.C = NAN;                                                                             \
        ROW(INVALID, "C|nan", "NaN", call);                                                         \
        config.C = 0;                                                                               \
        config.tolerance = INFINITY;                                                                \
        ROW(INVALID, "tolerance|inf", "infinite", call);                                            \
        config.tolerance = 0;                                                                       \
        config.max_iterations = -1;                                                                 \
        ROW(INVALID, "max_iterations|-1", "negative", call);                                        \
        config.max_iterations = 0;                                                                  \
        config.standardize = 2;                                                                     \
        ROW(INVALID, "standardize|2", "neither 0 nor 1", call);                                     \
        config.standardize = 0;                                                                     \
        config.balanced = -1;                                                                       \
        ROW(INVALID, "balanced|-1", "neither 0 nor 1", call);                                       \
        config.balanced = 0;                                                                        \
        weights[7] = -2;                                                                            \
        ROW(INVALID, "sample_weight[7]|-2.0", "negative", call);                                    \
        weights[7] = NAN;                                                                           \
        ROW(INVALID, "sample_weight[7]|nan", "NaN", call);                                          \
        for (int i = 0; i < ROWS; ++i) weights[i] = 0;                                              \
        ROW(INVALID, "sample_weight|0", "all zero", call);                                          \
        for (int i = 0; i < ROWS; ++i) weights[i] = labels[i];                                      \
        ROW(INVALID, "labels|class 0", "a class of weight zero", call);                             \
        for (int i = 0; i < ROWS; ++i) weights[i] = 1;                                              \
    } while (0)

static void fit_rows(void) {
#define FIT suture_probe_fit(&samples, L, CLASSES, W, &config, NULL, &out_probe, &out_probe_report)
    FIT_ROWS(FIT);
    ROW(INVALID, "samples|NULL", "NULL",
        suture_probe_fit(NULL, labels, 2, NULL, &config, NULL, &out_probe, NULL));
    ROW(INVALID, "config|NULL", "NULL", suture_probe_fit(&samples, labels, 2, NULL, NULL, NULL, &out_probe, NULL));
    ROW(INVALID, "out|NULL", "NULL", suture_probe_fit(&samples, labels, 2, NULL, &config, NULL, NULL, NULL));

#define SPARSE(f, f_count, s, s_count)                                                                            \
    suture_probe_fit_sparse(&samples, labels, 2, NULL, f, f_count, s, s_count, &config, NULL, &out_probe,         \
                            &out_probe_report)
#define FIT_SPARSE                                                                                              \
    suture_probe_fit_sparse(&samples, L, CLASSES, W, features, 3, sizes, 1, &config, NULL, &out_probe,          \
                            &out_probe_report)
    FIT_ROWS(FIT_SPARSE);
    ROW(INVALID, "features|NULL", "NULL", SPARSE(NULL, 3, sizes, 1));
    ROW(INVALID, "features|0", "no features", SPARSE(features, 0, sizes, 1));
    ROW(INVALID, "features|4|3", "more features than columns", SPARSE(features, 4, sizes, 1));
    ROW(INVALID, "sizes|NULL", "NULL", SPARSE(features, 3, NULL, 1));
    ROW(INVALID, "sizes|-1", "negative", SPARSE(features, 3, sizes, -1));
    ROW(INVALID, "sizes[0]|0", "zero", SPARSE(features, 3, ((const int64_t[1]){0}), 1));
    ROW(INVALID, "sizes[0]|4|3", "beyond the features", SPARSE(features, 3, ((const int64_t[1]){4}), 1));
    ROW(INVALID, "features[1]|3", "no such column", SPARSE(((const int64_t[2]){0, 3}), 2, sizes, 1));
    ROW(INVALID, "features[0]|-1", "negative", SPARSE(((const int64_t[2]){-1, 1}), 2, sizes, 1));
    ROW(INVALID, "features[1]|1|once", "twice", SPARSE(((const int64_t[2]){1, 1}), 2, sizes, 1));
    ROW(INVALID, "out|NULL", "NULL",
        suture_probe_fit_sparse(&samples, labels, 2, NULL, features, 3, sizes, 1, &config, NULL, NULL, NULL));
}

static void make_rows(void) {
    const suture_matrix *w = FLOATS(zeros, 3, D_A), *c = FLOATS(zeros, 1, 3);
    ROW(INVALID, "weights|NULL", "NULL", suture_probe_create(NULL, c, NULL, &out_probe));
    ROW(INVALID, "weights|(2, 3)|(1, d_in)", "two rows",
        suture_probe_create(FLOATS(zeros, 2, D_A), FLOATS(zeros, 1, 2), NULL, &out_probe));
    INPUT_ROWS("bias", 1, 3, suture_probe_create(w, X, NULL, &out_probe));
    CONTENT_ROWS("weights", 3, D_A, suture_probe_create(X, c, NULL, &out_probe));
    CONTENT_ROWS("bias", 1, 3, suture_probe_create(w, X, NULL, &out_probe));
    ROW(INVALID, "classes", "no JSON", suture_probe_create(w, c, "[1,", &out_probe));
    ROW(INVALID, "classes|array", "no array", suture_probe_create(w, c, "{}", &out_probe));
    ROW(INVALID, "classes|2|3", "too few", suture_probe_create(w, c, "[1, 2]", &out_probe));
    ROW(INVALID, "classes[2]|null", "no label", suture_probe_create(w, c, "[1, 2, null]", &out_probe));
    ROW(INVALID, "classes[2]|once", "a label twice", suture_probe_create(w, c, "[1, 2, 1]", &out_probe));
    ROW(INVALID, "classes", "no UTF-8", suture_probe_create(w, c, "[\"\xff\"]", &out_probe));
    ROW(INVALID, "out|NULL", "NULL", suture_probe_create(w, c, NULL, NULL));

    ROW(INVALID, "probe|NULL", "NULL", suture_probe_info(NULL, NULL, NULL));
    ROW(INVALID, "probe|handle", "a stitch", suture_probe_info((suture_probe *)(void *)stitch, NULL, NULL));
    ROW(INVALID, "probe|NULL", "NULL", suture_probe_weight(NULL, SUTURE_PROBE_BIAS, &out_matrix));
    ROW(INVALID, "which|0", "unknown", suture_probe_weight(probe, (suture_probe_weight_name)0, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_probe_weight(probe, SUTURE_PROBE_BIAS, NULL));
    ROW(INVALID, "probe|NULL", "NULL", suture_probe_classes(NULL, NULL, 0, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_probe_classes(probe, NULL, 0, NULL));
    ROW(INVALID, "capacity|2", "too small", suture_probe_classes(probe, out_text, 2, &out_size));
    ROW(INVALID, "probe|NULL", "NULL", suture_probe_metadata(NULL, NULL, 0, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_probe_metadata(probe, NULL, 0, NULL));
    ROW(INVALID, "capacity|2", "too small", suture_probe_metadata(probe, out_text, 2, &out_size));
    ROW(INVALID, "probe|NULL", "NULL", suture_probe_set_metadata(NULL, "{}"));
    ROW(INVALID, "json|NULL", "NULL", suture_probe_set_metadata(probe, NULL));
    ROW(INVALID, "json", "no object", suture_probe_set_metadata(probe, "[]"));

    ROW(INVALID, "probe|NULL", "NULL", suture_probe_save(NULL, in_folder("p")));
    ROW(INVALID, "path|NULL", "NULL", suture_probe_save(probe, NULL));
    ROW(IO, "no", "no such folder", suture_probe_save(probe, in_folder("no/p")));
    ROW(INVALID, "path|NULL", "NULL", suture_probe_load(NULL, &out_probe));
    ROW(INVALID, "out|NULL", "NULL", suture_probe_load(in_folder("p"), NULL));
    ROW(IO, "no", "no such file", suture_probe_load(in_folder("no"), &out_probe));
    OK(suture_probe_save(probe, in_folder("p")));
    uint8_t bytes[4096];
    const size_t size = read_file("p", bytes, sizeof bytes);
    for (size_t cut = 0; cut < size; ++cut) {
        write_file("cut", bytes, cut);
        ROW(FORMAT, "", "cut short", suture_probe_load(in_folder("cut"), &out_probe));
    }
    OK(suture_stitch_save(stitch, in_folder("stitch")));
    ROW(FORMAT, "stitch/1|probe/1", "a stitch", suture_probe_load(in_folder("stitch"), &out_probe));
    ACCEPTS_NULL(suture_probe_destroy);
}

static void apply_rows(void) {
    const suture_matrix *out = FLOATS(out_floats, ROWS, 3);
    ROW(INVALID, "probe|NULL", "NULL", suture_probe_logits(NULL, &samples, NULL, out));
    ROW(INVALID, "samples|NULL", "NULL", suture_probe_logits(probe, NULL, NULL, out));
    SAMPLES_ROWS(suture_probe_logits(probe, &samples, NULL, out));
    samples.dense = &b;
    ROW(INVALID, "x|4|d_in = 3", "another width", suture_probe_logits(probe, &samples, NULL, out));
    samples.dense = NULL;
    samples.codes = codes;
    ROW(INVALID, "x|8|d_in = 3", "codes of another width", suture_probe_logits(probe, &samples, NULL, out));
    samples.codes = NULL;
    float content[D_A] = {0, INFINITY, 0};
    samples.dense = FLOATS(content, 1, D_A);
    ROW(INVALID, "x[0, 1]|inf", "infinity", suture_probe_logits(probe, &samples, NULL, FLOATS(out_floats, 1, 3)));
    samples.dense = &a;
    OUTPUT_ROWS("out", ROWS, 3, suture_probe_logits(probe, &samples, NULL, X));

    ROW(INVALID, "stitch|NULL", "NULL", suture_stitch_transfer_probe(NULL, probe, SUTURE_UP, NULL, &out_probe));
    ROW(INVALID, "probe|NULL", "NULL", suture_stitch_transfer_probe(stitch, NULL, SUTURE_UP, NULL, &out_probe));
    ROW(INVALID, "direction|7", "unknown", suture_stitch_transfer_probe(stitch, probe, (suture_direction)7, NULL, &out_probe));
    ROW(INVALID, "probe|d_in = 3|d_b = 4", "the other model's",
        suture_stitch_transfer_probe(stitch, probe, SUTURE_DOWN, NULL, &out_probe));
    ROW(INVALID, "out|NULL", "NULL", suture_stitch_transfer_probe(stitch, probe, SUTURE_UP, NULL, NULL));
}

static void feature_rows(void) {
#define SELECT(k) suture_features_select(&samples, labels, 2, k, NULL, out_integers)
    LABELS_ROWS(suture_features_select(&samples, L, CLASSES, 2, NULL, out_integers));
    ROW(INVALID, "samples|NULL", "NULL", suture_features_select(NULL, labels, 2, 2, NULL, out_integers));
    ROW(INVALID, "k|0", "zero", SELECT(0));
    ROW(INVALID, "k|-1", "negative", SELECT(-1));
    ROW(INVALID, "k|4|3", "beyond the features", SELECT(4));
    ROW(INVALID, "out|NULL", "NULL", suture_features_select(&samples, labels, 2, 2, NULL, NULL));

    const suture_matrix *out = FLOATS(out_floats, 2, D_A);
    ROW(INVALID, "shards|NULL", "NULL", suture_pool(NULL, 1, sample, 2, NULL, out));
    ROW(INVALID, "shard_count|0", "no shards", suture_pool(&a, 0, sample, 2, NULL, out));
    ROW(INVALID, "shard_count|-1", "negative", suture_pool(&a, -1, sample, 2, NULL, out));
    ROW(INVALID, "shards[0]|rows|0", "no rows", suture_pool(FLOATS(zeros, 0, D_A), 1, sample, 2, NULL, out));
    const suture_matrix two[2] = {a, b};
    ROW(INVALID, "shards[1]|4|3", "two widths", suture_pool(two, 2, sample, 2, NULL, out));
    float content[ROWS * D_A] = {0};
    content[1] = NAN;
    ROW(INVALID, "shards[0][0, 1]|nan", "NaN", suture_pool(FLOATS(content, ROWS, D_A), 1, sample, 2, NULL, out));
    OUTPUT_ROWS("out", 2, D_A, suture_pool(&a, 1, sample, 2, NULL, X));
#define POOLS_ROWS(call)                                                           \
    do {                                                                           \
        const int64_t *S = sample;                                                 \
        int64_t COUNT = 0;                                                         \
        ROW(INVALID, "samples|0", "no samples", call);                             \
        COUNT = 61;                                                                \
        ROW(INVALID, "samples|61", "more samples than rows", call);                \
        COUNT = 2;                                                                 \
        S = NULL;                                                                  \
        ROW(INVALID, "sample|NULL", "NULL", call);                                 \
        S = sample;                                                                \
        sample[1] = 2;                                                             \
        ROW(INVALID, "sample[1]|2", "a sample beyond the last", call);             \
        for (int i = 0; i < ROWS; ++i) sample[i] = 0;                              \
        ROW(INVALID, "sample 1|rows", "a sample without rows", call);              \
        for (int i = 0; i < ROWS; ++i) sample[i] = i % 2;                          \
    } while (0)
    POOLS_ROWS(suture_pool(&a, 1, S, COUNT, NULL, out));
    POOLS_ROWS(suture_codes_pool(codes, S, COUNT, NULL, &out_codes));
    ROW(INVALID, "codes|NULL", "NULL", suture_codes_pool(NULL, sample, 2, NULL, &out_codes));
    ROW(INVALID, "out|NULL", "NULL", suture_codes_pool(codes, sample, 2, NULL, NULL));
}

void probe_rows(void) {
    for (int i = 0; i < ROWS; ++i) {
        labels[i] = i % 2;
        weights[i] = 1;
        sample[i] = i % 2;
    }
    fit_rows();
    make_rows();
    apply_rows();
    feature_rows();
}
