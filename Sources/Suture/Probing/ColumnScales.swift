// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Mean and standard deviation of each column: the coordinates in which probes are fitted. The
/// intercept is free, so that centring changes no result, and columns of one size are what solvers
/// like best.
final class ColumnScales: Sendable {
    /// (cols)
    let means: Buffer<Double>
    /// (cols) Standard deviations, over N; 1 for columns that do not vary.
    let deviations: Buffer<Double>
    /// (cols) Whether a column does not vary: it says nothing, and its weight is 0.
    let constant: Buffer<Bool>

    var count: Int { means.count }

    /// - Throws: `SutureError.invalidArgument` at the first number that is not finite.
    init(_ samples: Samples, name: String, progress: Progress = .none) throws {
        let (rows, cols) = (samples.rows, samples.cols)
        let means = try Buffer<Double>(count: cols, for: "a probe")
        let deviations = try Buffer<Double>(count: cols, for: "a probe")
        let chunks = RowChunks(rows: rows, work: samples.work, width: 2 * cols)
        if let (base, stride) = samples.floats {
            try Self.inOnePass(Unchecked(base), stride, rows, means, deviations, chunks, progress)
            let isFinite = (0..<cols).allSatisfy { means.pointer[$0].isFinite }
            if !isFinite { try samples.requireFinite(name) }
            constant = try Self.finish(deviations, means, rows: rows)
            (self.means, self.deviations) = (means, deviations)
            return
        }
        try chunks.sum(cols, into: means.pointer, progress: progress) { range, sums in
            try samples.addRows(range, checking: name) { _, row in
                for j in 0..<cols { sums[j] += row[j] }
            } sparse: { _, j, x in
                sums[j] += x
            }
        }
        var total = 0.0
        for j in 0..<cols {
            total += means.pointer[j]
            means.pointer[j] /= Double(rows)
        }
        // Sums in float64 of finite float32 numbers are finite.
        if !total.isFinite { try samples.requireFinite(name) }
        switch samples {
        case .dense:
            try chunks.sum(cols, into: deviations.pointer, progress: progress) { range, sums in
                try samples.addRows(range) { _, row in
                    for j in 0..<cols {
                        let distance = row[j] - means.pointer[j]
                        sums[j] += distance * distance
                    }
                } sparse: { _, _, _ in
                }
            }
        case .sparse:
            // Distances of what is there, and how much is.
            let sums = try Buffer<Double>(count: 2 * cols, for: "a probe")
            try chunks.sum(2 * cols, into: sums.pointer, progress: progress) { range, sums in
                try samples.addRows(range) { _, _ in
                } sparse: { _, j, x in
                    let distance = x - means.pointer[j]
                    sums[j] += distance * distance
                    sums[cols + j] += 1
                }
            }
            for j in 0..<cols {
                let missing = Double(rows) - sums.pointer[cols + j]
                deviations.pointer[j] = sums.pointer[j] + missing * means.pointer[j] * means.pointer[j]
            }
        }
        constant = try Self.finish(deviations, means, rows: rows)
        (self.means, self.deviations) = (means, deviations)
    }

    /// Means and sums of squared distances from them, by way of distances from a mean of some rows: those
    /// are near enough that nothing cancels.
    private static func inOnePass(
        _ base: Unchecked<UnsafePointer<Float>>, _ stride: Int, _ rows: Int, _ means: Buffer<Double>,
        _ squares: Buffer<Double>, _ chunks: RowChunks, _ progress: Progress
    ) throws {
        let cols = means.count
        let from = try Buffer<Double>(zeros: cols, for: "a probe")
        let some = min(rows, 32)
        for i in 0..<some {
            sk_mixed_axpy(1 / Double(some), base.value + i * (rows / some) * stride, from.pointer, cols)
        }
        let sums = try Buffer<Double>(count: 2 * cols, for: "a probe")
        try chunks.sum(2 * cols, into: sums.pointer, progress: progress) { range, sums in
            for i in range { sk_add_distances(base.value + i * stride, from.pointer, sums, sums + cols, cols) }
        }
        for j in 0..<cols {
            let distance = sums.pointer[j] / Double(rows)
            means.pointer[j] = from.pointer[j] + distance
            squares.pointer[j] = max(0, sums.pointer[cols + j] - Double(rows) * distance * distance)
        }
    }

    /// Centres and scales columns in place that lie one after the other, from `columns[1]` on, where
    /// `columns` is (1 + cols, samples); the first becomes 1. Call within `BLAS.singleThreaded`.
    init(scaling columns: DoubleMatrix) throws {
        let (samples, cols) = (columns.cols, columns.rows - 1)
        let means = try Buffer<Double>(count: cols, for: "a probe")
        let deviations = try Buffer<Double>(count: cols, for: "a probe")
        let ones = columns.pointer
        ones.update(repeating: 1, count: samples)
        for j in 0..<cols {
            let values = columns.pointer + (1 + j) * samples
            let mean = BLAS.dot(samples, ones, values) / Double(samples)
            for i in 0..<samples { values[i] -= mean }
            means.pointer[j] = mean
            deviations.pointer[j] = BLAS.dot(samples, values, values)
        }
        let constant = try Self.finish(deviations, means, rows: samples)
        for j in 0..<cols {
            let values = columns.pointer + (1 + j) * samples
            let factor = constant.pointer[j] ? 0 : 1 / deviations.pointer[j]
            for i in 0..<samples { values[i] *= factor }
        }
        (self.means, self.deviations, self.constant) = (means, deviations, constant)
    }

    /// Sums of squares to deviations. A column varies if it does by more than rounding can explain
    /// (the bound of scikit-learn's StandardScaler).
    private static func finish(_ sums: Buffer<Double>, _ means: Buffer<Double>, rows: Int) throws -> Buffer<Bool> {
        let constant = try Buffer<Bool>(count: sums.count, for: "a probe")
        let (n, epsilon) = (Double(rows), 0x1p-52)
        for j in 0..<sums.count {
            let variance = sums.pointer[j] / n
            let rounding = n * means.pointer[j] * epsilon
            let varies = variance > n * epsilon * variance + rounding * rounding && variance > 1e-280
            constant.pointer[j] = !varies
            sums.pointer[j] = varies ? variance.squareRoot() : 1
        }
        return constant
    }
}

extension Samples {
    /// Calls `dense(row, numbers)` or, of sparse rows, `sparse(row, column, value)` for some rows.
    ///
    /// - Parameter checking: what to call the samples where a float64 number is not finite as float32, if
    ///   that is to be looked for; of other types the sums tell.
    @inline(__always)
    func addRows(
        _ range: Range<Int>, checking name: String? = nil, dense: (Int, UnsafePointer<Double>) -> Void,
        sparse: (Int, Int, Double) -> Void
    ) throws {
        switch self {
        case .dense(let view):
            let row = try Buffer<Double>(count: view.cols, for: "a probe")
            let scratch = try Buffer<Float>(count: view.cols, for: "a probe")
            for i in range {
                view.readRow(i, into: row.pointer, scratch: scratch.pointer)
                if let name, view.type == .float64 {
                    sk_f64_to_f32(row.pointer, scratch.pointer, view.cols)
                    if sk_first_nonfinite_f32(scratch.pointer, view.cols) < view.cols { try requireFinite(name) }
                }
                dense(i, row.pointer)
            }
        case .sparse(let matrix):
            for i in range { matrix.forEach(i) { sparse(i, $0, $1) } }
        }
    }
}
