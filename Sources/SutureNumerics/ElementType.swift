// SPDX-License-Identifier: Apache-2.0

/// Element types that activations and weights come in. Computation is in float32 or float64.
public enum ElementType: Sendable, CaseIterable {
    case float32, float64, float16, bfloat16

    public var byteCount: Int {
        switch self {
        case .float32: return 4
        case .float64: return 8
        case .float16, .bfloat16: return 2
        }
    }

    public var name: String {
        switch self {
        case .float32: return "float32"
        case .float64: return "float64"
        case .float16: return "float16"
        case .bfloat16: return "bfloat16"
        }
    }
}
