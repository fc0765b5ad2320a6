// SPDX-License-Identifier: Apache-2.0
// The program around the table.
//
//   bad_inputs FOLDER        FOLDER: empty, writable
#include "table.h"

int failures = 0;
int checks = 0;

float a_data[ROWS * D_A];
float b_data[ROWS * D_B];
suture_matrix a;
suture_matrix b;
suture_moments *moments;
suture_moments *empty_moments;
suture_moments *square_moments;
suture_stitch *stitch;
suture_sae *sae;
suture_sae *relu_sae;
suture_sae *layer_norm_sae;
suture_codes *codes;
suture_codes *wide_codes;
suture_evaluation *evaluation;
suture_trainer *trainer;
suture_probe *probe;
float W_enc_data[D_A * D_SAE];
float W_dec_data[D_SAE * D_A];
float zeros[64];
float numbers[64];
double huge_number[D_B] = {0, 1e300, 0, 0};
char folder[2048];

// ---------------------------------------------------------------------------------------------
// Results that must stay as they are
// ---------------------------------------------------------------------------------------------

static char poison[1];
suture_moments *out_moments;
suture_stitch *out_stitch;
suture_sae *out_sae;
suture_codes *out_codes;
suture_evaluation *out_evaluation;
suture_trainer *out_trainer;
suture_attribution *out_attribution;
suture_fidelity *out_fidelity;
suture_fidelity_summary out_summary;
suture_matches *out_matches;
suture_matches_summary out_matches_summary;
suture_structural *out_structural;
suture_feature_statistics *out_statistics;
suture_steering *out_steering;
suture_probe *out_probe;
suture_matrix out_matrix;
float out_floats[ROWS * 8];
double out_doubles[64];
uint64_t out_size;
char out_text[64];
suture_norms_report out_norms;
suture_svcca_report out_svcca;
suture_objective out_objective;
suture_stitch_report out_report;
suture_codes_view out_view;
suture_evaluation_report out_evaluation_report;
suture_train_metrics out_metrics;
suture_sae_config out_config;
suture_cpu_info_report out_cpu;
suture_probe_report out_probe_report;
suture_site out_site;
int64_t out_integers[8];

static void poison_results(void) {
    out_moments = (suture_moments *)(void *)poison;
    out_stitch = (suture_stitch *)(void *)poison;
    out_sae = (suture_sae *)(void *)poison;
    out_codes = (suture_codes *)(void *)poison;
    out_evaluation = (suture_evaluation *)(void *)poison;
    out_trainer = (suture_trainer *)(void *)poison;
    out_attribution = (suture_attribution *)(void *)poison;
    out_fidelity = (suture_fidelity *)(void *)poison;
    out_matches = (suture_matches *)(void *)poison;
    out_structural = (suture_structural *)(void *)poison;
    out_statistics = (suture_feature_statistics *)(void *)poison;
    out_steering = (suture_steering *)(void *)poison;
    out_probe = (suture_probe *)(void *)poison;
    for (size_t i = 0; i < sizeof out_floats / sizeof *out_floats; ++i) out_floats[i] = 77;
    for (size_t i = 0; i < sizeof out_doubles / sizeof *out_doubles; ++i) out_doubles[i] = 77;
    memset(out_text, 77, sizeof out_text);
    memset(out_integers, 77, sizeof out_integers);
    out_size = 77;
    memset(&out_matrix, 77, sizeof out_matrix);
#define POISON_REPORT(report) (memset(&report, 77, sizeof report), report.struct_size = sizeof report)
    POISON_REPORT(out_norms);
    POISON_REPORT(out_svcca);
    POISON_REPORT(out_objective);
    POISON_REPORT(out_report);
    POISON_REPORT(out_view);
    POISON_REPORT(out_evaluation_report);
    POISON_REPORT(out_metrics);
    POISON_REPORT(out_config);
    POISON_REPORT(out_cpu);
    POISON_REPORT(out_probe_report);
    POISON_REPORT(out_site);
    POISON_REPORT(out_summary);
    POISON_REPORT(out_matches_summary);
}

static int all_poison(const void *data, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (((const unsigned char *)data)[i] != 77) return 0;
    return 1;
}

