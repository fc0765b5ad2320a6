// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// The effective null space of an unembedding: the left singular directions of W_U with the smallest
/// singular values. What a feature writes there hardly moves a logit by itself, but changes the scale
/// of the final norm, and with it the entropy of the prediction (Gurnee et al. 2024).
public struct NullSpace: Sendable {
    /// Orthonormal rows (count, d), smallest singular value first.
    let directions: DoubleMatrix
    /// All singular values of W_U, ascending, (d).
    public let singularValues: [Double]

    public var count: Int { directions.rows }

    /// The directions of the smallest `share` of the singular values, rounded to a whole number, at
    /// least one. A W_U of less than full rank (centred, say) has singular values of zero, which are
    /// among them.
    ///
    /// They are eigenvectors of the d x d matrix W_U W_Uᵀ in float64. Squaring costs half of the digits:
    /// singular values below 1e-8 of the largest cannot be told from each other, which matters only
    /// where the `share` ends among them; float32 weights are not known any better.
    ///
    /// - Parameter unembedding: W_U transposed, (vocabulary, d).
    /// - Throws: `invalidArgument` unless 0 < share <= 1, or for an unembedding that is zero or not
    ///   finite; `numerical`; `outOfMemory`; `cancelled`.
    public init(of unembedding: MatrixView, share: Double, progress: Progress = .none) throws {
        guard share > 0, share <= 1 else {
            throw SutureError.invalidArgument("share is \(share), expected above 0 and at most 1")
        }
        if let bad = unembedding.firstNonFinite(asFloat32: true) {
            throw SutureError.invalidArgument(
                "unembedding[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
        }
        let d = unembedding.cols
        let gram = try DoubleMatrix(rows: d, cols: d)
        let chunk = 1024
        let scratch = try Buffer<Float>(count: d, for: "an unembedding")
        try BLAS.singleThreaded {
            for first in stride(from: 0, to: unembedding.rows, by: chunk) {
                let rows = try DoubleMatrix(rows: min(chunk, unembedding.rows - first), cols: d)
                for row in 0..<rows.rows {
                    unembedding.readRow(first + row, into: rows.pointer + row * d, scratch: scratch.pointer)
                }
                try Self.addSquare(of: rows, to: gram, progress: progress.fixed(first, of: unembedding.rows))
            }
        }
        let values = try runDetached(progress: progress.fixed(unembedding.rows, of: unembedding.rows)) { _ in
            try BLAS.singleThreaded { try LAPACK.eigenvalues(vectorsInto: gram) }
        }
        guard let largest = values.last, largest > 0 else {
            throw SutureError.invalidArgument("unembedding is zero everywhere, expected it to have some direction")
        }
        let count = max(1, min(d, Int((share * Double(d)).rounded())))
        directions = try DoubleMatrix(rows: count, cols: d)
        directions.pointer.update(from: gram.pointer, count: count * d)
        singularValues = values.map { max(0, $0).squareRoot() }
    }

    /// The upper triangle of gram += rowsᵀ rows, in tiles that take a few milliseconds each.
    private static func addSquare(of rows: DoubleMatrix, to gram: DoubleMatrix, progress: Progress) throws {
        let (tile, d) = (256, gram.cols)
        let across = (d + tile - 1) / tile
        try parallelFor(across * across, progress: progress) { task in
            let (row, col) = (task / across * tile, task % across * tile)
            guard row <= col else { return }
            BLAS.gemm(
                transposeA: true, m: min(tile, d - row), n: min(tile, d - col), k: rows.rows, a: rows.pointer + row,
                lda: d, b: rows.pointer + col, ldb: d, beta: 1, c: gram.pointer + row * d + col, ldc: d)
        }
    }

    /// For each row of a decoder (d_sae, d) the length of its part in the null space as a fraction of
    /// its whole length, 0 to 1; NaN for a row of zeros.
    public func fractions(of decoder: MatrixView, progress: Progress = .none) throws -> [Double] {
        let d = directions.cols
        guard decoder.cols == d else {
            throw SutureError.invalidArgument("W_dec has \(decoder.cols) columns, expected \(d) as unembedding")
        }
        if let bad = decoder.firstNonFinite(asFloat32: true) {
            throw SutureError.invalidArgument(
                "W_dec[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
        }
        let block = 256
        let result = try DoubleMatrix(rows: 1, cols: decoder.rows)
        try BLAS.singleThreaded {
            try parallelFor((decoder.rows + block - 1) / block, progress: progress) { [directions, count] task in
                let rows = min(block, decoder.rows - task * block)
                let scratch = try Buffer<Float>(count: d, for: "a decoder")
                let weights = try DoubleMatrix(rows: rows, cols: d)
                for row in 0..<rows {
                    decoder.readRow(task * block + row, into: weights.pointer + row * d, scratch: scratch.pointer)
                }
                let parts = try DoubleMatrix(rows: rows, cols: count)
                BLAS.gemm(
                    transposeB: true, m: rows, n: count, k: d, a: weights.pointer, lda: d, b: directions.pointer,
                    ldb: d, c: parts.pointer, ldc: count)
                for row in 0..<rows {
                    let (whole, part) = (weights.pointer + row * d, parts.pointer + row * count)
                    let square = BLAS.dot(d, whole, whole)
                    let within = BLAS.dot(count, part, part)
                    result.pointer[task * block + row] = square > 0 ? min(1, (within / square).squareRoot()) : .nan
                }
            }
        }
        return result.elements
    }
}
