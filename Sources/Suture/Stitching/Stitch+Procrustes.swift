// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension Stitch {
    /// One orthogonal map for both directions, each with one factor: P_up = c R, P_down = c' Rᵀ, where R
    /// is the orthogonal factor of the cross-covariance (Schönemann 1966), and the factors are those of
    /// least squares. Of unequal widths R has orthonormal rows or columns. Where the cross-covariance
    /// has not full rank, what it says nothing about is mapped to the mean.
    static func procrustes(
        _ moments: Moments, _ options: FitOptions, _ report: inout StitchReport, _ check: DetachedCheck
    ) throws -> Stitch {
        let ranks = try StitchWhitening.ranks(moments, check)
        (report.rankA, report.rankB) = (ranks[0], ranks[1])
        var (u, values, v) = try LAPACK.singularVectors(destroying: try moments.covariance(.ab))
        try check.report(0, of: 0)
        let noise = 16 * Double(max(moments.dA, moments.dB)) * .ulpOfOne * (values.first ?? 0)
        let kept = values.prefix { $0 > noise }.count
        guard kept > 0 else {
            throw SutureError.numerical("h_a and h_b are uncorrelated, expected rows that belong together")
        }
        if kept < values.count {
            let (left, right) = (try DoubleMatrix(rows: u.rows, cols: kept), try DoubleMatrix(rows: kept, cols: v.cols))
            for i in 0..<u.rows { for j in 0..<kept { left[i, j] = u[i, j] } }
            right.pointer.update(from: v.pointer, count: right.count)
            (u, v) = (left, right)
        }
        let rotation = try DoubleMatrix.product(u, v)
        let sum = values.prefix(kept).reduce(0, +)
        // |x c R - y|² is least at c = tr(Rᵀ C) / tr(Rᵀ Sx R), and what R does not keep has no part in it.
        let up = try rotation.copy()
        try up.scale(sum / (try DoubleMatrix.product(try moments.covariance(.aa), rotation).dot(rotation)))
        let down = try rotation.transposed()
        try down.scale(sum / (try DoubleMatrix.product(rotation, try moments.covariance(.bb)).dot(rotation)))
        try check.report(0, of: 0)
        let stitch = try Stitch(up: up, down: down, centredOn: moments)
        report.after = try stitch.objective(on: moments, alpha: options.alpha)
        report.before = report.after
        report.converged = true
        return stitch
    }
}
