// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// The stitching objective in white coordinates. With x the side of fewer dimensions (a) and y the
// other (b), write x = u Tx and y = v Ty with u and v white (of as many coordinates as the ranks ra
// and rb), u = x Wx and v = y Wy. The unknowns are
//     P' (ra, b)    and    Q' (rb, a),    where P = Wx P' maps x to y and Q = Wy Q' maps y to x.
// With Kx = Wxᵀ Sxy and Ky = Wyᵀ Syx the objective is
//     L = (|P' - Kx|² + |Ty|² - |Kx|²) / b + (|Q' - Ky|² + |Tx|² - |Ky|²) / a
//       + alpha |P' Q - Tx|² / a + alpha |M P' - Ty|² / b,     M = Q' Wx.
// For one unknown fixed, L is quadratic in the other, and its minimiser solves a Sylvester equation.
// Everything below has eigenproblems of size a at most.

/// What stays the same during a fit.
struct StitchProblem: Sendable {
    let alpha: Double
    let x: StitchWhitening.Side
    let y: StitchWhitening.Side
    /// (ra, b) and (rb, a)
    let kx: DoubleMatrix
    let ky: DoubleMatrix
    /// |Ty|² - |Kx|² and |Tx|² - |Ky|²: what least squares leaves unexplained.
    let floorUp: Double
    let floorDown: Double

    /// Weights of squared errors in coordinates of x and of y: 1 / a and 1 / b above.
    let aInverse: Double
    let bInverse: Double

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
        aInverse = weights.x
        bInverse = weights.y
    }
}

/// A pair of matrices for the two unknowns: a point, a gradient or a direction.
struct StitchPair: Sendable {
    /// (ra, b)
    var p: DoubleMatrix
    /// (rb, a)
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
    /// M = Q' Wx (rb, ra) and Mᵀ M
    let m: DoubleMatrix
    let gram: DoubleMatrix
    /// Kx / b + alpha Tx Qᵀ / a + alpha Mᵀ Ty / b (ra, b)
    let right: DoubleMatrix
}

/// What P' contributes to the equation of Q'.
struct StitchEquationQ: Sendable {
    /// P Pᵀ (a, a)
    let outputGram: DoubleMatrix
    /// N = P' Wy (ra, rb) and N Nᵀ
    let n: DoubleMatrix
    let gram: DoubleMatrix
    /// Ky / a + alpha Ty Pᵀ / b + alpha Nᵀ Tx / a (rb, a)
    let right: DoubleMatrix
}

extension StitchProblem {
    func equationP(_ point: DoubleMatrix) throws -> StitchEquationP {
        let ((q, right), (m, gram, rest)) = try concurrently {
            let q = try DoubleMatrix.product(y.whiten, point)
            let right = try kx.copy()
            try right.setProduct(x.colour, q, transposeB: true, alpha: alpha * aInverse, beta: bInverse)
            return (q, right)
        } _: {
            let m = try DoubleMatrix.product(point, x.whiten)
            let rest = try DoubleMatrix.product(m, transposeA: true, y.colour)
            return (m, try DoubleMatrix.product(m, transposeA: true, m), rest)
        }
        try right.add(alpha * bInverse, rest)
        return StitchEquationP(q: q, m: m, gram: gram, right: right)
    }

    func equationQ(_ point: DoubleMatrix) throws -> StitchEquationQ {
        let ((outputGram, right), (n, gram, rest)) = try concurrently {
            let p = try DoubleMatrix.product(x.whiten, point)
            let right = try ky.copy()
            try right.setProduct(y.colour, p, transposeB: true, alpha: alpha * bInverse, beta: aInverse)
            return (try DoubleMatrix.product(p, p, transposeB: true), right)
        } _: {
            let n = try DoubleMatrix.product(point, y.whiten)
            let rest = try DoubleMatrix.product(n, transposeA: true, x.colour)
            return (n, try DoubleMatrix.product(n, n, transposeB: true), rest)
        }
        try right.add(alpha * aInverse, rest)
        return StitchEquationQ(outputGram: outputGram, n: n, gram: gram, right: right)
    }

