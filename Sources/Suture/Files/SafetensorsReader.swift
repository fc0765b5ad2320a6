// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// A safetensors file: its header, checked whole, and its tensors as they are asked for.
public final class SafetensorsReader {
    public let path: String
    /// In the order of their bytes.
    public let entries: [Safetensors.Entry]
    /// The `__metadata__` of the header: texts by name.
    public let metadata: Metadata
    private let file: ReadableFile
    private let dataStart: Int

    /// Opens `path` and checks the header: it fits in the file, every tensor's bytes are as many as
    /// its shape and type need, and they fill the rest of the file without gap or overlap.
    ///
    /// - Throws: `SutureError.io` where the file cannot be read, `.format` where it is damaged.
    public init(path: String) throws {
        self.path = path
        file = try ReadableFile(path: path)
        guard file.size >= 8 else {
            throw SutureError.format(
                "\(path) is cut short: it has \(file.size) bytes, expected at least 8 for the length of the header")
        }
        var lengthBytes = [UInt8](repeating: 0, count: 8)
        try lengthBytes.withUnsafeMutableBytes { [file] in try file.read(into: $0, at: 0) }
        let length = lengthBytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(Safetensors.headerLimit) else {
            throw SutureError.format("\(path) is no safetensors file: its header would have \(length) bytes")
        }
        let headerLength = Int(length)
        guard headerLength <= file.size - 8 else {
            throw SutureError.format(
                "\(path) is cut short: it has \(file.size) bytes, expected at least \(8 + headerLength) for the header")
        }
        var header = [UInt8](repeating: 0, count: headerLength)
        try header.withUnsafeMutableBytes { [file] in try file.read(into: $0, at: 8) }
        guard header.first == UInt8(ascii: "{") else {
            throw SutureError.format("\(path) is no safetensors file: its header does not begin with {")
        }
        let parsed = try Metadata(parsing: header, name: "the header of \(path)")
        var metadata = Metadata()
        var entries: [Safetensors.Entry] = []
        for (name, value) in parsed.members {
            if name == "__metadata__" {
                metadata = try Self.texts(value, path: path)
            } else {
                entries.append(try Self.entry(name, value, path: path))
            }
        }
        entries.sort { ($0.bytes.lowerBound, $0.bytes.upperBound) < ($1.bytes.lowerBound, $1.bytes.upperBound) }
        var end = 0
        for entry in entries {
            guard entry.bytes.lowerBound == end else {
                throw SutureError.format(
                    "\(path): tensor \(entry.name) begins at byte \(entry.bytes.lowerBound) of the data, expected \(end)"
                )
            }
            end = entry.bytes.upperBound
        }
        let available = file.size - 8 - headerLength
        if end > available {
            let first = entries.first { $0.bytes.upperBound > available }?.name ?? ""
            throw SutureError.format(
                "\(path) is cut short: it has \(available) bytes of data, expected \(end); tensor \(first) is incomplete"
            )
        }
        if end < available {
            throw SutureError.format("\(path) has \(available) bytes of data, expected \(end) from its header")
        }
        self.entries = entries
        self.metadata = metadata
        dataStart = 8 + headerLength
    }

    private static func texts(_ value: JSON, path: String) throws -> Metadata {
        guard case .object(let members) = value else {
            throw SutureError.format("\(path): __metadata__ is not an object of texts")
        }
        for (key, value) in members {
            guard case .string = value else {
                throw SutureError.format("\(path): __metadata__ \(key) is not a text")
            }
        }
        // The parser has seen to it that each key stands once.
        return Metadata(unique: members)
    }

    private static func entry(_ name: String, _ value: JSON, path: String) throws -> Safetensors.Entry {
        guard let type = value["dtype"]?.string, let shape = value["shape"]?.sizes,
            let offsets = value["data_offsets"]?.sizes, offsets.count == 2
        else {
            throw SutureError.format("\(path): tensor \(name) lacks a dtype, shape or data_offsets in the header")
        }
        guard offsets[0] <= offsets[1] else {
            throw SutureError.format(
                "\(path): tensor \(name) ends at byte \(offsets[1]), before it begins at \(offsets[0])")
        }
        let entry = Safetensors.Entry(name: name, typeName: type, shape: shape, bytes: offsets[0]..<offsets[1])
        if let width = entry.dtype?.byteCount {
            var needed: Int? = width
            for size in shape {
                needed = needed.flatMap { product in
                    let (value, overflow) = product.multipliedReportingOverflow(by: size)
                    return overflow ? nil : value
                }
            }
            guard needed == entry.bytes.count else {
                throw SutureError.format(
                    "\(path): tensor \(name) \(entry.shapeText) of type \(type) has \(entry.bytes.count) bytes")
            }
        }
        return entry
    }

