// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// One safetensors file: tensors weights (outputs, d_in), bias (outputs), the metadata, and in it the classes.

extension Probe {
    private static let format = "probe/1"
    private static let classesKey = "suture_classes"

    /// Writes one file, which appears whole or not at all.
    ///
    /// - Throws: `io`.
    public func save(to path: String) throws {
        var described = metadata
        described[Self.classesKey] = .array(classes)
        try Safetensors.write(
            [NamedTensor("weights", weights), NamedTensor("bias", vector: bias)], describedBy: described,
            format: Self.format, to: path)
    }

    /// Reads what `save` wrote, or any safetensors file with those tensors.
    ///
    /// - Throws: `io` if it cannot be read; `format` if it is cut short, damaged, lacks a tensor, or
    ///   its parts do not fit together.
    public init(contentsOf path: String) throws {
        var (file, metadata) = try Safetensors.read(path, format: Self.format)
        var labels: [JSON]?
        if let found = metadata[Self.classesKey] {
            guard case .array(let values) = found else {
                throw SutureError.format("\(path): \(Self.classesKey) is \(found.text()), expected an array")
            }
            labels = values
            metadata[Self.classesKey] = nil
        }
        do {
            try self.init(
                weights: try file.matrix("weights"), bias: try file.matrix("bias"), classes: labels,
                metadata: metadata)
        } catch SutureError.invalidArgument(let message) {
            throw SutureError.format("\(path): \(message)")
        }
    }
}
