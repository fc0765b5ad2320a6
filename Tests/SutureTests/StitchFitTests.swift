// SPDX-License-Identifier: Apache-2.0
import Glibc
import Suture
import SutureTestSupport
import Testing

private let shapes = [(5, 8), (8, 5), (6, 6), (1, 4), (3, 1), (1, 1)]
private let alphas = [0, 0.1, 1, 10]

/// By the paper's form, which is that of the oracles; `StitchScaleTests` has the other.
private func fit(
    _ rows: PairedRows, _ alpha: Double, tolerance: Double = 1e-5, maxIterations: Int = 1000, ridge: Double? = nil
) throws -> (stitch: Stitch, report: StitchReport) {
    try Stitch.fit(
        try rows.moments(),
        options: .init(alpha: alpha, tolerance: tolerance, maxIterations: maxIterations, ridge: ridge, form: .raw))
}

/// Bits of all weights.
private func bits(_ stitch: Stitch) -> [UInt32] {
    [stitch.upMatrix, stitch.upBias, stitch.downMatrix, stitch.downBias].flatMap {
        $0.matrix.elements.map(\.bitPattern)
    }
}

@Suite struct StitchObjectiveTests {
    @Test(arguments: shapes, [0, 1, 2.5])
    func `the four terms are those of the rows`(shape: (Int, Int), alpha: Double) throws {
        let (dA, dB) = shape
        let rows = PairedRows(rows: 300, dA: dA, dB: dB, seed: 20)
        var random = seeded(21)
        // Any stitch, not a fitted one, with biases that do not fit.
        func weights(_ n: Int, _ m: Int) throws -> FloatMatrix {
            try FloatMatrix(Matrix<Double>(rows: n, cols: m, elements: (0..<n * m).map { _ in random.normal() }))
        }
        let stitch = try Stitch(
            upMatrix: weights(dA, dB), upBias: weights(1, dB), downMatrix: weights(dB, dA), downBias: weights(1, dA))
        let found = try stitch.objective(on: rows.moments(), alpha: alpha)
        let expected = StitchOracle(rows, alpha: alpha).terms(stitch)
        for (x, y) in zip([found.up, found.down, found.roundTripA, found.roundTripB], expected) {
            #expect(abs(x - y) < 1e-11 * y)
        }
        let total = expected[0] + expected[1] + alpha * (expected[2] + expected[3])
        #expect(abs(found.total - total) < 1e-11 * total)
        #expect(found.tokens == 300 && found.alpha == alpha)
    }

    @Test func `explained variance is one minus error over variance, also on held-out rows`() throws {
        let rows = PairedRows(rows: 900, dA: 5, dB: 7, seed: 22)
        let (stitch, report) = try fit(rows[0..<600], 1)
        let oracle = StitchOracle(rows[600..<900], alpha: 1)
        let found = try stitch.objective(on: rows[600..<900].moments(), alpha: 1)
        let terms = oracle.terms(stitch)
        let varianceB = (0..<7).reduce(0) { $0 + oracle.sy[$1, $1] } / 7
        let varianceA = (0..<5).reduce(0) { $0 + oracle.sx[$1, $1] } / 5
        #expect(abs(found.upExplainedVariance - (1 - terms[0] / varianceB)) < 1e-11)
        #expect(abs(found.downExplainedVariance - (1 - terms[1] / varianceA)) < 1e-11)
        #expect(found.upExplainedVariance > 0.5 && found.total > report.after.total)
    }

    @Test func `what does not fit is refused`() throws {
        let rows = PairedRows(rows: 50, dA: 3, dB: 4, seed: 23)
        let stitch = try fit(rows, 1).stitch
        let moments = try rows.moments()
        #expect(sutureError { _ = try stitch.objective(on: Moments(dA: 3, dB: 4), alpha: 1) } != nil)
        #expect(sutureError { _ = try stitch.objective(on: Moments(dA: 4, dB: 3), alpha: 1) } != nil)
        for alpha in [-1, Double.nan, .infinity] {
            #expect(
                sutureError { _ = try stitch.objective(on: moments, alpha: alpha) }?.message.contains("alpha") == true)
        }
    }
}

