// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension Stitch {
    /// Each direction by itself: P = (S + lambda I)⁻¹ C, with S the covariance of the rows that are
    /// read and C their covariance with those that are predicted.
    static func ridge(
        _ moments: Moments, _ options: FitOptions, _ report: inout StitchReport, _ check: DetachedCheck
    ) throws -> Stitch {
        let ranks = try StitchWhitening.ranks(moments, check)
        (report.rankA, report.rankB) = (ranks[0], ranks[1])
        let cross = try moments.covariance(.ab)
        let traces = (a: moments.meanVariances.a * Double(moments.dA), b: moments.meanVariances.b * Double(moments.dB))
        func map(_ block: Moments.Block, _ cross: DoubleMatrix, rank: Int, target: Double) throws -> (
            DoubleMatrix, Double
        ) {
            let regression = try RidgeRegression(try moments.covariance(block), cross, rank: rank, target: target)
            try check.report(0, of: 0)
            let ridge = options.ridge ?? regression.crossValidated(tokens: Double(moments.tokens))
            let map = try regression.coefficients(ridge: ridge)
            try check.report(0, of: 0)
            return (map, ridge)
        }
        let down = try map(.bb, try cross.transposed(), rank: ranks[1], target: traces.a)
        let up = try map(.aa, cross, rank: ranks[0], target: traces.b)
        (report.ridgeA, report.ridgeB) = (up.1, down.1)
        let stitch = try Stitch(up: up.0, down: down.0, centredOn: moments)
        report.after = try stitch.objective(on: moments, alpha: options.alpha)
        report.before = report.after
        report.converged = true
        return stitch
    }
}
