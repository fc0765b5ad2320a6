// SPDX-License-Identifier: Apache-2.0

/// A tensor to be written as float32.
public struct NamedTensor {
    public let name: String
    public let matrix: FloatMatrix
    public let shape: [Int]

    /// With the matrix's shape (rows, cols).
    public init(_ name: String, _ matrix: FloatMatrix) {
        self.name = name
        self.matrix = matrix
        shape = [matrix.rows, matrix.cols]
    }

    /// A matrix of one row, written with one axis.
    public init(_ name: String, vector matrix: FloatMatrix) {
        self.name = name
        self.matrix = matrix
        shape = [matrix.count]
    }
}

extension Safetensors {
    /// Writes a file that appears at `path` whole or not at all.
    ///
    /// - Parameter metadata: texts for the header's `__metadata__`.
    public static func write(
        _ tensors: [NamedTensor], metadata: [(key: String, value: String)] = [], to path: String
    ) throws {
        let file = try AtomicFile(path: path)
        try write(tensors, metadata: metadata, to: file)
        try file.commit()
    }

    /// The same into an open file, which the caller commits.
    static func write(
        _ tensors: [NamedTensor], metadata: [(key: String, value: String)] = [], to file: AtomicFile
    ) throws {
        var header: [(key: String, value: JSON)] = []
        if !metadata.isEmpty {
            header.append(("__metadata__", .object(metadata.map { ($0.key, .string($0.value)) })))
        }
        var end = 0
        for tensor in tensors {
            let start = end
            end += tensor.matrix.count * 4
            let line: [(key: String, value: JSON)] = [
                ("dtype", .string(DType.float32.rawValue)), ("shape", .array(tensor.shape.map { .integer(Int64($0)) })),
                ("data_offsets", .array([.integer(Int64(start)), .integer(Int64(end))])),
            ]
            header.append((tensor.name, .object(line)))
        }
        var text = Array(JSON.object(header).text().utf8)
        // Spaces up to a multiple of 8 leave the data aligned for readers that map the file.
        while text.count % 8 != 0 { text.append(0x20) }
        try withUnsafeBytes(of: UInt64(text.count).littleEndian) { try file.write($0) }
        try text.withUnsafeBytes { try file.write($0) }
        for tensor in tensors { try file.write(UnsafeRawBufferPointer(tensor.matrix.buffer)) }
    }
}
