// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics

/// A linear regression in the eigenbasis of the covariance of its input, in which every ridge is at hand.
struct RidgeRegression {
    /// Rows are eigenvectors of the covariance, in order of ascending eigenvalues.
    let basis: DoubleMatrix
    let values: [Double]
    /// Covariance with the target in that basis (d_in, d_out), and its rows' sums of squares.
    let turned: DoubleMatrix
    let squares: [Double]
    /// Variance of the target, summed over coordinates.
    let target: Double
    /// Mean diagonal of the covariance.
    let scale: Double
    /// Eigenvalues that are no more than rounding are left out.
    let first: Int

    init(_ covariance: DoubleMatrix, _ cross: DoubleMatrix, rank: Int, target: Double) throws {
        scale = covariance.trace / Double(covariance.rows)
        values = try LAPACK.eigenvalues(vectorsInto: covariance)
        basis = covariance
        turned = try DoubleMatrix.product(basis, cross)
        let (rows, cols) = (turned.pointer, turned.cols)
        squares = (0..<turned.rows).map { BLAS.dot(cols, rows + $0 * cols, rows + $0 * cols) }
        self.target = target
        first = values.count - rank
    }

    /// The ridge, relative to the mean diagonal, of the least generalised cross-validation error (Golub,
    /// Heath & Wahba 1979): the mean squared error on the fitted rows, divided by the squared share of
    /// the rows that the fit leaves free. Tokens of a text are alike, so that there are fewer free rows
    /// than are counted, and the ridge is rather too small than too large.
    func crossValidated(tokens: Double) -> Double {
        var best = (ridge: 0.0, error: Double.infinity)
        // Eight a decade: the error is flat around its minimum.
        for step in -80...16 {
            let ridge = pow(10, Double(step) / 8)
            let added = ridge * scale
            // The intercept takes one.
            var (freedom, residual) = (1.0, target)
            for i in first..<values.count {
                let sum = values[i] + added
                freedom += values[i] / sum
                residual -= squares[i] * (values[i] + 2 * added) / (sum * sum)
            }
            let free = 1 - freedom / tokens
            guard free > 0 else { continue }
            let error = max(0, residual) / (free * free)
            if error < best.error { best = (ridge, error) }
        }
        return best.ridge
    }

    /// The generalised cross-validation error of each coordinate of the target, whose variances are given; nil
    /// where the fit leaves no row free.
    func errors(ridge: Double, tokens: Double, variances: [Double]) -> [Double]? {
        let added = ridge * scale
        var freedom = 1.0
        var residuals = variances
        for i in first..<values.count where values[i] + added > 0 {
            let sum = values[i] + added
            freedom += values[i] / sum
            let weight = (values[i] + 2 * added) / (sum * sum)
            for j in residuals.indices { residuals[j] -= weight * turned[i, j] * turned[i, j] }
        }
        let free = 1 - freedom / tokens
        return free > 0 ? residuals.map { max(0, $0) / (free * free) } : nil
    }

    func coefficients(ridge: Double) throws -> DoubleMatrix {
        let weighted = try turned.copy()
        for i in 0..<weighted.rows {
            let sum = values[i] + ridge * scale
            let factor = i < first || sum <= 0 ? 0 : 1 / sum
            for j in 0..<weighted.cols { weighted[i, j] *= factor }
        }
        return try .product(basis, transposeA: true, weighted)
    }
}
