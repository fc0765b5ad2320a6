// SPDX-License-Identifier: Apache-2.0
// Steering vectors.
#include "table.h"

static void fit_rows(void) {
    const suture_matrix *good = FLOATS(a_data, 20, D_A), *other = FLOATS(a_data + 30, 20, D_A);
#define FIT(positive, negative) suture_steering_fit(positive, 1, negative, 1, NULL, &out_steering)
    INPUT_ROWS("negative", 20, D_A, FIT(good, X));
    CONTENT_ROWS("negative", 20, D_A, FIT(good, X));
    CONTENT_ROWS("positive", 20, D_A, FIT(X, good));
    ROW(INVALID, "positive|NULL", "NULL", FIT(NULL, good));
    ROW(INVALID, "positive|rows|0", "no rows", FIT(FLOATS(zeros, 0, D_A), good));
    ROW(INVALID, "positive|dtype|9", "unknown dtype", FIT(MATRIX(zeros, 2, D_A, 0, (suture_dtype)9), good));
    ROW(INVALID, "positive|cols|9223372036854775807", "too wide", FIT(FLOATS(zeros, 2, INT64_MAX), good));
    ROW(INVALID, "negative|columns|3|4", "another width", FIT(FLOATS(b_data, 20, D_B), good));
    ROW(INVALID, "positive_count|0", "none", suture_steering_fit(good, 0, other, 1, NULL, &out_steering));
    ROW(INVALID, "positive_count|-1", "negative", suture_steering_fit(good, -1, other, 1, NULL, &out_steering));
    ROW(INVALID, "negative_count|9223372036854775807", "too many",
        suture_steering_fit(good, 1, other, INT64_MAX, NULL, &out_steering));
    const suture_matrix two[2] = {*good, *FLOATS(b_data, 20, D_B)};
    ROW(INVALID, "positive[1]|4|3", "shards of two widths", suture_steering_fit(two, 2, other, 1, NULL, &out_steering));
    ROW(INVALID, "positive|negative|same mean", "no difference", FIT(good, good));
    ROW(INVALID, "same mean", "zeros", FIT(FLOATS(zeros, 2, D_A), FLOATS(zeros, 3, D_A)));
    ROW(INVALID, "out|NULL", "NULL", suture_steering_fit(good, 1, other, 1, NULL, NULL));
}

static void create_rows(void) {
    const suture_matrix *v = FLOATS(numbers, 1, D_A), *mean = FLOATS(numbers, 1, D_A);
#define CREATE(v, z, mean) suture_steering_create(v, z, mean, &out_steering)
    ROW(INVALID, "vector|NULL", "NULL", CREATE(NULL, 1, NULL));
    ROW(INVALID, "vector|data|NULL", "data NULL", CREATE(FLOATS(NULL, 1, D_A), 1, NULL));
    ROW(INVALID, "vector|rows|2|1", "two rows", CREATE(FLOATS(numbers, 2, D_A), 1, NULL));
    ROW(INVALID, "vector|cols|0", "no columns", CREATE(FLOATS(numbers, 1, 0), 1, NULL));
    ROW(INVALID, "vector|9223372036854775807", "too wide", CREATE(FLOATS(numbers, 1, INT64_MAX), 1, NULL));
    ROW(INVALID, "vector|dtype|7", "unknown dtype", CREATE(MATRIX(numbers, 1, D_A, 0, (suture_dtype)7), 1, NULL));
    ROW(INVALID, "vector|zero", "zeros", CREATE(FLOATS(zeros, 1, D_A), 1, NULL));
    ROW(INVALID, "vector", "float64 beyond float32", CREATE(MATRIX(huge_number, 1, D_B, 0, SUTURE_FLOAT64), 1, NULL));
    CONTENT_ROWS("vector", 1, D_A, CREATE(X, 1, NULL));
    CONTENT_ROWS("mean", 1, D_A, CREATE(v, 1, X));
    ROW(INVALID, "mean|4|3", "another width", CREATE(v, 1, FLOATS(numbers, 1, D_B)));
    ROW(INVALID, "mean|2|1", "two rows", CREATE(v, 1, FLOATS(numbers, 2, D_A)));
    ROW(INVALID, "z_mean|nan", "NaN", CREATE(v, NAN, mean));
    ROW(INVALID, "z_mean|-inf", "infinite", CREATE(v, -INFINITY, mean));
    ROW(INVALID, "out|NULL", "NULL", suture_steering_create(v, 1, mean, NULL));
}

