// SPDX-License-Identifier: Apache-2.0
// A SAE in training.
#include "workflow.h"

void test_training(const suture_sae *sae) {
    const suture_train_config config = {.struct_size = sizeof config, .batch_size = 100, .lr = 1e-2};
    suture_trainer *trainer = NULL;
    OK(suture_trainer_create(sae, &config, &trainer));
    const suture_matrix x = float_matrix(h_a, 100, D_A);

    // A step in two halves is the step: same weights, from the mean of two batches' gradients too.
    enum { COUNT = 2 * D_A * D_SAE + D_SAE + D_A };
    static float whole[COUNT], half[2][COUNT], mean[COUNT];
    static int64_t firings[D_SAE], part[2][D_SAE];
    suture_train_metrics metrics = {.struct_size = sizeof metrics};
    OK(suture_trainer_gradients(trainer, &x, NULL, whole, COUNT, firings, &metrics));
    const double loss = metrics.loss;
    double active = 0;
    for (int j = 0; j < D_SAE; ++j) active += (double)firings[j];
    CLOSE(active / 100, metrics.l0, 1e-9);
    for (int i = 0; i < 2; ++i) {
        const suture_matrix rows = float_matrix(h_a + i * 50 * D_A, 50, D_A);
        OK(suture_trainer_gradients(trainer, &rows, NULL, half[i], COUNT, part[i], NULL));
    }
    double squares = 0, off = 0;
    for (int i = 0; i < COUNT; ++i) {
        mean[i] = (half[0][i] + half[1][i]) / 2;
        squares += whole[i] * whole[i];
        off += pow(mean[i] - whole[i], 2);
    }
    CHECK(off < 1e-10 * squares, "%g of %g", off, squares);
    for (int j = 0; j < D_SAE; ++j) CHECK(part[0][j] + part[1][j] == firings[j], "%d", j);
    suture_trainer *other = NULL;
    OK(suture_trainer_create(sae, &config, &other));
    OK(suture_trainer_apply(other, whole, COUNT, 100, firings, NULL, &metrics));
    CHECK(metrics.steps == 1 && metrics.tokens == 100 && isnan(metrics.loss), "%d", (int)metrics.steps);
    const int64_t dead = metrics.dead;
    OK(suture_trainer_step(trainer, &x, NULL, &metrics));
    CHECK(metrics.dead == dead, "%d, not %d", (int)metrics.dead, (int)dead);
    suture_sae *one = NULL, *two = NULL;
    OK(suture_trainer_sae(trainer, &one));
    OK(suture_trainer_sae(other, &two));
    for (int which = SUTURE_SAE_W_ENC; which <= SUTURE_SAE_B_DEC; ++which) {
        suture_matrix m, n;
        OK(suture_sae_weight(one, (suture_sae_weight_name)which, &m));
        OK(suture_sae_weight(two, (suture_sae_weight_name)which, &n));
        CHECK(memcmp(m.data, n.data, (size_t)(m.rows * m.cols) * sizeof(float)) == 0, "%d", which);
    }
    suture_sae_destroy(one);
    suture_sae_destroy(two);
    suture_trainer_destroy(other);
    CLOSE(metrics.loss, loss, 1e-5 * loss);
    CHECK(metrics.steps == 1 && metrics.tokens == 100, "%d %d", (int)metrics.steps, (int)metrics.tokens);

    // Over shards, the loss goes down; the decoder rows keep norm 1.
    const suture_matrix shards[2] = {float_matrix(h_a, 200, D_A), float_matrix(h_a + 200 * D_A, ROWS - 200, D_A)};
    OK(suture_trainer_run(trainer, shards, 2, 20000, NULL, &metrics));
    CHECK(metrics.loss < 0.7 * loss, "%g, at the start %g", metrics.loss, loss);
    CHECK(metrics.tokens == 20100, "%d", (int)metrics.tokens);
    suture_sae *trained = NULL;
    OK(suture_trainer_sae(trainer, &trained));
    suture_matrix W_dec;
    OK(suture_sae_weight(trained, SUTURE_SAE_W_DEC, &W_dec));
    for (int j = 0; j < D_SAE; ++j) {
        double norm = 0;
        for (int i = 0; i < D_A; ++i) norm += pow(((const float *)W_dec.data)[j * D_A + i], 2);
        CLOSE(norm, 1, 1e-5);
    }
    suture_sae_destroy(trained);
    suture_trainer_destroy(trainer);
}
