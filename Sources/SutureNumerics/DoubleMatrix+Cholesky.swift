// SPDX-License-Identifier: Apache-2.0
import COpenBLAS

// A Cholesky factorisation in fixed tiles, each one single-threaded BLAS or LAPACK call, so that the
// bits do not depend on the number of threads. Call within `BLAS.singleThreaded`.
extension DoubleMatrix {
    private static let factorBlock = 192

    /// Puts upper triangular R with Rᵀ R = self in place of the upper triangle, which alone is read;
    /// what is below the diagonal becomes worthless. False if the matrix is not positive definite.
    ///
    /// - Parameter check: called between pieces of work with the share done, 0 to 1; what it throws
    ///   ends the factorisation.
    public func factorise(check: (_ done: Double) throws -> Void) throws -> Bool {
        let (n, size) = (rows, Self.factorBlock)
        assert(rows == cols)
        for start in stride(from: 0, to: n, by: size) {
            let height = min(size, n - start)
            let rest = start + height
            let diagonal = pointer + start * n + start
            var (order, leading, info) = (Int32(height), Int32(n), Int32(0))
            dpotrf_("L", &order, diagonal, &leading, &info)
            guard info == 0, (0..<height).allSatisfy({ diagonal[$0 * n + $0].isFinite }) else { return false }
            let blocks = (n - rest + size - 1) / size
            try parallelFor(blocks) { block in
                let col = rest + block * size
                cblas_dtrsm(
                    CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, blasint(height),
                    blasint(min(size, n - col)), 1, self.pointer + start * n + start, blasint(n),
                    self.pointer + start * n + col, blasint(n))
            }
            // Tiles on and above the diagonal of what remains, row by row.
            try parallelFor(blocks * blocks) { tile in
                let (top, left) = (tile / blocks, tile % blocks)
                guard top <= left else { return }
                let (row, col) = (rest + top * size, rest + left * size)
                BLAS.gemm(
                    transposeA: true, m: min(size, n - row), n: min(size, n - col), k: height, alpha: -1,
                    a: self.pointer + start * n + row, lda: n, b: self.pointer + start * n + col, ldb: n, beta: 1,
                    c: self.pointer + row * n + col, ldc: n)
            }
            let left = Double(n - rest) / Double(n)
            try check(1 - left * left * left)
        }
        return true
    }
}
