// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// The solution itself is compared with NumPy's in Python.
@Suite struct DecoderRefitTests {
    @Test func refusesWhatItCannotDo() throws {
        let x = try randomTokens(300, 24)
        let sae = try SAECase(architecture: "topk").make()
        var options = DecoderRefitOptions()
        options.maxIterations = 0
        #expect(throws: SutureError.invalidArgument("max_iterations is 0, expected at least 1")) {
            try sae.refitDecoder([x.view], options: options)
        }
        #expect(throws: SutureError.invalidArgument("shards is empty, expected at least one matrix")) {
            try sae.refitDecoder([])
        }
        #expect(throws: SutureError.self) {
            try SAECase(architecture: "topk", normalization: .layerNorm).make().refitDecoder([x.view])
        }
    }

    /// Cancelled at each report in turn, it throws and nothing else; and the reports come to an end.
    @Test func canBeCancelledAtAnyReport() throws {
        let x = try randomTokens(3000, 24)
        let sae = try SAECase(architecture: "topk").make()
        final class Reports: Sendable {
            nonisolated(unsafe) var seen: [UInt64] = []
        }
        let all = Reports()
        _ = try sae.refitDecoder(
            [x.view],
            progress: Progress { done, total in
                #expect(total == 6000)
                all.seen.append(done)
                return true
            })
        #expect(all.seen.first == 0 && all.seen.last == 6000)
        #expect(all.seen == all.seen.sorted())
        for stop in 1...3 {
            let count = Reports()
            #expect(throws: SutureError.cancelled) {
                try sae.refitDecoder(
                    [x.view],
                    progress: Progress { done, _ in
                        count.seen.append(done)
                        return count.seen.count < stop
                    })
            }
            #expect(count.seen.count == stop)
        }
    }
}
