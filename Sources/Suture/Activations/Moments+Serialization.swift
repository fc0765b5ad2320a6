// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// Layout, little-endian: "SUTUREMO", version (UInt64), d_a, d_b, tokens (UInt64 each), the mean (d
// float64), the upper triangle of the scatter row by row (d (d + 1) / 2 float64), since version 2 what
// is known of the norms, and XXH64 of all bytes before it.
//
// The norms: whose bounds they are (`PairNorms.Origin`) and the pairs left out (UInt64 each); then of
// both streams the bound (float64, infinity for none), the largest norm (float64), the rows beyond
// (UInt64), the sum of their squares (float64), the rows of zeros and the number of ranges (UInt64
// each), and for each range its number, rows (UInt64 each) and sum of squares (float64).

extension Moments {
    private static let magic: [UInt8] = Array("SUTUREMO".utf8)
    private static let version: UInt64 = 2
    private static let headerSize = 40

    /// Bytes of moments of d coordinates without norms; nil if they do not fit in memory.
    private static func byteCount(width: Int) -> Int? {
        let (square, overflow) = width.multipliedReportingOverflow(by: width + 3)
        let (bytes, byteOverflow) = (square / 2).multipliedReportingOverflow(by: 8)
        return overflow || byteOverflow || bytes > Int.max / 2 ? nil : headerSize + bytes + 8
    }

    /// Bytes that `serialize` writes.
    public var serializedSize: Int {
        guard let size = Self.byteCount(width: width) else { return Int.max }
        return size + 8 * (2 + [norms.a, norms.b].reduce(0) { $0 + 6 + 3 * $1.histogram.entries.count })
    }

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
        func write(_ words: UInt64...) {
            for word in words {
                base.storeBytes(of: word.littleEndian, toByteOffset: offset, as: UInt64.self)
                offset += 8
            }
        }
        write(norms.origin.rawValue, norms.leftOut)
        for stream in [norms.a, norms.b] {
            let entries = stream.histogram.entries
            write(stream.bound.bitPattern, stream.largest.bitPattern, stream.beyond, stream.squaresBeyond.bitPattern)
            write(stream.histogram.zeros, UInt64(entries.count))
            for entry in entries { write(UInt64(entry.range), entry.count, entry.squares.bitPattern) }
        }
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
        let version = integer(8)
        guard (1...Self.version).contains(version) else {
            throw problem("format version is \(version), this library reads 1 to \(Self.version)")
        }
        let limit = UInt64(Self.widthLimit)
        let tokens = integer(32)
        guard (1...limit).contains(integer(16)), (1...limit).contains(integer(24)), tokens < 1 << 53 else {
            throw problem("d_a = \(integer(16)), d_b = \(integer(24)), tokens = \(tokens) cannot be")
        }
        let (dA, dB) = (Int(integer(16)), Int(integer(24)))
        let width = dA + dB
        guard let least = Self.byteCount(width: width), version == 1 ? bytes.count == least : bytes.count >= least
        else {
            throw problem(
                "\(bytes.count) bytes for d_a = \(dA), d_b = \(dB), expected \(Self.byteCount(width: width) ?? Int.max)"
            )
        }
        let size = bytes.count
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
        var norms = PairNorms()
        if version > 1 {
            var reader = NormsReader(bytes: UnsafeRawBufferPointer(rebasing: bytes[offset..<(size - 8)]))
            guard let found = reader.pairs(), found.a.histogram.rows == found.b.histogram.rows,
                found.a.histogram.rows <= tokens
            else { throw problem("what it says of the norms cannot be") }
            norms = found
        }
        self.init(dA: dA, dB: dB, tokens: tokens, mean: mean, scatter: scatter, norms: norms)
    }
}

/// Reads the part on norms; nil for what cannot be.
private struct NormsReader {
    let bytes: UnsafeRawBufferPointer
    var offset = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private mutating func word() -> UInt64? {
        guard offset <= bytes.count - 8 else { return nil }
        defer { offset += 8 }
        return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    private mutating func count() -> UInt64? { word().flatMap { $0 < 1 << 53 ? $0 : nil } }

    /// A number that is not negative, and finite but where it may be infinite.
    private mutating func number(orInfinite: Bool = false) -> Double? {
        word().map { Double(bitPattern: $0) }.flatMap { $0 >= 0 && (orInfinite || $0 < .infinity) ? $0 : nil }
    }

    mutating func pairs() -> PairNorms? {
        var result = PairNorms()
        guard let origin = word().flatMap({ PairNorms.Origin(rawValue: $0) }), let leftOut = count(),
            let a = stream(), let b = stream(), offset == bytes.count
        else { return nil }
        (result.origin, result.leftOut, result.a, result.b) = (origin, leftOut, a, b)
        return origin == .none && result.hasBounds ? nil : result
    }

    private mutating func stream() -> StreamNorms? {
        var result = StreamNorms()
        guard let bound = number(orInfinite: true), bound > 0, let largest = number(), largest <= bound,
            let beyond = count(), let squares = number(), let zeros = count(), let ranges = count()
        else { return nil }
        (result.bound, result.largest, result.beyond, result.squaresBeyond) = (bound, largest, beyond, squares)
        result.histogram.add(range: 0, count: zeros, squares: 0)
        var last = 0
        for _ in 0..<ranges {
            guard let range = count(), let rows = count(), rows > 0, let squares = number(), range > last,
                range < NormHistogram.limit
            else { return nil }
            last = Int(range)
            result.histogram.add(range: last, count: rows, squares: squares)
        }
        return result
    }
}
