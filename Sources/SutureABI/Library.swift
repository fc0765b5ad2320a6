// SPDX-License-Identifier: Apache-2.0
// Section: The library
import CSutureTypes
import CSutureKernels
import Glibc
import Suture

/// Version of the library, such as "0.1.0". A static string.
@c
public func suture_version() -> UnsafePointer<CChar> { staticString(sutureVersion) }

/// Version of this interface. It changes only when a program must be recompiled or changed.
@c
public func suture_abi_version() -> Int32 { 2 }

/// What went wrong in this thread's last call that did not return SUTURE_OK: one sentence that
/// names the argument, its value and what was expected. Never NULL; "" before any error. The
/// string stays valid until the next failing call in the same thread.
@c
public func suture_last_error() -> UnsafePointer<CChar> { lastError() ?? staticString("") }

/// Threads that each call uses from now on, in the whole process; 0 goes back to the default:
/// SUTURE_NUM_THREADS, else the processors this process may run on. Results are the same bits for
/// any number.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if count is not within 0 to 1024.
@c
public func suture_set_threads(_ count: Int32) -> suture_status {
    boundary { try Threads.set(Int(count)) }
}

/// Fills `out`: the kernels and the OpenBLAS core type in use, CPU features, threads.
/// Set out->struct_size first.
@c
public func suture_cpu_info(_ out: UnsafeMutablePointer<suture_cpu_info_report>?) -> suture_status {
    boundary {
        let out = try required(out, "out")
        var report = suture_cpu_info_report()
        report.kernels = staticString(Kernels.name)
        switch sk_best_path() {
        case SK_AMX:
            report.features = staticString(
                "avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512bf16 amx-tile amx-bf16")
        case SK_AVX512_BF16:
            report.features = staticString("avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512bf16")
        case SK_AVX512: report.features = staticString("avx2 fma f16c avx512f avx512bw avx512dq avx512vl")
        case SK_AVX2: report.features = staticString("avx2 fma f16c")
        default: report.features = staticString("")
        }
        report.blas_core = staticString(BLAS.core)
        report.blas_core_detected = staticString(BLAS.detectedCore)
        report.threads = Int32(Threads.count)
        report.processors = Int32(Threads.processors)
        try writeReport(report, to: out, "out")
    }
}

/// C strings that live for ever; each distinct text is stored once.
private let staticStrings = StaticStrings()

func staticString(_ text: String) -> UnsafePointer<CChar> { staticStrings[text] }
