// SPDX-License-Identifier: Apache-2.0
// Fits a stitch from two arrays of activations and maps one row across; handles in unique_ptr.
//
//   g++ -std=c++17 stitch.cpp -I ../../Include -L ../../.build-lib/release -lsuture -o stitch
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

#include "suture.h"

static void check(suture_status status) {
    if (status != SUTURE_OK) throw std::runtime_error(suture_last_error());
}

static suture_matrix matrix(std::vector<float> &values, int64_t cols) {
    return {values.data(), static_cast<int64_t>(values.size()) / cols, cols, 0, SUTURE_FLOAT32};
}

int main() try {
    // Residual streams of models A (2 wide) and B (3 wide) at the same six tokens, row by row.
    std::vector<float> rows_a{0, 1, 1, 0, 1, 1, 2, 1, 0, 2, 2, 2};
    std::vector<float> rows_b{1, 2, 3, 2, 1, 1, 2, 3, 2, 3, 4, 1, 1, 4, 4, 3, 6, 2};
    const suture_matrix h_a = matrix(rows_a, 2), h_b = matrix(rows_b, 3);

    suture_moments *made_moments = nullptr;
    check(suture_moments_create(2, 3, &made_moments));
    const std::unique_ptr<suture_moments, void (*)(suture_moments *)> moments(made_moments, suture_moments_destroy);
    check(suture_moments_update(moments.get(), &h_a, &h_b, nullptr));

    suture_stitch_config config{};
    config.struct_size = sizeof config;
    config.alpha = 1;
    suture_stitch *made_stitch = nullptr;
    check(suture_stitch_fit(moments.get(), &config, nullptr, &made_stitch, nullptr));
    const std::unique_ptr<suture_stitch, void (*)(suture_stitch *)> stitch(made_stitch, suture_stitch_destroy);

    std::vector<float> row{3, 1}, mapped(3);
    const suture_matrix in = matrix(row, 2), out = matrix(mapped, 3);
    check(suture_stitch_apply(stitch.get(), SUTURE_UP, &in, nullptr, &out));
    std::printf("(%g, %g) in A is (%.3f, %.3f, %.3f) in B\n", row[0], row[1], mapped[0], mapped[1], mapped[2]);
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