    public func entry(_ name: String) -> Safetensors.Entry? { entries.first { $0.name == name } }

    /// A tensor as float32 (other types are rounded to nearest). One axis becomes (1, n), none (1, 1).
    ///
    /// - Throws: `SutureError.format` where the tensor is missing, has more than two axes or holds
    ///   NaN or infinity; `.unsupported` for an element type that is not a number.
    public func matrix(_ name: String) throws -> FloatMatrix {
        guard let entry = entry(name) else {
            throw SutureError.format(
                "\(path) has no tensor \(name); it has \(entries.map(\.name).joined(separator: ", "))")
        }
        guard let dtype = entry.dtype else {
            throw SutureError.unsupported(
                "\(path): tensor \(name) has elements of type \(entry.typeName), expected one of "
                    + Safetensors.DType.allCases.map(\.rawValue).joined(separator: ", "))
        }
        guard entry.shape.count <= 2 else {
            throw SutureError.format("\(path): tensor \(name) is \(entry.shapeText), expected at most two axes")
        }
        let rows = entry.shape.count == 2 ? entry.shape[0] : 1
        let cols = entry.shape.last ?? 1
        let matrix = try FloatMatrix(rows: rows, cols: cols) { target in
            try read(entry, as: dtype, into: target)
        }
        if let bad = matrix.view.firstNonFinite() {
            throw SutureError.format(
                "\(path): \(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
        }
        return matrix
    }

    /// A tensor's bytes as they are in the file, into memory that they fill.
    ///
    /// - Throws: `SutureError.format` where the tensor is missing, or of another type or size.
    func read<Element>(_ name: String, as dtype: Safetensors.DType, into buffer: Buffer<Element>) throws {
        let size = buffer.count * MemoryLayout<Element>.stride
        guard let entry = entry(name) else { throw SutureError.format("\(path) has no tensor \(name)") }
        guard entry.dtype == dtype, entry.bytes.count == size else {
            throw SutureError.format(
                "\(path): tensor \(name) \(entry.shapeText) of type \(entry.typeName) has \(entry.bytes.count) bytes, "
                    + "expected \(size) of \(dtype.rawValue)")
        }
        let target = UnsafeMutableRawBufferPointer(start: buffer.pointer, count: size)
        try file.read(into: target, at: dataStart + entry.bytes.lowerBound)
        withExtendedLifetime(buffer) {}
    }

    /// Reads and converts in pieces, so that no second copy of a large tensor is held.
    private func read(
        _ entry: Safetensors.Entry, as dtype: Safetensors.DType, into target: UnsafeMutablePointer<Float>
    ) throws {
        let count = entry.bytes.count / dtype.byteCount
        let start = dataStart + entry.bytes.lowerBound
        if dtype == .float32 {
            // Little-endian on every machine that this library builds for.
            return try file.read(into: UnsafeMutableRawBufferPointer(start: target, count: count * 4), at: start)
        }
        let piece = 1 << 18
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: piece * dtype.byteCount, alignment: 64)
        defer { scratch.deallocate() }
        for first in stride(from: 0, to: count, by: piece) {
            let length = min(piece, count - first)
            let bytes = UnsafeMutableRawBufferPointer(rebasing: scratch[..<(length * dtype.byteCount)])
            try file.read(into: bytes, at: start + first * dtype.byteCount)
            guard let base = bytes.baseAddress else { return }
            switch dtype {
            case .float64: sk_f64_to_f32(base.assumingMemoryBound(to: Double.self), target + first, length)
            case .float16: sk_f16_to_f32(base.assumingMemoryBound(to: UInt16.self), target + first, length)
            case .bfloat16: sk_bf16_to_f32(base.assumingMemoryBound(to: UInt16.self), target + first, length)
            case .int64:
                for i in 0..<length { target[first + i] = Float(base.load(fromByteOffset: 8 * i, as: Int64.self)) }
            case .int32:
                for i in 0..<length { target[first + i] = Float(base.load(fromByteOffset: 4 * i, as: Int32.self)) }
            case .float32: break
            }
        }
    }
}
