// SPDX-License-Identifier: Apache-2.0
import CSuture
import Testing

/// What a progress callback may do with the very object that its call is changing.
@Suite struct ReentryTests {
    private final class Seen {
        let body: () -> suture_status
        var statuses: [suture_status] = []
        init(_ body: @escaping () -> suture_status) { self.body = body }
    }

    /// The statuses of `inner`, called from the progress callback of `outer`.
    private func statuses(
        of inner: @escaping () -> suture_status, within outer: (UnsafePointer<suture_progress>) -> suture_status
    ) throws -> [suture_status] {
        let seen = Seen(inner)
        var progress = suture_progress(
            callback: { context, _, _ in
                guard let context else { return 1 }
                let seen = Unmanaged<Seen>.fromOpaque(context).takeUnretainedValue()
                seen.statuses.append(seen.body())
                return 0
            }, context: Unmanaged.passUnretained(seen).toOpaque())
        try withExtendedLifetime(seen) { try check(outer(&progress)) }
        #expect(!seen.statuses.isEmpty)
        return seen.statuses
    }

    @Test func momentsAreReadAsTheyWereAndNotChanged() throws {
        let moments = try made { suture_moments_create(2, 3, $0) }
        defer { suture_moments_destroy(moments) }
        var noise = Noise(seed: 5)
        try withMatrix(noise.rows(2000), cols: 2) { a in
            try withMatrix(noise.rows(3000), cols: 3) { b in
                try check(suture_moments_update(moments, a, b, nil))
                let reads = try statuses {
                    var tokens: UInt64 = 0
                    let status = suture_moments_info(moments, nil, nil, &tokens)
                    return tokens == 1000 ? status : SUTURE_ERROR_INTERNAL
                } within: {
                    suture_moments_update(moments, a, b, $0)
                }
                #expect(reads.allSatisfy { $0 == SUTURE_OK })
                for change in [
                    { suture_moments_update(moments, a, b, nil) }, { suture_moments_merge(moments, moments) },
                ] {
                    let refused = try statuses(of: change) { suture_moments_update(moments, a, b, $0) }
                    #expect(refused.allSatisfy { $0 == SUTURE_ERROR_INVALID_ARGUMENT })
                }
            }
        }
        var tokens: UInt64 = 0
        try check(suture_moments_info(moments, nil, nil, &tokens))
        #expect(tokens == 4000)
    }

    @Test func evaluationsAreReadAsTheyWereAndNotChanged() throws {
        var config = suture_sae_config()
        config.struct_size = UInt64(MemoryLayout<suture_sae_config>.size)
        (config.d_in, config.d_sae, config.architecture, config.k) = (2, 6, SUTURE_TOPK, 2)
        let sae = try made { suture_sae_init(&config, 1, $0) }
        defer { suture_sae_destroy(sae) }
        let evaluation = try made { suture_evaluation_create(sae, $0) }
        defer { suture_evaluation_destroy(evaluation) }
        var noise = Noise(seed: 5)
        try withMatrix(noise.rows(2000), cols: 2) { x in
            try check(suture_evaluation_update(evaluation, x, nil))
            let reads = try statuses {
                var report = suture_evaluation_report()
                report.struct_size = UInt64(MemoryLayout<suture_evaluation_report>.size)
                let status = suture_evaluation_report_get(evaluation, &report)
                return report.tokens == 1000 ? status : SUTURE_ERROR_INTERNAL
            } within: {
                suture_evaluation_update(evaluation, x, $0)
            }
            #expect(reads.allSatisfy { $0 == SUTURE_OK })
            let refused = try statuses {
                suture_evaluation_update(evaluation, x, nil)
            } within: {
                suture_evaluation_update(evaluation, x, $0)
            }
            #expect(refused.allSatisfy { $0 == SUTURE_ERROR_INVALID_ARGUMENT })
        }
    }
}
