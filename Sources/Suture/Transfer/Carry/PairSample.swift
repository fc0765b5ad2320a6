// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Some of the pairs that came by, taken evenly: a row of B and the codes of A each. Which ones depends
/// on their numbers alone, not on how the rows came.
///
/// `@unchecked Sendable`: one call at a time adds.
final class PairSample: @unchecked Sendable {
    let capacity: Int
    let dB: Int
    /// Untouched memory costs nothing: it grows as rows come.
    private let rows: Buffer<Float>
    private var entries: [Entry] = []
    /// The kept slots as a heap, the largest key first.
    private var heap: [(key: UInt64, slot: Int)] = []

    private struct Entry {
        var row: Int
        var key: UInt64
        var latents: [Int32]
        var values: [Float]
    }

    var count: Int { entries.count }

    init(capacity: Int, dB: Int) throws {
        (self.capacity, self.dB) = (capacity, dB)
        let (size, overflow) = capacity.multipliedReportingOverflow(by: dB)
        guard !overflow else { throw SutureError.outOfMemory("a sample of \(capacity) rows does not fit in memory") }
        rows = try Buffer(count: size, for: "a sample of rows")
    }

    /// Takes row `index` of the stream, or not: those with the smallest keys are kept.
    func offer(_ index: Int, _ view: MatrixView, _ row: Int, _ codes: SparseCodes, _ codeRow: Int) {
        var random = RandomSource(seed: UInt64(index))
        let key = random.next()
        let slot: Int
        if entries.count < capacity {
            slot = entries.count
        } else {
            guard key < heap[0].key else { return }
            slot = heap[0].slot
        }
        let first = codeRow * codes.width
        let active = Int(codes.counts[codeRow])
        let entry = Entry(
            row: index, key: key, latents: Array(UnsafeBufferPointer(start: codes.indices + first, count: active)),
            values: Array(UnsafeBufferPointer(start: codes.values + first, count: active)))
        view.readRow(row, into: rows.pointer + slot * dB)
        if slot == entries.count {
            entries.append(entry)
            heap.append((key, slot))
            rise(heap.count - 1)
        } else {
            entries[slot] = entry
            heap[0] = (key, slot)
            sink()
        }
    }

    private func rise(_ start: Int) {
        var at = start
        while at > 0, heap[(at - 1) / 2].key < heap[at].key {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    private func sink() {
        var at = 0
        while true {
            var largest = at
            for child in [2 * at + 1, 2 * at + 2] where child < heap.count && heap[child].key > heap[largest].key {
                largest = child
            }
            guard largest != at else { return }
            heap.swapAt(at, largest)
            at = largest
        }
    }

    /// The kept rows of B in the order of the stream, and their codes in A, in pieces.
    ///
    /// - Parameter most: so many of them, taken evenly; nil for all.
    func gathered(dSAE: Int, most: Int? = nil) throws -> (rows: FloatMatrix, codes: [SparseCodes]) {
        var order = Array(entries.indices)
        if let most, most < order.count {
            order.sort { (entries[$0].key, entries[$0].row) < (entries[$1].key, entries[$1].row) }
            order.removeLast(order.count - most)
        }
        order.sort { entries[$0].row < entries[$1].row }
        let gathered = try FloatMatrix(rows: order.count, cols: dB) { target in
            for (index, slot) in order.enumerated() {
                (target + index * dB).update(from: rows.pointer + slot * dB, count: dB)
            }
        }
        let codes = try (0..<order.count).panels(of: CodeSums.pieceRows).map { piece in
            let width = piece.reduce(0) { max($0, entries[order[$1]].latents.count) }
            let latents = try Buffer<Int32>(count: width, for: "codes")
            let values = try Buffer<Float>(count: width, for: "codes")
            return try SparseCodes(rows: piece.count, width: width, dSAE: dSAE, tokenScales: nil) { row in
                let entry = entries[order[piece.lowerBound + row]]
                for slot in entry.latents.indices {
                    (latents.pointer[slot], values.pointer[slot]) = (entry.latents[slot], entry.values[slot])
                }
                return (entry.latents.count, UnsafePointer(latents.pointer), UnsafePointer(values.pointer))
            }
        }
        return (gathered, codes)
    }
}
