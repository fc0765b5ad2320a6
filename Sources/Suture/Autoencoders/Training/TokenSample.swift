// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Up to 65,536 rows, drawn evenly over all: read anew for each figure, never stored.
///
/// Sums are float64, by blocks of rows that are added up in order: the same bits for any number of
/// threads.
struct TokenSample {
    static let limit = 65_536
    private static let blockRows = 512

    private let rows: TokenRows
    private let dIn: Int
    private let progress: Progress
    private let count: Int

    init(_ rows: TokenRows, dIn: Int, progress: Progress) {
        self.rows = rows
        self.dIn = dIn
        self.progress = progress
        count = min(rows.count, TokenSample.limit)
    }

    /// Row `index` of the sample among all rows.
    private func row(_ index: Int) -> Int {
        // index * rows.count / count without its overflow.
        let (whole, rest) = rows.count.quotientAndRemainder(dividingBy: count)
        return index * whole + index * rest / count
    }

    /// Sums of `width` numbers over the rows: `add` adds those of one row.
    ///
    /// - Throws: `SutureError.invalidArgument` naming a row with a NaN or infinity; `.cancelled`.
    private func sums(
        _ width: Int,
        _ add: @escaping @Sendable (_ row: UnsafePointer<Float>, _ sums: UnsafeMutablePointer<Double>) -> Void
    ) throws -> [Double] {
        let blocks = (count + TokenSample.blockRows - 1) / TokenSample.blockRows
        let parts = try Buffer<Double>(zeros: blocks * width)
        defer { withExtendedLifetime(parts) {} }
        let shared = Unchecked((self, parts.pointer))
        try parallelFor(blocks, progress: progress) { block in
            let (sample, parts) = shared.value
            let first = block * TokenSample.blockRows
            let values = try Buffer<Float>(zeros: sample.dIn)
            defer { withExtendedLifetime(values) {} }
            for index in first..<min(first + TokenSample.blockRows, sample.count) {
                let row = sample.row(index)
                sample.rows.read(row, into: values.pointer)
                let bad = sk_first_nonfinite_f32(values.pointer, sample.dIn)
                guard bad == sample.dIn else {
                    throw sample.rows.nonFinite(row, column: bad, value: values.pointer[bad])
                }
                add(values.pointer, parts + block * width)
            }
        }
        var total = [Double](repeating: 0, count: width)
        for block in 0..<blocks {
            for i in 0..<width { total[i] += parts.pointer[block * width + i] }
        }
        return total
    }

    func meanNorm() throws -> Double {
        let dIn = dIn
        return try sums(1) { row, sums in sums[0] += distance(row, nil, dIn) }[0] / Double(count)
    }

    func mean() throws -> [Double] {
        let dIn = dIn
        return try sums(dIn) { row, sums in
            for i in 0..<dIn { sums[i] += Double(row[i]) }
        }.map { $0 / Double(count) }
    }

    /// By Weiszfeld's iteration from the mean, as Vardi & Zhang (2000) mend it where it meets a row.
    ///
    /// Ends when a step is below 1e-7 of the (harmonic) mean distance to the rows, or after 200.
    func geometricMedian() throws -> [Double] {
        let dIn = dIn
        var point = try mean()
        for _ in 0..<200 {
            // Sum of x / |x - point|; of 1 / |x - point|; rows at the point.
            let current = point
            let sums = try sums(dIn + 2) { row, sums in
                let length = current.withUnsafeBufferPointer { distance(row, $0.baseAddress, dIn) }
                guard length > 0 else { return sums[dIn + 1] += 1 }
                let weight = 1 / length
                for i in 0..<dIn { sums[i] += weight * Double(row[i]) }
                sums[dIn] += weight
            }
            let (weight, meeting) = (sums[dIn], sums[dIn + 1])
            guard weight > 0 else { break }
            var next = (0..<dIn).map { sums[$0] / weight }
            if meeting > 0 {
                // The pull of the other rows; `meeting` rows hold the point against less.
                let pull = weight * zip(next, point).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
                guard pull > meeting else { break }
                let stay = meeting / pull
                for i in 0..<dIn { next[i] = (1 - stay) * next[i] + stay * point[i] }
            }
            let step = zip(next, point).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
            point = next
            if step <= 1e-7 * Double(count) / weight { break }
        }
        return point
    }
}

/// |row - point|, |row| without a point.
private func distance(_ row: UnsafePointer<Float>, _ point: UnsafePointer<Double>?, _ count: Int) -> Double {
    var square = 0.0
    for i in 0..<count {
        let difference = Double(row[i]) - (point?[i] ?? 0)
        square += difference * difference
    }
    return square.squareRoot()
}
