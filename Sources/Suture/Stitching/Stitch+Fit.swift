// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics

/// What a fit did.
public struct StitchReport: Sendable, Equatable {
    /// Objective on the fitted rows, of the weights as delivered (float32): of the start, which is
    /// least squares, and of the result.
    public var before = StitchObjective()
    public var after = StitchObjective()
    /// Norm of the gradient at the end relative to that at P = 0, in coordinates in which the
    /// activations are white: squared, tr(gᵀ S⁻¹ g) summed over both maps.
    public var gradientNorm = 0.0
    /// Ridge used, relative to the mean diagonal of each covariance.
    public var ridge = 0.0
    public var iterations = 0
    public var converged = false
    /// Numerical ranks of the two covariances.
    public var rankA = 0
    public var rankB = 0
    /// A covariance has not full rank.
    public var isRankDeficient = false
    /// Fewer than ten tokens per dimension of the wider side.
    public var hasFewTokens = false
    public var seconds = 0.0
}

extension Stitch {
    /// Settings of a fit.
    public struct FitOptions: Sendable {
        /// Weight of the inversion terms. The paper uses 1.
        public var alpha: Double
        /// Stop when the relative decrease of a step and the relative gradient norm are below it. At
        /// 1e-4 the objective is within 1e-7 of its end, at 1e-5 within 1e-9 (measured).
        public var tolerance: Double
        public var maxIterations: Int
        /// Added to the diagonals of the covariances, relative to their means. nil: none where the
        /// covariances have full rank; else 1e-10, and directions without variance are left out.
        public var ridge: Double?

        public init(alpha: Double = 1, tolerance: Double = 1e-4, maxIterations: Int = 1000, ridge: Double? = nil) {
            self.alpha = alpha
            self.tolerance = tolerance
            self.maxIterations = maxIterations
            self.ridge = ridge
        }
    }

    /// The stitch that minimises the joint objective (arXiv 2506.06609, eq. 1–3) on the rows that
    /// `moments` has seen, exactly: a stationary point reached by descent from least squares.
    ///
    /// Computed in float64 and rounded to float32 at the end. The same moments give the same bits
    /// for any number of threads.
    ///
    /// - Throws: `invalidArgument` for settings out of range, fewer than two tokens, or a side that is
    ///   the same in all tokens; `numerical` if a given ridge is too small; `cancelled`;
    ///   `outOfMemory`.
    public static func fit(
        _ moments: Moments, options: FitOptions = FitOptions(), progress: Progress = .none
    ) throws -> (stitch: Stitch, report: StitchReport) {
        try check(alpha: options.alpha)
        guard options.tolerance.isFinite, options.tolerance > 0 else {
            throw SutureError.invalidArgument("tolerance is \(options.tolerance), expected a finite number above 0")
        }
        guard options.maxIterations >= 1 else {
            throw SutureError.invalidArgument("max_iterations is \(options.maxIterations), expected at least 1")
        }
        if let ridge = options.ridge, !(ridge.isFinite && ridge >= 0) {
            throw SutureError.invalidArgument("ridge is \(ridge), expected a finite number of at least 0")
        }
        guard moments.tokens >= 2 else {
            throw SutureError.invalidArgument("moments has seen \(moments.tokens) tokens, expected at least 2")
        }
        // LAPACK cannot be interrupted, so all of it happens on a thread that owns its memory.
        return try runDetached(progress: progress) { check in
            try BLAS.singleThreaded { try fit(moments, options, check) }
        }
    }