static void apply_rows(const suture_steering *steering) {
    const suture_matrix *h = FLOATS(zeros, 2, D_A), *out = FLOATS(out_floats, 2, D_A);
    // The row in question may have been written.
    float spare[2 * D_A];
#define APPLY(mode, strength, h, out) suture_steering_apply(steering, mode, strength, h, NULL, out)
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_apply(NULL, SUTURE_STEERING_ADD, 1, h, NULL, out));
    ROW(INVALID, "steering|handle", "a SAE",
        suture_steering_apply((const suture_steering *)(void *)sae, SUTURE_STEERING_ADD, 1, h, NULL, out));
    INPUT_ROWS("h", 2, D_A, APPLY(SUTURE_STEERING_CLAMP, 1, X, out));
    CONTENT_ROWS("h", 1, D_A, APPLY(SUTURE_STEERING_CLAMP, 1, X, FLOATS(out_floats, 1, D_A)));
    OUTPUT_ROWS("out", 2, D_A, APPLY(SUTURE_STEERING_CLAMP, 1, h, X));
    ROW(INVALID, "mode|0", "unknown", APPLY((suture_steering_mode)0, 1, h, out));
    ROW(INVALID, "mode|4", "unknown", APPLY((suture_steering_mode)4, 1, h, out));
    ROW(INVALID, "strength|nan", "NaN", APPLY(SUTURE_STEERING_ADD, NAN, h, out));
    ROW(INVALID, "strength|inf", "infinite", APPLY(SUTURE_STEERING_ADD, INFINITY, h, out));
    ROW(INVALID, "strength", "beyond float32", APPLY(SUTURE_STEERING_CLAMP, 1e300, h, FLOATS(spare, 2, D_A)));
    ROW(INVALID, "strength", "overflow with z_mean", APPLY(SUTURE_STEERING_ADD, 1.7e308, h, out));
    ROW(INVALID, "strength|1e+39|z_mean", "beyond float32 with z_mean", APPLY(SUTURE_STEERING_CLAMP, 1e39, h, out));
    float most[D_A] = {3e38f, 3e38f, 3e38f}, steered[2 * D_A];
    OK(APPLY(SUTURE_STEERING_ABLATE, 1.7e308, h, FLOATS(steered, 2, D_A)));
    ROW(SUTURE_ERROR_NUMERICAL, "h[0]|float32", "a result beyond float32",
        APPLY(SUTURE_STEERING_ADD, 1.5e38, FLOATS(most, 1, D_A), FLOATS(most, 1, D_A)));
}

static void transfer_rows(const suture_steering *steering) {
    const suture_matrix *acts = FLOATS(b_data, 20, D_B);
#define TRANSFER(stitch, steering, direction, acts, count) \
    suture_stitch_transfer_steering(stitch, steering, direction, NULL, acts, count, NULL, &out_steering)
    ROW(INVALID, "stitch|NULL", "NULL", TRANSFER(NULL, steering, SUTURE_UP, NULL, 0));
    ROW(INVALID, "vector|NULL", "NULL", TRANSFER(stitch, NULL, SUTURE_UP, NULL, 0));
    ROW(INVALID, "direction|9", "unknown", TRANSFER(stitch, steering, (suture_direction)9, NULL, 0));
    ROW(INVALID, "vector|3|4", "the other way", TRANSFER(stitch, steering, SUTURE_DOWN, NULL, 0));
    ROW(INVALID, "acts|NULL", "NULL", TRANSFER(stitch, steering, SUTURE_UP, NULL, 1));
    ROW(INVALID, "acts_count|0", "none", TRANSFER(stitch, steering, SUTURE_UP, acts, 0));
    ROW(INVALID, "acts_count|-2", "negative", TRANSFER(stitch, steering, SUTURE_UP, acts, -2));
    INPUT_ROWS("acts", 20, D_B, TRANSFER(stitch, steering, SUTURE_UP, X, 1));
    CONTENT_ROWS("acts", 20, D_B, TRANSFER(stitch, steering, SUTURE_UP, X, 1));
    ROW(INVALID, "out|NULL", "NULL",
        suture_stitch_transfer_steering(stitch, steering, SUTURE_UP, NULL, acts, 1, NULL, NULL));
    suture_steering *without = NULL;
    OK(suture_steering_create(FLOATS(numbers, 1, D_A), 1, NULL, &without));
    ROW(INVALID, "vector|mean|acts", "nothing to take z_mean from", TRANSFER(stitch, without, SUTURE_UP, NULL, 0));
    suture_steering_destroy(without);
    // A stitch that forgets the last column, where the vector lies.
    float P_up[D_A * D_B] = {1, 0, 0, 0, 0, 1}, P_down[D_B * D_A] = {1}, last[D_A] = {0, 0, 1};
    suture_stitch *forgetful = NULL;
    suture_steering *along = NULL;
    OK(suture_stitch_create(FLOATS(P_up, D_A, D_B), FLOATS(zeros, 1, D_B), FLOATS(P_down, D_B, D_A),
                            FLOATS(zeros, 1, D_A), &forgetful));
    OK(suture_steering_create(FLOATS(last, 1, D_A), 1, NULL, &along));
    ROW(SUTURE_ERROR_NUMERICAL, "vector|zero", "mapped to zero", TRANSFER(forgetful, along, SUTURE_UP, acts, 1));
    suture_steering_destroy(along);
    suture_stitch_destroy(forgetful);
}

