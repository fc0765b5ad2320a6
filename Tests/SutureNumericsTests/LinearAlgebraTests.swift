// SPDX-License-Identifier: Apache-2.0
import COpenBLAS
import CSutureKernels
import Glibc
import SutureNumerics
import SutureTestSupport
import Synchronization
import Testing

private func random(_ rows: Int, _ cols: Int, seed: UInt64) throws -> DoubleMatrix {
    var source = RandomSource(seed: seed &+ testSeedOffset)
    let result = try DoubleMatrix(rows: rows, cols: cols)
    for i in 0..<result.count { result.pointer[i] = source.normal() }
    return result
}

private func naive(_ a: DoubleMatrix, _ ta: Bool, _ b: DoubleMatrix, _ tb: Bool) throws -> DoubleMatrix {
    let (rows, inner, cols) = (ta ? a.cols : a.rows, ta ? a.rows : a.cols, tb ? b.rows : b.cols)
    let result = try DoubleMatrix(rows: rows, cols: cols)
    for i in 0..<rows {
        for j in 0..<cols {
            var sum = 0.0
            for k in 0..<inner { sum += (ta ? a[k, i] : a[i, k]) * (tb ? b[j, k] : b[k, j]) }
            result[i, j] = sum
        }
    }
    return result
}

private func largestDifference(_ a: DoubleMatrix, _ b: DoubleMatrix) -> Double {
    guard a.rows == b.rows, a.cols == b.cols else { return .infinity }
    return zip(a.elements, b.elements).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

@Suite struct ProductTests {
    // 300 rows and 600 columns are more than one tile each way.
    @Test(
        arguments: [(3, 4, 5), (300, 7, 600), (1, 1, 1)], [(false, false), (true, false), (false, true), (true, true)])
    func `products of any shape, transposed or not`(shape: (Int, Int, Int), transpose: (Bool, Bool)) throws {
        let (m, k, n) = shape
        let a = transpose.0 ? try random(k, m, seed: 1) : try random(m, k, seed: 1)
        let b = transpose.1 ? try random(n, k, seed: 2) : try random(k, n, seed: 2)
        let expected = try naive(a, transpose.0, b, transpose.1)
        try BLAS.singleThreaded {
            let found = try DoubleMatrix.product(a, transposeA: transpose.0, b, transposeB: transpose.1)
            #expect(largestDifference(found, expected) < 1e-13)
            let sum = try random(m, n, seed: 3)
            let before = try sum.copy()
            try sum.setProduct(a, transposeA: transpose.0, b, transposeB: transpose.1, alpha: -2, beta: 3)
            for i in 0..<sum.count {
                let value = 3 * before.pointer[i] - 2 * expected.pointer[i]
                #expect(abs(sum.pointer[i] - value) < 1e-12)
            }
        }
    }

    @Test func `triangular solves undo products`() throws {
        let size = 150
        let triangle = try random(size, size, seed: 4)
        for i in 0..<size {
            for j in 0..<i { triangle[i, j] = 0 }
            triangle[i, i] = 10 + abs(triangle[i, i])
        }
        let x = try random(size, 140, seed: 5)
        for transpose in [false, true] {
            let right = try naive(triangle, transpose, x, false)
            try BLAS.singleThreaded { try right.solveLeft(triangle, transpose: transpose) }
            #expect(largestDifference(right, x) < 1e-12)
        }
    }

    @Test func `sums, scales, norms, transposes, traces`() throws {
        // More than one part of 2^18.
        let (a, b) = (try random(600, 500, seed: 6), try random(600, 500, seed: 7))
        let (x, y) = (a.elements, b.elements)
        try BLAS.singleThreaded {
            let sum = try a.copy()
            try sum.add(0.5, b)
            try sum.scale(2)
            #expect(zip(sum.elements, zip(x, y)).allSatisfy { abs($0 - (2 * $1.0 + $1.1)) < 1e-14 * 16 })
            let expected = zip(x, y).reduce(0) { $0 + $1.0 * $1.1 }
            #expect(abs(try a.dot(b) - expected) < 1e-9)
            #expect(abs(try a.squaredNorm() - x.reduce(0) { $0 + $1 * $1 }) < 1e-7)
            let back = try a.transposed()
            #expect(back.rows == 500 && back[123, 456] == a[456, 123])
            #expect(try back.transposed().elements == x)
            #expect(abs(a.trace - (0..<500).reduce(0) { $0 + a[$1, $1] }) == 0)
            #expect(a.elements == x)
        }
    }

    @Test func `any number of threads gives the same bits`() throws {
        let (a, b) = (try random(700, 90, seed: 8), try random(90, 1100, seed: 9))
        let results = try withThreads([1, 2, 8]) {
            try BLAS.singleThreaded {
                let product = try DoubleMatrix.product(a, b)
                return product.elements + [try product.squaredNorm()]
            }
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }

    @Test func `memory that cannot be had is an error`() {
        for (rows, cols) in [(Int.max, 2), (1 << 40, 1 << 30), (-1, 3), (3, -1)] {
            #expect(throws: SutureError.self) { _ = try DoubleMatrix(rows: rows, cols: cols) }
        }
    }
}

@Suite struct LAPACKTests {
    /// Second differences on n points: eigenvalues 2 - 2 cos(k pi / (n + 1)).
    private func secondDifferences(_ n: Int) throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: n, cols: n)
        for i in 0..<n {
            result[i, i] = 2
            if i > 0 { (result[i, i - 1], result[i - 1, i]) = (-1, -1) }
        }
        return result
    }

    @Test(arguments: [1, 2, 30, 130]) func `eigenvalues in closed form, eigenvectors that fit`(n: Int) throws {
        let matrix = try secondDifferences(n)
        let vectors = try matrix.copy()
        // Only the upper triangle counts.
        for i in 0..<n { for j in 0..<i { vectors[i, j] = .nan } }
        let values = try BLAS.singleThreaded { try LAPACK.eigenvalues(vectorsInto: vectors) }
        for k in 0..<n {
            #expect(abs(values[k] - (2 - 2 * cos(Double(k + 1) * .pi / Double(n + 1)))) < 1e-13)
            for i in 0..<n {
                let image = (0..<n).reduce(0) { $0 + matrix[i, $1] * vectors[k, $1] }
                #expect(abs(image - values[k] * vectors[k, i]) < 1e-13)
            }
        }
        let identity = try naive(vectors, false, vectors, true)
        #expect(largestDifference(identity, try .identity(n)) < 1e-13)
    }

    @Test func `Cholesky factors, and refuses what has none`() throws {
        let matrix = try secondDifferences(40)
        let factor = try matrix.copy()
        #expect(BLAS.singleThreaded { LAPACK.cholesky(factor) })
        #expect(largestDifference(try naive(factor, true, factor, false), matrix) < 1e-14)
        for i in 0..<40 {
            #expect(factor[i, i] > 0)
            for j in 0..<i { #expect(factor[i, j] == 0) }
        }
        let indefinite = try matrix.copy()
        indefinite[39, 39] = -1
        #expect(BLAS.singleThreaded { !LAPACK.cholesky(indefinite) })
    }

    @Test(arguments: [(20, 20), (20, 7), (1, 1), (60, 59)]) func `the rank of a product`(size: (Int, Int)) throws {
        let (n, rank) = size
        let factor = try random(rank, n, seed: 10)
        let matrix = try naive(factor, true, factor, false)
        #expect(try BLAS.singleThreaded { try LAPACK.rank(destroying: matrix, tolerance: 1e-9) } == rank)
    }

    @Test(arguments: [(5, 5), (9, 4), (4, 9)]) func `singular values of a product of known ones`(shape: (Int, Int))
        throws
    {
        // Rows and columns of orthogonal matrices (eigenvectors), scaled by 1, 1/2, 1/3 …
        let (left, right) = (try secondDifferences(shape.0), try secondDifferences(shape.1))
        let count = min(shape.0, shape.1)
        try BLAS.singleThreaded {
            _ = try LAPACK.eigenvalues(vectorsInto: left)
            _ = try LAPACK.eigenvalues(vectorsInto: right)
            let matrix = try DoubleMatrix(rows: shape.0, cols: shape.1)
            for k in 0..<count {
                for i in 0..<shape.0 {
                    for j in 0..<shape.1 { matrix[i, j] += left[k, i] * right[k, j] / Double(k + 1) }
                }
            }
            let values = try LAPACK.singularValues(destroying: matrix)
            #expect(values.count == count)
            for k in 0..<count { #expect(abs(values[k] - 1 / Double(k + 1)) < 1e-14) }
        }
    }
}

@Suite(.serialized) struct BLASTests {
    @Test func `the core type is not the weak one where better kernels run`() {
        let weak = ["Prescott", "Core2", "Nehalem", "Generic"]
        if sk_best_path() != SK_PORTABLE, getenv("OPENBLAS_CORETYPE") == nil { #expect(!weak.contains(BLAS.core)) }
        #expect(!BLAS.detectedCore.isEmpty)
    }

    @Test func `products within agree with loops, and the triangle of syrk with gemm`() throws {
        let a = try random(70, 33, seed: 11)
        let c = try DoubleMatrix(rows: 33, cols: 33)
        BLAS.singleThreaded {
            BLAS.syrk(transpose: true, n: 33, k: 70, a: a.pointer, lda: 33, beta: 0, c: c.pointer, ldc: 33)
        }
        let expected = try naive(a, true, a, false)
        for i in 0..<33 { for j in i..<33 { #expect(abs(c[i, j] - expected[i, j]) < 1e-12) } }
        let (x, y) = (try random(1, 33, seed: 12), try DoubleMatrix(rows: 1, cols: 70))
        BLAS.singleThreaded { BLAS.gemv(m: 70, n: 33, alpha: 2, a: a.pointer, lda: 33, x: x.pointer, y: y.pointer) }
        for i in 0..<70 {
            let sum = (0..<33).reduce(0) { $0 + a[i, $1] * x[0, $1] }
            #expect(abs(y[0, i] - 2 * sum) < 1e-13)
        }
        let before = try a.copy()
        BLAS.singleThreaded {
            BLAS.addOuter(m: 70, n: 33, alpha: -1, x: y.pointer, y: x.pointer, into: a.pointer, lda: 33)
        }
        #expect(abs(a[69, 32] - (before[69, 32] - y[0, 69] * x[0, 32])) < 1e-14)
    }

    @Test func `within, OpenBLAS has one thread: nested, after errors, side by side`() throws {
        try BLAS.singleThreaded {
            #expect(openblas_get_num_threads() == 1)
            BLAS.singleThreaded { #expect(openblas_get_num_threads() == 1) }
            #expect(openblas_get_num_threads() == 1)
            let failing = { try BLAS.singleThreaded { () throws -> Void in throw SutureError.cancelled } }
            #expect(throws: SutureError.cancelled) { try failing() }
            #expect(openblas_get_num_threads() == 1)
            try parallelFor(8) { _ in BLAS.singleThreaded { _ = usleep(500) } }
            #expect(openblas_get_num_threads() == 1)
        }
    }
}

@Suite struct DetachedTests {
    @Test func `the value comes back, and errors do`() throws {
        #expect(try runDetached(progress: .none) { _ in 42 } == 42)
        #expect(throws: SutureError.numerical("no")) {
            try runDetached(progress: .none) { _ -> Int in throw SutureError.numerical("no") }
        }
    }

    @Test func `progress is what the work last said`() throws {
        var seen: [UInt64] = []
        let progress = Progress { done, total in
            if total == 9 { seen.append(done) }
            return true
        }
        try runDetached(progress: progress) { check in
            for i in 1...4 {
                try check.report(i, of: 9)
                usleep(60_000)
            }
        }
        #expect(seen == seen.sorted() && seen.count >= 4 && Set(seen).isSubset(of: [1, 2, 3, 4]))
    }

    @Test func `a cancel does not wait for the work, which ends at its next check`() throws {
        final class State: Sendable {
            let ended = Atomic<Bool>(false), started = Atomic<Bool>(false), release = Atomic<Bool>(false)
        }
        let state = State()
        // The work holds on until this test has seen the call return.
        #expect(throws: SutureError.cancelled) {
            try runDetached(progress: Progress { _, _ in !state.started.load(ordering: .relaxed) }) { check in
                defer { state.ended.store(true, ordering: .relaxed) }
                state.started.store(true, ordering: .relaxed)
                while !state.release.load(ordering: .relaxed) { usleep(1000) }
                try check.report(1, of: 2)
                Issue.record("the work went on after its check")
            }
        }
        let hadEnded = state.ended.load(ordering: .relaxed)
        #expect(!hadEnded)
        state.release.store(true, ordering: .relaxed)
        for _ in 0..<5000 where !state.ended.load(ordering: .relaxed) { usleep(1000) }
        let hasEnded = state.ended.load(ordering: .relaxed)
        #expect(hasEnded)
    }
}
