// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Cholesky factors of the two covariances, with the ridge that makes them exist.
struct StitchWhitening {
    /// R with Rᵀ R = S + ridge * mean diagonal of S * I, upper triangular.
    let rootA: DoubleMatrix
    let rootB: DoubleMatrix
    let ridge: Double
    let rankA: Int
    let rankB: Int

    /// - Parameter ridge: nil chooses: none if both ranks are full, else the smallest power of ten from
    ///   1e-12 on that stands well above the rounding errors of the covariances.
    init(_ moments: Moments, ridge: Double?, _ check: DetachedCheck) throws {
        let means = moments.means
        for (name, block, mean) in [("h_a", Moments.Block.aa, means.a), ("h_b", .bb, means.b)]
        where Self.isConstant(try moments.covariance(block), mean) {
            throw SutureError.invalidArgument(
                "\(name) is the same in all \(moments.tokens) tokens, expected it to vary")
        }
        rankA = try Self.rank(try moments.covariance(.aa), means.a)
        try check.report(0, of: 0)
        rankB = try Self.rank(try moments.covariance(.bb), means.b)
        try check.report(0, of: 0)

        let candidates: [Double]
        if let ridge {
            candidates = [ridge]
        } else if rankA == moments.dA, rankB == moments.dB {
            candidates = [0] + Self.ridges
        } else {
            candidates = Self.ridges
        }
        for candidate in candidates {
            if let rootA = try Self.root(try moments.covariance(.aa), ridge: candidate, certain: ridge == nil),
                let rootB = try Self.root(try moments.covariance(.bb), ridge: candidate, certain: ridge == nil)
            {
                self.rootA = rootA
                self.rootB = rootB
                self.ridge = candidate
                return
            }
            try check.report(0, of: 0)
        }
        throw SutureError.numerical(
            "a covariance with ridge \(candidates.last ?? 0) is not positive definite (ranks \(rankA) of \(moments.dA), \(rankB) of \(moments.dB)); expected a larger ridge"
        )
    }

    private static let ridges = [1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]

    /// Spread of a coordinate that is constant up to the rounding of its mean.
    private static func isDead(_ variance: Double, _ mean: Double) -> Bool {
        variance.squareRoot() <= 1e-13 * abs(mean)
    }

    private static func isConstant(_ covariance: DoubleMatrix, _ mean: [Double]) -> Bool {
        mean.indices.allSatisfy { isDead(max(0, covariance[$0, $0]), mean[$0]) }
    }

    /// Rank of the correlation matrix: coordinates of very different scale count alike.
    private static func rank(_ covariance: DoubleMatrix, _ mean: [Double]) throws -> Int {
        let width = covariance.rows
        let scales = (0..<width).map { i -> Double in
            let variance = max(0, covariance[i, i])
            return isDead(variance, mean[i]) ? 0 : 1 / variance.squareRoot()
        }
        for i in 0..<width {
            let row = covariance.pointer + i * width
            for j in 0..<width { row[j] *= scales[i] * scales[j] }
        }
        return try LAPACK.rank(destroying: covariance, tolerance: 16 * Double(width) * .ulpOfOne)
    }

    /// - Parameter certain: also wants the smallest pivot not to be rounding error.
    private static func root(_ covariance: DoubleMatrix, ridge: Double, certain: Bool) throws -> DoubleMatrix? {
        let width = covariance.rows
        let added = ridge * covariance.trace / Double(width)
        for i in 0..<width { covariance[i, i] += added }
        guard LAPACK.cholesky(covariance) else { return nil }
        // Where the data has no variance, a pivot is the ridge plus an error; 1 % of error is allowed.
        let smallest = (0..<width).reduce(Double.infinity) { min($0, covariance[$1, $1] * covariance[$1, $1]) }
        return smallest > 0 && (!certain || smallest >= 0.99 * added) ? covariance : nil
    }
}
