// SPDX-License-Identifier: Apache-2.0

/// A tensor to be written.
public struct NamedTensor {
    public let name: String
    public let shape: [Int]
    let dtype: Safetensors.DType
    /// Its elements, in memory of `owner`.
    let bytes: UnsafeRawBufferPointer
    private let owner: AnyObject

    /// Float32, with the matrix's shape (rows, cols).
    public init(_ name: String, _ matrix: FloatMatrix) {
        self.init(name, matrix, shape: [matrix.rows, matrix.cols])
    }

    /// A float32 matrix of one row, written with one axis.
    public init(_ name: String, vector matrix: FloatMatrix) {
        self.init(name, matrix, shape: [matrix.count])
    }

    private init(_ name: String, _ matrix: FloatMatrix, shape: [Int]) {
        (self.name, self.shape, dtype) = (name, shape, .float32)
        (bytes, owner) = (UnsafeRawBufferPointer(matrix.buffer), matrix)
    }

    /// Memory that is not changed until the tensor is written; `dtype` is that of its elements.
    init<Element>(_ name: String, _ buffer: Buffer<Element>, shape: [Int], dtype: Safetensors.DType) {
        (self.name, self.shape, self.dtype) = (name, shape, dtype)
        let count = buffer.count * MemoryLayout<Element>.stride
        (bytes, owner) = (UnsafeRawBufferPointer(start: buffer.pointer, count: count), buffer)
    }

    /// Hands out the bytes while the memory is held.
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withExtendedLifetime(owner) { try body(bytes) }
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
            end += tensor.bytes.count
            let line: [(key: String, value: JSON)] = [
                ("dtype", .string(tensor.dtype.rawValue)), ("shape", .array(tensor.shape.map { .integer(Int64($0)) })),
                ("data_offsets", .array([.integer(Int64(start)), .integer(Int64(end))])),
            ]
            header.append((tensor.name, .object(line)))
        }
        var text = Array(JSON.object(header).text().utf8)
        // Spaces up to a multiple of 8 leave the data aligned for readers that map the file.
        while text.count % 8 != 0 { text.append(0x20) }
        try withUnsafeBytes(of: UInt64(text.count).littleEndian) { try file.write($0) }
        try text.withUnsafeBytes { try file.write($0) }
        for tensor in tensors { try tensor.withBytes { try file.write($0) } }
    }
}