    /// Gradient of L with respect to P' and Q'.
    func gradient(_ point: StitchPair, _ forP: StitchEquationP, _ forQ: StitchEquationQ) throws -> StitchPair {
        let (p, q) = try concurrently {
            let p = try forP.right.copy()
            let roundTrip = try DoubleMatrix.product(point.p, forP.q)
            try p.setProduct(roundTrip, forP.q, transposeB: true, alpha: 2 * alpha * aInverse, beta: -2)
            try p.setProduct(forP.gram, point.p, alpha: 2 * alpha * bInverse, beta: 1)
            try p.add(2 * bInverse, point.p)
            return p
        } _: {
            let q = try forQ.right.copy()
            let roundTrip = try DoubleMatrix.product(forQ.n, point.q)
            try q.setProduct(forQ.n, transposeA: true, roundTrip, alpha: 2 * alpha * aInverse, beta: -2)
            try q.setProduct(point.q, forQ.outputGram, alpha: 2 * alpha * bInverse, beta: 1)
            try q.add(2 * aInverse, point.q)
            return q
        }
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
        for i in 0..<turned.rows {
            let c = bInverse + alpha * bInverse * theta[i]
            for j in 0..<inner.cols { inner[i, j] *= -alpha * aInverse / (c * (c + alpha * aInverse * lambda[j])) }
            let row = turned.pointer + i * turned.cols
            for j in 0..<turned.cols { row[j] /= c }
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
        for i in 0..<inner.rows {
            for j in 0..<inner.cols {
                inner[i, j] *= -alpha * aInverse / (scales[j] * (scales[j] + alpha * aInverse * phi[i]))
            }
        }
        for i in 0..<turned.rows {
            let row = turned.pointer + i * turned.cols
            for j in 0..<turned.cols { row[j] /= scales[j] }
        }
        try turned.setProduct(w, transposeA: true, inner, beta: 1)
        return try .product(turned, v)
    }

    /// Eigenvalues and eigenvectors (as rows) of two positive semi-definite matrices.
    private func eigen(
        _ first: DoubleMatrix, _ second: DoubleMatrix
    ) throws -> ([Double], DoubleMatrix, [Double], DoubleMatrix) {
        @Sendable func one(_ matrix: DoubleMatrix) throws -> ([Double], DoubleMatrix) {
            let vectors = try matrix.copy()
            return (try LAPACK.eigenvalues(vectorsInto: vectors).map { max(0, $0) }, vectors)
        }
        let (a, b) = try concurrently {
            try one(first)
        } _: {
            try one(second)
        }
        return (a.0, a.1, b.0, b.1)
    }

    /// Coefficients c[0] … c[4] of t ↦ L(point + t direction), a polynomial of degree 4.
    func polynomial(_ point: StitchPair, _ direction: StitchPair, _ forP: StitchEquationP) throws -> [Double] {
        // Sums of squares of residuals r0 + t r1 + t² r2.
        @Sendable func squares(_ weight: Double, _ residuals: [DoubleMatrix]) throws -> [Double] {
            var c = [Double](repeating: 0, count: 5)
            for (i, x) in residuals.enumerated() {
                for (j, y) in residuals.enumerated() where j >= i {
                    c[i + j] += (i == j ? 1 : 2) * weight * (try x.dot(y))
                }
            }
            return c
        }
        let (small, large) = try concurrently {
            let up = try point.p.copy()
            try up.add(-1, kx)
            let down = try point.q.copy()
            try down.add(-1, ky)
            let dq = try DoubleMatrix.product(y.whiten, direction.q)
            let r0 = try DoubleMatrix.product(point.p, forP.q)
            try r0.add(-1, x.colour)
            let r1 = try DoubleMatrix.product(direction.p, forP.q)
            try r1.setProduct(point.p, dq, beta: 1)
            return [
                try squares(bInverse, [up, direction.p]), try squares(aInverse, [down, direction.q]),
                try squares(alpha * aInverse, [r0, r1, .product(direction.p, dq)]),
            ]
        } _: {
            let dm = try DoubleMatrix.product(direction.q, x.whiten)
            let r0 = try DoubleMatrix.product(forP.m, point.p)
            try r0.add(-1, y.colour)
            let r1 = try DoubleMatrix.product(dm, point.p)
            try r1.setProduct(forP.m, direction.p, beta: 1)
            return try squares(alpha * bInverse, [r0, r1, .product(dm, direction.p)])
        }
        var result = large
        for part in small { for i in 0..<5 { result[i] += part[i] } }
        result[0] += bInverse * floorUp + aInverse * floorDown
        return result
    }
}
