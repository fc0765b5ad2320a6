// SPDX-License-Identifier: Apache-2.0
// What comes from and goes to files, and metadata.
#include "table.h"

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

void metadata_rows(void) {
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
        ROW(FORMAT, "cut.safetensors", "cut short", suture_stitch_load(in_folder("cut.safetensors"), &out_stitch));
    }
    // Any damage of the header may be noticed or harmless, but is never a crash. The length comes first.
    for (size_t at = 0; at < size && at < 600; ++at) {
        bytes[at] ^= 0x15;
        write_file("damaged.safetensors", bytes, size);
        suture_stitch *loaded = NULL;
        const suture_status status = suture_stitch_load(in_folder("damaged.safetensors"), &loaded);
        CHECK(status == SUTURE_OK || status == FORMAT || status == UNSUPPORTED, "byte %d: status %d, %s", (int)at,
              (int)status, suture_last_error());
        suture_stitch_destroy(loaded);
        bytes[at] ^= 0x15;
    }
    memset(bytes, 0xff, 8);
    write_file("damaged.safetensors", bytes, size);
    ROW(FORMAT, "damaged.safetensors", "a header of 2^64 bytes", suture_stitch_load(in_folder("damaged.safetensors"), &out_stitch));
    const char none[] = "\x02\0\0\0\0\0\0\0{}";
    write_file("damaged.safetensors", none, 10);
    ROW(FORMAT, "damaged.safetensors|P_up", "no tensors", suture_stitch_load(in_folder("damaged.safetensors"), &out_stitch));
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
    CONFIG_TEXT(FORMAT, "d_in", "nothing", "{}");
    CONFIG_TEXT(UNSUPPORTED, "architecture", "no architecture",
                "{\"d_in\": 3, \"d_sae\": 8, \"metadata\": {\"sae_lens_version\": \"6.0.0\"}}");
    CONFIG_TEXT(UNSUPPORTED, "transcoder", "unknown architecture",
                "{\"architecture\": \"transcoder\", \"d_in\": 3, \"d_sae\": 8}");
    CONFIG_TEXT(FORMAT, "d_in", "other d_in than the weights", TOPK_JSON("2", "5"));
    CONFIG_TEXT(FORMAT, "k|9", "k > d_sae", TOPK_JSON("9", "3"));
    CONFIG_TEXT(FORMAT, "k", "k is a text", TOPK_JSON("\"2\"", "3"));
    CONFIG_TEXT(FORMAT, "k", "k beyond 64 bits", TOPK_JSON("100000000000000000000", "3"));
    remove(in_folder("sae/cfg.json"));
    ROW(IO, "cfg.json", "no settings", LOAD);
}

void file_rows(void) {
    stitch_file_rows();
    sae_file_rows();
}
