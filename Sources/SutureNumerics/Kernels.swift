// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Which twin of the kernels is in use. The same work with another gives other bits.
public enum Kernels {
    public static var name: String {
        switch sk_current_path() {
        case SK_AMX: return "amx"
        case SK_AVX512_BF16: return "avx512bf16"
        case SK_AVX512: return "avx512"
        case SK_AVX2: return "avx2"
        default: return "portable"
        }
    }
}