@Suite struct StitchFitTests {
    @Test(arguments: shapes)
    func `without inversion terms it is least squares, as a QR factorisation of the rows finds it`(
        shape: (Int, Int)
    ) throws {
        let rows = PairedRows(rows: 400, dA: shape.0, dB: shape.1, seed: 24)
        let (stitch, report) = try fit(rows, 0)
        let oracle = StitchOracle(rows, alpha: 0)
        let up = oracle.centredA.leastSquares(oracle.centredB)
        let down = oracle.centredB.leastSquares(oracle.centredA)
        #expect(relativeDifference(Dense(stitch.upMatrix).x, up.x) < 1e-6)
        #expect(relativeDifference(Dense(stitch.downMatrix).x, down.x) < 1e-6)
        #expect(relativeDifference(Dense(stitch.upBias).x, (oracle.meanB - oracle.meanA * up).x) < 1e-5)
        #expect(relativeDifference(Dense(stitch.downBias).x, (oracle.meanA - oracle.meanB * down).x) < 1e-5)
        #expect(report.converged && report.iterations == 0 && report.before == report.after)
        #expect(report.ridgeA == 0 && report.ridgeB == 0 && report.rankA == shape.0 && report.rankB == shape.1)
        #expect(abs(report.after.total - oracle.objective(up, down)) < 1e-9 * report.after.total)
    }

    @Test(arguments: [(3, 4), (4, 3), (3, 3)], [0.1, 1, 10])
    func `the end is that of the plain alternation`(shape: (Int, Int), alpha: Double) throws {
        let rows = PairedRows(rows: 200, dA: shape.0, dB: shape.1, seed: 25)
        let (stitch, report) = try fit(rows, alpha, tolerance: 1e-6)
        let oracle = StitchOracle(rows, alpha: alpha)
        let (p, q) = oracle.alternated(steps: 400)
        let expected = oracle.objective(p, q)
        #expect(report.converged)
        // From above it may differ by rounding to float32 (second order), from below by the steps
        // that the alternation still lacks.
        #expect(report.after.total < expected * (1 + 1e-9))
        #expect(report.after.total > expected * (1 - 1e-5))
        let terms = oracle.terms(stitch)
        #expect(abs(terms[0] + terms[1] + alpha * (terms[2] + terms[3]) - report.after.total) < 1e-10 * expected)
    }

    @Test(arguments: [(5, 8), (8, 5), (6, 6)], [0.1, 1, 10])
    func `both Sylvester equations hold at the end, and no direction goes down`(
        shape: (Int, Int), alpha: Double
    ) throws {
        let rows = PairedRows(rows: 250, dA: shape.0, dB: shape.1, seed: 26)
        let (stitch, report) = try fit(rows, alpha, tolerance: 1e-8)
        #expect(report.converged && report.gradientNorm < 1e-5)
        let oracle = StitchOracle(rows, alpha: alpha)
        let (p, q) = (Dense(stitch.upMatrix), Dense(stitch.downMatrix))
        let (left, right) = oracle.sylvester(p, q)
        #expect((left - right).norm < 1e-5 * right.norm)
        let (mirroredLeft, mirroredRight) = oracle.mirrored.sylvester(q, p)
        #expect((mirroredLeft - mirroredRight).norm < 1e-5 * mirroredRight.norm)
        // Second differences along random lines: a minimum, not a saddle.
        var random = seeded(27)
        let here = oracle.objective(p, q)
        for _ in 0..<20 {
            let dp = Dense(p.rows, p.cols) { _, _ in random.normal() }
            let dq = Dense(q.rows, q.cols) { _, _ in random.normal() }
            #expect(oracle.objective(p + 1e-3 * dp, q + 1e-3 * dq) > here)
            #expect(oracle.objective(p - 1e-3 * dp, q - 1e-3 * dq) > here)
        }
    }

    @Test(arguments: [(3, 5), (5, 3)])
    func `the reported gradient norm is that of differences on the rows`(shape: (Int, Int)) throws {
        var rows = PairedRows(rows: 120, dA: shape.0, dB: shape.1, seed: 28)
        let variances = try rows.moments().meanVariances
        for i in rows.a.elements.indices { rows.a.elements[i] /= Float(variances.a.squareRoot()) }
        for i in rows.b.elements.indices { rows.b.elements[i] /= Float(variances.b.squareRoot()) }
        // Two steps only: far from the end.
        let (stitch, report) = try fit(rows, 1, tolerance: 1e-12, maxIterations: 2)
        #expect(!report.converged && report.iterations == 2)
        let oracle = StitchOracle(rows, alpha: 1)
        let here = oracle.whiteNorm(oracle.gradient(Dense(stitch.upMatrix), Dense(stitch.downMatrix)))
        let zero = oracle.whiteNorm(oracle.gradient(Dense(shape.0, shape.1), Dense(shape.1, shape.0)))
        // Rounding to float32 moves the point a little.
        #expect(abs(report.gradientNorm - here / zero) < 1e-4 * here / zero + 1e-6)
        #expect(report.gradientNorm > 1e-3)
    }

