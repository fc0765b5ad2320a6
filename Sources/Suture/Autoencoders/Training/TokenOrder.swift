// SPDX-License-Identifier: Apache-2.0

/// Token rows in one or several matrices, counted through, and what to call each matrix in an error.
struct TokenRows {
    let shards: [MatrixView]
    /// First row of each shard, and the total.
    private let starts: [Int]
    private let name: (_ shard: Int) -> String

    var count: Int { starts[shards.count] }

    init(_ shards: [MatrixView], dIn: Int, name: @escaping (_ shard: Int) -> String) throws {
        var starts = [0]
        for (index, shard) in shards.enumerated() {
            guard shard.cols == dIn else {
                throw SutureError.invalidArgument(
                    "\(name(index)) has \(shard.cols) columns, expected d_in = \(dIn)")
            }
            guard shard.rows >= 1 else {
                throw SutureError.invalidArgument("\(name(index)) has \(shard.rows) rows, expected at least 1")
            }
            let (total, overflow) = (starts.last ?? 0).addingReportingOverflow(shard.rows)
            guard !overflow else {
                throw SutureError.invalidArgument("\(name(index)) has \(shard.rows) rows, more than can be counted")
            }
            starts.append(total)
        }
        self.shards = shards
        self.starts = starts
        self.name = name
    }

    private func locate(_ row: Int) -> (shard: Int, row: Int) {
        var (low, high) = (0, shards.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if starts[middle] <= row { low = middle } else { high = middle - 1 }
        }
        return (low, row - starts[low])
    }

    /// Writes row `row` as float32.
    func read(_ row: Int, into target: UnsafeMutablePointer<Float>) {
        let (shard, local) = locate(row)
        shards[shard].readRow(local, into: target)
    }

    /// The error for row `row`, whose element `column` is not finite as float32.
    func nonFinite(_ row: Int, column: Int, value: Float) -> SutureError {
        let (shard, local) = locate(row)
        return .invalidArgument("\(name(shard))[\(local), \(column)] is \(value) as float32, expected finite numbers")
    }
}

/// The order in which rows are drawn: epoch after epoch, each a pseudo-random permutation of all
/// rows that depends on the seed and the epoch only. Nothing is stored for it, however many rows
/// there are.
///
/// A permutation is a Feistel network on the smallest power of two that holds all rows; what falls
/// outside is sent through again until it falls inside (cycle walking, Black & Rogaway 2002; fewer
/// than two rounds on average).
struct TokenOrder: Equatable {
    let seed: UInt64
    let rows: Int
    /// The next row's place: in which epoch, and how far in it.
    private(set) var epoch = 0
    private(set) var position = 0
    private var keys: [UInt64] = []
    private let highBits: UInt64
    private let lowBits: UInt64

    /// - Parameter rows: at least 1.
    init(rows: Int, seed: UInt64, epoch: Int = 0) {
        self.seed = seed
        self.rows = rows
        self.epoch = epoch
        let bits = UInt64(max(2, Int.bitWidth - max(rows - 1, 0).leadingZeroBitCount))
        lowBits = bits / 2
        highBits = bits - lowBits
        makeKeys()
    }

    private mutating func makeKeys() {
        var random = RandomSource(seed: Self.hash(UInt64(epoch), seed))
        // Four rounds make a pseudo-random permutation of large sets (Luby & Rackoff 1988); small
        // and unbalanced halves mix more slowly.
        keys = (0..<8).map { _ in random.next() }
    }

    private static func hash(_ half: UInt64, _ key: UInt64) -> UInt64 {
        var x = half &* 0x9e37_79b9_7f4a_7c15 &+ key
        x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
        return x ^ (x >> 31)
    }

    private func row(at position: Int) -> Int {
        let lowMask = (1 << lowBits) - 1 as UInt64
        let highMask = (1 << highBits) - 1 as UInt64
        var value = UInt64(position)
        repeat {
            var (high, low) = (value >> lowBits, value & lowMask)
            for round in stride(from: 0, to: keys.count, by: 2) {
                high ^= Self.hash(low, keys[round]) & highMask
                low ^= Self.hash(high, keys[round + 1]) & lowMask
            }
            value = high << lowBits | low
        } while value >= UInt64(rows)
        return Int(value)
    }

    /// The next `count` rows. What an epoch has left too few of for a batch goes together with the
    /// first rows of the next epoch, so that every batch is full and every row seen once an epoch.
    mutating func next(_ count: Int) -> [Int] {
        var batch: [Int] = []
        batch.reserveCapacity(count)
        for _ in 0..<count {
            if position == rows {
                position = 0
                epoch += 1
                makeKeys()
            }
            batch.append(row(at: position))
            position += 1
        }
        return batch
    }
}
