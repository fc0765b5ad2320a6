// SPDX-License-Identifier: Apache-2.0
// What a C++ program relies on beside the numbers: handles in unique_ptr, calls from several
// threads, errors per thread, cancelling, element types, the same bits for any number of threads,
// and a forked child.
//
//   workflow FOLDER      (not used here)
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

struct Destroy {
    void operator()(suture_moments *p) const { suture_moments_destroy(p); }
    void operator()(suture_stitch *p) const { suture_stitch_destroy(p); }
    void operator()(suture_sae *p) const { suture_sae_destroy(p); }
    void operator()(suture_codes *p) const { suture_codes_destroy(p); }
    void operator()(suture_evaluation *p) const { suture_evaluation_destroy(p); }
    void operator()(suture_trainer *p) const { suture_trainer_destroy(p); }
};
template <typename T>
using Handle = std::unique_ptr<T, Destroy>;

// The handle that `call(&out)` makes.
template <typename T, typename Call>
Handle<T> make(Call call) {
    T *out = nullptr;
    OK(call(&out));
    return Handle<T>(out);
}

constexpr int64_t d_a = 24, d_b = 40, d_sae = 96, rows = 40000;

std::vector<float> random_values(int64_t count, uint64_t seed) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float &value : values) value = static_cast<float>(noise(&seed));
    return values;
}

suture_matrix matrix(std::vector<float> &values, int64_t cols) {
    return float_matrix(values.data(), static_cast<int64_t>(values.size()) / cols, cols);
}

suture_matrix rows_of(const suture_matrix &m, int64_t first, int64_t count) {
    return float_matrix(static_cast<float *>(m.data) + first * m.cols, count, m.cols);
}

suture_sae_config topk_config() {
    suture_sae_config config{};
    config.struct_size = sizeof config;
    config.d_in = d_a;
    config.d_sae = d_sae;
    config.architecture = SUTURE_TOPK;
    config.k = 8;
    config.normalization = SUTURE_NORMALIZATION_NONE;
    return config;
}

struct Data {
    std::vector<float> a = random_values(rows * d_a, 1);
    std::vector<float> b = random_values(rows * d_b, 2);
    suture_matrix h_a = matrix(a, d_a);
    suture_matrix h_b = matrix(b, d_b);
    Handle<suture_moments> moments = make<suture_moments>([](auto out) { return suture_moments_create(d_a, d_b, out); });
    Handle<suture_stitch> stitch;
    Handle<suture_sae> sae = make<suture_sae>([](auto out) {
        const suture_sae_config config = topk_config();
        return suture_sae_init(&config, 5, out);
    });

    Data() {
        OK(suture_moments_update(moments.get(), &h_a, &h_b, nullptr));
        suture_stitch_config config{};
        config.struct_size = sizeof config;
        config.alpha = 0.5;
        stitch = make<suture_stitch>(
            [&](auto out) { return suture_stitch_fit(moments.get(), &config, nullptr, out, nullptr); });
    }
};

std::vector<uint8_t> bytes_of(const suture_moments *moments) {
    uint64_t size = 0;
    OK(suture_moments_serialize(moments, nullptr, 0, &size));
    std::vector<uint8_t> bytes(size);
    OK(suture_moments_serialize(moments, bytes.data(), size, &size));
    return bytes;
}