    @Test(arguments: [0.1, 1, 10])
    func `more steps never end higher`(alpha: Double) throws {
        let rows = PairedRows(rows: 300, dA: 7, dB: 10, seed: 29)
        var last = Double.infinity
        for steps in [1, 2, 3, 4, 5, 7, 10, 20, 40, 1000] {
            let report = try fit(rows, alpha, tolerance: 1e-10, maxIterations: steps).report
            #expect(report.after.total <= last * (1 + 1e-12))
            #expect(report.after.total <= report.before.total)
            last = report.after.total
        }
    }

    @Test func `a tighter tolerance gains next to nothing`() throws {
        let rows = PairedRows(rows: 2000, dA: 24, dB: 40, seed: 30)
        for alpha in [0.1, 1, 10] {
            let usual = try Stitch.fit(rows.moments(), options: .init(alpha: alpha, form: .raw)).report
            let tight = try fit(rows, alpha, tolerance: 1e-9).report
            #expect(usual.converged && usual.iterations <= tight.iterations)
            #expect(usual.after.total < tight.after.total * (1 + 1e-6))
        }
    }

    @Test func `changing the sides changes up and down`() throws {
        var rows = PairedRows(rows: 500, dA: 6, dB: 11, seed: 31)
        let forward = try fit(rows, 1)
        (rows.a, rows.b) = (rows.b, rows.a)
        let backward = try fit(rows, 1)
        #expect(relativeDifference(Dense(forward.stitch.upMatrix).x, Dense(backward.stitch.downMatrix).x) < 1e-4)
        #expect(abs(forward.report.after.up - backward.report.after.down) < 1e-6 * forward.report.after.up)
        #expect(abs(forward.report.after.total - backward.report.after.total) < 1e-9 * forward.report.after.total)
    }

    @Test func `an exact affine relation is found`() throws {
        var rows = PairedRows(rows: 200, dA: 4, dB: 4, seed: 32, noise: 1)
        var random = seeded(33)
        // Small whole numbers: products and sums are exact in float32.
        let relation = Dense(4, 4) { i, j in i == j ? 3 : Double(random.below(3) - 1) }
        for i in rows.a.elements.indices { rows.a.elements[i] = (rows.a.elements[i] * 64).rounded() / 64 }
        for row in 0..<200 {
            for j in 0..<4 { rows.b[row, j] = 2 + (0..<4).reduce(0) { $0 + rows.a[row, $1] * Float(relation[$1, j]) } }
        }
        for alpha in alphas {
            let (stitch, report) = try fit(rows, alpha)
            #expect(relativeDifference(Dense(stitch.upMatrix).x, relation.x) < 1e-6)
            #expect(relativeDifference(Dense(stitch.downMatrix).x, relation.solve(.identity(4)).x) < 1e-6)
            #expect(stitch.upBias.matrix.elements.allSatisfy { abs($0 - 2) < 1e-4 })
            #expect(report.after.total < 1e-9 && report.after.upExplainedVariance > 1 - 1e-9)
        }
    }

    @Test func `one dimension a side, in closed form`() throws {
        // x and y of variance 1 and 4, correlation 1/2: x = u, y = u + sqrt(3) v for orthogonal u, v.
        var rows = PairedRows(rows: 4, dA: 1, dB: 1, seed: 34)
        for (row, (u, v)) in [(1, 1), (1, -1), (-1, 1), (-1, -1)].enumerated() {
            rows.a[row, 0] = Float(u)
            rows.b[row, 0] = Float(u) + Float(3.0.squareRoot()) * Float(v)
        }
        // L(p, q) = p² - 2 p + 4 + 4 q² - 2 q + 1 + 5 alpha (p q - 1)², minimised by a fine search.
        for alpha in [0.1, 1, 10] {
            let report = try fit(rows, alpha).report
            func value(_ p: Double, _ q: Double) -> Double {
                p * p - 2 * p + 5 + 4 * q * q - 2 * q + 5 * alpha * (p * q - 1) * (p * q - 1)
            }
            var best = Double.infinity
            for i in 0...4000 {
                let p = Double(i) / 1000
                // For given p, L is quadratic in q.
                let q = (1 + 5 * alpha * p) / (4 + 5 * alpha * p * p)
                best = min(best, value(p, q))
            }
            #expect(abs(report.after.total - best) < 2e-5 * best)
            #expect(report.after.total < best * (1 + 1e-6))
        }
    }

