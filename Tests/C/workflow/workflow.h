// SPDX-License-Identifier: Apache-2.0
// What the parts of the workflow share: the data, and the tests in the order they are run.
#ifndef SUTURE_TESTS_WORKFLOW_H
#define SUTURE_TESTS_WORKFLOW_H

#include <stdlib.h>

#define CHECK_SHARED
#include "../check.h"

enum { D_A = 6, D_B = 9, ROWS = 500, D_SAE = 24, K = 4 };

extern float h_a[ROWS * D_A];
extern float h_b[ROWS * D_B];

// The path of a file in the folder that the program was given; in `path` until the next call.
extern char path[4096];
const char *in_folder(const char *folder, const char *name);

// y = x P + b, in a loop.
void affine(const float *x, int rows, int in, const float *P, const float *b, int out, double *y);

void test_alignment(void);
void test_norms(void);
suture_moments *test_moments(void);
suture_stitch *test_stitch(const suture_moments *m, const char *folder);
suture_sae *test_sae(const char *folder);
void test_transfer(const suture_stitch *stitch, const suture_sae *sae);
void test_training(const suture_sae *sae);

#endif
