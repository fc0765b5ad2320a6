// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// Columns of ±1, orthogonal and of mean zero: their sample covariance is the identity, exactly.
private func orthogonalColumns(_ rows: Int, _ count: Int) -> [[Double]] {
    // Walsh functions: the sign is the parity of the bits that row and column share.
    (1...count).map { column in (0..<rows).map { row in (row & column).nonzeroBitCount % 2 == 0 ? 1 : -1 } }
}

private func paired(_ a: [[Double]], _ b: [[Double]]) -> PairedRows {
    var rows = PairedRows(rows: a[0].count, dA: a.count, dB: b.count, seed: 80)
    for row in 0..<a[0].count {
        for j in a.indices { rows.a[row, j] = Float(a[j][row]) }
        for j in b.indices { rows.b[row, j] = Float(b[j][row]) }
    }
    return rows
}

@Suite struct SVCCATests {
    @Test func `known correlations, known directions`() throws {
        let u = orthogonalColumns(64, 6)
        // Correlations 1, 0.8 and 0 of columns with variances 9, 4 and 1; 5 more of B go unused.
        let a = [u[0].map { 3 * $0 }, u[1].map { 2 * $0 }, u[2]]
        let b = [
            u[0], zip(u[1], u[3]).map { 0.8 * $0 + 0.6 * $1 }, u[4].map { 0.5 * $0 },
        ]
        let moments = try paired(a, b).moments()
        let all = try moments.svcca(varianceKept: 1)
        #expect(all.keptA == 3 && all.keptB == 3)
        #expect(abs(all.meanCorrelation - 1.8 / 3) < 1e-7)
        // 9 of 14 is 0.643: one direction holds 0.64 of A's variance, two 0.65.
        #expect(try moments.svcca(varianceKept: 0.64).keptA == 1)
        #expect(try moments.svcca(varianceKept: 0.65).keptA == 2)
        let most = try moments.svcca(varianceKept: 0.92)
        // 13 of 14 is 0.929; of B, 2 of 2.25 is 0.889: two and three are kept.
        #expect(most.keptA == 2 && most.keptB == 3)
        #expect(abs(most.meanCorrelation - 0.9) < 1e-7)
    }

    @Test func `white coordinates are white, lead back, and have the correlations of the streams`() throws {
        let rows = PairedRows(rows: 900, dA: 9, dB: 12, seed: 84)
        let moments = try rows.moments()
        let (a, b) = try moments.whitening(varianceKept: 0.9)
        let expected = try moments.svcca(varianceKept: 0.9)
        #expect(a.dB == expected.keptA && b.dB == expected.keptB && a.dB < 9 && b.dB < 12)
        let up = try rows.a.withView { try a.apply(.up, to: $0) }
        let other = try rows.b.withView { try b.apply(.up, to: $0) }
        var white = try Moments(dA: a.dB, dB: b.dB)
        try white.update(a: up.view, b: other.view)
        let covariance = try white.covariance(.aa)
        for i in 0..<a.dB { for j in 0..<a.dB { #expect(abs(covariance[i, j] - (i == j ? 1 : 0)) < 1e-5) } }
        #expect(abs(try white.svcca(varianceKept: 1).meanCorrelation - expected.meanCorrelation) < 1e-6)
        let found = try withThreads([1, 2, 8]) { try SVCCA(whiteA: up.view, whiteB: other.view) }
        #expect(found.allSatisfy { $0 == found[0] })
        #expect(abs(found[0].meanCorrelation - expected.meanCorrelation) < 1e-6)
        #expect(throws: SutureError.self) { _ = try SVCCA(whiteA: up.view, whiteB: other.view.rows(0..<5)) }
        // All directions kept, down undoes up.
        let whole = try moments.whitening(varianceKept: 1).a
        let back = try whole.apply(.down, to: try rows.a.withView { try whole.apply(.up, to: $0) }.view)
        let difference = zip(back.buffer, rows.a.elements).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(difference < 1e-3)
    }

    @Test func `an invertible map of the same stream is the same stream`() throws {
        let rows = PairedRows(rows: 1500, dA: 6, dB: 6, seed: 81, noise: 1)
        var random = seeded(82)
        let map = Dense(6, 6) { i, j in (i == j ? 2 : 0) + random.normal() / 3 }
        var same = rows
        for row in 0..<1500 {
            for j in 0..<6 { same.b[row, j] = Float((0..<6).reduce(7) { $0 + Double(rows.a[row, $1]) * map[$1, j] }) }
        }
        #expect(try same.moments().svcca(varianceKept: 1).meanCorrelation > 1 - 1e-6)
    }

    @Test func `unrelated streams have correlations of chance`() throws {
        var random = seeded(83)
        let columns = (0..<12).map { _ in (0..<20_000).map { _ in random.normal() } }
        let result = try paired(Array(columns[..<5]), Array(columns[5...])).moments().svcca()
        // Canonical correlations of independent samples are of the order sqrt(d / N) = 0.02.
        #expect(result.meanCorrelation < 0.05 && result.keptA == 5 && result.keptB == 7)
    }

    @Test func `few tokens and dead coordinates keep what there is`() throws {
        var rows = PairedRows(rows: 10, dA: 30, dB: 14, seed: 84, noise: 1)
        let few = try rows.moments().svcca(varianceKept: 1)
        // Ten rows in more than nine dimensions: everything correlates with everything.
        #expect(few.keptA == 9 && few.keptB == 9 && abs(few.meanCorrelation - 1) < 1e-6)
        rows = PairedRows(rows: 800, dA: 5, dB: 4, seed: 85, noise: 1)
        for row in 0..<800 { rows.a[row, 3] = 1000.1 }
        #expect(try rows.moments().svcca(varianceKept: 1).keptA == 4)
    }

    @Test func `any number of threads gives the same bits`() throws {
        let moments = try PairedRows(rows: 1000, dA: 40, dB: 60, seed: 86).moments()
        let results = try withThreads([1, 2, 8]) { try moments.svcca() }
        #expect(results[0] == results[1] && results[0] == results[2])
    }

    @Test func `settings out of range are refused`() throws {
        let moments = try PairedRows(rows: 10, dA: 2, dB: 2, seed: 87).moments()
        for kept in [0, -0.1, 1.1, .nan, .infinity] {
            #expect(
                sutureError { _ = try moments.svcca(varianceKept: kept) }?.message.contains("variance_kept") == true)
        }
        #expect(sutureError { _ = try Moments(dA: 2, dB: 2).svcca() }?.message.contains("0 tokens") == true)
    }
}
