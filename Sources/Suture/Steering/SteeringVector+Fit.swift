// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension SteeringVector {
    /// Means closer than this, relative to their own size, are the same: what is left is rounding.
    private static let leastDifference = 1e-10

    /// The normalised difference of the means of two sets of activations, and `z̄`, the mean of `⟨h, v⟩`
    /// over the positive ones (arXiv 2506.06609, eq. 8). Sums are in float64, in an order that does not
    /// depend on the number of threads.
    ///
    /// - Parameters:
    ///   - positive: (N, d) each, N ≥ 1: tokens of the texts to steer to.
    ///   - negative: (N, d) each: tokens of the texts to steer away from.
    /// - Throws: `invalidArgument` for widths that differ, a side without rows, a value that is not finite
    ///   as float32, or means that are the same; `cancelled`.
    public static func fit(
        positive: [MatrixView], negative: [MatrixView], progress: Progress = .none
    ) throws -> SteeringVector {
        let total = (positive + negative).reduce(0) { $0 + $1.rows }
        let toward = try mean(of: positive, "positive", done: 0, total: total, progress)
        let away = try mean(
            of: negative, "negative", cols: toward.count, done: positive.reduce(0) { $0 + $1.rows }, total: total,
            progress)
        let difference = zip(toward, away).map { $0 - $1 }
        let size = max(norm(toward), norm(away))
        let metadata = Metadata(
            unique: [
                ("positive_tokens", .integer(Int64(positive.reduce(0) { $0 + $1.rows }))),
                ("negative_tokens", .integer(Int64(negative.reduce(0) { $0 + $1.rows }))),
            ])
        guard norm(difference) > leastDifference * size,
            let found = try along(difference, mean: toward, metadata: metadata)
        else {
            throw SutureError.invalidArgument(
                "positive and negative have the same mean (difference \(norm(difference)), norm of the means \(size)), "
                    + "expected means that differ: there is no direction between them")
        }
        return found
    }

    /// The same direction with `z̄` and mean of other positive activations.
    ///
    /// - Throws: as `fit`.
    func remeasured(on positive: [MatrixView], _ name: String, progress: Progress) throws -> SteeringVector {
        let rows = positive.reduce(0) { $0 + $1.rows }
        let mean = try Self.mean(of: positive, name, cols: dIn, done: 0, total: rows, progress)
        let same = vector.buffer.map { Double($0) }
        var described = metadata
        described["positive_tokens"] = .integer(Int64(rows))
        guard let found = try Self.along(same, mean: mean, metadata: described) else { return self }
        return found
    }

    private static func norm(_ values: [Double]) -> Double {
        values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    }

    /// Mean of the rows of several matrices.
    private static func mean(
        of shards: [MatrixView], _ name: String, cols: Int? = nil, done: Int, total: Int, _ progress: Progress
    ) throws -> [Double] {
        guard let width = cols ?? shards.first?.cols, shards.contains(where: { $0.rows > 0 }) else {
            throw SutureError.invalidArgument("\(name) has no rows, expected at least 1")
        }
        var sums = [Double](repeating: 0, count: width)
        var rows = 0
        for (index, shard) in shards.enumerated() {
            let label = shards.count == 1 ? name : "\(name)[\(index)]"
            guard shard.cols == width else {
                throw SutureError.invalidArgument("\(label) has \(shard.cols) columns, expected \(width)")
            }
            try add(shard, label, to: &sums, done: done + rows, total: total, progress)
            rows += shard.rows
        }
        return sums.map { $0 / Double(rows) }
    }

    /// Blocks whose sums are held at a time, added in their order.
    private static let wave = 64

    private static func add(
        _ shard: MatrixView, _ name: String, to sums: inout [Double], done: Int, total: Int, _ progress: Progress
    ) throws {
        let width = shard.cols
        // A millisecond or so of work, which depends on the shape alone.
        let blockRows = max(1, min(4096, 500_000 / width))
        let blocks = (shard.rows + blockRows - 1) / blockRows
        guard blocks > 0 else { return }
        let parts = try Buffer<Double>(count: min(wave, blocks) * width, for: "the sums of a mean")
        for first in stride(from: 0, to: blocks, by: wave) {
            try progress.report(done + first * blockRows, of: total)
            let count = min(wave, blocks - first)
            try parallelFor(count) { index in
                let low = (first + index) * blockRows
                let block = shard.rows(low..<min(low + blockRows, shard.rows))
                if let bad = block.firstNonFinite(asFloat32: true) {
                    throw SutureError.invalidArgument(
                        "\(name)[\(low + bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
                }
                addRows(of: block, to: parts.pointer + index * width)
            }
            for index in 0..<count {
                for j in 0..<width { sums[j] += parts.pointer[index * width + j] }
            }
        }
        try progress.report(done + shard.rows, of: total)
    }

    /// Writes the column sums of a block.
    private static func addRows(of block: MatrixView, to target: UnsafeMutablePointer<Double>) {
        let width = block.cols
        target.update(repeating: 0, count: width)
        withUnsafeTemporaryAllocation(of: Double.self, capacity: width) { row in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { scratch in
                guard let row = row.baseAddress, let scratch = scratch.baseAddress else { return }
                for i in 0..<block.rows {
                    block.readRow(i, into: row, scratch: scratch)
                    for j in 0..<width { target[j] += row[j] }
                }
            }
        }
    }
}
