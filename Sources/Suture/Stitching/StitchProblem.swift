// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// The stitching objective in white coordinates. With x the side of fewer dimensions (a) and y the
// other (b), covariances Sx = Rxᵀ Rx and Sy = Ryᵀ Ry (Cholesky), the unknowns are
//     P' = Rx P (a, b)    and    Q' = Ry Q (b, a),
// where P maps x to y and Q maps y to x. With Kx = Rx⁻ᵀ Sxy and Ky = Ry⁻ᵀ Syx the objective is
//     L = (|P' - Kx|² + |Ry|² - |Kx|²) / b + (|Q' - Ky|² + |Rx|² - |Ky|²) / a
//       + alpha |P' Q - Rx|² / a + alpha |M P' - Ry|² / b,     M = Q' Rx⁻¹.
// For one unknown fixed, L is quadratic in the other, and its minimiser solves a Sylvester equation
// (method: generalised eigenproblems of rank a). Everything below has eigenproblems of size a only.

/// What stays the same during a fit.
struct StitchProblem: Sendable {
    let alpha: Double
    /// (a, a) and (b, b), upper triangular.
    let rx: DoubleMatrix
    let ry: DoubleMatrix
    /// (a, b) and (b, a)
    let kx: DoubleMatrix
    let ky: DoubleMatrix
    /// |Ry|² - |Kx|² and |Rx|² - |Ky|²: what least squares leaves unexplained.
    let floorUp: Double
    let floorDown: Double

    var a: Int { rx.rows }
    var b: Int { ry.rows }
    var aInverse: Double { 1 / Double(rx.rows) }
    var bInverse: Double { 1 / Double(ry.rows) }

    /// - Parameter cross: Sxy (a, b).
    init(alpha: Double, rx: DoubleMatrix, ry: DoubleMatrix, cross: DoubleMatrix) throws {
        self.alpha = alpha
        self.rx = rx
        self.ry = ry
        kx = try cross.copy()
        try kx.solveLeft(rx, transpose: true)
        ky = try cross.transposed()
        try ky.solveLeft(ry, transpose: true)
        floorUp = max(0, try ry.squaredNorm() - kx.squaredNorm())
        floorDown = max(0, try rx.squaredNorm() - ky.squaredNorm())
    }
}

/// A pair of matrices for the two unknowns: a point, a gradient or a direction.
struct StitchPair: Sendable {
    /// (a, b)
    var p: DoubleMatrix
    /// (b, a)
    var q: DoubleMatrix

    func dot(_ other: StitchPair) throws -> Double { try p.dot(other.p) + q.dot(other.q) }

    func copy() throws -> StitchPair { StitchPair(p: try p.copy(), q: try q.copy()) }

    func add(_ factor: Double, _ other: StitchPair) throws {
        try p.add(factor, other.p)
        try q.add(factor, other.q)
    }

    func scale(_ factor: Double) throws {
        try p.scale(factor)
        try q.scale(factor)
    }
}

/// What Q' contributes to the equation of P'.
struct StitchEquationP: Sendable {
    /// Q (b, a)
    let q: DoubleMatrix
    /// M = Q' Rx⁻¹ (b, a) and Mᵀ M
    let m: DoubleMatrix
    let gram: DoubleMatrix
    /// Kx / b + alpha Rx Qᵀ / a + alpha Mᵀ Ry / b (a, b)
    let right: DoubleMatrix
}

/// What P' contributes to the equation of Q'.
struct StitchEquationQ: Sendable {
    /// P (a, b) and P Pᵀ
    let p: DoubleMatrix
    let outputGram: DoubleMatrix
    /// N = P' Ry⁻¹ (a, b) and N Nᵀ
    let n: DoubleMatrix
    let gram: DoubleMatrix
    /// Ky / a + alpha Ry Pᵀ / b + alpha Nᵀ Rx / a (b, a)
    let right: DoubleMatrix
}

extension StitchProblem {
    func equationP(_ q: DoubleMatrix) throws -> StitchEquationP {
        let original = try q.copy()
        try original.solveLeft(ry)
        let m = try q.copy()
        try m.solveRight(rx)
        let right = try kx.copy()
        try right.setProduct(rx, original, transposeB: true, alpha: alpha * aInverse, beta: bInverse)
        try right.setProduct(m, transposeA: true, ry, alpha: alpha * bInverse, beta: 1)
        return StitchEquationP(q: original, m: m, gram: try .product(m, transposeA: true, m), right: right)
    }

    func equationQ(_ p: DoubleMatrix) throws -> StitchEquationQ {
        let original = try p.copy()
        try original.solveLeft(rx)
        let n = try p.copy()
        try n.solveRight(ry)
        let right = try ky.copy()
        try right.setProduct(ry, original, transposeB: true, alpha: alpha * bInverse, beta: aInverse)
        try right.setProduct(n, transposeA: true, rx, alpha: alpha * aInverse, beta: 1)
        return StitchEquationQ(
            p: original, outputGram: try .product(original, original, transposeB: true), n: n,
            gram: try .product(n, n, transposeB: true), right: right)
    }

    /// Gradient of L with respect to P' and Q'.
    func gradient(_ point: StitchPair, _ forP: StitchEquationP, _ forQ: StitchEquationQ) throws -> StitchPair {
        let p = try forP.right.copy()
        let roundTrip = try DoubleMatrix.product(point.p, forP.q)
        try p.setProduct(roundTrip, forP.q, transposeB: true, alpha: 2 * alpha * aInverse, beta: -2)
        try p.setProduct(forP.gram, point.p, alpha: 2 * alpha * bInverse, beta: 1)
        try p.add(2 * bInverse, point.p)

        let q = try forQ.right.copy()
        try q.setProduct(point.q, forQ.outputGram, alpha: 2 * alpha * bInverse, beta: -2)
        try q.setProduct(forQ.n, transposeA: true, try .product(forQ.n, point.q), alpha: 2 * alpha * aInverse, beta: 1)
        try q.add(2 * aInverse, point.q)
        return StitchPair(p: p, q: q)
    }

