// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// One safetensors file: tensors vector (d), z_mean (1) in float64, mean (d) where it is known, and the metadata.

extension SteeringVector {
    private static let format = "steering-vector/1"

    /// Writes one file, which appears whole or not at all.
    ///
    /// - Throws: `io`.
    public func save(to path: String) throws {
        let number = try Buffer<Double>(count: 1, for: "z_mean")
        number.pointer.pointee = zMean
        var tensors = [
            NamedTensor("vector", vector: vector), NamedTensor("z_mean", number, shape: [1], dtype: .float64),
        ]
        if let mean { tensors.append(NamedTensor("mean", vector: mean)) }
        try Safetensors.write(tensors, describedBy: metadata, format: Self.format, to: path)
    }

    /// Reads what `save` wrote.
    ///
    /// - Throws: `io` if it cannot be read; `format` if it is cut short, damaged, lacks a tensor, or its
    ///   shapes do not fit together.
    public init(contentsOf path: String) throws {
        let (file, metadata) = try Safetensors.read(path, format: Self.format)
        let number = try Buffer<Double>(count: 1, for: "z_mean")
        try file.read("z_mean", as: .float64, into: number)
        do {
            try self.init(
                vector: try file.matrix("vector"), zMean: number.pointer.pointee,
                mean: file.entry("mean") == nil ? nil : try file.matrix("mean"), metadata: metadata)
        } catch SutureError.invalidArgument(let message) {
            throw SutureError.format("\(path): \(message)")
        }
    }
}
