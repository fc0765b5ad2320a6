// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Norms of rows, and the bound that follows from a sample of them.
public enum RowNorms {
    /// Most rows of a sample.
    public static let sampleLimit = 4096

    /// The numbers of the rows that stand for `count` of them: all, or 4096, ascending, one at random
    /// from each of as many equal parts. They depend on `count` alone, not on how rows are cut into
    /// shards.
    public static func sample(of count: Int) -> [Int] {
        guard count > sampleLimit else { return Array(0..<max(count, 0)) }
        // index * count / sampleLimit without its overflow.
        let (whole, rest) = count.quotientAndRemainder(dividingBy: sampleLimit)
        func start(_ index: Int) -> Int { index * whole + index * rest / sampleLimit }
        var random = RandomSource(seed: UInt64(count))
        return (0..<sampleLimit).map { start($0) + random.below(start($0 + 1) - start($0)) }
    }

    /// Writes the norm of each row; `name` and `firstRow` are what messages call the first one.
    ///
    /// - Throws: `invalidArgument` for a value that is not finite in float32; `cancelled`.
    public static func norms(
        of rows: MatrixView, into target: UnsafeMutablePointer<Double>, name: String = "h", firstRow: Int = 0,
        progress: Progress = .none
    ) throws {
        let blockRows = 256
        let shared = Unchecked(target)
        try parallelFor((rows.rows + blockRows - 1) / blockRows, progress: progress.inRows(rows.rows, of: blockRows)) {
            block in
            let range = block * blockRows..<min((block + 1) * blockRows, rows.rows)
            let part = rows.rows(range)
            if let bad = part.firstNonFinite(asFloat32: true) {
                throw SutureError.invalidArgument(
                    "\(name)[\(firstRow + range.lowerBound + bad.row), \(bad.column)] is \(bad.value), expected finite numbers in the range of float32"
                )
            }
            let norms = shared.value + range.lowerBound
            part.squaredNorms(0..<range.count, into: norms)
            for i in 0..<range.count { norms[i] = norms[i].squareRoot() }
        }
    }

    /// `multiple` times the median norm of a sample of the rows of all `shards`, in order; rows of zeros
    /// (padding) are left out of the sample. Infinity, which bounds nothing, where all are zeros.
    ///
    /// - Throws: `invalidArgument` unless `multiple` is a finite number above 0, for no rows, other
    ///   widths, or a value in the sample that is not finite in float32.
    public static func bound(
        of shards: [MatrixView], multiple: Double, name: @escaping (_ shard: Int) -> String = { "shards[\($0)]" }
    ) throws -> Double {
        guard multiple.isFinite, multiple > 0 else {
            throw SutureError.invalidArgument("multiple is \(multiple), expected a finite number above 0")
        }
        guard let first = shards.first else {
            throw SutureError.invalidArgument("shards is empty, expected at least one matrix")
        }
        let rows = try TokenRows(shards, dIn: first.cols, name: name)
        var norms: [Double] = []
        for row in sample(of: rows.count) {
            let (view, name, local) = rows.place(of: row)
            var norm = 0.0
            try Self.norms(of: view.rows(local..<local + 1), into: &norm, name: name, firstRow: local)
            if norm > 0 { norms.append(norm) }
        }
        guard !norms.isEmpty else { return .infinity }
        norms.sort()
        let middle = norms.count / 2
        let median = norms.count % 2 == 1 ? norms[middle] : (norms[middle - 1] + norms[middle]) / 2
        let bound = multiple * median
        // Only a bound beyond all norms of float32 numbers can be too large.
        return bound.isFinite && bound > 0 ? bound : .infinity
    }
}
