// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// The Hessian of the objective in one unknown for the other fixed, inverted: a Sylvester operator
///     H(z) = w z + alpha w gram z + alpha v z (c cᵀ),    or its mirror image,
/// which is diagonal where `gram` (left, of size ra) and c cᵀ (right, of rank ra) are. Directions of the
/// lower rank that change nothing to speak of are left out, so that this is a preconditioner.
struct StitchBlock<Scalar: SolverScalar>: Sendable {
    /// Rows are eigenvectors of the whole-rank operator (ra, ra).
    private let turn: SolverMatrix<Scalar>
    /// What the turned rows (or columns) are divided by.
    private let scales: SolverMatrix<Scalar>
    /// Directions of the other operator, scaled by the root of its eigenvalues: (rb, r) or (r, rb).
    private let core: SolverMatrix<Scalar>
    /// (ra, r) or (r, ra)
    private let correction: SolverMatrix<Scalar>
    private let isLeft: Bool

    /// Share of the diagonal below which a direction is left out.
    private static var negligible: Double { 0.02 }

    /// Eigenvalues, at least 0, and eigenvectors as rows, of two Gram matrices, which are overwritten.
    private static func eigen(
        _ first: SolverMatrix<Scalar>, _ second: SolverMatrix<Scalar>
    ) throws -> ([Double], [Double]) {
        try concurrently {
            try Scalar.eigenvalues(vectorsInto: first).map { max(0, Double($0)) }
        } _: {
            try Scalar.eigenvalues(vectorsInto: second).map { max(0, Double($0)) }
        }
    }

    /// For z (ra, rb): H(z) = own z + whole (left gram) z + low z c cᵀ.
    ///
    /// - Parameters:
    ///   - gram: (ra, ra), overwritten.
    ///   - factor: c (rb, ra).
    ///   - factorGram: cᵀ c (ra, ra), overwritten.
    init(
        own: Double, whole: Double, left gram: SolverMatrix<Scalar>, low: Double, right factor: SolverMatrix<Scalar>,
        factorGram: SolverMatrix<Scalar>
    ) throws {
        let (theta, lambda) = try Self.eigen(gram, factorGram)
        let diagonal = theta.map { own + whole * $0 }
        let least = diagonal.min() ?? own
        let first = lambda.firstIndex { low * $0 > Self.negligible * least } ?? lambda.count
        isLeft = true
        turn = gram
        scales = try SolverMatrix(row: diagonal.map { 1 / $0 })
        core = try SolverMatrix(factor.rows, lambda.count - first)
        try core.setProduct(factor, SolverMatrix(factorGram, from: first), transposeB: true)
        correction = try SolverMatrix(diagonal.count, lambda.count - first)
        for (i, c) in diagonal.enumerated() {
            for (j, value) in lambda[first...].enumerated() {
                correction.pointer[i * correction.cols + j] = Scalar(-low / (c * (c + low * value)))
            }
        }
    }

    /// For z (rb, ra): H(z) = own z + whole z (right gram) + low cᵀ c z.
    ///
    /// - Parameters:
    ///   - gram: (ra, ra), overwritten.
    ///   - factor: c (ra, rb).
    ///   - factorGram: c cᵀ (ra, ra), overwritten.
    init(
        own: Double, whole: Double, right gram: SolverMatrix<Scalar>, low: Double, left factor: SolverMatrix<Scalar>,
        factorGram: SolverMatrix<Scalar>
    ) throws {
        let (mu, phi) = try Self.eigen(gram, factorGram)
        let diagonal = mu.map { own + whole * $0 }
        let least = diagonal.min() ?? own
        let first = phi.firstIndex { low * $0 > Self.negligible * least } ?? phi.count
        isLeft = false
        turn = gram
        scales = try SolverMatrix(row: diagonal.map { 1 / $0 })
        core = try SolverMatrix(phi.count - first, factor.cols)
        try core.setProduct(SolverMatrix(factorGram, from: first), factor)
        correction = try SolverMatrix(phi.count - first, diagonal.count)
        for (i, value) in phi[first...].enumerated() {
            for (j, c) in diagonal.enumerated() {
                correction.pointer[i * correction.cols + j] = Scalar(-low / (c * (c + low * value)))
            }
        }
    }

    /// result = factor H⁻¹(z). `scratch` has the shape of both; result may be z.
    func solve(
        _ z: SolverMatrix<Scalar>, factor: Scalar, into result: SolverMatrix<Scalar>, scratch: SolverMatrix<Scalar>
    ) throws {
        let inner = try SolverMatrix<Scalar>(correction.rows, correction.cols)
        if isLeft {
            try scratch.setProduct(turn, z)
            try inner.setProduct(scratch, core)
        } else {
            try scratch.setProduct(z, turn, transposeB: true)
            try inner.setProduct(core, scratch)
        }
        let (correction, width) = (correction, inner.cols)
        try inner.perRow { row in
            let (values, factors) = (inner.pointer + row * width, correction.pointer + row * width)
            for j in 0..<width { values[j] *= factors[j] }
        }
        if isLeft {
            try scratch.setScaled(scratch, rows: scales)
            if inner.cols > 0 { try scratch.setProduct(inner, core, transposeB: true, beta: 1) }
            try result.setProduct(turn, transposeA: true, scratch, alpha: factor)
        } else {
            try scratch.setScaled(scratch, cols: scales)
            if inner.rows > 0 { try scratch.setProduct(core, transposeA: true, inner, beta: 1) }
            try result.setProduct(scratch, turn, alpha: factor)
        }
    }
}