    // 280 columns are two tiles of rows in a product; 513 rows two blocks of moments.
    @Test func `any number of threads gives the same bits`() throws {
        let rows = PairedRows(rows: 2000, dA: 30, dB: 280, seed: 35)
        let moments = try rows.moments()
        let results = try withThreads([1, 2, 8]) { try Stitch.fit(moments, options: .init(alpha: 1)) }
        #expect(results[0].report.iterations > 2)
        for other in results.dropFirst() {
            #expect(bits(other.stitch) == bits(results[0].stitch))
            #expect(other.report.after == results[0].report.after)
            #expect(other.report.gradientNorm == results[0].report.gradientNorm)
        }
    }

    @Test func `metadata says what was fitted`() throws {
        let (stitch, report) = try fit(PairedRows(rows: 60, dA: 2, dB: 3, seed: 36), 0.5)
        #expect(stitch.metadata.integer("tokens") == 60)
        #expect(stitch.metadata["alpha"] == .number(0.5))
        #expect(stitch.metadata["objective"]?["total"] == .number(report.after.total))
    }

    @Test func `settings out of range are refused`() throws {
        let moments = try PairedRows(rows: 60, dA: 2, dB: 3, seed: 37).moments()
        let cases: [(Stitch.FitOptions, String)] = [
            (.init(alpha: -0.1), "alpha"), (.init(alpha: .nan), "alpha"), (.init(alpha: .infinity), "alpha"),
            (.init(tolerance: 0), "tolerance"), (.init(tolerance: .nan), "tolerance"),
            (.init(tolerance: -1), "tolerance"),
            (.init(maxIterations: 0), "max_iterations"), (.init(maxIterations: .min), "max_iterations"),
            (.init(ridge: -1), "ridge"), (.init(ridge: .nan), "ridge"), (.init(ridge: .infinity), "ridge"),
        ]
        for (options, name) in cases {
            guard case .invalidArgument(let text) = sutureError({ _ = try Stitch.fit(moments, options: options) })
            else {
                Issue.record("accepted a wrong \(name)")
                continue
            }
            #expect(text.hasPrefix(name))
        }
        #expect(sutureError { _ = try Stitch.fit(Moments(dA: 2, dB: 3)) }?.message.contains("0 tokens") == true)
        let one = try PairedRows(rows: 1, dA: 2, dB: 3, seed: 38).moments()
        #expect(sutureError { _ = try Stitch.fit(one) }?.message.contains("1 tokens") == true)
    }

    @Test func `cancelling returns at once, out of LAPACK too`() throws {
        // Eigenproblems of 600 take 100 ms and more each.
        let rows = PairedRows(rows: 1300, dA: 600, dB: 610, seed: 39, signal: 4, noise: 1)
        let moments = try rows.moments()
        var fastest = Double.infinity
        for after in [0.0, 0.1, 0.25] {
            let start = seconds()
            var asked = 0.0
            let error = sutureError {
                _ = try Stitch.fit(
                    moments,
                    progress: Progress { _, _ in
                        guard seconds() - start >= after else { return true }
                        asked = seconds()
                        return false
                    })
            }
            let done = seconds()
            #expect(error == .cancelled)
            // How long it takes to hear of the wish, and to return then.
            fastest = min(fastest, max(done - asked, asked - start - after))
        }
        #expect(fastest < 0.05)
        #expect(moments.tokens == 1300)
    }

    private func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
    }
}

