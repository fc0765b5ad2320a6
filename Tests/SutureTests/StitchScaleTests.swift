// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureNumerics
import SutureTestSupport
import Testing

@Suite struct StitchScaleTests {
    /// Rows with one side multiplied by a power of two, which is exact.
    private func stretched(_ rows: PairedRows, b factor: Float) -> PairedRows {
        var result = rows
        for i in result.b.elements.indices { result.b.elements[i] *= factor }
        return result
    }

    private func fit(_ rows: PairedRows, _ options: Stitch.FitOptions) throws -> (stitch: Stitch, report: StitchReport)
    {
        try Stitch.fit(try rows.moments(), options: options)
    }

    @Test(arguments: [(5, 8), (8, 5), (6, 6)], [0.1, 1, 10])
    func `the scaled form is the raw form of rows that were divided by their scales`(
        shape: (Int, Int), alpha: Double
    ) throws {
        let rows = PairedRows(rows: 300, dA: shape.0, dB: shape.1, seed: 60)
        let variances = try rows.moments().meanVariances
        let (a, b) = (variances.a.squareRoot(), variances.b.squareRoot())
        var divided = rows
        for i in divided.a.elements.indices { divided.a.elements[i] /= Float(a) }
        for i in divided.b.elements.indices { divided.b.elements[i] /= Float(b) }
        let scaled = try fit(rows, .init(alpha: alpha, tolerance: 1e-8))
        let expected = try fit(divided, .init(alpha: alpha, tolerance: 1e-8, form: .raw))
        // Rounding of the divided rows to float32 is all that differs.
        #expect(abs(scaled.report.after.scaledTotal - expected.report.after.total) < 1e-6)
        let up = Dense(scaled.stitch.upMatrix).x.map { $0 * a / b }
        #expect(relativeDifference(up, Dense(expected.stitch.upMatrix).x) < 1e-4)
    }

    @Test(arguments: Stitch.Method.allCases)
    func `units of a side change nothing but the units of the maps`(method: Stitch.Method) throws {
        let rows = PairedRows(rows: 400, dA: 6, dB: 9, seed: 61)
        let (plain, before) = try fit(rows, .init(method: method))
        let (large, after) = try fit(stretched(rows, b: 512), .init(method: method))
        #expect(relativeDifference(Dense(large.upMatrix).x, Dense(plain.upMatrix).x.map { 512 * $0 }) < 1e-6)
        #expect(relativeDifference(Dense(large.downMatrix).x, Dense(plain.downMatrix).x.map { $0 / 512 }) < 1e-6)
        #expect(abs(after.after.scaledTotal - before.after.scaledTotal) < 1e-9)
        #expect(!after.hasUnlikeScales)
        #expect(abs(after.after.varianceB / before.after.varianceB - 512 * 512) < 1e-6 * 512 * 512)
    }

    @Test func `the raw form hears the larger side alone, and warns`() throws {
        let rows = PairedRows(rows: 800, dA: 6, dB: 9, seed: 62, noise: 1)
        let raw = try fit(stretched(rows, b: 512), .init(form: .raw)).report
        let scaled = try fit(stretched(rows, b: 512), .init()).report
        #expect(raw.hasUnlikeScales && !scaled.hasUnlikeScales)
        #expect(raw.after.downExplainedVariance < 0.5 * scaled.after.downExplainedVariance)
        #expect(raw.after.total < scaled.after.total && scaled.after.scaledTotal < raw.after.scaledTotal)
        #expect(!(try fit(rows, .init(form: .raw)).report.hasUnlikeScales))
    }

    @Test func `a given ridge is that of the ridge method`() throws {
        let rows = PairedRows(rows: 200, dA: 5, dB: 3, seed: 63)
        let (stitch, report) = try fit(rows, .init(ridge: 0.25, method: .ridge))
        #expect(report.ridgeA == 0.25 && report.ridgeB == 0.25 && report.converged && report.iterations == 0)
        let oracle = StitchOracle(rows, alpha: 0)
        let mean = (0..<5).reduce(0) { $0 + oracle.sx[$1, $1] } / 5
        let expected = (oracle.sx + 0.25 * mean * Dense.identity(5)).solve(oracle.sxy)
        #expect(relativeDifference(Dense(stitch.upMatrix).x, expected.x) < 1e-6)
    }

    @Test func `a rotation is found again, from fewer tokens than dimensions too`() throws {
        var random = seeded(64)
        let turn = try LAPACK.singularVectors(destroying: normal(7, 7, &random)).u
        for count in [400, 6] {
            var rows = PairedRows(rows: count, dA: 7, dB: 7, seed: 65)
            for row in 0..<count {
                for j in 0..<7 {
                    rows.b[row, j] = Float(3 * (0..<7).reduce(0.5) { $0 + Double(rows.a[row, $1]) * turn[$1, j] })
                }
            }
            let (stitch, report) = try fit(rows, .init(method: .procrustes))
            #expect(report.after.upExplainedVariance > 1 - 1e-9 && report.after.downExplainedVariance > 1 - 1e-9)
            #expect(report.rankA == min(7, count - 1) && report.isRankDeficient == (count < 8))
            if count > 7 {
                #expect(relativeDifference(Dense(stitch.upMatrix).x, turn.elements.map { 3 * $0 }) < 1e-5)
            }
        }
    }

    private func normal(_ rows: Int, _ cols: Int, _ random: inout RandomSource) throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: rows, cols: cols)
        for i in 0..<result.count { result.pointer[i] = random.normal() }
        return result
    }

    @Test func `sides that have nothing in common have no rotation`() throws {
        var rows = PairedRows(rows: 4, dA: 1, dB: 1, seed: 66)
        for (row, values) in [(1, 1), (1, -1), (-1, 1), (-1, -1)].enumerated() {
            (rows.a[row, 0], rows.b[row, 0]) = (Float(values.0), Float(values.1))
        }
        guard case .numerical(let text) = sutureError({ _ = try fit(rows, .init(method: .procrustes)) }) else {
            Issue.record("a rotation was made up")
            return
        }
        #expect(text.contains("uncorrelated"))
    }

    @Test(arguments: Stitch.Method.allCases)
    func `the same bits for any number of threads`(method: Stitch.Method) throws {
        let moments = try PairedRows(rows: 700, dA: 70, dB: 90, seed: 67).moments()
        let found = try withThreads([1, 2, 8]) { try Stitch.fit(moments, options: .init(method: method)) }
        for other in found.dropFirst() {
            #expect(Dense(other.stitch.upMatrix).x == Dense(found[0].stitch.upMatrix).x)
            #expect(Dense(other.stitch.downMatrix).x == Dense(found[0].stitch.downMatrix).x)
        }
    }
}
