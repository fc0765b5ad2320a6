// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics

/// The two precisions that a stitch is computed in: float32 far from the end, float64 near it.
protocol SolverScalar: BinaryFloatingPoint, Sendable {
    static func gemm(
        _ transposeA: Bool, _ transposeB: Bool, m: Int, n: Int, k: Int, alpha: Self, a: UnsafePointer<Self>, lda: Int,
        b: UnsafePointer<Self>, ldb: Int, beta: Self, c: UnsafeMutablePointer<Self>, ldc: Int)
    /// Sum of products, in float64 and in a fixed order.
    static func dot(_ count: Int, _ x: UnsafePointer<Self>, _ y: UnsafePointer<Self>) -> Double
    /// Eigenvalues of a symmetric matrix, ascending; its rows become the eigenvectors.
    static func eigenvalues(vectorsInto matrix: SolverMatrix<Self>) throws -> [Self]
}

extension Float: SolverScalar {
    static func gemm(
        _ transposeA: Bool, _ transposeB: Bool, m: Int, n: Int, k: Int, alpha: Float, a: UnsafePointer<Float>, lda: Int,
        b: UnsafePointer<Float>, ldb: Int, beta: Float, c: UnsafeMutablePointer<Float>, ldc: Int
    ) {
        BLAS.gemm(
            transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, b: b,
            ldb: ldb, beta: beta, c: c, ldc: ldc)
    }

    static func dot(_ count: Int, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>) -> Double {
        let (left, right) = (UnsafeRawPointer(x), UnsafeRawPointer(y))
        var sums = SIMD8<Double>()
        for i in 0..<count / 8 {
            let a = left.loadUnaligned(fromByteOffset: 32 * i, as: SIMD8<Float>.self)
            let b = right.loadUnaligned(fromByteOffset: 32 * i, as: SIMD8<Float>.self)
            sums += SIMD8<Double>(a) * SIMD8<Double>(b)
        }
        var rest = 0.0
        for i in count / 8 * 8..<count { rest += Double(x[i]) * Double(y[i]) }
        return sums.sum() + rest
    }

    static func eigenvalues(vectorsInto matrix: SolverMatrix<Float>) throws -> [Float] {
        try LAPACK.eigenvalues(vectorsInto: matrix.pointer, n: matrix.rows)
    }
}

extension Double: SolverScalar {
    static func gemm(
        _ transposeA: Bool, _ transposeB: Bool, m: Int, n: Int, k: Int, alpha: Double, a: UnsafePointer<Double>,
        lda: Int, b: UnsafePointer<Double>, ldb: Int, beta: Double, c: UnsafeMutablePointer<Double>, ldc: Int
    ) {
        BLAS.gemm(
            transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, b: b,
            ldb: ldb, beta: beta, c: c, ldc: ldc)
    }

    static func dot(_ count: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>) -> Double {
        BLAS.dot(count, x, y)
    }

    static func eigenvalues(vectorsInto matrix: SolverMatrix<Double>) throws -> [Double] {
        let vectors = try matrix.doubles()
        let values = try LAPACK.eigenvalues(vectorsInto: vectors)
        matrix.pointer.update(from: vectors.pointer, count: matrix.count)
        return values
    }
}

/// Working memory of the solver in either precision, row-major. Products are cut into tiles that depend
/// on the shapes alone, each one single-threaded BLAS call: the bits are the same for any number of
/// threads. Call within `BLAS.singleThreaded`.
///
/// `@unchecked Sendable`: as `DoubleMatrix`.
final class SolverMatrix<Scalar: SolverScalar>: @unchecked Sendable {
    let rows: Int
    let cols: Int
    let pointer: UnsafeMutablePointer<Scalar>
    var count: Int { rows * cols }

    /// What keeps the memory alive.
    private let memory: DoubleMatrix

    /// Zero-filled.
    init(_ rows: Int, _ cols: Int) throws {
        let bytes = rows * cols * MemoryLayout<Scalar>.stride
        memory = try DoubleMatrix(rows: 1, cols: (bytes + 7) / 8)
        self.rows = rows
        self.cols = cols
        pointer = UnsafeMutableRawPointer(memory.pointer).bindMemory(to: Scalar.self, capacity: max(1, rows * cols))
    }

    /// Rows from `first` on, in the same memory.
    init(_ whole: SolverMatrix, from first: Int) {
        memory = whole.memory
        rows = whole.rows - first
        cols = whole.cols
        pointer = whole.pointer + first * whole.cols
    }

    convenience init(_ matrix: DoubleMatrix) throws {
        try self.init(matrix.rows, matrix.cols)
        let (target, source) = (pointer, matrix.pointer)
        for i in 0..<count { target[i] = Scalar(source[i]) }
    }

    convenience init(row: [Double]) throws {
        try self.init(1, row.count)
        for (i, value) in row.enumerated() { pointer[i] = Scalar(value) }
    }

