// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import Synchronization

/// How alike two residual streams are (Raghu et al. 2017).
public struct SVCCA: Sendable, Equatable {
    /// Mean canonical correlation over the smaller number of kept directions, in [0, 1].
    public var meanCorrelation: Double
    /// Singular directions kept on each side.
    public var keptA: Int
    public var keptB: Int
}

extension SVCCA {
    /// Of rows that are white already, as `Moments.whitening` makes them: paired rows of `a` (N, kept_a)
    /// and `b` (N, kept_b), each of mean 0 and with the identity as covariance. Products are float32,
    /// which is exact to about 1e-7 for white coordinates; they are added in float64.
    ///
    /// - Throws: `invalidArgument` for other shapes or a value that is not finite; `numerical`;
    ///   `outOfMemory`.
    public init(whiteA a: MatrixView, whiteB b: MatrixView) throws {
        guard a.rows == b.rows, a.rows > 0, a.cols > 0, b.cols > 0 else {
            throw SutureError.invalidArgument(
                "white_a is (\(a.rows), \(a.cols)) and white_b (\(b.rows), \(b.cols)), expected paired rows")
        }
        for (view, name) in [(a, "white_a"), (b, "white_b")] {
            if let bad = view.firstNonFinite(asFloat32: true) {
                throw SutureError.invalidArgument(
                    "\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
            }
        }
        let products = try DoubleMatrix(rows: a.cols, cols: b.cols)
        let (tile, blockRows) = (256, 1024)
        let across = (b.cols + tile - 1) / tile
        try BLAS.singleThreaded {
            try parallelFor((a.cols + tile - 1) / tile * across) { task in
                let (row, col) = (task / across * tile, task % across * tile)
                let (m, n) = (min(tile, a.cols - row), min(tile, b.cols - col))
                withUnsafeTemporaryAllocation(of: Float.self, capacity: (m + n) * blockRows + m * n) { memory in
                    guard let left = memory.baseAddress else { return }
                    let (right, sum) = (left + m * blockRows, left + (m + n) * blockRows)
                    for start in stride(from: 0, to: a.rows, by: blockRows) {
                        let rows = start..<min(start + blockRows, a.rows)
                        a.block(rows: rows, cols: row..<row + m).read(into: left)
                        b.block(rows: rows, cols: col..<col + n).read(into: right)
                        BLAS.gemm(
                            transposeA: true, m: m, n: n, k: rows.count, a: left, lda: m, b: right, ldb: n, c: sum,
                            ldc: n)
                        for i in 0..<m {
                            let target = products.pointer + (row + i) * products.cols + col
                            for j in 0..<n { target[j] += Double(sum[i * n + j]) }
                        }
                    }
                }
            }
        }
        try products.scale(1 / Double(a.rows))
        try self.init(coherence: products)
    }

    /// - Parameter coherence: covariance of the white coordinates (kept_a, kept_b); it is destroyed.
    fileprivate init(coherence: DoubleMatrix) throws {
        (keptA, keptB) = (coherence.rows, coherence.cols)
        let correlations = try BLAS.singleThreaded { try LAPACK.singularValues(destroying: coherence) }
        meanCorrelation = correlations.reduce(0) { $0 + min(1, $1) } / Double(correlations.count)
    }
}

extension Moments {
    /// Singular vector canonical correlation analysis: on each side the fewest singular directions
    /// that hold `varianceKept` of the variance, canonical correlations between them, their mean.
    ///
    /// Directions without variance (few tokens, dead coordinates) are never kept.
    ///
    /// - Throws: `invalidArgument` unless 0 < varianceKept <= 1, there are two tokens, and both sides
    ///   vary; `numerical`; `outOfMemory`.
    public func svcca(varianceKept: Double = 0.99) throws -> SVCCA {
        let (a, b) = try bothDirections(varianceKept)
        return try BLAS.singleThreaded {
            let projected = try DoubleMatrix.product(a, try covariance(.ab))
            let coherence = try DoubleMatrix.product(projected, b, transposeB: true)
            return try SVCCA(coherence: coherence)
        }
    }

