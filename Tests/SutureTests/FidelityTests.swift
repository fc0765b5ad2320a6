// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

private func codes(_ dSAE: Int, _ tokens: [[(Int32, Float)]]) throws -> SparseCodes {
    let width = tokens.map(\.count).max() ?? 0
    let padded = tokens.map { $0 + Array(repeating: (-1, 0), count: width - $0.count) }
    return try SparseCodes(
        dSAE: dSAE, rows: tokens.count, width: width, indices: padded.flatMap { $0.map(\.0) },
        values: padded.flatMap { $0.map(\.1) })
}

/// Codes of rows in which each latent is active with this probability.
private func random(_ dSAE: Int, rows: Int, active: Double, seed: UInt64) throws -> SparseCodes {
    var source = seeded(seed)
    return try codes(
        dSAE,
        (0..<rows).map { _ in
            (0..<dSAE).compactMap { latent in
                let (draw, value) = (source.uniform(), source.uniform())
                return draw < active ? (Int32(latent), Float(0.1 + value)) : nil
            }
        })
}

@Suite struct FidelityTests {
    @Test func `by hand`() throws {
        var fidelity = try Fidelity(dSAE: 3)
        // Latent 0 has 1, 0, 2, 0 and 0, 0, 1, 3; latent 1 is silent in B; latent 2 never fires.
        let a = try codes(3, [[(0, 1)], [(1, 5)], [(0, 2)], []])
        let b = try codes(3, [[], [], [(0, 1)], [(0, 3)]])
        try fidelity.update(a: a, b: b)
        // Means 3/4 and 1: xy = 2 - 3, xx = 5 - 9/4, yy = 10 - 4.
        #expect(abs(fidelity.correlations()[0] - -1 / (2.75 * 6).squareRoot()) < 1e-15)
        #expect(fidelity.correlations()[1].isNaN && fidelity.correlations()[2].isNaN)
        #expect(fidelity.standardErrors()[1].isNaN)
        let active = fidelity.activeTokens()
        #expect(active.a == [2, 1, 0] && active.b == [2, 0, 0] && active.both == [1, 0, 0])
        // The control pairs rows 0 and 2, 1 and 3, 2 and 0, 3 and 1: 1, 0, 2, 0 with 1, 3, 0, 0.
        #expect(abs(fidelity.controls()[0] - (1 - 3) / (2.75 * 6).squareRoot()) < 1e-15)
        let summary = try fidelity.summary(minimum: 1)
        #expect(summary.judged == 2 && summary.silent == 1 && summary.rare == 0)
        // Silent in B counts as 0, latents that never fire do not count.
        #expect(abs(summary.correlation.median - fidelity.correlations()[0] / 2) < 1e-15)
        #expect(summary.f1.median == 0.25 && summary.f1.upper == 0.375 && summary.f1.lower == 0.125)
        #expect(abs(summary.shareActive - 1.0 / 3) < 1e-15)
        let strict = try fidelity.summary(minimum: 2)
        #expect(strict.judged == 1 && strict.rare == 1)
        #expect(try fidelity.summary(minimum: 3).correlation.median.isNaN)
    }

    @Test func `the same bits in any cuts and for any number of threads, but for the control`() throws {
        let a = try random(37, rows: 500, active: 0.1, seed: 70)
        let b = try random(37, rows: 500, active: 0.1, seed: 71)
        func part(_ codes: SparseCodes, _ rows: Range<Int>) throws -> SparseCodes {
            try SparseCodes(
                dSAE: codes.dSAE, rows: rows.count, width: codes.width,
                indices: (rows.lowerBound * codes.width..<rows.upperBound * codes.width).map { codes.indices[$0] },
                values: (rows.lowerBound * codes.width..<rows.upperBound * codes.width).map { codes.values[$0] })
        }
        let whole = try withThreads([1, 2, 8]) {
            var fidelity = try Fidelity(dSAE: 37)
            try fidelity.update(a: a, b: b)
            return fidelity
        }
        var cut = try Fidelity(dSAE: 37)
        for rows in [0..<1, 1..<200, 200..<500] { try cut.update(a: try part(a, rows), b: try part(b, rows)) }
        for other in whole.dropFirst() {
            #expect(other.correlations() == whole[0].correlations())
            #expect(other.controls() == whole[0].controls())
            #expect(other.standardErrors() == whole[0].standardErrors())
        }
        #expect(cut.correlations() == whole[0].correlations())
        #expect(cut.standardErrors() == whole[0].standardErrors())
        #expect(cut.activeTokens().both == whole[0].activeTokens().both)
    }

    @Test func `merged parts are the whole, up to rounding`() throws {
        let (a, b) = (
            try random(20, rows: 300, active: 0.2, seed: 72), try random(20, rows: 300, active: 0.2, seed: 73)
        )
        var one = try Fidelity(dSAE: 20)
        try one.update(a: a, b: b)
        var twice = one
        try twice.update(a: a, b: b)
        try one.merge(one)
        #expect(one.rows == 600)
        for (x, y) in zip(one.correlations(), twice.correlations()) { #expect(abs(x - y) < 1e-12) }
        for (x, y) in zip(one.standardErrors(), twice.standardErrors()) { #expect(abs(x - y) < 1e-12) }
    }

    @Test func `a refused or cancelled update changes nothing`() throws {
        let a = try random(5, rows: 50, active: 0.5, seed: 74)
        var fidelity = try Fidelity(dSAE: 5)
        try fidelity.update(a: a, b: a)
        let before = fidelity.correlations()
        #expect(throws: SutureError.self) { try fidelity.update(a: a, b: try codes(5, [[(0, 1)]])) }
        #expect(throws: SutureError.self) { try fidelity.update(a: a, b: a, progress: Progress { _, _ in false }) }
        #expect(fidelity.rows == 50 && fidelity.correlations() == before)
        #expect(throws: SutureError.self) { _ = try Fidelity(dSAE: 0) }
        #expect(throws: SutureError.self) { _ = try fidelity.summary(minimum: 0) }
    }
}
