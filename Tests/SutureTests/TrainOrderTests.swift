// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Suture

/// The order in which rows are drawn.
@Suite struct TrainOrderTests {
    @Test(arguments: [1, 2, 3, 5, 16, 17, 31, 32, 33, 100, 1023, 1024, 4097])
    func everyRowComesOnceAnEpoch(rows: Int) {
        var order = TokenOrder(rows: rows, dIn: 24, seed: 9)
        // Batches that do not divide the epoch.
        var drawn: [Int] = []
        while drawn.count < 3 * rows { drawn += order.next(rows / 3 + 1) }
        for epoch in 0..<3 {
            #expect(Set(drawn[epoch * rows..<(epoch + 1) * rows]) == Set(0..<rows))
        }
        if rows >= 100 { #expect(drawn[0..<rows] != drawn[rows..<2 * rows]) }
    }

    @Test func theOrderIsMixed() {
        let rows = 5000
        for seed in 0..<5 as Range<UInt64> {
            var order = TokenOrder(rows: rows, dIn: 24, seed: seed)
            let drawn = order.next(rows).map(Double.init)
            // For a random permutation: correlations of a row with its place, and of neighbours, are
            // about N(0, 1/5000); a batch's mean has the variance of a sample without replacement.
            let mean = Double(rows - 1) / 2
            let variance = drawn.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
            let place =
                drawn.enumerated().reduce(0) { $0 + ($1.element - mean) * (Double($1.offset) - mean) } / variance
            let neighbour = zip(drawn, drawn.dropFirst()).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) } / variance
            #expect(abs(place) < 0.06)
            #expect(abs(neighbour) < 0.06)
            for batch in stride(from: 0, to: rows, by: 500) {
                #expect(abs(drawn[batch..<batch + 500].reduce(0, +) / 500 - mean) < 5 * 1443 / 500.0.squareRoot())
            }
            // Neither halves of the bits nor the parity are kept from place to row.
            let even = drawn.enumerated().count { ($0.offset - Int($0.element)) % 2 == 0 }
            #expect(abs(even - rows / 2) < 200)
        }
    }

    /// Several windows: whole ones, a short last block, blocks of one window more than rows of another.
    @Test(arguments: [65_536, 65_537, 131_072, 200_000, 262_177, 300_001])
    func manyRowsComeOnceAnEpochAndInRuns(rows: Int) {
        for (dIn, block) in [(512, 128), (8192, 32), (64, 1024)] {
            var order = TokenOrder(rows: rows, dIn: dIn, seed: 3)
            #expect(order.blockRows == block)
            var places: [[Int]] = []
            for epoch in 0..<2 {
                let drawn = order.next(rows)
                var seen = [Bool](repeating: false, count: rows)
                for row in drawn { seen[row] = true }
                #expect(seen.allSatisfy { $0 }, "\(rows) rows, d_in \(dIn), epoch \(epoch)")
                // A block is wanted within one window only: the rows drawn between its first and last.
                var first = [Int](repeating: -1, count: rows / block + 1)
                var last = first
                for (position, row) in drawn.enumerated() {
                    if first[row / block] < 0 { first[row / block] = position }
                    last[row / block] = position
                }
                let span = zip(first, last).map { $0.1 - $0.0 }.max() ?? 0
                #expect(span < TokenOrder.windowRows + block)
                // And a batch has rows of many blocks, no more from any of them than chance brings.
                let counts = Dictionary(drawn[0..<512].map { ($0 / block, 1) }, uniquingKeysWith: +)
                let within = Double(min(rows, TokenOrder.windowRows / 2) / block)
                #expect(Double(counts.count) > 0.75 * within * (1 - exp(-512 / within)))
                places.append(first)
            }
            if rows > 2 * TokenOrder.windowRows { #expect(places[0] != places[1]) }
        }
    }

    @Test func blocksComeInRandomOrder() {
        // Mean place of each block's rows: for a random order uncorrelated with the block's number.
        let (rows, block) = (1_000_000, 128)
        var order = TokenOrder(rows: rows, dIn: 512, seed: 1)
        var sums = [Double](repeating: 0, count: rows / block + 1)
        for (position, row) in order.next(rows).enumerated() { sums[row / block] += Double(position) / Double(block) }
        let places = sums.dropLast().map { $0 / Double(rows) - 0.5 }
        let numbers = places.indices.map { Double($0) / Double(places.count) - 0.5 }
        let correlation = zip(places, numbers).reduce(0) { $0 + $1.0 * $1.1 } / Double(places.count) * 12
        #expect(abs(correlation) < 5 / Double(places.count).squareRoot())
        let neighbours = zip(places, places.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 } / Double(places.count) * 12
        #expect(abs(neighbours) < 5 / Double(places.count).squareRoot())
    }

    @Test(arguments: [7, 5000, 150_001])
    func theOrderGoesOnFromAnyPosition(rows: Int) {
        var whole = TokenOrder(rows: rows, dIn: 64, seed: 5)
        for size in [3, rows / 2, rows - 1, rows, 1] {
            _ = whole.next(size)
            var other = TokenOrder(rows: rows, dIn: 64, seed: 5, epoch: whole.epoch, position: whole.position)
            var copy = whole
            #expect(other.next(2 * rows) == copy.next(2 * rows))
        }
    }
}
