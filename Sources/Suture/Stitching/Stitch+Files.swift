// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// One safetensors file: tensors P_up (d_a, d_b), b_up (d_b), P_down (d_b, d_a), b_down (d_a), and the metadata.

extension Stitch {
    private static let format = "stitch/1"

    /// Writes one file, which appears whole or not at all.
    ///
    /// - Throws: `io`.
    public func save(to path: String) throws {
        try Safetensors.write(
            [
                NamedTensor("P_up", upMatrix), NamedTensor("b_up", vector: upBias), NamedTensor("P_down", downMatrix),
                NamedTensor("b_down", vector: downBias),
            ], describedBy: metadata, format: Self.format, to: path)
    }

    /// Reads what `save` wrote, or any safetensors file with those tensors.
    ///
    /// - Throws: `io` if it cannot be read; `format` if it is cut short, damaged, lacks a tensor, or
    ///   its shapes do not fit together.
    public init(contentsOf path: String) throws {
        let (file, metadata) = try Safetensors.read(path, format: Self.format)
        do {
            try self.init(
                upMatrix: try file.matrix("P_up"), upBias: try file.matrix("b_up"),
                downMatrix: try file.matrix("P_down"), downBias: try file.matrix("b_down"), metadata: metadata)
        } catch SutureError.invalidArgument(let message) {
            throw SutureError.format("\(path): \(message)")
        }
        guard dA > 0, dB > 0 else {
            throw SutureError.format("\(path): P_up is (\(dA), \(dB)), expected at least (1, 1)")
        }
    }
}
