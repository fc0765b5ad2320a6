// SPDX-License-Identifier: Apache-2.0

extension Samples {
    /// Some columns (nil: all) in float64, row after row.
    func gathered(_ columns: [Int]?, progress: Progress = .none) throws -> DoubleMatrix {
        let reader = try ColumnReader(self, columns)
        let result = try DoubleMatrix(rows: rows, cols: reader.count)
        try RowChunks(rows: rows, work: rows * reader.count).forEach(progress: progress) { range in
            try reader.read(range, into: result.pointer + range.lowerBound * result.cols)
        }
        return result
    }

    /// The same, column after column: (1 + columns, rows), the first of them zeros.
    func gatheredColumns(_ columns: [Int]?, progress: Progress = .none) throws -> DoubleMatrix {
        let reader = try ColumnReader(self, columns)
        let (rows, count) = (rows, reader.count)
        let result = try DoubleMatrix(rows: 1 + count, cols: rows)
        let floats = self.floats.map { Unchecked($0) }
        // Each number brings a line of the cache with it.
        try RowChunks(rows: rows, work: min(work, 16 * rows * count)).forEach(progress: progress) { range in
            if let (base, stride) = floats?.value, let columns {
                // Rows that stay in the cache while each of their columns is taken.
                columns.withUnsafeBufferPointer { columns in
                    for piece in range.pieces(of: 8) {
                        let source = base + piece.lowerBound * stride
                        for j in 0..<count {
                            let target = result.pointer + (1 + j) * rows + piece.lowerBound
                            for i in 0..<piece.count { target[i] = Double(source[i * stride + columns[j]]) }
                        }
                    }
                }
                return
            }
            // As many rows as fill lines of the cache on the other side.
            let tile = try Buffer<Double>(count: 16 * count, for: "a probe")
            for piece in range.pieces(of: 16) {
                try reader.read(piece, into: tile.pointer)
                for j in 0..<count {
                    let target = result.pointer + (1 + j) * rows + piece.lowerBound
                    for i in 0..<piece.count { target[i] = tile.pointer[i * count + j] }
                }
            }
        }
        return result
    }
}

/// Reads chosen columns of samples.
private struct ColumnReader: @unchecked Sendable {
    let samples: Samples
    /// Nil: all.
    let columns: [Int]?
    /// Of sparse samples, where a column goes; -1: nowhere.
    let places: Buffer<Int32>

    var count: Int { columns?.count ?? samples.cols }

    init(_ samples: Samples, _ columns: [Int]?) throws {
        (self.samples, self.columns) = (samples, columns)
        guard case .sparse = samples else {
            places = try Buffer(count: 0, for: "a probe")
            return
        }
        places = try Buffer(count: samples.cols, for: "a probe")
        for column in 0..<samples.cols { places.pointer[column] = columns == nil ? Int32(column) : -1 }
        for (slot, column) in (columns ?? []).enumerated() { places.pointer[column] = Int32(slot) }
    }

    /// Some rows, one after the other.
    func read(_ range: Range<Int>, into target: UnsafeMutablePointer<Double>) throws {
        let count = count
        switch samples {
        case .dense(let view):
            guard let columns else {
                let scratch = try Buffer<Float>(count: view.cols, for: "a probe")
                for (slot, i) in range.enumerated() {
                    view.readRow(i, into: target + slot * count, scratch: scratch.pointer)
                }
                return
            }
            if let (base, stride) = samples.floats {
                columns.withUnsafeBufferPointer { columns in
                    for (slot, i) in range.enumerated() {
                        let (source, target) = (base + i * stride, target + slot * count)
                        for j in 0..<count { target[j] = Double(source[columns[j]]) }
                    }
                }
                return
            }
            let scratch = try Buffer<Float>(count: view.cols, for: "a probe")
            let row = try Buffer<Double>(count: view.cols, for: "a probe")
            for (slot, i) in range.enumerated() {
                view.readRow(i, into: row.pointer, scratch: scratch.pointer)
                for j in 0..<count { target[slot * count + j] = row.pointer[columns[j]] }
            }
        case .sparse(let matrix):
            target.update(repeating: 0, count: range.count * count)
            for (slot, i) in range.enumerated() {
                matrix.forEach(i) { column, value in
                    let place = Int(places.pointer[column])
                    if place >= 0 { target[slot * count + place] = value }
                }
            }
        }
    }
}
