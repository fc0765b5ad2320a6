// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import COpenBLAS
import Glibc
import Synchronization

/// OpenBLAS: its set-up, and the products in use, on row-major memory.
///
/// OpenBLAS threads are never used: results of 1 and 2 of them differ in bits. The core splits work
/// into blocks of its own and calls OpenBLAS single-threaded on each.
public enum BLAS {
    /// Core type in use.
    public static var core: String { setUp.core }
    /// Core type OpenBLAS chose by itself.
    public static var detectedCore: String { setUp.detected }

    private static let setUp: (detected: String, core: String) = {
        let detected = openblas_get_corename().map { String(cString: $0) } ?? "unknown"
        // Debian's 0.3.21 does not know recent CPUs and falls back to SSE kernels: a third of the
        // speed. A choice that the user made in the environment stands.
        let weak = ["Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Generic", "Sandybridge"]
        let path = sk_best_path()
        guard weak.contains(detected), path != SK_PORTABLE, getenv("OPENBLAS_CORETYPE") == nil else {
            return (detected, detected)
        }
        setenv("OPENBLAS_CORETYPE", path.rawValue >= SK_AVX512.rawValue ? "SkylakeX" : "Haswell", 1)
        gotoblas_dynamic_quit()
        gotoblas_dynamic_init()
        // Only for the re-initialisation: programs that this one starts decide for themselves.
        unsetenv("OPENBLAS_CORETYPE")
        return (detected, openblas_get_corename().map { String(cString: $0) } ?? "unknown")
    }()

    /// Calls in progress that need OpenBLAS single-threaded, and what it was set to before.
    private static let scope = Mutex<(depth: Int, previous: Int32)>((0, 1))

    /// Runs `body` with OpenBLAS on one thread, and puts its setting back afterwards: the library
    /// may be shared with the host process (Debian's numpy uses the same one).
    public static func singleThreaded<Result>(_ body: () throws -> Result) rethrows -> Result {
        _ = setUp
        scope.withLock { state in
            if state.depth == 0 {
                state.previous = openblas_get_num_threads()
                openblas_set_num_threads(1)
            }
            state.depth += 1
        }
        defer {
            scope.withLock { state in
                state.depth -= 1
                if state.depth == 0 { openblas_set_num_threads(state.previous) }
            }
        }
        return try body()
    }

    /// C = alpha op(A) op(B) + beta C in float32; C is (m, n), the inner size is k. Leading
    /// dimensions are elements from one stored row to the next.
    ///
    /// Call within `singleThreaded`. Sizes fit in Int32 (checked where sizes enter the library).
    @inline(__always)
    public static func gemm(
        transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int, alpha: Float = 1,
        a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, beta: Float = 0,
        c: UnsafeMutablePointer<Float>, ldc: Int
    ) {
        cblas_sgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
            blasint(m), blasint(n), blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
    }

    /// The same in float64.
    @inline(__always)
    public static func gemm(
        transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int, alpha: Double = 1,
        a: UnsafePointer<Double>, lda: Int, b: UnsafePointer<Double>, ldb: Int, beta: Double = 0,
        c: UnsafeMutablePointer<Double>, ldc: Int
    ) {
        cblas_dgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
            blasint(m), blasint(n), blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
    }

    /// The upper triangle of C = A Aᵀ + beta C, where A is (n, k); or, transposed, of Aᵀ A, where it is (k, n).
    @inline(__always)
    public static func syrk(
        transpose: Bool = false, n: Int, k: Int, a: UnsafePointer<Double>, lda: Int, beta: Double,
        c: UnsafeMutablePointer<Double>, ldc: Int
    ) {
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, transpose ? CblasTrans : CblasNoTrans, blasint(n), blasint(k), 1, a,
            blasint(lda), beta, c, blasint(ldc))
    }

    /// The same in float32.
    @inline(__always)
    public static func syrk(
        transpose: Bool = false, n: Int, k: Int, a: UnsafePointer<Float>, lda: Int, beta: Float,
        c: UnsafeMutablePointer<Float>, ldc: Int
    ) {
        cblas_ssyrk(
            CblasRowMajor, CblasUpper, transpose ? CblasTrans : CblasNoTrans, blasint(n), blasint(k), 1, a,
            blasint(lda), beta, c, blasint(ldc))
    }
}
