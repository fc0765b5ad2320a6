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

extension Moments {
    /// Singular vector canonical correlation analysis: on each side the fewest singular directions
    /// that hold `varianceKept` of the variance, canonical correlations between them, their mean.
    ///
    /// Directions without variance (few tokens, dead coordinates) are never kept.
    ///
    /// - Throws: `invalidArgument` unless 0 < varianceKept <= 1, there are two tokens, and both sides
    ///   vary; `numerical`; `outOfMemory`.
    public func svcca(varianceKept: Double = 0.99) throws -> SVCCA {
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
            guard let (a, b) = found.withLock({ found in found[0].flatMap { a in found[1].map { (a, $0) } } }) else {
                throw SutureError.internal("a side of the SVCCA is missing")
            }
            let projected = try DoubleMatrix.product(a, try covariance(.ab))
            let coherence = try DoubleMatrix.product(projected, b, transposeB: true)
            let correlations = try LAPACK.singularValues(destroying: coherence)
            let mean = correlations.reduce(0) { $0 + min(1, $1) } / Double(correlations.count)
            return SVCCA(meanCorrelation: mean, keptA: a.rows, keptB: b.rows)
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
