// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Sums over pairs of rows: codes f of A, rows h of B.
///
/// `@unchecked Sendable`: one call at a time adds; its tasks write to disjoint parts.
final class CodeSums: @unchecked Sendable {
    let dB: Int
    let dSAE: Int
    private(set) var tokens = 0
    /// Rows are taken relative to this one, so that large means do not cancel.
    private let origin: DoubleMatrix
    /// Sum of h, (1, d_b); of h hᵀ, of which the upper triangle of tiles counts; of f h, (d_sae, d_b).
    private let sum: DoubleMatrix
    private let squares: DoubleMatrix
    private let cross: DoubleMatrix
    /// Of each latent.
    private(set) var firings: [Int]
    private var codeSums: [Double]
    private var codeSquares: [Double]

    /// Rows that are added together.
    static let pieceRows = 4096
    private static let tile = 256
    private static let latentsAtOnce = 64

    init(dB: Int, dSAE: Int) throws {
        (self.dB, self.dSAE) = (dB, dSAE)
        (origin, sum) = (try DoubleMatrix(rows: 1, cols: dB), try DoubleMatrix(rows: 1, cols: dB))
        squares = try DoubleMatrix(rows: dB, cols: dB)
        cross = try DoubleMatrix(rows: dSAE, cols: dB)
        firings = [Int](repeating: 0, count: dSAE)
        codeSums = [Double](repeating: 0, count: dSAE)
        codeSquares = codeSums
    }

    /// Room for one piece of rows in float64.
    func makeRows() throws -> DoubleMatrix { try DoubleMatrix(rows: Self.pieceRows, cols: dB) }

    /// Adds rows `picks` of `view`, at most `pieceRows`, which are finite, and their codes; within
    /// `BLAS.singleThreaded`.
    func add(_ codes: SparseCodes, _ view: MatrixView, picks: [Int], _ room: DoubleMatrix) throws {
        guard !picks.isEmpty else { return }
        let scratch = try Buffer<Float>(count: dB, for: "a row")
        let counts = [codes].firings(dSAE: dSAE)
        let byLatent = try FiringsByLatent([codes], firings: counts)
        let (x, d, n) = (room.pointer, dB, picks.count)
        for (row, pick) in picks.enumerated() {
            let target = x + row * d
            view.readRow(pick, into: target, scratch: scratch.pointer)
            if tokens == 0, row == 0 { origin.pointer.update(from: target, count: d) }
            for j in 0..<d {
                target[j] -= origin.pointer[j]
                sum.pointer[j] += target[j]
            }
        }
        withExtendedLifetime(scratch) {}
        let chunks = (0..<d).panels(of: Self.tile)
        let tiles = chunks.indices.flatMap { i in (i..<chunks.count).map { (i, $0) } }
        let shared = Unchecked(x)
        try parallelFor(tiles.count) { [squares] task in
            let (rows, cols) = (chunks[tiles[task].0], chunks[tiles[task].1])
            BLAS.gemm(
                transposeA: true, m: rows.count, n: cols.count, k: n, alpha: 1.0, a: shared.value + rows.lowerBound,
                lda: d, b: shared.value + cols.lowerBound, ldb: d, beta: 1.0,
                c: squares.pointer + rows.lowerBound * d + cols.lowerBound, ldc: d)
        }
        let parts = (0..<dSAE).panels(of: Self.latentsAtOnce)
        try parallelFor(parts.count) { [cross] part in
            for latent in parts[part] {
                let target = cross.pointer + latent * d
                for entry in byLatent.range(latent) {
                    BLAS.axpy(
                        d, byLatent.values.pointer[entry], shared.value + byLatent.token(entry).row * d, into: target)
                }
            }
        }
        for latent in 0..<dSAE where counts[latent] > 0 {
            firings[latent] += counts[latent]
            for entry in byLatent.range(latent) {
                let value = byLatent.values.pointer[entry]
                codeSums[latent] += value
                codeSquares[latent] += value * value
            }
        }
        tokens += n
    }

    // MARK: Moments

    /// Mean row of B.
    func meanRow() -> [Double] { (0..<dB).map { origin.pointer[$0] + sum.pointer[$0] / Double(tokens) } }

    /// Mean and variance of a latent's activations.
    func moments(of latent: Int) -> (mean: Double, variance: Double) {
        let mean = codeSums[latent] / Double(tokens)
        return (mean, max(0, codeSquares[latent] / Double(tokens) - mean * mean))
    }

    /// Covariance of B's rows.
    func covariance() throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: dB, cols: dB)
        let count = Double(tokens)
        for i in 0..<dB {
            for j in i..<dB {
                let value = squares[i, j] / count - sum.pointer[i] / count * (sum.pointer[j] / count)
                (result[i, j], result[j, i]) = (value, value)
            }
        }
        return result
    }

    /// Writes the covariances of latents with B's rows, (latents, d_b).
    func readCross(_ latents: Range<Int>, into target: UnsafeMutablePointer<Double>) {
        let count = Double(tokens)
        for (index, latent) in latents.enumerated() {
            let (source, row) = (cross.pointer + latent * dB, target + index * dB)
            let mean = codeSums[latent] / count
            for j in 0..<dB { row[j] = source[j] / count - mean * (sum.pointer[j] / count) }
        }
    }
}
