// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

private func floats(_ rows: Int, _ cols: Int, _ element: (Int, Int) -> Double) throws -> FloatMatrix {
    try FloatMatrix(rows: rows, cols: cols) { target in
        for i in 0..<rows * cols { target[i] = Float(element(i / cols, i % cols)) }
    }
}

/// Which latents are active with which values, token by token.
private func codes(_ dSAE: Int, _ tokens: [[(Int32, Float)]]) throws -> SparseCodes {
    let width = tokens.map(\.count).max() ?? 0
    let padded = tokens.map { $0 + Array(repeating: (-1, 0), count: width - $0.count) }
    return try SparseCodes(
        dSAE: dSAE, rows: tokens.count, width: width, indices: padded.flatMap { $0.map(\.0) },
        values: padded.flatMap { $0.map(\.1) })
}

extension SutureError {
    fileprivate var isArgument: Bool { if case .invalidArgument = self { true } else { false } }
}

@Suite struct AnalysisTests {
    /// Two sides whose logit weights are +1 for token 0 and -1 for token 1.
    private func signs(_ dSAE: Int) throws -> AttributionCorrelation {
        let decoder = try floats(dSAE, 1) { _, _ in 1 }
        let unembedding = try floats(2, 1) { token, _ in token == 0 ? 1 : -1 }
        let names = ("W_dec", "unembedding")
        let side = try LogitSide(decoder: decoder.view, unembedding: unembedding.view, names: names)
        return try AttributionCorrelation(a: side, b: side)
    }

    private func update(
        _ attribution: inout AttributionCorrelation, _ a: SparseCodes, _ b: SparseCodes, _ next: [Int64]
    ) throws {
        try next.withUnsafeBufferPointer { try attribution.update(a: a, b: b, nextTokens: $0) }
    }

    @Test func `attributions by hand`() throws {
        var attribution = try signs(2)
        // Latent 0 has attributions 1, -2, 0 and 2, 0, -1; the fourth token does not count.
        let a = try codes(2, [[(0, 1)], [(0, 2)], [], [(0, 50), (1, 1)]])
        let b = try codes(2, [[(0, 2)], [], [(0, 1)], [(1, 1)]])
        try update(&attribution, a, b, [0, 1, 1, -1])
        // Means -1/3 and 1/3; xy = 2 + 1/3, xx = 5 - 1/3, yy = 5 - 1/3.
        #expect(abs(attribution.correlations()[0] - 0.5) < 1e-15)
        #expect(attribution.correlations()[1].isNaN)
        #expect(attribution.tokens == 3)
        #expect(attribution.activeTokens().a == [2, 0] && attribution.activeTokens().b == [2, 0])
    }

    @Test func `copies are independent, and a refused update changes nothing`() throws {
        var attribution = try signs(1)
        let one = try codes(1, [[(0, 1)], [(0, 3)]])
        try update(&attribution, one, one, [0, 1])
        let before = attribution
        #expect(throws: SutureError.self) { try update(&attribution, one, one, [0, 2]) }
        #expect(throws: SutureError.self) { try update(&attribution, one, one, [0]) }
        #expect(attribution.tokens == 2 && attribution.correlations() == before.correlations())
        try update(&attribution, one, try codes(1, [[], [(0, 1)]]), [0, 0])
        #expect(before.tokens == 2 && abs(before.correlations()[0] - 1) < 1e-15)
        #expect(attribution.correlations()[0] < 1)
        try attribution.merge(before)
        #expect(attribution.tokens == 6)
        #expect(throws: SutureError.self) { try attribution.merge(try signs(2)) }
    }

    @Test func `vocabularies and latents must agree`() throws {
        func side(_ dSAE: Int, _ vocabulary: Int) throws -> LogitSide {
            let (decoder, unembedding) = (try floats(dSAE, 3) { _, _ in 1 }, try floats(vocabulary, 3) { _, _ in 1 })
            return try LogitSide(
                decoder: decoder.view, unembedding: unembedding.view, names: ("W_dec", "unembedding"))
        }
        for (dSAE, vocabulary) in [(5, 7), (4, 8)] {
            do {
                _ = try AttributionCorrelation(a: side(5, 8), b: side(dSAE, vocabulary))
                Issue.record("sides of other sizes were accepted")
            } catch let error as SutureError { #expect(error.isArgument) }
        }
    }

    @Test func `examples keep the earlier of equal tokens`() throws {
        var statistics = try FeatureStatistics(dSAE: 2, top: 2)
        try statistics.update(try codes(2, [[(0, 1)], [(0, 3)], [(0, 3)]]))
        try statistics.update(try codes(2, [[(0, 3), (1, 2)]]))
        var rows = [Int64](repeating: 9, count: 4)
        var values = [Float](repeating: 9, count: 4)
        rows.withUnsafeMutableBufferPointer { rows in
            values.withUnsafeMutableBufferPointer { values in
                statistics.readExamples(rows: rows.baseAddress, values: values.baseAddress)
            }
        }
        #expect(rows == [1, 2, 3, -1] && values == [3, 3, 2, 0])
        #expect(try statistics.frequencies() == [1, 0.25] && statistics.means()[0] == 2.5)
    }

    @Test func `a null space has the directions that logits do not hear`() throws {
        // Directions 1 and 3 of four are hardly used.
        let scales = [3.0, 1e-6, 2, 1e-5]
        let unembedding = try floats(8, 4) { token, j in (token >> (j % 3)) & 1 == 0 ? scales[j] : -scales[j] }
        let space = try NullSpace(of: unembedding.view, share: 0.5)
        #expect(space.count == 2)
        let decoder = try floats(3, 4) { row, j in [[3, 0, 0, 4], [0, 5, 0, 0], [0, 0, 0, 0]][row][j] }
        let fractions = try space.fractions(of: decoder.view)
        // Columns 0 and 3 are parallel: what is left of the second is 1e-5 of a direction away.
        #expect(abs(fractions[0] - 0.8) < 1e-4 && abs(fractions[1] - 1) < 1e-9 && fractions[2].isNaN)
    }
}