    func doubles() throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: rows, cols: cols)
        let (target, source) = (result.pointer, pointer)
        for i in 0..<count { target[i] = Double(source[i]) }
        return result
    }

    // MARK: Rows

    /// Elements that are worth a task.
    private static var taskElements: Int { 1 << 16 }

    /// Runs `body` for each row. What it writes must belong to the row.
    func perRow(_ body: @escaping @Sendable (_ row: Int) -> Void) throws {
        let rowsPerTask = max(1, Self.taskElements / max(1, cols))
        let rows = self.rows
        try parallelFor((rows + rowsPerTask - 1) / rowsPerTask) { task in
            for row in task * rowsPerTask..<min(rows, (task + 1) * rowsPerTask) { body(row) }
        }
    }

    /// Sum over rows of what `body` returns, added in order.
    func sum(_ body: @escaping @Sendable (_ row: Int) -> Double) throws -> Double {
        let parts = try DoubleMatrix(rows: 1, cols: rows)
        try perRow { parts.pointer[$0] = body($0) }
        return parts.elements.reduce(0, +)
    }

    func dot(_ other: SolverMatrix) throws -> Double {
        try sum { row in
            let at = row * self.cols
            return Scalar.dot(self.cols, self.pointer + at, other.pointer + at)
        }
    }

    /// self = diag(rowScales) source diag(colScales)
    func setScaled(_ source: SolverMatrix, rows rowScales: SolverMatrix? = nil, cols colScales: SolverMatrix? = nil)
        throws
    {
        try perRow { [cols] row in
            let (x, y) = (source.pointer + row * cols, self.pointer + row * cols)
            let factor = rowScales.map { $0.pointer[row] } ?? 1
            if let scales = colScales?.pointer {
                for j in 0..<cols { y[j] = factor * x[j] * scales[j] }
            } else {
                for j in 0..<cols { y[j] = factor * x[j] }
            }
        }
    }

    /// self += a other
    func add(_ a: Double, _ other: SolverMatrix) throws {
        let a = Scalar(a)
        try perRow { [cols] row in
            let (x, y) = (other.pointer + row * cols, self.pointer + row * cols)
            for j in 0..<cols { y[j] += a * x[j] }
        }
    }

    /// self += t first + t² second
    func advance(_ t: Double, _ first: SolverMatrix, _ second: SolverMatrix) throws {
        let t = Scalar(t)
        let square = t * t
        try perRow { [cols] row in
            let (x, y, z) = (first.pointer + row * cols, second.pointer + row * cols, self.pointer + row * cols)
            for j in 0..<cols { z[j] += t * x[j] + square * y[j] }
        }
    }

    /// self = factor sourceᵀ
    func setTransposed(_ source: SolverMatrix, factor: Scalar = 1) throws {
        let (height, width) = (rows, cols)
        // Blocks of 16 rows of the result keep both sides in cache.
        let blocks = (height + 15) / 16
        let perTask = max(1, Self.taskElements / (16 * max(1, width)))
        try parallelFor((blocks + perTask - 1) / perTask) { task in
            let (x, y) = (source.pointer, self.pointer)
            for block in task * perTask..<min(blocks, (task + 1) * perTask) {
                let (first, last) = (16 * block, min(height, 16 * block + 16))
                for j in 0..<width {
                    let from = x + j * height
                    for i in first..<last { y[i * width + j] = factor * from[i] }
                }
            }
        }
    }

    /// self += selfᵀ
    func addTransposed() throws {
        let n = rows
        let blocks = (n + 31) / 32
        try parallelFor(blocks) { top in
            let x = self.pointer
            for left in top..<blocks {
                for i in 32 * top..<min(n, 32 * top + 32) {
                    for j in max(i, 32 * left)..<max(i, min(n, 32 * left + 32)) {
                        let value = x[i * n + j] + x[j * n + i]
                        (x[i * n + j], x[j * n + i]) = (value, value)
                    }
                }
            }
        }
    }

    // MARK: Products

    /// Length of equal parts of `count` that are about as long as fits the cache, and give eight threads
    /// something to do.
    private static func part(_ count: Int, _ range: ClosedRange<Int>, share: Int, even: Bool) -> Int {
        let size = min(max(count / share, range.lowerBound), range.upperBound)
        var parts = (count + size - 1) / size
        if even, count > size { parts += parts % 2 }
        return ((count + parts - 1) / parts + 15) / 16 * 16
    }

    /// self = alpha op(a) op(b) + beta self
    ///
    /// - Parameter symmetric: the result is known to be; half of it is computed and copied.
    func setProduct(
        _ a: SolverMatrix, transposeA: Bool = false, _ b: SolverMatrix, transposeB: Bool = false, alpha: Scalar = 1,
        beta: Scalar = 0, symmetric: Bool = false
    ) throws {
        let inner = transposeA ? a.rows : a.cols
        assert(rows == (transposeA ? a.cols : a.rows) && cols == (transposeB ? b.rows : b.cols))
        assert(inner == (transposeB ? b.cols : b.rows))
        guard count > 0 else { return }
        let height = Self.part(rows, 192...384, share: 6, even: true)
        let width = symmetric ? height : Self.part(cols, 320...768, share: 4, even: false)
        let across = (cols + width - 1) / width
        let (rows, cols) = (rows, cols)
        try parallelFor((rows + height - 1) / height * across) { task in
            let target = self.pointer
            let (row, col) = (task / across * height, task % across * width)
            guard !symmetric || col >= row else { return }
            let (m, n) = (min(height, rows - row), min(width, cols - col))
            Scalar.gemm(
                transposeA, transposeB, m: m, n: n, k: inner, alpha: alpha,
                a: a.pointer + (transposeA ? row : row * a.cols), lda: a.cols,
                b: b.pointer + (transposeB ? col * b.cols : col), ldb: b.cols, beta: beta,
                c: target + row * cols + col, ldc: cols)
            guard symmetric else { return }
            for i in row..<row + m {
                for j in max(i + 1, col)..<max(i + 1, col + n) { target[j * cols + i] = target[i * cols + j] }
            }
        }
    }
}
