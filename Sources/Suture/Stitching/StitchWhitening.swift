// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// White coordinates for the two sides, found without eigenproblems where the ranks are full.
struct StitchWhitening {
    /// x = u T with u white, and u = x W: Tᵀ T is the covariance, T W = I.
    struct Side: Sendable {
        /// T (rank, d)
        let colour: DoubleMatrix
        /// W (d, rank)
        let whiten: DoubleMatrix
        let rank: Int

        /// The same for x / scale, in the same memory.
        func divided(by scale: Double) throws -> Side {
            try colour.scale(1 / scale)
            try whiten.scale(scale)
            return self
        }
    }

    let a: Side
    let b: Side
    /// Relative to the mean diagonal of each covariance.
    let ridge: Double

    /// Added to the variances that there are, where a rank is not full: it stands well above rounding
    /// errors of the covariances (1e-16 times their dimension), and well below what data can tell.
    static let deficientRidge = 1e-10

    /// A side of full rank is whitened by its Cholesky factor. Where a rank is not full, directions
    /// without variance are left out: nothing can be learnt of them. (A small ridge alone would not
    /// do: with inversion terms, such a direction is a channel that costs nothing, written to with
    /// amplitude 1e-3 and read with gain 1e3, and no usable stitch results.)
    ///
    /// - Parameter ridge: nil chooses 0, or `deficientRidge` where a rank is not full.
    /// - Throws: `invalidArgument` if a side is constant; `numerical` if a covariance with the given
    ///   ridge has no Cholesky factor.
    init(_ moments: Moments, ridge: Double?, _ check: DetachedCheck) throws {
        let sides = Self.sides(of: moments)
        let ranks = try Self.ranks(moments, check)
        let isFull = ranks[0] == moments.dA && ranks[1] == moments.dB
        self.ridge = ridge ?? (isFull ? 0 : Self.deficientRidge)
        var result: [Side] = []
        for ((name, block, mean), rank) in zip(sides, ranks) {
            let covariance = try moments.covariance(block)
            let added = self.ridge * covariance.trace / Double(covariance.rows)
            if ridge == nil, rank < covariance.rows {
                result.append(try Self.truncated(covariance, mean, rank, added: added))
            } else {
                for i in 0..<covariance.rows { covariance[i, i] += added }
                guard LAPACK.cholesky(covariance) else {
                    throw SutureError.numerical(
                        "the covariance of \(name) (rank \(rank) of \(covariance.rows)) with ridge \(self.ridge) is not positive definite, expected a larger ridge"
                    )
                }
                let inverse = try DoubleMatrix.identity(covariance.rows)
                try inverse.solveLeft(covariance)
                result.append(Side(colour: covariance, whiten: inverse, rank: rank))
            }
            try check.report(0, of: 0)
        }
        (a, b) = (result[0], result[1])
    }

    private static func sides(of moments: Moments) -> [(name: String, block: Moments.Block, mean: [Double])] {
        let means = moments.means
        return [("h_a", .aa, means.a), ("h_b", .bb, means.b)]
    }

    /// Numerical ranks of the covariances of A and B.
    ///
    /// - Throws: `invalidArgument` if a side is constant.
    static func ranks(_ moments: Moments, _ check: DetachedCheck) throws -> [Int] {
        try sides(of: moments).map { side in
            let rank = try rank(try moments.covariance(side.block), side.mean)
            guard rank > 0 else {
                throw SutureError.invalidArgument(
                    "\(side.name) is the same in all \(moments.tokens) tokens, expected it to vary")
            }
            try check.report(0, of: 0)
            return rank
        }
    }

    /// Spread of a coordinate that is constant up to the rounding of its mean.
    private static func isDead(_ variance: Double, _ mean: Double) -> Bool {
        variance.squareRoot() <= 1e-13 * abs(mean)
    }

    /// Rank of the correlation matrix: coordinates of very different scale count alike.
    private static func rank(_ covariance: DoubleMatrix, _ mean: [Double]) throws -> Int {
        let width = covariance.rows
        let scales = (0..<width).map { i -> Double in
            let variance = max(0, covariance[i, i])
            return isDead(variance, mean[i]) ? 0 : 1 / variance.squareRoot()
        }
        guard scales.contains(where: { $0 > 0 }) else { return 0 }
        for i in 0..<width {
            let row = covariance.pointer + i * width
            for j in 0..<width { row[j] *= scales[i] * scales[j] }
        }
        return try LAPACK.rank(destroying: covariance, tolerance: 16 * Double(width) * .ulpOfOne)
    }

    /// The directions of the `rank` largest eigenvalues; coordinates that are constant take no part.
    private static func truncated(
        _ covariance: DoubleMatrix, _ mean: [Double], _ rank: Int, added: Double
    ) throws -> Side {
        let width = covariance.rows
        for i in 0..<width where isDead(max(0, covariance[i, i]), mean[i]) {
            for j in 0..<width { (covariance[i, j], covariance[j, i]) = (0, 0) }
        }
        let values = try LAPACK.eigenvalues(vectorsInto: covariance)
        let colour = try DoubleMatrix(rows: rank, cols: width)
        let whiten = try DoubleMatrix(rows: width, cols: rank)
        for row in 0..<rank {
            let source = width - 1 - row
            let root = (max(0, values[source]) + added).squareRoot()
            for j in 0..<width {
                colour[row, j] = root * covariance[source, j]
                whiten[j, row] = covariance[source, j] / root
            }
        }
        return Side(colour: colour, whiten: whiten, rank: rank)
    }
}