    private static func fit(
        _ moments: Moments, _ options: FitOptions, _ check: DetachedCheck
    ) throws -> (stitch: Stitch, report: StitchReport) {
        let start = monotonicSeconds()
        var report = StitchReport()
        let whitening = try StitchWhitening(moments, ridge: options.ridge, check)
        report.ridge = whitening.ridge
        (report.rankA, report.rankB) = (whitening.a.rank, whitening.b.rank)
        report.isRankDeficient = whitening.a.rank < moments.dA || whitening.b.rank < moments.dB
        report.hasFewTokens = moments.tokens < 10 * UInt64(max(moments.dA, moments.dB))

        // The solver wants the side of fewer dimensions first.
        let swapped = moments.dA > moments.dB
        let cross = try moments.covariance(.ab)
        let problem = try StitchProblem(
            alpha: options.alpha, x: swapped ? whitening.b : whitening.a, y: swapped ? whitening.a : whitening.b,
            cross: swapped ? try cross.transposed() : cross,
            weights: (1 / Double(min(moments.dA, moments.dB)), 1 / Double(max(moments.dA, moments.dB))))
        try check.report(0, of: 0)
        func deliver(_ point: StitchPair) throws -> Stitch {
            let p = try DoubleMatrix.product(problem.x.whiten, point.p)
            let q = try DoubleMatrix.product(problem.y.whiten, point.q)
            return try Stitch(up: swapped ? q : p, down: swapped ? p : q, centredOn: moments)
        }
        let leastSquares = StitchPair(p: try problem.kx.copy(), q: try problem.ky.copy())
        let first = try deliver(leastSquares)
        report.before = try first.objective(on: moments, alpha: options.alpha)
        try check.report(0, of: 0)
        if options.alpha == 0 {
            // Least squares is the solution.
            report.converged = true
            report.after = report.before
            report.seconds = monotonicSeconds() - start
            return (first.described(by: report), report)
        }
        let solver = StitchSolver(
            problem: problem, tolerance: options.tolerance, maxIterations: options.maxIterations, check: check)
        let solution = try solver.solve(from: leastSquares)
        report.iterations = solution.iterations
        report.converged = solution.converged
        report.gradientNorm = solution.gradientNorm
        var last = try deliver(solution.point)
        report.after = try last.objective(on: moments, alpha: options.alpha)
        if report.after.total > report.before.total {
            // Least squares was perfect (fewer tokens than dimensions) up to the rounding to float32.
            (last, report.after) = (first, report.before)
        }
        report.seconds = monotonicSeconds() - start
        return (last.described(by: report), report)
    }

    /// Rounds the maps, and sets the biases that are best for the rounded maps: both directions take
    /// mean to mean.
    private init(up: DoubleMatrix, down: DoubleMatrix, centredOn moments: Moments) throws {
        let (upMatrix, downMatrix) = (try FloatMatrix(up), try FloatMatrix(down))
        let means = moments.means
        func bias(_ matrix: FloatMatrix, _ from: [Double], _ to: [Double]) throws -> FloatMatrix {
            let exact = try DoubleMatrix(matrix)
            let image = try DoubleMatrix(rows: 1, cols: exact.cols)
            BLAS.gemv(
                transpose: true, m: exact.rows, n: exact.cols, a: exact.pointer, lda: exact.cols, x: from,
                y: image.pointer)
            for j in 0..<exact.cols { image.pointer[j] = to[j] - image.pointer[j] }
            return try FloatMatrix(image)
        }
        try self.init(
            upMatrix: upMatrix, upBias: try bias(upMatrix, means.a, means.b), downMatrix: downMatrix,
            downBias: try bias(downMatrix, means.b, means.a))
        for matrix in [upMatrix, upBias, downMatrix, downBias] where matrix.view.firstNonFinite() != nil {
            throw SutureError.numerical("the solution does not fit in float32; a larger ridge will help")
        }
    }

    private func described(by report: StitchReport) -> Stitch {
        var result = self
        let terms = report.after
        result.metadata["tokens"] = .integer(Int64(terms.tokens))
        result.metadata["alpha"] = .number(terms.alpha)
        result.metadata["objective"] = .object([
            ("up", .number(terms.up)), ("down", .number(terms.down)), ("a_round_trip", .number(terms.roundTripA)),
            ("b_round_trip", .number(terms.roundTripB)), ("total", .number(terms.total)),
            ("up_explained_variance", .number(terms.upExplainedVariance)),
            ("down_explained_variance", .number(terms.downExplainedVariance)),
        ])
        return result
    }
}

private func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
}
