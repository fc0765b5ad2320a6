// SPDX-License-Identifier: Apache-2.0

/// What the reader and the writer of safetensors files share: 8 bytes with the length of a JSON
/// header, the header, then the tensors' bytes, little-endian, one after the other without gaps.
public enum Safetensors {
    /// Longest header, the limit of the format's own library.
    static let headerLimit = 100_000_000

    /// Element types that the core can convert to floating point.
    public enum DType: String, Sendable, CaseIterable {
        case float64 = "F64"
        case float32 = "F32"
        case float16 = "F16"
        case bfloat16 = "BF16"
        case int64 = "I64"
        case int32 = "I32"

        public var byteCount: Int {
            switch self {
            case .float64, .int64: return 8
            case .float32, .int32: return 4
            case .float16, .bfloat16: return 2
            }
        }
    }

    /// One tensor's line of the header.
    public struct Entry: Sendable {
        public let name: String
        /// As the file has it; `dtype` is nil for types that the core does not read.
        public let typeName: String
        public let shape: [Int]
        /// Bytes from the start of the data.
        public let bytes: Range<Int>

        public var dtype: DType? { DType(rawValue: typeName) }
        /// Such as "(4, 512)".
        public var shapeText: String { "(" + shape.map(String.init).joined(separator: ", ") + ")" }
    }
}
