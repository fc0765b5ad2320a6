// SPDX-License-Identifier: Apache-2.0
// Sites: which stream of which model.
#include "table.h"

static void read_rows(void) {
    ROW(INVALID, "name|NULL", "NULL", suture_site_parse(NULL, 0, &out_site));
    ROW(INVALID, "out|NULL", "NULL", suture_site_parse("layers.3", 0, NULL));
    ROW(INVALID, "name|UTF-8", "no UTF-8", suture_site_parse("layers.\xff", 0, &out_site));
    ROW(INVALID, "name|\"foo\"|hook_resid_pre", "unreadable", suture_site_parse("foo", 0, &out_site));
    ROW(INVALID, "name|\"\"|expected", "empty", suture_site_parse("", 0, &out_site));
    ROW(INVALID, "name|expected", "beyond any number",
        suture_site_parse("blocks.99999999999999999999.hook_resid_post", 0, &out_site));
    ROW(INVALID, "n_layers|-1", "negative", suture_site_parse("layers.3", -1, &out_site));
    ROW(INVALID, "n_layers|9223372036854775807", "too many", suture_site_parse("layers.3", INT64_MAX, &out_site));
    ROW(INVALID, "layers.12|0 to 12", "beyond the last block", suture_site_parse("layers.12", 12, &out_site));
    SIZE_ROWS("out", out_site, suture_site_parse("layers.3", 0, &out_site));

    ROW(INVALID, "json|NULL", "NULL", suture_site_read(NULL, &out_site));
    ROW(INVALID, "json", "no JSON", suture_site_read("{", &out_site));
    ROW(INVALID, "json|object", "no object", suture_site_read("[]", &out_site));
    ROW(INVALID, "out|NULL", "NULL", suture_site_read("{}", NULL));
    ROW(INVALID, "hook_name|\"foo\"", "unreadable", suture_site_read("{\"hook_name\": \"foo\"}", &out_site));
    ROW(INVALID, "hook_name|4|text", "no text", suture_site_read("{\"hook_name\": 4}", &out_site));
    ROW(INVALID, "hookpoint|one stream", "a contradiction",
        suture_site_read("{\"hook_name\": \"layers.3\", \"hookpoint\": \"layers.4\"}", &out_site));
    SIZE_ROWS("out", out_site, suture_site_read("{}", &out_site));
}

// The rows that every argument which is a site gets; `call` uses S in its place.
#define SITE_ROWS(name, call)                                                                     \
    do {                                                                                          \
        suture_site bad = {.struct_size = sizeof bad, .layer = 3};                                \
        const suture_site *S = &bad;                                                              \
        bad.layer = -2;                                                                           \
        ROW(INVALID, name "|layer|-2", "a negative layer", call);                                 \
        bad.layer = INT64_MAX;                                                                    \
        ROW(INVALID, name "|layer|9223372036854775807", "a layer beyond belief", call);           \
        bad.layer = 3;                                                                            \
        bad.stream = "";                                                                          \
        ROW(INVALID, name "|stream", "no stream", call);                                          \
        bad.stream = "resid_post";                                                                \
        ROW(INVALID, name "|resid_post|resid_pre", "not a name of ours", call);                   \
        bad.stream = "\xff";                                                                      \
        ROW(INVALID, name "|stream|UTF-8", "no UTF-8", call);                                     \
        bad.stream = NULL;                                                                        \
        bad.model = "\xff";                                                                       \
        ROW(INVALID, name "|model|UTF-8", "no UTF-8", call);                                      \
        bad.model = NULL;                                                                         \
        SIZE_ROWS(name, bad, call);                                                               \
    } while (0)

void site_rows(void) {
    read_rows();
    suture_site good = {.struct_size = sizeof good, .layer = 3};
    int32_t *out = (int32_t *)out_integers;
    ROW(INVALID, "site|NULL", "NULL", suture_site_name(NULL, NULL, 0, &out_size));
    ROW(INVALID, "size|NULL", "NULL", suture_site_name(&good, NULL, 0, NULL));
    SITE_ROWS("site", suture_site_name(S, NULL, 0, &out_size));
    uint64_t size = 0;
    OK(suture_site_name(&good, NULL, 0, &size));
    CHECK(size == sizeof "blocks.3.hook_resid_pre", "%d", (int)size);
    uint64_t spare = 0;
    ROW(INVALID, "capacity|5", "too small", suture_site_name(&good, out_text, 5, &spare));

    ROW(INVALID, "site|NULL", "NULL", suture_site_matches(NULL, &good, out));
    ROW(INVALID, "other|NULL", "NULL", suture_site_matches(&good, NULL, out));
    ROW(INVALID, "out|NULL", "NULL", suture_site_matches(&good, &good, NULL));
    SITE_ROWS("site", suture_site_matches(S, &good, out));
    SITE_ROWS("other", suture_site_matches(&good, S, out));

    // Where something is carried from.
    SITE_ROWS("site", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, S, &out_sae));
    SITE_ROWS("site", suture_stitch_transfer_probe(stitch, probe, SUTURE_UP, S, &out_probe));
    suture_steering *steering = NULL;
    OK(suture_steering_create(FLOATS(numbers, 1, D_A), 1, FLOATS(numbers, 1, D_A), &steering));
    SITE_ROWS("site", suture_stitch_transfer_steering(stitch, steering, SUTURE_UP, S, NULL, 0, NULL, &out_steering));
    OK(suture_stitch_set_metadata(stitch, "{\"model_a\": \"small\", \"layer_a\": 2}"));
    ROW(INVALID, "site|3|2", "another layer", suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, &good, &out_sae));
    good.model = "large";
    ROW(INVALID, "large|small", "another model",
        suture_stitch_transfer_probe(stitch, probe, SUTURE_UP, &good, &out_probe));
    good = (suture_site){.struct_size = sizeof good, .layer = 2, .stream = "mlp_out"};
    ROW(INVALID, "mlp_out|layer_a", "another stream",
        suture_stitch_transfer_steering(stitch, steering, SUTURE_UP, &good, NULL, 0, NULL, &out_steering));
    OK(suture_steering_set_metadata(steering, "{\"hook_name\": \"blocks.2.hook_mlp_out\"}"));
    ROW(INVALID, "blocks.2.hook_mlp_out|mlp_out of block 2|site", "another stream by its name",
        suture_stitch_transfer_steering(stitch, steering, SUTURE_UP, NULL, NULL, 0, NULL, &out_steering));
    OK(suture_steering_set_metadata(steering, "{\"hook_name\": \"foo\"}"));
    ROW(INVALID, "foo|hook_resid_pre|site", "a name that nobody can read",
        suture_stitch_transfer_steering(stitch, steering, SUTURE_UP, NULL, NULL, 0, NULL, &out_steering));
    OK(suture_stitch_set_metadata(stitch, "{\"layer_a\": \"here\"}"));
    ROW(INVALID, "layer_a|here", "a stitch of an unreadable layer",
        suture_stitch_transfer_sae(stitch, sae, SUTURE_UP, NULL, &out_sae));
    OK(suture_stitch_set_metadata(stitch, "{}"));
    suture_steering_destroy(steering);
}
