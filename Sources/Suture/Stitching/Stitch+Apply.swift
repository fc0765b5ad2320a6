// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension Stitch {
    /// Writes `h P + b` of one direction to `output`: (N, d_a) to (N, d_b) for up, the reverse for
    /// down, in float32.
    ///
    /// Where d_a = d_b, `output` may be the memory of `h` itself, float32 with the same stride.
    ///
    /// - Parameter rowStride: elements from one row of the output to the next.
    /// - Throws: `invalidArgument` for another width, or a value that is not finite in float32;
    ///   `cancelled`; then the output may be partly written.
    public func apply(
        _ direction: Direction, to h: MatrixView, into output: UnsafeMutablePointer<Float>, rowStride: Int,
        progress: Progress = .none
    ) throws {
        let (matrix, bias) = map(direction)
        guard h.cols == matrix.rows else {
            let name = direction == .up ? "d_a" : "d_b"
            throw SutureError.invalidArgument("h has \(h.cols) columns, expected \(name) = \(matrix.rows)")
        }
        guard h.rows > 0 else { return }
        // BLAS has 32 bits for it.
        guard rowStride >= matrix.cols, rowStride <= Int(Int32.max) else {
            throw SutureError.invalidArgument(
                "row_stride of the output is \(rowStride), expected \(matrix.cols) to \(Int32.max)")
        }
        try progress.report(0, of: h.rows)
        let (inner, outer) = (matrix.rows, matrix.cols)
        // Blocks of at most about 5 ms; their size depends on the shapes alone, so that the bits do too.
        let blockRows = max(8, min(512, 100_000_000 / max(1, inner * outer)))
        let target = Unchecked(output)
        try BLAS.singleThreaded {
            try parallelFor((h.rows + blockRows - 1) / blockRows, progress: progress.inRows(h.rows, of: blockRows)) {
                block in
                let first = block * blockRows
                let rows = h.rows(first..<min(first + blockRows, h.rows))
                if let bad = rows.firstNonFinite(asFloat32: true) {
                    throw SutureError.invalidArgument(
                        "h[\(first + bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
                }
                let result = target.value + first * rowStride
                withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.rows * inner) { input in
                    guard let input = input.baseAddress else { return }
                    // Read before anything is written, since `output` may be the memory of `h`.
                    rows.read(into: input)
                    for row in 0..<rows.rows { (result + row * rowStride).update(from: bias.pointer, count: outer) }
                    BLAS.gemm(
                        m: rows.rows, n: outer, k: inner, a: input, lda: inner, b: matrix.pointer, ldb: outer, beta: 1,
                        c: result, ldc: rowStride)
                }
            }
        }
    }

    /// The same, as a new matrix.
    public func apply(_ direction: Direction, to h: MatrixView, progress: Progress = .none) throws -> FloatMatrix {
        let cols = map(direction).matrix.cols
        return try FloatMatrix(rows: h.rows, cols: cols) { target in
            try apply(direction, to: h, into: target, rowStride: cols, progress: progress)
        }
    }
}
