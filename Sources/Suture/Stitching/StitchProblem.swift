// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// The stitching objective in white coordinates. With x the side of fewer dimensions (a) and y the
/// other (b), write x = u Tx and y = v Ty with u and v white (of as many coordinates as the ranks ra
/// and rb), u = x Wx and v = y Wy. The unknowns are
///     P' (ra, b)    and    Q' (rb, a),    where P = Wx P' maps x to y and Q = Wy Q' maps y to x.
/// With Kx = Wxᵀ Sxy and Ky = Wyᵀ Syx the objective is
///     L = wy (|P' - Kx|² + |Ty|² - |Kx|²) + wx (|Q' - Ky|² + |Tx|² - |Ky|²)
///       + alpha wx |P' Q - Tx|² + alpha wy |Q' P - Ty|².
struct StitchProblem: Sendable {
    let alpha: Double
    let x: StitchWhitening.Side
    let y: StitchWhitening.Side
    /// (ra, b) and (rb, a): what least squares has for P' and Q'.
    let kx: DoubleMatrix
    let ky: DoubleMatrix
    /// |Ty|² - |Kx|² and |Tx|² - |Ky|²: what least squares leaves unexplained.
    let floorUp: Double
    let floorDown: Double
    /// Of squared errors of x and of y.
    let weights: (x: Double, y: Double)

    /// - Parameters:
    ///   - cross: Sxy (a, b).
    ///   - weights: of squared errors (summed over coordinates) of x and of y: 1 / a and 1 / b for means over
    ///     coordinates.
    init(
        alpha: Double, x: StitchWhitening.Side, y: StitchWhitening.Side, cross: DoubleMatrix,
        weights: (x: Double, y: Double)
    ) throws {
        self.alpha = alpha
        self.x = x
        self.y = y
        kx = try .product(x.whiten, transposeA: true, cross)
        ky = try .product(y.whiten, transposeA: true, cross, transposeB: true)
        floorUp = max(0, try y.colour.squaredNorm() - kx.squaredNorm())
        floorDown = max(0, try x.colour.squaredNorm() - ky.squaredNorm())
        self.weights = weights
    }
}

/// A pair of matrices for the two unknowns.
struct StitchPair: Sendable {
    /// (ra, b)
    var p: DoubleMatrix
    /// (rb, a)
    var q: DoubleMatrix
}
