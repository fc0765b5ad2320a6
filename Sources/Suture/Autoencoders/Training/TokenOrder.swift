// SPDX-License-Identifier: Apache-2.0

/// The order in which rows are drawn: epoch after epoch, each a pseudo-random order of all rows that
/// depends on the seed, the epoch, d_in and the number of rows only. Nothing is stored for it, however
/// many rows there are.
///
/// Rows that lie on a disk are drawn in runs: consecutive rows form blocks of about 256 KB (as
/// float32, at least 32 rows), the blocks come in random order, and the rows of a window of blocks that
/// follow each other in it, 65,536 rows at most but for one block, are mixed. So a file larger than
/// memory is read once an epoch, in pieces that are worth a read, and a batch has rows of many places.
/// As many rows as fit into one window are mixed as a whole.
struct TokenOrder: Equatable {
    static let blockBytes = 1 << 18
    static let smallestBlock = 32
    static let windowRows = 1 << 16

    let seed: UInt64
    let rows: Int
    /// Rows of a block, all but the last.
    let blockRows: Int
    /// The next row's place: in which epoch, and how far in it.
    private(set) var epoch: Int
    private(set) var position: Int

    private let wholeBlocks: Int
    /// Blocks of a window, all but the last.
    private let windowBlocks: Int
    /// Of the epoch: the order of the whole blocks, and the place of the one that is not.
    private var blockOrder: Permutation
    private var shortPlace = 0
    /// Of the window that `position` is in.
    private var window: Window

    private struct Window: Equatable {
        /// Blocks by their place in the epoch's order, and positions.
        var places = 0..<0
        var positions = 0..<0
        var order = Permutation(count: 1, key: 0)
    }

    /// - Parameters:
    ///   - rows: at least 1.
    ///   - position: rows of the epoch that were drawn before, 0 to `rows`.
    init(rows: Int, dIn: Int, seed: UInt64, epoch: Int = 0, position: Int = 0) {
        self.seed = seed
        self.rows = rows
        self.epoch = epoch
        self.position = position
        blockRows = min(rows, max(Self.smallestBlock, Self.blockBytes / (4 * max(dIn, 1))))
        wholeBlocks = rows / blockRows
        let blocks = (rows - 1) / blockRows + 1
        // As many windows as that takes, of equal size.
        windowBlocks = (blocks - 1) / ((rows - 1) / Self.windowRows + 1) + 1
        blockOrder = Permutation(count: 1, key: 0)
        window = Window()
        beginEpoch()
    }

    private var shortRows: Int { rows - wholeBlocks * blockRows }
    private var blocks: Int { wholeBlocks + (shortRows > 0 ? 1 : 0) }

    private mutating func beginEpoch() {
        var random = RandomSource(seed: mix(UInt64(epoch), seed))
        blockOrder = Permutation(count: wholeBlocks, key: random.next())
        shortPlace = random.below(wholeBlocks + 1)
        window = Window()
    }

    /// Where the block at a place of the epoch's order begins, as a position.
    private func start(ofPlace place: Int) -> Int {
        place * blockRows - (shortRows > 0 && place > shortPlace ? blockRows - shortRows : 0)
    }

    private mutating func findWindow() {
        // This window or the next: where the short block comes early, all that follows does.
        var index = position / blockRows / windowBlocks
        while true {
            let places = index * windowBlocks..<min((index + 1) * windowBlocks, blocks)
            let positions = start(ofPlace: places.lowerBound)..<start(ofPlace: places.upperBound)
            if position < positions.upperBound {
                let key = mix(UInt64(index) &+ 1, mix(UInt64(epoch), ~seed))
                window = Window(
                    places: places, positions: positions, order: Permutation(count: positions.count, key: key))
                return
            }
            index += 1
        }
    }

    /// The row at `position`, which is in `window`.
    private func row() -> Int {
        let mixed = window.positions.lowerBound + window.order[position - window.positions.lowerBound]
        guard shortRows > 0 else {
            return blockOrder[mixed / blockRows] * blockRows + mixed % blockRows
        }
        let shortStart = shortPlace * blockRows
        if mixed < shortStart { return blockOrder[mixed / blockRows] * blockRows + mixed % blockRows }
        if mixed < shortStart + shortRows { return wholeBlocks * blockRows + mixed - shortStart }
        let rest = mixed - shortRows
        return blockOrder[rest / blockRows] * blockRows + rest % blockRows
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
                beginEpoch()
            }
            if !window.positions.contains(position) { findWindow() }
            batch.append(row())
            position += 1
        }
        return batch
    }
}

/// A pseudo-random permutation of 0 ..< count without a table: a Feistel network on the smallest
/// power of two that holds all; what falls outside is sent through again until it falls inside (cycle
/// walking, Black & Rogaway 2002; fewer than two rounds on average).
struct Permutation: Equatable {
    let count: Int
    private let keys: [UInt64]
    private let highBits: UInt64
    private let lowBits: UInt64

    /// - Parameter count: at least 1.
    init(count: Int, key: UInt64) {
        self.count = count
        let bits = UInt64(max(2, Int.bitWidth - max(count - 1, 0).leadingZeroBitCount))
        lowBits = bits / 2
        highBits = bits - lowBits
        var random = RandomSource(seed: key)
        // Four rounds make a pseudo-random permutation of large sets (Luby & Rackoff 1988); small
        // and unbalanced halves mix more slowly.
        keys = (0..<8).map { _ in random.next() }
    }

    subscript(index: Int) -> Int {
        let lowMask = (1 << lowBits) - 1 as UInt64
        let highMask = (1 << highBits) - 1 as UInt64
        var value = UInt64(index)
        repeat {
            var (high, low) = (value >> lowBits, value & lowMask)
            for round in stride(from: 0, to: keys.count, by: 2) {
                high ^= mix(low, keys[round]) & highMask
                low ^= mix(high, keys[round + 1]) & lowMask
            }
            value = high << lowBits | low
        } while value >= UInt64(count)
        return Int(value)
    }
}

/// A hash of a number under a key (the finaliser of SplitMix64).
private func mix(_ number: UInt64, _ key: UInt64) -> UInt64 {
    var x = number &* 0x9e37_79b9_7f4a_7c15 &+ key
    x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
    return x ^ (x >> 31)
}