    /// Norm of the gradient at P = Q = 0.
    func gradientNormAtZero() throws -> Double {
        2 * (try kx.squaredNorm() * bInverse * bInverse + ky.squaredNorm() * aInverse * aInverse).squareRoot()
    }

    /// The P' that minimises L for the Q' of the equation:
    /// P' (I / b + alpha Q Qᵀ / a) + alpha Mᵀ M P' / b = right.
    func minimiserP(_ equation: StitchEquationP) throws -> DoubleMatrix {
        // Rows of E diagonalise Mᵀ M (theta), rows of V Qᵀ Q (lambda). In those bases row i of P' and
        // direction j of the rank-a part are apart; the rest of the b directions only sees theta.
        let outputGram = try DoubleMatrix.product(equation.q, transposeA: true, equation.q)
        let (theta, e, lambda, v) = try eigen(equation.gram, outputGram)
        let turned = try DoubleMatrix.product(e, equation.right)
        let w = try DoubleMatrix.product(equation.q, v, transposeB: true)
        let inner = try DoubleMatrix.product(turned, w)
        for i in 0..<a {
            let c = bInverse + alpha * bInverse * theta[i]
            for j in 0..<a { inner[i, j] *= -alpha * aInverse / (c * (c + alpha * aInverse * lambda[j])) }
            let row = turned.pointer + i * b
            for j in 0..<b { row[j] /= c }
        }
        try turned.setProduct(inner, w, transposeB: true, beta: 1)
        return try .product(e, transposeA: true, turned)
    }

    /// The Q' that minimises L for the P' of the equation:
    /// Q' (I / a + alpha P Pᵀ / b) + alpha Nᵀ N Q' / a = right.
    func minimiserQ(_ equation: StitchEquationQ) throws -> DoubleMatrix {
        // Rows of V diagonalise P Pᵀ (mu), rows of F N Nᵀ (phi): column j of Q' Vᵀ is apart.
        let (mu, v, phi, f) = try eigen(equation.outputGram, equation.gram)
        let turned = try DoubleMatrix.product(equation.right, v, transposeB: true)
        let w = try DoubleMatrix.product(f, equation.n)
        let inner = try DoubleMatrix.product(w, turned)
        let scales = mu.map { aInverse + alpha * bInverse * $0 }
        for i in 0..<a {
            for j in 0..<a { inner[i, j] *= -alpha * aInverse / (scales[j] * (scales[j] + alpha * aInverse * phi[i])) }
        }
        for i in 0..<b {
            let row = turned.pointer + i * a
            for j in 0..<a { row[j] /= scales[j] }
        }
        try turned.setProduct(w, transposeA: true, inner, beta: 1)
        return try .product(turned, v)
    }

    /// Eigenvalues and eigenvectors (as rows) of two positive semi-definite matrices, side by side.
    private func eigen(
        _ first: DoubleMatrix, _ second: DoubleMatrix
    ) throws -> ([Double], DoubleMatrix, [Double], DoubleMatrix) {
        let vectors = [try first.copy(), try second.copy()]
        let values = [try DoubleMatrix(rows: 1, cols: a), try DoubleMatrix(rows: 1, cols: a)]
        try parallelFor(2) { i in
            for (j, value) in try LAPACK.eigenvalues(vectorsInto: vectors[i]).enumerated() {
                values[i].pointer[j] = max(0, value)
            }
        }
        return (values[0].elements, vectors[0], values[1].elements, vectors[1])
    }

    /// Coefficients c[0] … c[4] of t ↦ L(point + t direction), a polynomial of degree 4.
    func polynomial(_ point: StitchPair, _ direction: StitchPair, _ forP: StitchEquationP) throws -> [Double] {
        var c = [Double](repeating: 0, count: 5)
        func add(_ weight: Double, _ residuals: [DoubleMatrix]) throws {
            for (i, x) in residuals.enumerated() {
                for (j, y) in residuals.enumerated() where j >= i {
                    c[i + j] += (i == j ? 1 : 2) * weight * (try x.dot(y))
                }
            }
        }
        let up = try point.p.copy()
        try up.add(-1, kx)
        try add(bInverse, [up, direction.p])
        let down = try point.q.copy()
        try down.add(-1, ky)
        try add(aInverse, [down, direction.q])
        c[0] += bInverse * floorUp + aInverse * floorDown

        let dq = try direction.q.copy()
        try dq.solveLeft(ry)
        let a0 = try DoubleMatrix.product(point.p, forP.q)
        try a0.add(-1, rx)
        let a1 = try DoubleMatrix.product(direction.p, forP.q)
        try a1.setProduct(point.p, dq, beta: 1)
        try add(alpha * aInverse, [a0, a1, try .product(direction.p, dq)])

        let dm = try direction.q.copy()
        try dm.solveRight(rx)
        let b0 = try DoubleMatrix.product(forP.m, point.p)
        try b0.add(-1, ry)
        let b1 = try DoubleMatrix.product(dm, point.p)
        try b1.setProduct(forP.m, direction.p, beta: 1)
        try add(alpha * bInverse, [b0, b1, try .product(dm, direction.p)])
        return c
    }
}
