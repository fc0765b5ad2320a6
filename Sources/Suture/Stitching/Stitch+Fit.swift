// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics

extension Stitch {
    /// Which maps are fitted.
    public enum Method: Sendable, CaseIterable {
        /// Both directions together, with inversion terms (arXiv 2506.06609, eq. 1–3).
        case joint
        /// Each direction by itself: least squares with a ridge.
        case ridge
        /// One orthogonal map for both directions, and one number for each.
        case procrustes

        var name: String {
            switch self {
            case .joint: return "joint"
            case .ridge: return "ridge"
            case .procrustes: return "procrustes"
            }
        }
    }

    /// Settings of a fit.
    public struct FitOptions: Sendable {
        public var method: Method
        /// Of the joint method: how its objective weighs the two streams.
        public var form: ObjectiveForm
        /// Weight of the inversion terms. The paper uses 1.
        public var alpha: Double
        /// Stop when the relative decrease of a step and the relative gradient norm are below it. At
        /// 1e-4 the objective is mostly within 1e-6 of its end, and within 1e-5 where little is left
        /// unexplained or alpha is 10 (measured).
        public var tolerance: Double
        public var maxIterations: Int
        /// Added to the diagonals of the covariances, relative to their means. nil: for the joint method
        /// none where the covariances have full rank, else 1e-10, and directions without variance are
        /// left out; for the ridge method that of the least generalised cross-validation error.
        public var ridge: Double?

        public init(
            alpha: Double = 1, tolerance: Double = 1e-4, maxIterations: Int = 1000, ridge: Double? = nil,
            method: Method = .joint, form: ObjectiveForm = .scaled
        ) {
            self.method = method
            self.form = form
            self.alpha = alpha
            self.tolerance = tolerance
            self.maxIterations = maxIterations
            self.ridge = ridge
        }
    }

    /// The stitch of the rows that `moments` has seen. By the joint method it minimises the objective of
    /// arXiv 2506.06609, eq. 1–3, exactly: a stationary point reached by descent from least squares.
    /// Errors of a stream are divided by its variance first (`ObjectiveForm.scaled`), unless the paper's
    /// raw form is asked for. Maps are in the units of the activations either way.
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
        guard options.ridge == nil || options.method != .procrustes else {
            throw SutureError.invalidArgument("ridge is given, expected none for the procrustes method")
        }
        try moments.requireTokens(2)
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
        (report.method, report.form) = (options.method, options.form)
        report.hasFewTokens = moments.tokens < 10 * UInt64(max(moments.dA, moments.dB))
        var stitch: Stitch
        switch options.method {
        case .joint: stitch = try joint(moments, options, &report, check)
        case .ridge: stitch = try ridge(moments, options, &report, check)
        case .procrustes: stitch = try procrustes(moments, options, &report, check)
        }
        report.isCarriedByFewRows = moments.isCarriedByFewRows
        (report.normBoundA, report.normBoundB) = moments.normBounds
        report.leftOut = moments.leftOut
        report.isRankDeficient = report.rankA < moments.dA || report.rankB < moments.dB
        report.seconds = monotonicSeconds() - start
        for (key, value) in report.metadata { stitch.metadata[key] = value }
        return (stitch, report)
    }

    private static func joint(
        _ moments: Moments, _ options: FitOptions, _ report: inout StitchReport, _ check: DetachedCheck
    ) throws -> Stitch {
        let whitening = try StitchWhitening(moments, ridge: options.ridge, check)
        (report.ridgeA, report.ridgeB) = (whitening.ridge, whitening.ridge)
        (report.rankA, report.rankB) = (whitening.a.rank, whitening.b.rank)

        // The solver sees both streams with a mean variance of 1, so that its unknowns have no units;
        // the paper's form is then a matter of weights.
        let variances = moments.meanVariances
        let scales = (a: variances.a.squareRoot(), b: variances.b.squareRoot())
        var weights = (a: 1 / Double(moments.dA), b: 1 / Double(moments.dB))
        if options.form == .raw {
            weights = (weights.a * variances.a, weights.b * variances.b)
            let ratio = scales.a / scales.b
            report.hasUnlikeScales = max(ratio, 1 / ratio) > StitchReport.unlikeScales
        }
        let (a, b) = (try whitening.a.divided(by: scales.a), try whitening.b.divided(by: scales.b))
        let cross = try moments.covariance(.ab)
        try cross.scale(1 / (scales.a * scales.b))

        // The solver wants the side of fewer dimensions first.
        let swapped = moments.dA > moments.dB
        let problem = try StitchProblem(
            alpha: options.alpha, x: swapped ? b : a, y: swapped ? a : b,
            cross: swapped ? try cross.transposed() : cross,
            weights: swapped ? (x: weights.b, y: weights.a) : (x: weights.a, y: weights.b))
        try check.report(0, of: 0)
        func deliver(_ point: StitchPair) throws -> Stitch {
            let p = try DoubleMatrix.product(problem.x.whiten, point.p)
            let q = try DoubleMatrix.product(problem.y.whiten, point.q)
            let (up, down) = swapped ? (q, p) : (p, q)
            try up.scale(scales.b / scales.a)
            try down.scale(scales.a / scales.b)
            return try Stitch(up: up, down: down, centredOn: moments)
        }
        let leastSquares = StitchPair(p: try problem.kx.copy(), q: try problem.ky.copy())
        let first = try deliver(leastSquares)
        report.before = try first.objective(on: moments, alpha: options.alpha)
        try check.report(0, of: 0)
        if options.alpha == 0 {
            // Least squares is the solution.
            report.converged = true
            report.after = report.before
            return first
        }
        let solver = StitchSolver(
            problem: problem, tolerance: options.tolerance, maxIterations: options.maxIterations, check: check)
        let solution = try solver.solve()
        report.iterations = solution.iterations
        report.converged = solution.converged
        report.gradientNorm = solution.gradientNorm
        let last = try deliver(solution.point)
        report.after = try last.objective(on: moments, alpha: options.alpha)
        if report.after.value(options.form) > report.before.value(options.form) {
            // Least squares was perfect (fewer tokens than dimensions) up to the rounding to float32.
            report.after = report.before
            return first
        }
        return last
    }

    /// Rounds the maps, and sets the biases that are best for the rounded maps: both directions take
    /// mean to mean.
    init(up: DoubleMatrix, down: DoubleMatrix, centredOn moments: Moments) throws {
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
}

private func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
}
