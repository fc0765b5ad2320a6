// SPDX-License-Identifier: Apache-2.0

/// What training data is recognised by when a run is resumed: the number of rows, and a hash of some
/// of them. The same values as float32 have the same one, whatever their type and shards.
struct DataFingerprint: Equatable {
    let rows: Int
    let hash: UInt64

    /// Rows that are looked at, spread over all.
    private static let sample = 64

    init(rows: Int, hash: UInt64) {
        self.rows = rows
        self.hash = hash
    }

    init(_ tokens: TokenRows, dIn: Int) throws {
        rows = tokens.count
        let chosen = Array(stride(from: 0, to: rows - 1, by: max(1, rows / Self.sample))) + [rows - 1]
        let buffer = try Buffer<Float>(zeros: chosen.count * dIn)
        for (index, row) in chosen.enumerated() { tokens.read(row, into: buffer.pointer + index * dIn) }
        hash = xxHash64(UnsafeRawBufferPointer(start: buffer.pointer, count: buffer.count * 4))
        withExtendedLifetime(buffer) {}
    }
}
