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

private func random(_ dSAE: Int, rows: Int, active: Double, seed: UInt64) -> [[(Int32, Float)]] {
    var source = seeded(seed)
    return (0..<rows).map { _ in
        (0..<dSAE).compactMap { latent in
            let (draw, value) = (source.uniform(), source.uniform())
            return draw < active ? (Int32(latent), Float(0.1 + value)) : nil
        }
    }
}

private func find(_ matches: BestMatches, minimum: Int = 10) throws -> BestMatches.Found {
    try matches.find(minimum: minimum)
}

@Suite struct BestMatchesTests {
    @Test func `one half of the rows chooses, the other judges`() throws {
        // B's latent 0 is A's 0 on the rows that choose, and its latent 1 on those that judge.
        let a = (0..<256).map { row in row % 4 == 0 ? [(Int32(0), Float(1 + row % 3))] : [] }
        let b = (0..<256).map { row in a[row].map { _ in (Int32(row / 64 % 2), a[row][0].1) } }
        var matches = try BestMatches(dSAEA: 3, dSAEB: 2)
        try matches.update(a: try codes(3, a), b: try codes(2, b))
        let found = try find(matches)
        #expect(found.matches == [0, -1, -1] && found.matchesB == [0, -1])
        #expect(found.chosen[0] == 1)
        // On the rows that judge the match never fires.
        #expect(found.correlations.allSatisfy { $0.isNaN })
        #expect(found.activeTokens == [64, 0, 0])
        let summary = found.summary
        #expect(summary.rows == 256 && summary.judged == 1 && summary.rare == 0 && summary.unmatched == 0)
        #expect(summary.mutual == 1 && summary.correlation.median == 0 && summary.chosen.median == 1)
        #expect(summary.shareActive == 0)
    }

    @Test func `latents in another order are found, with correlation 1`() throws {
        let order: [Int32] = [7, 2, 9, 4, 0, 1, 8, 3, 6, 5]
        let a = random(10, rows: 1000, active: 0.1, seed: 80)
        let b = a.map { row in row.map { (order[Int($0.0)] + 5, $0.1) } }
        var matches = try BestMatches(dSAEA: 10, dSAEB: 20)
        try matches.update(a: try codes(10, a), b: try codes(20, b))
        let found = try find(matches)
        #expect(found.matches == order.map { Int64($0) + 5 })
        #expect(found.correlations == Array(repeating: 1, count: 10))
        #expect(found.controls.allSatisfy { abs($0) < 0.2 })
        #expect(found.summary.mutual == 10 && found.summary.shareActive == 1)
        for (latent, match) in found.matches.enumerated() { #expect(found.matchesB[Int(match)] == Int64(latent)) }
        #expect(found.matchesB.prefix(5).allSatisfy { $0 == -1 })
    }

    @Test func `the same bits in any cuts and for any number of threads`() throws {
        let (a, b) = (
            random(37, rows: 700, active: 0.1, seed: 81), random(300, rows: 700, active: 0.03, seed: 82)
        )
        func made(_ cuts: [Range<Int>]) throws -> BestMatches {
            var matches = try BestMatches(dSAEA: 37, dSAEB: 300)
            for rows in cuts { try matches.update(a: try codes(37, Array(a[rows])), b: try codes(300, Array(b[rows]))) }
            return matches
        }
        let whole = try withThreads([1, 2, 8]) { try find(try made([0..<700])) }
        let cut = try find(try made([0..<1, 1..<1, 1..<200, 200..<700]))
        for other in whole.dropFirst() + [cut] {
            #expect(other.matches == whole[0].matches && other.matchesB == whole[0].matchesB)
            #expect(other.correlations.map(\.bitPattern) == whole[0].correlations.map(\.bitPattern))
            #expect(other.chosen.map(\.bitPattern) == whole[0].chosen.map(\.bitPattern))
            #expect(other.controls.map(\.bitPattern) == whole[0].controls.map(\.bitPattern))
            #expect(other.summary == whole[0].summary)
        }
        // Chance chose them: what it found is gone on the rows that judge, 320 of them, whose
        // correlations spread by 0.056 each and the median of 37 by 0.012.
        #expect(whole[0].summary.chosen.median > 0.1)
        #expect(abs(whole[0].summary.correlation.median) < 0.06)
    }

    @Test func `a latent that is always the same matches nothing`() throws {
        let a = random(4, rows: 400, active: 0.3, seed: 83).map { $0.filter { $0.0 > 0 } + [(0, 0.1)] }
        var matches = try BestMatches(dSAEA: 4, dSAEB: 4)
        try matches.update(a: try codes(4, a), b: try codes(4, a))
        let found = try find(matches)
        #expect(found.matches == [-1, 1, 2, 3] && found.summary.unmatched == 1 && found.summary.mutual == 3)
    }

    @Test func `what is refused or cancelled changes nothing`() throws {
        let rows = random(5, rows: 127, active: 0.5, seed: 84)
        var matches = try BestMatches(dSAEA: 5, dSAEB: 5)
        try matches.update(a: try codes(5, rows), b: try codes(5, rows))
        #expect(throws: SutureError.self) { try matches.update(a: try codes(5, rows), b: try codes(5, [[(0, 1)]])) }
        #expect(throws: SutureError.self) { try matches.update(a: try codes(5, rows), b: try codes(6, rows)) }
        #expect(matches.rows == 127)
        // 127 rows leave one half short.
        #expect(throws: SutureError.self) { _ = try find(matches) }
        try matches.update(a: try codes(5, [[(0, 1)]]), b: try codes(5, [[(0, 1)]]))
        #expect(try find(matches).summary.judged == 5)
        #expect(throws: SutureError.self) { _ = try find(matches, minimum: 0) }
        #expect(throws: SutureError.cancelled) { _ = try matches.find(progress: Progress { _, _ in false }) }
        for size in [0, -1, Int.max] {
            #expect(throws: SutureError.self) { _ = try BestMatches(dSAEA: 5, dSAEB: size) }
        }
    }
}
