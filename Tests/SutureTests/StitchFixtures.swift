// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// Seed of the random data of a test: SUTURE_TEST_SEED moves all of them.
func seeded(_ seed: UInt64) -> RandomSource { RandomSource(seed: seed &+ testSeedOffset) }

/// Paired rows that share a low-dimensional signal, with uneven scales and means far from zero, as
/// residual streams have.
struct PairedRows {
    var a: Matrix<Float>
    var b: Matrix<Float>

    init(rows: Int, dA: Int, dB: Int, seed: UInt64, signal: Int? = nil, noise: Double = 0.3) {
        var random = seeded(seed)
        let shared = signal ?? max(1, min(dA, dB) * 3 / 4)
        func mixing(_ cols: Int) -> [[Double]] {
            (0..<shared).map { i in (0..<cols).map { _ in random.normal() / Double(1 + i).squareRoot() } }
        }
        let (mixA, mixB) = (mixing(dA), mixing(dB))
        let meanA = (0..<dA).map { _ in 3 * random.normal() }
        let meanB = (0..<dB).map { _ in 3 * random.normal() }
        a = Matrix(zeros: rows, dA)
        b = Matrix(zeros: rows, dB)
        for row in 0..<rows {
            var z = (0..<shared).map { _ in random.normal() }
            // Not Gaussian: what only depends on second moments must not care.
            z[0] = z[0] * z[0]
            for j in 0..<dA {
                var value = meanA[j] + noise * random.normal()
                for i in 0..<shared { value += z[i] * mixA[i][j] }
                a[row, j] = Float(value)
            }
            for j in 0..<dB {
                var value = meanB[j] + noise * random.normal()
                for i in 0..<shared { value += z[i] * mixB[i][j] }
                b[row, j] = Float(value)
            }
        }
    }

    var rows: Int { a.rows }

    /// Rows `range` of both sides.
    subscript(range: Range<Int>) -> PairedRows {
        var part = self
        part.a = Matrix(
            rows: range.count, cols: a.cols,
            elements: Array(a.elements[range.lowerBound * a.cols..<range.upperBound * a.cols]))
        part.b = Matrix(
            rows: range.count, cols: b.cols,
            elements: Array(b.elements[range.lowerBound * b.cols..<range.upperBound * b.cols]))
        return part
    }

    func moments() throws -> Moments {
        var moments = try Moments(dA: a.cols, dB: b.cols)
        try add(to: &moments)
        return moments
    }

    func add(to moments: inout Moments, progress: Progress = .none) throws {
        try a.withView { a in try b.withView { b in try moments.update(a: a, b: b, progress: progress) } }
    }
}

extension Matrix where Element == Float {
    /// Runs `body` with a view of these numbers.
    func withView<Result>(_ body: (MatrixView) throws -> Result) rethrows -> Result {
        try elements.withUnsafeBytes { bytes in
            try body(MatrixView(base: bytes.baseAddress, rows: rows, cols: cols, rowStride: cols, type: .float32))
        }
    }
}

/// Largest difference relative to the largest entry.
func relativeDifference<A: Sequence, B: Sequence>(_ a: A, _ b: B) -> Double
where A.Element == Double, B.Element == Double {
    var (difference, scale) = (0.0, 0.0)
    for (x, y) in zip(a, b) {
        difference = max(difference, abs(x - y))
        scale = max(scale, abs(x), abs(y))
    }
    return scale > 0 ? difference / scale : difference
}

/// The error that `body` throws, if it is one of the library's.
func sutureError(_ body: () throws -> Void) -> SutureError? {
    do {
        try body()
        return nil
    } catch { return error as? SutureError }
}
