// SPDX-License-Identifier: Apache-2.0
import COpenBLAS

// Products of whole matrices: cut into fixed tiles, each one single-threaded BLAS call, so that the
// bits do not depend on the number of threads. Call within `BLAS.singleThreaded`.
extension DoubleMatrix {
    private static let tileRows = 256
    private static let tileCols = 512
    private static let solveBlock = 128

    private static func tiles(_ count: Int, _ size: Int) -> Int { (count + size - 1) / size }

    /// self = alpha op(a) op(b) + beta self
    public func setProduct(
        _ a: DoubleMatrix, transposeA: Bool = false, _ b: DoubleMatrix, transposeB: Bool = false, alpha: Double = 1,
        beta: Double = 0
    ) throws {
        let inner = transposeA ? a.rows : a.cols
        assert(rows == (transposeA ? a.cols : a.rows) && cols == (transposeB ? b.rows : b.cols))
        assert(inner == (transposeB ? b.cols : b.rows))
        let across = Self.tiles(cols, Self.tileCols)
        try parallelFor(Self.tiles(rows, Self.tileRows) * across) { task in
            let (row, col) = (task / across * Self.tileRows, task % across * Self.tileCols)
            BLAS.gemm(
                transposeA: transposeA, transposeB: transposeB, m: min(Self.tileRows, self.rows - row),
                n: min(Self.tileCols, self.cols - col), k: inner, alpha: alpha,
                a: a.pointer + (transposeA ? row : row * a.cols), lda: a.cols,
                b: b.pointer + (transposeB ? col * b.cols : col), ldb: b.cols, beta: beta,
                c: self.pointer + row * self.cols + col, ldc: self.cols)
        }
    }

    /// alpha op(a) op(b)
    public static func product(
        _ a: DoubleMatrix, transposeA: Bool = false, _ b: DoubleMatrix, transposeB: Bool = false, alpha: Double = 1
    ) throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: transposeA ? a.cols : a.rows, cols: transposeB ? b.rows : b.cols)
        try result.setProduct(a, transposeA: transposeA, b, transposeB: transposeB, alpha: alpha)
        return result
    }

    /// self = op(R)⁻¹ self, for an upper triangular R.
    public func solveLeft(_ triangle: DoubleMatrix, transpose: Bool = false) throws {
        try parallelFor(Self.tiles(cols, Self.solveBlock)) { task in
            let col = task * Self.solveBlock
            cblas_dtrsm(
                CblasRowMajor, CblasLeft, CblasUpper, transpose ? CblasTrans : CblasNoTrans, CblasNonUnit,
                blasint(self.rows), blasint(min(Self.solveBlock, self.cols - col)), 1, triangle.pointer,
                blasint(triangle.cols), self.pointer + col, blasint(self.cols))
        }
    }

    /// self += a other
    public func add(_ a: Double, _ other: DoubleMatrix) throws {
        assert(other.count == count)
        try Self.perPart(count) { start, length in
            BLAS.axpy(length, a, other.pointer + start, into: self.pointer + start)
        }
    }

    /// self *= a
    public func scale(_ a: Double) throws {
        try Self.perPart(count) { start, length in
            for i in start..<start + length { self.pointer[i] *= a }
        }
    }

    /// Sum of products of corresponding elements.
    public func dot(_ other: DoubleMatrix) throws -> Double {
        assert(other.count == count)
        let parts = try DoubleMatrix(rows: 1, cols: Self.tiles(count, Self.part))
        try Self.perPart(count) { start, length in
            parts.pointer[start / Self.part] = BLAS.dot(length, self.pointer + start, other.pointer + start)
        }
        return parts.elements.reduce(0, +)
    }

    /// Sum of squares.
    public func squaredNorm() throws -> Double { try dot(self) }

    /// Sum of the diagonal.
    public var trace: Double { (0..<min(rows, cols)).reduce(0) { $0 + self[$1, $1] } }

    private static let part = 1 << 18

    private static func perPart(_ count: Int, _ body: @escaping @Sendable (_ start: Int, _ length: Int) -> Void) throws
    {
        try parallelFor(tiles(count, part)) { task in
            body(task * part, min(part, count - task * part))
        }
    }
}

extension DoubleMatrix {
    /// An exact copy of weights.
    public convenience init(_ weights: FloatMatrix) throws {
        try self.init(rows: weights.rows, cols: weights.cols)
        let target = pointer
        for (i, value) in weights.buffer.enumerated() { target[i] = Double(value) }
    }
}

extension FloatMatrix {
    /// Rounded from float64.
    public convenience init(_ matrix: DoubleMatrix) throws {
        try self.init(rows: matrix.rows, cols: matrix.cols) { target in
            for i in 0..<matrix.count { target[i] = Float(matrix.pointer[i]) }
        }
    }
}