    /// The kept directions of each side as a stitch: up maps a stream to its white principal
    /// coordinates, of mean 0 and variance 1, those of the largest variance first; down maps these back
    /// into the stream. The SVCCA of white rows that keeps all is that of the streams: of many layers,
    /// each is whitened once.
    ///
    /// - Throws: as `svcca`; `numerical` for coordinates beyond float32.
    public func whitening(varianceKept: Double = 0.99) throws -> (a: Stitch, b: Stitch) {
        let (a, b) = try bothDirections(varianceKept)
        let means = means
        return try BLAS.singleThreaded {
            (try Self.whitening(a, means.a, try covariance(.aa)), try Self.whitening(b, means.b, try covariance(.bb)))
        }
    }

    /// - Parameter directions: W (kept, d), in which W S Wᵀ = I; so S Wᵀ W projects on the kept ones.
    private static func whitening(
        _ directions: DoubleMatrix, _ mean: [Double], _ covariance: DoubleMatrix
    ) throws -> Stitch {
        let (kept, width) = (directions.rows, directions.cols)
        let bias = try DoubleMatrix(rows: 1, cols: kept)
        BLAS.gemv(m: kept, n: width, alpha: -1, a: directions.pointer, lda: width, x: mean, y: bias.pointer)
        let centre = try DoubleMatrix(rows: 1, cols: width)
        for j in 0..<width { centre.pointer[j] = mean[j] }
        let stitch = try Stitch(
            upMatrix: try FloatMatrix(try directions.transposed()), upBias: try FloatMatrix(bias),
            downMatrix: try FloatMatrix(try DoubleMatrix.product(directions, covariance)),
            downBias: try FloatMatrix(centre))
        for matrix in [stitch.upMatrix, stitch.upBias, stitch.downMatrix, stitch.downBias]
        where matrix.view.firstNonFinite() != nil {
            throw SutureError.numerical("the white coordinates of a stream do not fit in float32")
        }
        return stitch
    }

    private func bothDirections(_ varianceKept: Double) throws -> (a: DoubleMatrix, b: DoubleMatrix) {
        guard varianceKept > 0, varianceKept <= 1 else {
            throw SutureError.invalidArgument("variance_kept is \(varianceKept), expected above 0 and at most 1")
        }
        try requireTokens(2)
        return try BLAS.singleThreaded {
            let found = Mutex<[Int: DoubleMatrix]>([:])
            try parallelFor(2) { side in
                let white = try whiteDirections(side == 0 ? .aa : .bb, varianceKept)
                found.withLock { $0[side] = white }
            }
            guard let both = found.withLock({ found in found[0].flatMap { a in found[1].map { (a, $0) } } }) else {
                throw SutureError.internal("a side of the SVCCA is missing")
            }
            return both
        }
    }

    /// The kept directions of one side as rows (kept, d), scaled so that projections on them have
    /// variance 1.
    private func whiteDirections(_ block: Block, _ varianceKept: Double) throws -> DoubleMatrix {
        let covariance = try covariance(block)
        let width = covariance.rows
        let mean = block == .aa ? means.a : means.b
        let total = covariance.trace
        // What is left of constant coordinates is the rounding of their means.
        guard total > 1e-26 * mean.reduce(0, { $0 + $1 * $1 }) else {
            throw SutureError.invalidArgument(
                "\(block == .aa ? "h_a" : "h_b") is the same in all \(tokens) tokens, expected it to vary")
        }
        let values = try LAPACK.eigenvalues(vectorsInto: covariance)
        let noise = 16 * Double(width) * .ulpOfOne * (values.last ?? 0)
        var (count, sum) = (0, 0.0)
        // Rounding of the total must not ask for more directions than there are.
        for value in values.reversed() where value > noise && sum < varianceKept * total * (1 - 1e-12) {
            sum += value
            count += 1
        }
        let result = try DoubleMatrix(rows: count, cols: width)
        for row in 0..<count {
            let source = width - 1 - row
            let scale = 1 / values[source].squareRoot()
            for j in 0..<width { result[row, j] = scale * covariance[source, j] }
        }
        return result
    }
}