static void steering_file_rows(const suture_steering *steering) {
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_save(NULL, in_folder("x.safetensors")));
    ROW(INVALID, "path|NULL", "NULL", suture_steering_save(steering, NULL));
    ROW(INVALID, "path|UTF-8", "not UTF-8", suture_steering_save(steering, "\xff\xfe"));
    ROW(IO, "nowhere", "no such folder", suture_steering_save(steering, in_folder("nowhere/x.safetensors")));
    ROW(INVALID, "path|NULL", "NULL", suture_steering_load(NULL, &out_steering));
    ROW(INVALID, "out|NULL", "NULL", suture_steering_load(in_folder("x.safetensors"), NULL));
    ROW(IO, "absent", "no such file", suture_steering_load(in_folder("absent.safetensors"), &out_steering));
    OK(suture_stitch_save(stitch, in_folder("stitch.safetensors")));
    ROW(FORMAT, "stitch.safetensors|steering-vector/1", "a stitch",
        suture_steering_load(in_folder("stitch.safetensors"), &out_steering));
    static uint8_t bytes[4096];
    OK(suture_steering_save(steering, in_folder("whole.safetensors")));
    const size_t size = read_file("whole.safetensors", bytes, sizeof bytes);
    for (size_t cut = 0; cut < size; ++cut) {
        write_file("cut.safetensors", bytes, cut);
        ROW(FORMAT, "cut.safetensors", "cut short", suture_steering_load(in_folder("cut.safetensors"), &out_steering));
    }
    for (size_t at = 0; at < size; ++at) {
        bytes[at] ^= 0x15;
        write_file("damaged.safetensors", bytes, size);
        suture_steering *loaded = NULL;
        const suture_status status = suture_steering_load(in_folder("damaged.safetensors"), &loaded);
        CHECK(status == SUTURE_OK || status == FORMAT || status == UNSUPPORTED, "byte %d: status %d, %s", (int)at,
              (int)status, suture_last_error());
        suture_steering_destroy(loaded);
        bytes[at] ^= 0x15;
    }
}

void steering_rows(void) {
    fit_rows();
    create_rows();
    suture_steering *steering = NULL;
    OK(suture_steering_create(FLOATS(numbers, 1, D_A), 2, FLOATS(numbers, 1, D_A), &steering));
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_info(NULL, NULL, NULL, NULL));
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_vector(NULL, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_steering_vector(steering, NULL));
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_mean(NULL, &out_matrix));
    ROW(INVALID, "out|NULL", "NULL", suture_steering_mean(steering, NULL));
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_metadata(NULL, out_text, sizeof out_text, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_steering_metadata(steering, NULL, 0, NULL));
    ROW(INVALID, "steering|NULL", "NULL", suture_steering_set_metadata(NULL, "{}"));
    ROW(INVALID, "json|NULL", "NULL", suture_steering_set_metadata(steering, NULL));
    ROW(INVALID, "json", "cut short", suture_steering_set_metadata(steering, "{\"layer\": 1"));
    ROW(INVALID, "json", "no object", suture_steering_set_metadata(steering, "[1]"));
    apply_rows(steering);
    transfer_rows(steering);
    steering_file_rows(steering);
    suture_steering_destroy(steering);
    ACCEPTS_NULL(suture_steering_destroy);
}
