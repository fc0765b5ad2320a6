// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// One safetensors file: tensors P_up (d_a, d_b), b_up (d_b), P_down (d_b, d_a), b_down (d_a), and in
// `__metadata__`, whose values are texts, each member of the metadata: texts as they are, everything
// else as JSON. `format` says which is which when the file comes back.

extension Stitch {
    private static let formatKey = "suture_format"
    private static let format = "stitch/1"

    /// Writes one file, which appears whole or not at all.
    ///
    /// - Throws: `io`.
    public func save(to path: String) throws {
        var texts = [(key: Self.formatKey, value: Self.format)]
        for (key, value) in metadata.members where key != Self.formatKey {
            // A text that could be taken for JSON is quoted, so that it comes back as a text.
            if case .string(let text) = value, (try? JSON(parsing: text, name: key)) == nil {
                texts.append((key, text))
            } else {
                texts.append((key, value.text()))
            }
        }
        try Safetensors.write(
            [
                NamedTensor("P_up", upMatrix), NamedTensor("b_up", vector: upBias), NamedTensor("P_down", downMatrix),
                NamedTensor("b_down", vector: downBias),
            ], metadata: texts, to: path)
    }

    /// Reads what `save` wrote, or any safetensors file with those tensors.
    ///
    /// - Throws: `io` if it cannot be read; `format` if it is cut short, damaged, lacks a tensor, or
    ///   its shapes do not fit together.
    public init(contentsOf path: String) throws {
        let file = try SafetensorsReader(path: path)
        var members: [(key: String, value: JSON)] = []
        for (key, value) in file.metadata.members where key != Self.formatKey {
            if case .string(let text) = value, let json = try? JSON(parsing: text, name: key) {
                members.append((key, json))
            } else {
                members.append((key, value))
            }
        }
        let metadata = Metadata(unique: members)
        if let format = file.metadata.text(Self.formatKey), format != Self.format {
            throw SutureError.format("\(path): \(Self.formatKey) is \(format), this library reads \(Self.format)")
        }
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