static const char *written_result(void) {
    if ((void *)out_moments != poison || (void *)out_stitch != poison || (void *)out_sae != poison ||
        (void *)out_codes != poison || (void *)out_evaluation != poison || (void *)out_trainer != poison ||
        (void *)out_attribution != poison || (void *)out_structural != poison || (void *)out_statistics != poison ||
        (void *)out_steering != poison || (void *)out_probe != poison || (void *)out_fidelity != poison ||
        (void *)out_matches != poison)
        return "a handle";
    for (size_t i = 0; i < sizeof out_floats / sizeof *out_floats; ++i)
        if (out_floats[i] != 77) return "an output matrix";
    for (size_t i = 0; i < sizeof out_doubles / sizeof *out_doubles; ++i)
        if (out_doubles[i] != 77) return "an output array";
    if (!all_poison(out_text, sizeof out_text)) return "a text";
    if (!all_poison(out_integers, sizeof out_integers)) return "whole numbers";
    if (!all_poison(&out_matrix, sizeof out_matrix)) return "a weight";
#define REPORT_WRITTEN(report) (!all_poison((const char *)&report + 8, sizeof report - 8))
    if (REPORT_WRITTEN(out_norms) || REPORT_WRITTEN(out_svcca) || REPORT_WRITTEN(out_objective) || REPORT_WRITTEN(out_report) ||
        REPORT_WRITTEN(out_view) || REPORT_WRITTEN(out_evaluation_report) || REPORT_WRITTEN(out_metrics) ||
        REPORT_WRITTEN(out_config) || REPORT_WRITTEN(out_cpu) || REPORT_WRITTEN(out_probe_report) ||
        REPORT_WRITTEN(out_site) || REPORT_WRITTEN(out_summary) || REPORT_WRITTEN(out_matches_summary))
        return "a report";
    return NULL;
}

// ---------------------------------------------------------------------------------------------
// Rows
// ---------------------------------------------------------------------------------------------

static char covered[256][64];
static int covered_count;

void cover(const char *call) {
    char name[64];
    size_t length = strcspn(call, "( ");
    snprintf(name, sizeof name, "%.*s", (int)length, call);
    for (int i = 0; i < covered_count; ++i)
        if (strcmp(covered[i], name) == 0) return;
    snprintf(covered[covered_count++], sizeof covered[0], "%s", name);
}

static int is_part_of_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Whether the text has the word, and not as part of a longer one.
static int has_word(const char *text, const char *word) {
    const size_t length = strlen(word);
    for (const char *found = text; (found = strstr(found, word)) != NULL; ++found) {
        const int begins = found == text || !is_part_of_name(found[-1]) || !is_part_of_name(word[0]);
        const int ends = length == 0 || !is_part_of_name(found[length]) || !is_part_of_name(word[length - 1]);
        if (begins && ends) return 1;
    }
    return 0;
}

void row(const char *call, suture_status expected, const char *words, const char *what, suture_status status,
         const char *file, int line) {
    cover(call);
    ++checks;
    const char *message = suture_last_error();
    const char *problem = NULL;
    char missing[160];
    if (status != expected) {
        problem = "another status";
    } else if (status == INVALID && strstr(message, "expected") == NULL && strstr(message, "is not") == NULL) {
        problem = "the message does not say what was expected";
    } else if ((problem = written_result()) == NULL) {
        for (const char *word = words; *word != 0;) {
            const size_t length = strcspn(word, "|");
            char one[128];
            snprintf(one, sizeof one, "%.*s", (int)length, word);
            if (!has_word(message, one)) {
                snprintf(missing, sizeof missing, "the message lacks '%s'", one);
                problem = missing;
                break;
            }
            word += length + (word[length] == '|');
        }
    }
    if (problem != NULL) {
        ++failures;
        printf("%s:%d: %.70s... (%s)\n    %s: status %d, expected %d; message: %s\n", file, line, call, what,
               problem, (int)status, (int)expected, message);
        poison_results();
    }
}

const char *in_folder(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void write_file(const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(in_folder(name), "wb");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) abort();
}

size_t read_file(const char *name, uint8_t *bytes, size_t capacity) {
    FILE *file = fopen(in_folder(name), "rb");
    if (file == NULL) abort();
    const size_t count = fread(bytes, 1, capacity, file);
    fclose(file);
    return count;
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
    OK(suture_probe_create(FLOATS(numbers, 3, D_A), FLOATS(numbers, 1, 3), NULL, &probe));
}

static void destroy_objects(void) {
    suture_probe_destroy(probe);
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
    if (failures != 0) return finish("bad_inputs");
    poison_results();
    library_rows();
    alignment_rows();
    moments_rows();
    stitch_rows();
    metadata_rows();
    file_rows();
    sae_rows();
    codes_rows();
    evaluation_rows();
    training_rows();
    carrying_rows();
    analysis_rows();
    steering_rows();
    probe_rows();
    site_rows();
    destroy_objects();
    for (int i = 0; i < covered_count; ++i) printf("covers %s\n", covered[i]);
    return finish("bad_inputs");
}
