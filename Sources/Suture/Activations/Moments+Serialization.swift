// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// Layout, little-endian: "SUTUREMO", version (UInt64), d_a, d_b, tokens (UInt64 each), the mean (d
// float64), the upper triangle of the scatter row by row (d (d + 1) / 2 float64), and XXH64 of all
// bytes before it.

extension Moments {
    private static let magic: [UInt8] = Array("SUTUREMO".utf8)
    private static let version: UInt64 = 1
    private static let headerSize = 40

    /// Bytes of moments of d coordinates; nil if they do not fit in memory.
    private static func byteCount(width: Int) -> Int? {
        let (square, overflow) = width.multipliedReportingOverflow(by: width + 3)
        let (bytes, byteOverflow) = (square / 2).multipliedReportingOverflow(by: 8)
        return overflow || byteOverflow || bytes > Int.max - 64 ? nil : headerSize + bytes + 8
    }

    /// Bytes that `serialize` writes.
    public var serializedSize: Int { Self.byteCount(width: width) ?? Int.max }

    /// Writes the moments to `bytes`.
    ///
    /// - Throws: `invalidArgument` if there is not room for `serializedSize` bytes; nothing is written.
    public func serialize(into bytes: UnsafeMutableRawBufferPointer) throws {
        guard bytes.count >= serializedSize, let base = bytes.baseAddress else {
            throw SutureError.invalidArgument("capacity is \(bytes.count), expected at least \(serializedSize)")
        }
        base.copyMemory(from: Self.magic, byteCount: 8)
        for (i, value) in [Self.version, UInt64(dA), UInt64(dB), tokens].enumerated() {
            base.storeBytes(of: value.littleEndian, toByteOffset: 8 + 8 * i, as: UInt64.self)
        }
        var offset = Self.headerSize
        func write(_ source: UnsafePointer<Double>, _ count: Int) {
            // Every platform of this library is little-endian.
            (base + offset).copyMemory(from: source, byteCount: 8 * count)
            offset += 8 * count
        }
        write(mean.pointer, width)
        for i in 0..<width { write(scatter.pointer + i * width + i, width - i) }
        let hash = xxHash64(UnsafeRawBufferPointer(start: base, count: offset))
        base.storeBytes(of: hash.littleEndian, toByteOffset: offset, as: UInt64.self)
    }

    /// The moments as bytes.
    public func serialized() throws -> [UInt8] {
        guard Self.byteCount(width: width) != nil else {
            throw SutureError.outOfMemory("moments of \(width) columns do not fit in memory")
        }
        return try [UInt8](unsafeUninitializedCapacity: serializedSize) { buffer, count in
            try serialize(into: UnsafeMutableRawBufferPointer(buffer))
            count = serializedSize
        }
    }

    /// Reads what `serialize` wrote.
    ///
    /// - Throws: `format` for bytes that are cut short, too many, damaged or of another format or
    ///   version; `outOfMemory`.
    public init(serialized bytes: UnsafeRawBufferPointer) throws {
        func problem(_ text: String) -> SutureError { .format("moments: \(text)") }
        guard bytes.count >= Self.headerSize + 8 else {
            throw problem("\(bytes.count) bytes are too few to hold any")
        }
        guard bytes.prefix(8).elementsEqual(Self.magic) else { throw problem("the bytes do not begin with SUTUREMO") }
        func integer(_ offset: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        guard integer(8) == Self.version else {
            throw problem("format version is \(integer(8)), this library reads \(Self.version)")
        }
        let limit = UInt64(Self.widthLimit)
        let tokens = integer(32)
        guard (1...limit).contains(integer(16)), (1...limit).contains(integer(24)), tokens < 1 << 53 else {
            throw problem("d_a = \(integer(16)), d_b = \(integer(24)), tokens = \(tokens) cannot be")
        }
        let (dA, dB) = (Int(integer(16)), Int(integer(24)))
        let width = dA + dB
        guard let size = Self.byteCount(width: width), bytes.count == size else {
            throw problem(
                "\(bytes.count) bytes for d_a = \(dA), d_b = \(dB), expected \(Self.byteCount(width: width) ?? Int.max)"
            )
        }
        guard xxHash64(UnsafeRawBufferPointer(rebasing: bytes[..<(size - 8)])) == integer(size - 8) else {
            throw problem("the checksum does not match: the bytes are damaged")
        }
        let mean = try DoubleMatrix(rows: 1, cols: width)
        let scatter = try DoubleMatrix(rows: width, cols: width)
        var offset = Self.headerSize
        func read(_ count: Int, into target: UnsafeMutablePointer<Double>) throws {
            let part = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + 8 * count)])
            UnsafeMutableRawBufferPointer(start: target, count: 8 * count).copyMemory(from: part)
            for i in 0..<count where !target[i].isFinite { throw problem("it holds \(target[i])") }
            offset += 8 * count
        }
        try read(width, into: mean.pointer)
        for i in 0..<width {
            try read(width - i, into: scatter.pointer + i * width + i)
            guard scatter[i, i] >= 0 else { throw problem("the variance of coordinate \(i) is negative") }
        }
        self.init(dA: dA, dB: dB, tokens: tokens, mean: mean, scatter: scatter)
    }
}
