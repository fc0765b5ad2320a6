// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc
import SutureNumerics

/// The ridge regression of A's codes on B's rows, in the eigenbasis of the covariance of B's rows, in
/// which every ridge is at hand.
///
/// `@unchecked Sendable`: immutable once made, but for `coefficients`, whose rows have one writer each.
final class CodeRegression: @unchecked Sendable {
    private static let latentsAtOnce = 128

    let dB: Int
    let dSAE: Int
    let mean: [Double]
    /// Relative to the mean variance of B's coordinates.
    let ridge: Double
    /// (d_sae, d_b): the predictor of each latent, on rows less their mean.
    let coefficients: Buffer<Float>
    /// Share of each latent's variance that is predicted, by generalised cross-validation.
    let rSquared: [Double]
    /// The same on the rows that were fitted.
    let explained: [Double]
    /// Rows are eigenvectors.
    private let basis: DoubleMatrix
    /// 1 / (eigenvalue + ridge).
    private let inverse: [Double]

    /// - Parameter ridge: nil for the one with the least error by generalised cross-validation, each
    ///   latent's as a share of its variance (Golub, Heath & Wahba 1979). Tokens of a text are alike,
    ///   so it is rather too small than too large.
    /// - Throws: `SutureError.numerical` if B's rows do not vary.
    init(_ sums: CodeSums, ridge given: Double?, check: DetachedCheck) throws {
        (dB, dSAE, mean) = (sums.dB, sums.dSAE, sums.meanRow())
        basis = try sums.covariance()
        let scale = basis.trace / Double(dB)
        guard scale > 0, scale.isFinite else {
            throw SutureError.numerical("the rows of B do not vary (mean variance \(scale)), expected some that do")
        }
        // Eigenvalues that are no more than rounding count as 0.
        let least = Double(dB) * 0x1p-52
        let values = try LAPACK.eigenvalues(vectorsInto: basis).map { $0 / scale }
        let largest = values.last ?? 0
        let kept = values.map { $0 > least * largest ? $0 : 0 }
        try check.report(2, of: 10)

        let grid = given.map { [$0] } ?? (-56...16).map { pow(10, Double($0) / 8) }
        let errors = try Self.errors(sums, basis, kept, scale: scale, grid: grid)
        try check.report(4, of: 10)
        let count = Double(sums.tokens)
        // The intercept takes one.
        let free = grid.map { ridge in
            max(0, 1 - (1 + kept.reduce(0) { $0 + ($1 > 0 ? $1 / ($1 + ridge) : 0) }) / count)
        }
        var best = (index: grid.count - 1, error: Double.infinity)
        for index in grid.indices where free[index] > 0 {
            var error = 0.0
            for latent in 0..<sums.dSAE where errors[latent, index].isFinite {
                error += errors[latent, index] / (free[index] * free[index])
            }
            if error < best.error { best = (index, error) }
        }
        ridge = grid[best.index]
        let leftOver = free[best.index]
        rSquared = (0..<sums.dSAE).map { latent in
            leftOver > 0 ? 1 - errors[latent, best.index] / (leftOver * leftOver) : .nan
        }
        explained = (0..<sums.dSAE).map { 1 - errors[$0, best.index] }
        let chosen = grid[best.index]
        inverse = kept.map { $0 > 0 && $0 + chosen > 0 ? 1 / (($0 + chosen) * scale) : 0 }
        coefficients = try Buffer(count: dSAE * dB, for: "an encoder")
        try forEachBlock { [self] latents, block, turned in
            sums.readCross(latents, into: block)
            solve(block, rows: latents.count, scratch: turned)
            for (index, latent) in latents.enumerated() {
                for j in 0..<dB { coefficients.pointer[latent * dB + j] = Float(block[index * dB + j]) }
            }
        }
        try check.report(6, of: 10)
    }

    /// Goes part of the way that the regression of what codes still lack would go.
    ///
    /// - Parameters:
    ///   - wanted: codes of A on some rows, in pieces of `CodeSums.pieceRows`.
    ///   - reached: those of B, likewise.
    ///   - rows: those of B less their mean.
    func improve(by step: Double, wanted: [SparseCodes], reached: [SparseCodes], _ rows: FloatMatrix) throws {
        let wanted = try FiringsByLatent(wanted, dSAE: dSAE)
        let reached = try FiringsByLatent(reached, dSAE: dSAE)
        let factor = step / Double(rows.rows)
        try forEachBlock { [self] latents, block, turned in
            for (index, latent) in latents.enumerated() {
                let target = block + index * dB
                target.update(repeating: 0, count: dB)
                for (codes, sign) in [(wanted, factor), (reached, -factor)] {
                    for entry in codes.range(latent) {
                        let (piece, row) = codes.token(entry)
                        sk_mixed_axpy(
                            sign * codes.values.pointer[entry],
                            rows.pointer + (piece * CodeSums.pieceRows + row) * dB, target, dB)
                    }
                }
            }
            solve(block, rows: latents.count, scratch: turned)
            for (index, latent) in latents.enumerated() {
                for j in 0..<dB {
                    let place = latent * dB + j
                    coefficients.pointer[place] = Float(Double(coefficients.pointer[place]) + block[index * dB + j])
                }
            }
        }
    }