// Everything that has numbers in it, for 1, 2 and 8 threads.
void same_bits_for_any_number_of_threads(const Data &data) {
    std::vector<uint8_t> bytes;
    std::vector<float> mapped, reconstructed;
    std::vector<double> frequency;
    for (const int32_t threads : {1, 2, 8}) {
        OK(suture_set_threads(threads));
        const auto moments =
            make<suture_moments>([](auto out) { return suture_moments_create(d_a, d_b, out); });
        OK(suture_moments_update(moments.get(), &data.h_a, &data.h_b, nullptr));
        const std::vector<uint8_t> these_bytes = bytes_of(moments.get());
        std::vector<float> these_mapped(rows * d_b), these_reconstructed(rows * d_a);
        std::vector<double> this_frequency(d_sae);
        const suture_matrix mapped_out = matrix(these_mapped, d_b), reconstructed_out = matrix(these_reconstructed, d_a);
        OK(suture_stitch_apply(data.stitch.get(), SUTURE_UP, &data.h_a, nullptr, &mapped_out));
        OK(suture_sae_reconstruct(data.sae.get(), &data.h_a, nullptr, &reconstructed_out));
        const auto evaluation =
            make<suture_evaluation>([&](auto out) { return suture_evaluation_create(data.sae.get(), out); });
        OK(suture_evaluation_update(evaluation.get(), &data.h_a, nullptr));
        OK(suture_evaluation_features(evaluation.get(), this_frequency.data(), nullptr));
        if (bytes.empty()) {
            bytes = these_bytes;
            mapped = these_mapped;
            reconstructed = these_reconstructed;
            frequency = this_frequency;
        }
        CHECK(these_bytes == bytes, "moments differ with %d threads", threads);
        CHECK(these_mapped == mapped, "mapped rows differ with %d threads", threads);
        CHECK(these_reconstructed == reconstructed, "reconstructions differ with %d threads", threads);
        CHECK(this_frequency == frequency, "frequencies differ with %d threads", threads);
    }
    OK(suture_set_threads(0));
}

