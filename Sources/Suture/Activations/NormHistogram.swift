// SPDX-License-Identifier: Apache-2.0

/// How the norms of rows are spread: for narrow ranges of norms, how many rows, and the sum of their
/// squares. Enough for a median and for what the largest rows carry, and it adds up over parts.
///
/// A range is what shares the exponent and the first four bits of the mantissa: 1/16 of an octave,
/// 3 to 6 % wide. Rows of zeros are counted apart.
struct NormHistogram: Sendable, Equatable {
    /// Number of the first range that is kept, and what is in it and those after it.
    private(set) var first = 0
    private(set) var counts: [UInt64] = []
    private(set) var squares: [Double] = []
    private(set) var zeros: UInt64 = 0

    /// Ranges there are: no norm of float32 numbers is near the last.
    static let limit = 1 << 15

    /// - Precondition: `norm` is not negative, and not NaN.
    static func range(of norm: Double) -> Int { Int(norm.bitPattern >> 48) }

    /// Rows in all.
    var rows: UInt64 { counts.reduce(zeros, &+) }

    /// Sum of all squared norms.
    var total: Double { squares.reduce(0, +) }

    mutating func add(norm: Double, square: Double) { add(range: Self.range(of: norm), count: 1, squares: square) }

    /// - Precondition: `range` is at least 0 and below `limit`.
    mutating func add(range: Int, count: UInt64, squares sum: Double) {
        guard range > 0 else { return zeros &+= count }
        reach(range)
        counts[range - first] &+= count
        squares[range - first] += sum
    }

    /// Adds the rows of `other`.
    mutating func merge(_ other: NormHistogram) {
        zeros &+= other.zeros
        for (i, count) in other.counts.enumerated() where count > 0 {
            add(range: other.first + i, count: count, squares: other.squares[i])
        }
    }

    private mutating func reach(_ range: Int) {
        if counts.isEmpty { first = range }
        if range < first {
            counts.insert(contentsOf: repeatElement(0, count: first - range), at: 0)
            squares.insert(contentsOf: repeatElement(0, count: first - range), at: 0)
            first = range
        } else if range - first >= counts.count {
            let more = range - first - counts.count + 1
            counts.append(contentsOf: repeatElement(0, count: more))
            squares.append(contentsOf: repeatElement(0, count: more))
        }
    }

    /// The ranges with rows in them, ascending.
    var entries: [(range: Int, count: UInt64, squares: Double)] {
        counts.indices.compactMap { i in counts[i] > 0 ? (first + i, counts[i], squares[i]) : nil }
    }

    /// Root of the mean square of the norms in the range that the median is in, rows of zeros left out;
    /// 0 without rows.
    var median: Double {
        let all = counts.reduce(0, &+)
        var seen: UInt64 = 0
        for (_, count, squares) in entries {
            seen += count
            if 2 * seen >= all { return (squares / Double(count)).squareRoot() }
        }
        return 0
    }

    /// Of the rows in ranges whose norms are beyond `bound` (in the mean square): how many, and at least
    /// how far from `centre` their squared distances add up to.
    func beyond(_ bound: Double, centre: Double) -> (rows: UInt64, squares: Double) {
        var (rows, sum): (UInt64, Double) = (0, 0)
        for (_, count, squares) in entries {
            let norm = (squares / Double(count)).squareRoot()
            guard norm > bound else { continue }
            rows += count
            // |x - m|² >= (|x| - |m|)², and the mean of |x| is at most the root of that of |x|².
            sum += Double(count) * (norm - centre) * (norm - centre)
        }
        return (rows, sum)
    }
}