    /// Calls `body` for blocks of latents in parallel, with two scratches (latents, d_b).
    func forEachBlock(
        _ body:
            @escaping @Sendable (
                _ latents: Range<Int>, _ block: UnsafeMutablePointer<Double>, _ scratch: UnsafeMutablePointer<Double>
            ) throws -> Void
    ) throws {
        let parts = (0..<dSAE).panels(of: Self.latentsAtOnce)
        let width = dB
        try BLAS.singleThreaded {
            try parallelFor(parts.count) { part in
                let block = try Buffer<Double>(count: 2 * Self.latentsAtOnce * width, for: "a regression")
                try body(parts[part], block.pointer, block.pointer + Self.latentsAtOnce * width)
                withExtendedLifetime(block) {}
            }
        }
    }

    /// Rows of covariances with B's rows become the rows of coefficients that they belong to.
    func solve(_ rows: UnsafeMutablePointer<Double>, rows count: Int, scratch: UnsafeMutablePointer<Double>) {
        BLAS.gemm(
            transposeB: true, m: count, n: dB, k: dB, alpha: 1.0, a: rows, lda: dB, b: basis.pointer, ldb: dB,
            beta: 0.0, c: scratch, ldc: dB)
        for row in 0..<count {
            for j in 0..<dB { scratch[row * dB + j] *= inverse[j] }
        }
        BLAS.gemm(
            m: count, n: dB, k: dB, alpha: 1.0, a: scratch, lda: dB, b: basis.pointer, ldb: dB, beta: 0.0, c: rows,
            ldc: dB)
    }

    /// Mean squared error of each latent on the fitted rows with each ridge, as a share of the latent's
    /// variance, (d_sae, ridges); NaN for a latent that does not vary.
    private static func errors(
        _ sums: CodeSums, _ basis: DoubleMatrix, _ values: [Double], scale: Double, grid: [Double]
    ) throws -> DoubleMatrix {
        let (dB, count) = (sums.dB, grid.count)
        // The error is variance - sum of squares (l + 2 r) / (l + r)² over eigendirections.
        let weights = try DoubleMatrix(rows: dB, cols: count)
        for i in 0..<dB where values[i] > 0 {
            for (j, ridge) in grid.enumerated() {
                let sum = values[i] + ridge
                weights[i, j] = (values[i] + 2 * ridge) / (sum * sum * scale)
            }
        }
        let errors = try DoubleMatrix(rows: sums.dSAE, cols: count)
        let parts = (0..<sums.dSAE).panels(of: latentsAtOnce)
        try BLAS.singleThreaded {
            try parallelFor(parts.count) { part in
                let latents = parts[part]
                let memory = try Buffer<Double>(count: 2 * latents.count * dB, for: "a regression")
                let (cross, turned) = (memory.pointer, memory.pointer + latents.count * dB)
                sums.readCross(latents, into: cross)
                BLAS.gemm(
                    transposeB: true, m: latents.count, n: dB, k: dB, alpha: 1.0, a: cross, lda: dB, b: basis.pointer,
                    ldb: dB, beta: 0.0, c: turned, ldc: dB)
                for i in 0..<latents.count * dB { turned[i] *= turned[i] }
                let target = errors.pointer + latents.lowerBound * count
                BLAS.gemm(
                    m: latents.count, n: count, k: dB, alpha: 1.0, a: turned, lda: dB, b: weights.pointer, ldb: count,
                    beta: 0.0, c: target, ldc: count)
                for (index, latent) in latents.enumerated() {
                    let variance = sums.moments(of: latent).variance
                    for j in 0..<count {
                        let explained = target[index * count + j]
                        target[index * count + j] = variance > 0 ? max(0, 1 - explained / variance) : .nan
                    }
                }
                withExtendedLifetime((memory, weights)) {}
            }
        }
        return errors
    }
}