// One stitch and one SAE, read by four threads at a time; each has errors of its own.
void calls_from_several_threads(const Data &data) {
    std::vector<float> expected(500 * d_b);
    const suture_matrix h = rows_of(data.h_a, 0, 500), expected_out = matrix(expected, d_b);
    OK(suture_stitch_apply(data.stitch.get(), SUTURE_UP, &h, nullptr, &expected_out));
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (int repeat = 0; repeat < 20; ++repeat) {
                std::vector<float> mapped(500 * d_b);
                const suture_matrix out = matrix(mapped, d_b);
                if (suture_stitch_apply(data.stitch.get(), SUTURE_UP, &h, nullptr, &out) != SUTURE_OK) ++wrong;
                if (mapped != expected) ++wrong;
                const suture_matrix bad = rows_of(data.h_a, 0, -1 - i);
                if (suture_stitch_apply(data.stitch.get(), SUTURE_UP, &bad, nullptr, &out) == SUTURE_OK) ++wrong;
                if (std::string(suture_last_error()).find(std::to_string(-1 - i)) == std::string::npos) ++wrong;
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    CHECK(wrong == 0, "%d wrong results", wrong.load());
}

struct Reports {
    int count = 0, cancel_at = 0;
    uint64_t done = 0, total = 0;
    bool backwards = false, beyond = false;
    std::thread::id thread;
    static int32_t callback(void *context, uint64_t done, uint64_t total) {
        Reports &self = *static_cast<Reports *>(context);
        self.backwards |= done < self.done;
        self.beyond |= total != 0 && done > total;
        self.done = done;
        self.total = total;
        self.thread = std::this_thread::get_id();
        return ++self.count == self.cancel_at;
    }
};

template <typename Call>
void reports_and_cancels(const char *name, bool surely, Call call) {
    Reports reports;
    suture_progress progress{Reports::callback, &reports};
    OK(call(&progress));
    CHECK(reports.count > 0 || !surely, "%s: no report", name);
    CHECK(!reports.backwards && !reports.beyond, "%s: reports that do not count up", name);
    CHECK(reports.count == 0 || reports.thread == std::this_thread::get_id(), "%s: reports from another thread", name);
    Reports cancelling;
    cancelling.cancel_at = 1;
    progress.context = &cancelling;
    const suture_status status = call(&progress);
    CHECK(status == (cancelling.count == 0 ? SUTURE_OK : SUTURE_ERROR_CANCELLED), "%s: status %d", name,
          static_cast<int>(status));
    CHECK(cancelling.count == 1 || (cancelling.count == 0 && !surely), "%s: %d reports, cancelled at the first", name,
          cancelling.count);
}

// A call with `progress`: reports come from this thread and count up; the first one can cancel it.
// With one thread there surely is one; with more, the others may have done all before it was due.
template <typename Call>
void reports_and_cancels(const char *name, Call call) {
    for (const int32_t threads : {4, 1}) {
        OK(suture_set_threads(threads));
        reports_and_cancels(name, threads == 1, call);
    }
    OK(suture_set_threads(0));
}

void cancelling(Data &data) {
    std::vector<float> mapped(rows * d_b), reconstructed(rows * d_a);
    const suture_matrix mapped_out = matrix(mapped, d_b), reconstructed_out = matrix(reconstructed, d_a);
    reports_and_cancels("apply", [&](const suture_progress *p) {
        return suture_stitch_apply(data.stitch.get(), SUTURE_UP, &data.h_a, p, &mapped_out);
    });
    reports_and_cancels("reconstruct", [&](const suture_progress *p) {
        return suture_sae_reconstruct(data.sae.get(), &data.h_a, p, &reconstructed_out);
    });
    reports_and_cancels("encode", [&](const suture_progress *p) {
        suture_codes *codes = nullptr;
        const suture_status status = suture_sae_encode(data.sae.get(), &data.h_a, p, &codes);
        CHECK((codes != nullptr) == (status == SUTURE_OK), "encode: status %d", static_cast<int>(status));
        suture_codes_destroy(codes);
        return status;
    });
    const auto codes = make<suture_codes>(
        [&](auto out) { return suture_sae_encode(data.sae.get(), &data.h_a, nullptr, out); });
    reports_and_cancels("decode", [&](const suture_progress *p) {
        return suture_sae_decode(data.sae.get(), codes.get(), p, &reconstructed_out);
    });

    // What is cancelled has not happened.
    const auto moments = make<suture_moments>([](auto out) { return suture_moments_create(d_a, d_b, out); });
    int succeeded = 0;
    reports_and_cancels("update", [&](const suture_progress *p) {
        const suture_status status = suture_moments_update(moments.get(), &data.h_a, &data.h_b, p);
        succeeded += status == SUTURE_OK;
        return status;
    });
    uint64_t tokens = 0;
    OK(suture_moments_info(moments.get(), nullptr, nullptr, &tokens));
    CHECK(tokens == static_cast<uint64_t>(succeeded * rows), "%d tokens after %d updates", static_cast<int>(tokens), succeeded);
    const auto evaluation =
        make<suture_evaluation>([&](auto out) { return suture_evaluation_create(data.sae.get(), out); });
    succeeded = 0;
    reports_and_cancels("evaluate", [&](const suture_progress *p) {
        const suture_status status = suture_evaluation_update(evaluation.get(), &data.h_a, p);
        succeeded += status == SUTURE_OK;
        return status;
    });
    suture_evaluation_report report{};
    report.struct_size = sizeof report;
    OK(suture_evaluation_report_get(evaluation.get(), &report));
    CHECK(report.tokens == static_cast<uint64_t>(succeeded * rows), "%d tokens after %d updates",
          static_cast<int>(report.tokens), succeeded);

    suture_train_config config{};
    config.struct_size = sizeof config;
    config.batch_size = 1000;
    const auto trainer = make<suture_trainer>(
        [&](auto out) { return suture_trainer_create(data.sae.get(), &config, out); });
    reports_and_cancels("train", [&](const suture_progress *p) {
        return suture_trainer_run(trainer.get(), &data.h_a, 1, 20000, p, nullptr);
    });
}

// bfloat16 and float16 rows of the same numbers, at odd addresses, give the same result.
void element_types(const Data &data) {
    constexpr int64_t count = 300;
    // Quarters up to 4 are exact in every type: bfloat16 is the upper half of a float32.
    std::vector<float> exact(count * d_a);
    std::vector<char> brain(exact.size() * 2 + 1), half(exact.size() * 2 + 1), odd(exact.size() * 4 + 1);
    for (size_t i = 0; i < exact.size(); ++i) {
        exact[i] = static_cast<float>(static_cast<int>(i * 7 % 32) - 16) / 4;
        uint32_t bits;
        std::memcpy(&bits, &exact[i], 4);
        const uint16_t upper = static_cast<uint16_t>(bits >> 16);
        const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
        const uint16_t half_bits =
            exact[i] == 0 ? sign
                          : static_cast<uint16_t>(sign | (((bits >> 23 & 0xff) - 112) << 10) | (bits >> 13 & 0x3ff));
        std::memcpy(brain.data() + 1 + 2 * i, &upper, 2);
        std::memcpy(half.data() + 1 + 2 * i, &half_bits, 2);
        std::memcpy(odd.data() + 1 + 4 * i, &exact[i], 4);
    }
    std::vector<float> expected(count * d_b), mapped(count * d_b);
    const suture_matrix expected_out = matrix(expected, d_b), out = matrix(mapped, d_b), h = matrix(exact, d_a);
    OK(suture_stitch_apply(data.stitch.get(), SUTURE_UP, &h, nullptr, &expected_out));
    const suture_matrix others[] = {{brain.data() + 1, count, d_a, 0, SUTURE_BFLOAT16},
                                    {half.data() + 1, count, d_a, 0, SUTURE_FLOAT16},
                                    {odd.data() + 1, count, d_a, 0, SUTURE_FLOAT32}};
    for (const suture_matrix &other : others) {
        OK(suture_stitch_apply(data.stitch.get(), SUTURE_UP, &other, nullptr, &out));
        CHECK(mapped == expected, "dtype %d maps differently", static_cast<int>(other.dtype));
    }
}

// Shards merged in two orders, against one pass.
void merging(const Data &data) {
    const int64_t ends[] = {0, 7, 12345, 12346, 30000, rows};
    std::vector<Handle<suture_moments>> shards;
    for (int i = 0; i < 5; ++i) {
        shards.push_back(make<suture_moments>([](auto out) { return suture_moments_create(d_a, d_b, out); }));
        const suture_matrix a = rows_of(data.h_a, ends[i], ends[i + 1] - ends[i]);
        const suture_matrix b = rows_of(data.h_b, ends[i], ends[i + 1] - ends[i]);
        OK(suture_moments_update(shards.back().get(), &a, &b, nullptr));
    }
    std::vector<double> expected(d_a * d_b), covariance(d_a * d_b);
    OK(suture_moments_read(data.moments.get(), nullptr, nullptr, nullptr, expected.data(), nullptr));
    for (const std::vector<size_t> &order : {std::vector<size_t>{0, 1, 2, 3, 4}, {4, 2, 0, 3, 1}}) {
        const auto sum = make<suture_moments>([](auto out) { return suture_moments_create(d_a, d_b, out); });
        for (const size_t i : order) OK(suture_moments_merge(sum.get(), shards[i].get()));
        OK(suture_moments_read(sum.get(), nullptr, nullptr, nullptr, covariance.data(), nullptr));
        for (size_t i = 0; i < expected.size(); ++i) CLOSE(covariance[i], expected[i], 1e-10);
    }
}

// A child of fork has only the thread that forked; the library must not wait for others.
void forked_child(const Data &data) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        std::vector<float> mapped(rows * d_b);
        const suture_matrix out = matrix(mapped, d_b);
        _exit(suture_stitch_apply(data.stitch.get(), SUTURE_UP, &data.h_a, nullptr, &out) == SUTURE_OK ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
}

}  // namespace

int main() {
    Data data;
    same_bits_for_any_number_of_threads(data);
    calls_from_several_threads(data);
    cancelling(data);
    element_types(data);
    merging(data);
    forked_child(data);
    return finish("workflow.cpp");
}