@Suite struct StitchRankTests {
    @Test(arguments: [0, 1, 10], [(12, 30), (30, 12), (25, 25)])
    func `fewer tokens than dimensions still give a stitch, and say so`(alpha: Double, shape: (Int, Int)) throws {
        let rows = PairedRows(rows: 20, dA: shape.0, dB: shape.1, seed: 40, noise: 1)
        let (stitch, report) = try fit(rows, alpha)
        #expect(report.rankA == min(19, shape.0) && report.rankB == min(19, shape.1))
        #expect(report.isRankDeficient && report.hasFewTokens)
        #expect(report.ridgeA > 0 && report.ridgeA <= 1e-9)
        #expect(report.after.total <= report.before.total)
        #expect(stitch.upMatrix.matrix.elements.allSatisfy { $0.isFinite && abs($0) < 1e3 })
        // 20 rows in more than 19 dimensions determine everything.
        if alpha == 0 {
            if shape.0 >= 19 { #expect(report.after.upExplainedVariance > 1 - 1e-6) }
            if shape.1 >= 19 { #expect(report.after.downExplainedVariance > 1 - 1e-6) }
        }
    }

    @Test func `dead and doubled coordinates do no harm`() throws {
        let rows = PairedRows(rows: 600, dA: 7, dB: 9, seed: 41)
        let clean = try fit(rows, 0).report
        var worse = rows
        for row in 0..<600 {
            worse.a[row, 2] = 5.25
            worse.b[row, 4] = worse.b[row, 3]
            worse.b[row, 8] = 0
        }
        for alpha in alphas {
            let (stitch, report) = try fit(worse, alpha)
            #expect(report.rankA == 6 && report.rankB == 7 && report.isRankDeficient && !report.hasFewTokens)
            #expect(report.ridgeA > 0 && report.ridgeA <= 1e-9 && report.converged)
            // Nothing is learnt from the dead coordinate.
            #expect((0..<9).allSatisfy { abs(stitch.upMatrix[2, $0]) < 1e-9 })
            let moments = try worse.moments()
            let onFitted = try stitch.objective(on: moments, alpha: alpha)
            #expect(onFitted == report.after && onFitted.total.isFinite)
        }
        #expect(!clean.isRankDeficient && clean.ridgeA == 0)
        // Least squares with a doubled regressor predicts what it predicts without it.
        let narrow = try fit(worse, 0).report.after
        var without = worse
        without.b = Matrix(zeros: 600, 7)
        for row in 0..<600 { for (j, k) in [0, 1, 2, 3, 5, 6, 7].enumerated() { without.b[row, j] = worse.b[row, k] } }
        let expected = try fit(without, 0).report.after
        #expect(abs(narrow.down - expected.down) < 1e-6 * expected.down)
    }

    @Test func `a ridge that is given is used`() throws {
        let rows = PairedRows(rows: 100, dA: 3, dB: 4, seed: 42)
        let (stitch, report) = try fit(rows, 0, ridge: 0.5)
        #expect(report.ridgeA == 0.5 && report.ridgeB == 0.5)
        let oracle = StitchOracle(rows, alpha: 0)
        let mean = (0..<3).reduce(0) { $0 + oracle.sx[$1, $1] } / 3
        let expected = (oracle.sx + 0.5 * mean * Dense.identity(3)).solve(oracle.sxy)
        #expect(relativeDifference(Dense(stitch.upMatrix).x, expected.x) < 1e-6)
        var dead = rows
        for row in 0..<100 { dead.a[row, 1] = 0 }
        guard case .numerical(let text) = sutureError({ _ = try fit(dead, 1, ridge: 0) }) else {
            Issue.record("a singular covariance was inverted")
            return
        }
        #expect(text.contains("larger ridge") && text.contains("rank 2 of 3"))
    }

    @Test func `a side that never varies is refused`() throws {
        var rows = PairedRows(rows: 1500, dA: 3, dB: 4, seed: 43)
        for i in rows.b.elements.indices { rows.b.elements[i] = 0.1 }
        let error = sutureError { _ = try fit(rows, 1) }
        #expect(error?.message.contains("h_b is the same in all 1500 tokens") == true)
        #expect(sutureError { _ = try rows.moments().svcca() }?.message.contains("h_b") == true)
    }

    @Test func `coordinates of very different scale keep their rank`() throws {
        var rows = PairedRows(rows: 500, dA: 5, dB: 6, seed: 44, noise: 1)
        for row in 0..<500 {
            rows.a[row, 0] *= 1e5
            rows.a[row, 4] *= 1e-4
        }
        let report = try fit(rows, 1).report
        #expect(report.rankA == 5 && report.ridgeA == 0 && !report.isRankDeficient && report.converged)
    }
}
