// SPDX-License-Identifier: Apache-2.0
// The whole interface used as a C program would use it, every number compared with a plain loop.
//
//   workflow FOLDER      FOLDER: empty, writable, for the files that are saved and loaded
#include "workflow.h"

int failures = 0;
int checks = 0;
float h_a[ROWS * D_A];
float h_b[ROWS * D_B];
char path[4096];

// h_B is an affine image of h_A plus noise: a stitch can explain most of it.
static void make_data(void) {
    uint64_t state = 7;
    float map[D_A * D_B];
    for (int i = 0; i < D_A * D_B; ++i) map[i] = (float)noise(&state);
    for (int r = 0; r < ROWS; ++r) {
        for (int i = 0; i < D_A; ++i) h_a[r * D_A + i] = (float)(noise(&state) + 0.5 * i);
        for (int j = 0; j < D_B; ++j) {
            double value = 2.0 + 0.1 * noise(&state);
            for (int i = 0; i < D_A; ++i) value += (double)h_a[r * D_A + i] * map[i * D_B + j];
            h_b[r * D_B + j] = (float)value;
        }
    }
}

const char *in_folder(const char *folder, const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void affine(const float *x, int rows, int in, const float *P, const float *b, int out, double *y) {
    for (int r = 0; r < rows; ++r) {
        for (int j = 0; j < out; ++j) {
            double sum = b[j];
            for (int i = 0; i < in; ++i) sum += (double)x[r * in + i] * P[i * out + j];
            y[r * out + j] = sum;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    make_data();
    suture_cpu_info_report cpu = {.struct_size = sizeof cpu};
    OK(suture_cpu_info(&cpu));
    printf("Suture %s, %s kernels, OpenBLAS core %s, %d threads\n", suture_version(), cpu.kernels, cpu.blas_core,
           (int)cpu.threads);
    CHECK(suture_abi_version() == SUTURE_ABI_VERSION, "%d", (int)suture_abi_version());
    CHECK(strcmp(suture_version(), SUTURE_VERSION) == 0, "%s", suture_version());
    OK(suture_set_threads(2));

    test_alignment();
    test_norms();
    suture_moments *moments = test_moments();
    suture_stitch *stitch = test_stitch(moments, argv[1]);
    suture_sae *sae = test_sae(argv[1]);
    test_transfer(stitch, sae);
    test_training(sae);
    suture_sae_destroy(sae);
    suture_stitch_destroy(stitch);
    suture_moments_destroy(moments);
    return finish("workflow");
}
