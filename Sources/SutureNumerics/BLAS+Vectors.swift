// SPDX-License-Identifier: Apache-2.0
import COpenBLAS

// Products with vectors, in float64 where nothing else is said. Call within `BLAS.singleThreaded`.
extension BLAS {
    /// y += a x
    @inline(__always)
    public static func axpy(
        _ count: Int, _ a: Double, _ x: UnsafePointer<Double>, into y: UnsafeMutablePointer<Double>
    ) {
        cblas_daxpy(blasint(count), a, x, 1, y, 1)
    }

    /// Sum of x[i] y[i].
    @inline(__always)
    public static func dot(_ count: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>) -> Double {
        cblas_ddot(blasint(count), x, 1, y, 1)
    }

    /// y = alpha op(A) x, where A is (m, n).
    @inline(__always)
    public static func gemv(
        transpose: Bool = false, m: Int, n: Int, alpha: Double = 1, a: UnsafePointer<Double>, lda: Int,
        x: UnsafePointer<Double>, beta: Double = 0, y: UnsafeMutablePointer<Double>
    ) {
        cblas_dgemv(
            CblasRowMajor, transpose ? CblasTrans : CblasNoTrans, blasint(m), blasint(n), alpha, a, blasint(lda), x, 1,
            beta, y, 1)
    }

    /// A += alpha x yᵀ, where A is (m, n).
    @inline(__always)
    public static func addOuter(
        m: Int, n: Int, alpha: Double, x: UnsafePointer<Double>, y: UnsafePointer<Double>,
        into a: UnsafeMutablePointer<Double>, lda: Int
    ) {
        cblas_dger(CblasRowMajor, blasint(m), blasint(n), alpha, x, 1, y, 1, a, blasint(lda))
    }
}
