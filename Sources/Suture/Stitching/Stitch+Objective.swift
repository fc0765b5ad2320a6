// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// How the objective weighs the two streams.
public enum ObjectiveForm: Sendable {
    /// A stream's errors are divided by its mean variance per coordinate: four shares of unexplained
    /// variance, whatever the units.
    case scaled
    /// Squared errors as they are (arXiv 2506.06609, eq. 3).
    case raw
}

/// The terms of the stitching objective (arXiv 2506.06609, eq. 3): mean squared errors over tokens
/// and coordinates, and the same as shares of the variance.
public struct StitchObjective: Sendable, Equatable {
    public var alpha = 0.0
    /// MSE(up(h_A), h_B)
    public var up = 0.0
    /// MSE(down(h_B), h_A)
    public var down = 0.0
    /// MSE(down(up(h_A)), h_A), before the factor alpha.
    public var roundTripA = 0.0
    /// MSE(up(down(h_B)), h_B), before the factor alpha.
    public var roundTripB = 0.0
    /// Mean variance per coordinate of each stream, in these rows.
    public var varianceA = 0.0
    public var varianceB = 0.0
    /// Rows the figures rest on.
    public var tokens: UInt64 = 0

    /// 1 - MSE / variance per coordinate; 0 where there is no variance to explain.
    public var upExplainedVariance: Double { Self.explained(up, varianceB) }
    public var downExplainedVariance: Double { Self.explained(down, varianceA) }
    public var roundTripAExplainedVariance: Double { Self.explained(roundTripA, varianceA) }
    public var roundTripBExplainedVariance: Double { Self.explained(roundTripB, varianceB) }

    /// The paper's eq. 3.
    public var total: Double { up + down + alpha * (roundTripA + roundTripB) }

    /// The same sum of unexplained shares of variance.
    public var scaledTotal: Double {
        (1 - upExplainedVariance) + (1 - downExplainedVariance)
            + alpha * ((1 - roundTripAExplainedVariance) + (1 - roundTripBExplainedVariance))
    }

    /// What a fit of this form minimises.
    public func value(_ form: ObjectiveForm) -> Double { form == .raw ? total : scaledTotal }

    private static func explained(_ error: Double, _ variance: Double) -> Double {
        variance > 0 ? 1 - error / variance : 0
    }
}

extension Stitch {
    /// The objective of this stitch on the rows that `moments` has seen, in float64.
    ///
    /// Exact: it depends on the rows through their moments only.
    ///
    /// - Throws: `invalidArgument` if the widths differ, no token has been seen, or alpha is negative
    ///   or not finite; `outOfMemory`.
    public func objective(on moments: Moments, alpha: Double) throws -> StitchObjective {
        guard moments.dA == dA, moments.dB == dB else {
            throw SutureError.invalidArgument(
                "moments has d_a = \(moments.dA), d_b = \(moments.dB), expected those of the stitch, \(dA) and \(dB)")
        }
        try Self.check(alpha: alpha)
        try moments.requireTokens()
        return try BLAS.singleThreaded {
            let (sa, sb) = (try moments.covariance(.aa), try moments.covariance(.bb))
            let cross = try moments.covariance(.ab)
            let (p, q) = (try DoubleMatrix(upMatrix), try DoubleMatrix(downMatrix))
            let means = moments.means
            // Where the means end up: maps and means apart.
            func image(_ mean: [Double], _ matrix: DoubleMatrix, _ bias: FloatMatrix) -> [Double] {
                var result = [Double](repeating: 0, count: matrix.cols)
                BLAS.gemv(
                    transpose: true, m: matrix.rows, n: matrix.cols, a: matrix.pointer, lda: matrix.cols, x: mean,
                    y: &result)
                for (j, value) in bias.buffer.enumerated() { result[j] += Double(value) }
                return result
            }
            let (upMean, downMean) = (image(means.a, p, upBias), image(means.b, q, downBias))
            let (aMean, bMean) = (image(upMean, q, downBias), image(downMean, p, upBias))
            func squares(_ x: [Double], _ y: [Double]) -> Double {
                zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
            }

            var result = StitchObjective()
            result.alpha = alpha
            result.tokens = moments.tokens
            // |x P - y|² = tr(Pᵀ Sx P) - 2 tr(Pᵀ Sxy) + tr(Sy)
            let left = try DoubleMatrix.product(sa, p)
            let right = try DoubleMatrix.product(sb, q)
            var downCross = 0.0
            for i in 0..<dA { for j in 0..<dB { downCross += cross[i, j] * q[j, i] } }
            let upError = try left.dot(p) - 2 * cross.dot(p) + sb.trace
            let downError = try right.dot(q) - 2 * downCross + sa.trace
            result.up = (max(0, upError) + squares(upMean, means.b)) / Double(dB)
            result.down = (max(0, downError) + squares(downMean, means.a)) / Double(dA)
            // |x (P Q - I)|² = tr((P Q - I)ᵀ Sx (P Q - I))
            func roundTrip(_ first: DoubleMatrix, _ second: DoubleMatrix, _ covariance: DoubleMatrix) throws -> Double {
                let error = try DoubleMatrix.product(first, second)
                for i in 0..<error.rows { error[i, i] -= 1 }
                return max(0, try DoubleMatrix.product(covariance, error).dot(error))
            }
            result.roundTripA = (try roundTrip(p, q, sa) + squares(aMean, means.a)) / Double(dA)
            result.roundTripB = (try roundTrip(q, p, sb) + squares(bMean, means.b)) / Double(dB)
            (result.varianceA, result.varianceB) = (sa.trace / Double(dA), sb.trace / Double(dB))
            return result
        }
    }

    static func check(alpha: Double) throws {
        guard alpha.isFinite, alpha >= 0 else {
            throw SutureError.invalidArgument("alpha is \(alpha), expected a finite number of at least 0")
        }
    }
}
