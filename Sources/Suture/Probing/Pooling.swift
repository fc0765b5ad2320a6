// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Means over the tokens of each sample. Samples may have any number of tokens, anywhere among the
/// rows; sums are in float64, in the order of the rows.
public struct Pooling: Sendable {
    public let samples: Int
    /// Rows of sample s: order[starts[s] ..< starts[s + 1]].
    private let order: [Int]
    private let starts: [Int]

    /// - Parameter sample: the sample of each row; negative: the row is left out.
    /// - Throws: `SutureError.invalidArgument` for a sample beyond `samples`, or one without rows.
    public init(samples: Int, sample: UnsafeBufferPointer<Int64>) throws {
        var counts = [Int](repeating: 0, count: samples)
        for (row, number) in sample.enumerated() where number >= 0 {
            guard number < samples else {
                throw SutureError.invalidArgument(
                    "sample[\(row)] is \(number), expected less than samples = \(samples), or a negative number")
            }
            counts[Int(number)] += 1
        }
        if let empty = counts.firstIndex(of: 0) {
            throw SutureError.invalidArgument("sample \(empty) has no rows, expected at least 1 in each of \(samples)")
        }
        var starts = [0]
        starts.reserveCapacity(samples + 1)
        for count in counts { starts.append((starts.last ?? 0) + count) }
        var next = starts
        var order = [Int](repeating: 0, count: starts.last ?? 0)
        for (row, number) in sample.enumerated() where number >= 0 {
            order[next[Int(number)]] = row
            next[Int(number)] += 1
        }
        (self.samples, self.order, self.starts) = (samples, order, starts)
    }

    private func rows(_ sample: Int) -> ArraySlice<Int> { order[starts[sample]..<starts[sample + 1]] }

    /// Dense rows, in one or several matrices that follow one another, to (samples, cols).
    ///
    /// - Throws: `SutureError.invalidArgument` at a number that is not finite; `.cancelled`.
    public func mean(
        _ shards: [MatrixView], into target: UnsafeMutablePointer<Float>, rowStride: Int, progress: Progress = .none
    ) throws {
        guard let cols = shards.first?.cols else { return }
        var firsts: [Int] = []
        var total = 0
        for shard in shards {
            firsts.append(total)
            total += shard.rows
        }
        let (out, first) = (Unchecked(target), firsts)
        let chunks = RowChunks(rows: samples, work: order.count * cols)
        try chunks.forEach(progress: progress) { range in
            let sums = try Buffer<Double>(count: cols, for: "pooling")
            let row = try Buffer<Double>(count: cols, for: "pooling")
            let scratch = try Buffer<Float>(count: cols, for: "pooling")
            var shard = 0
            for sample in range {
                sums.pointer.update(repeating: 0, count: cols)
                for number in self.rows(sample) {
                    // Rows of a sample are next to each other as a rule.
                    while first[shard] > number { shard -= 1 }
                    while number >= first[shard] + shards[shard].rows { shard += 1 }
                    shards[shard].readRow(number - first[shard], into: row.pointer, scratch: scratch.pointer)
                    for j in 0..<cols { sums.pointer[j] += row.pointer[j] }
                }
                let count = Double(self.rows(sample).count)
                for j in 0..<cols { scratch.pointer[j] = Float(sums.pointer[j] / count) }
                guard sk_first_nonfinite_f32(scratch.pointer, cols) == cols else {
                    throw try self.problem(shards, first, sample: sample)
                }
                (out.value + sample * rowStride).update(from: scratch.pointer, count: cols)
            }
        }
    }

    /// Which number made a mean worthless.
    private func problem(_ shards: [MatrixView], _ first: [Int], sample: Int) throws -> SutureError {
        for number in rows(sample) {
            guard let shard = first.lastIndex(where: { $0 <= number }) else { continue }
            let local = number - first[shard]
            if let bad = shards[shard].rows(local..<local + 1).firstNonFinite(asFloat32: true) {
                return .invalidArgument(
                    "shards[\(shard)][\(local), \(bad.column)] is \(bad.value), expected finite numbers")
            }
        }
        return .numerical("the mean of sample \(sample) is beyond float32")
    }

    /// Sparse codes; the result has a slot for each latent that is active on any token of the sample.
    ///
    /// - Throws: `.cancelled`, `.outOfMemory`.
    public func mean(_ codes: SparseCodes, progress: Progress = .none) throws -> SparseCodes {
        let rows = SparseRows(codes)
        let sums = try Buffer<Double>(zeros: codes.dSAE, for: "pooling")
        let seen = try Buffer<Int32>(zeros: codes.dSAE, for: "pooling")
        var active: [Int32] = []
        // Twice the same walk: first to see how many slots are needed, then for the sums.
        func gather(_ sample: Int, stamp: Int32) {
            active.removeAll(keepingCapacity: true)
            for row in self.rows(sample) {
                rows.forEach(row) { latent, value in
                    if seen.pointer[latent] != stamp {
                        seen.pointer[latent] = stamp
                        sums.pointer[latent] = 0
                        active.append(Int32(latent))
                    }
                    sums.pointer[latent] += value
                }
            }
        }
        guard samples < Int(Int32.max) / 2 else {
            throw SutureError.invalidArgument("samples is \(samples), expected less than \(Int(Int32.max) / 2)")
        }
        var width = 0
        for sample in 0..<samples {
            if sample % 64 == 0 { try progress.report(sample, of: 2 * samples) }
            gather(sample, stamp: Int32(sample + 1))
            width = max(width, active.count)
        }
        let indices = try Buffer<Int32>(count: width, for: "pooling")
        let values = try Buffer<Float>(count: width, for: "pooling")
        return try SparseCodes(rows: samples, width: width, dSAE: codes.dSAE, tokenScales: nil) { sample in
            if sample % 64 == 0 { try progress.report(samples + sample, of: 2 * samples) }
            gather(sample, stamp: Int32(samples + sample + 1))
            let count = Double(self.rows(sample).count)
            let means = active.map { (latent: $0, value: Float(sums.pointer[Int($0)] / count)) }
                .sorted { $0.value > $1.value || ($0.value == $1.value && $0.latent < $1.latent) }
            for (slot, mean) in means.enumerated() {
                indices.pointer[slot] = mean.latent
                values.pointer[slot] = mean.value
            }
            return (means.count, UnsafePointer(indices.pointer), UnsafePointer(values.pointer))
        }
    }
}
