// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// The choice of features for k-sparse probes.
public enum FeatureSelection {
    /// The k features whose mean differs most between the classes, best first; equal ones by the lower
    /// index. With more than two classes a feature counts for the class that it tells best from the
    /// rest: the largest over classes of |mean in the class - mean in the rest|.
    ///
    /// - Parameter labels: (rows) 0 ..< classes.
    /// - Throws: `SutureError.invalidArgument` for k beyond the features, labels as for a fit, or a number that
    ///   is not finite.
    public static func byMeanDifference(
        _ samples: Samples, labels: UnsafePointer<Int32>, classes: Int, k: Int, name: String = "x",
        progress: Progress = .none
    ) throws -> [Int] {
        let cols = samples.cols
        guard k >= 1, k <= cols else {
            throw SutureError.invalidArgument("k is \(k), expected 1 to \(cols), the number of features")
        }
        let targets = try Probe.Targets(samples: samples.rows, labels: labels, classes: classes)
        let sums = try Buffer<Double>(count: classes * cols, for: "feature selection")
        let labels = Unchecked(labels)
        let floats = samples.floats.map { Unchecked($0) }
        try RowChunks(rows: samples.rows, work: samples.work, width: classes * cols).sum(
            classes * cols, into: sums.pointer, progress: progress
        ) { range, sums in
            if let (base, stride) = floats?.value {
                for i in range { sk_mixed_axpy(1, base + i * stride, sums + Int(labels.value[i]) * cols, cols) }
                return
            }
            try samples.addRows(range, checking: name) { i, row in
                let target = sums + Int(labels.value[i]) * cols
                for j in 0..<cols { target[j] += row[j] }
            } sparse: { i, j, x in
                sums[Int(labels.value[i]) * cols + j] += x
            }
        }
        let scores = try Buffer<Double>(count: cols, for: "feature selection")
        let rows = Double(samples.rows)
        var isFinite = true
        for j in 0..<cols {
            var total = 0.0
            for label in 0..<classes { total += sums.pointer[label * cols + j] }
            isFinite = isFinite && total.isFinite
            var best = 0.0
            for label in classes == 2 ? 1..<2 : 0..<classes {
                let (sum, count) = (sums.pointer[label * cols + j], targets.totals[label])
                best = max(best, abs(sum / count - (total - sum) / (rows - count)))
            }
            scores.pointer[j] = best
        }
        if !isFinite { try samples.requireFinite(name) }
        var order = Array(0..<cols)
        func isBetter(_ a: Int, _ b: Int) -> Bool {
            let (x, y) = (scores.pointer[a], scores.pointer[b])
            return x > y || (x == y && a < b)
        }
        order.sort(by: isBetter)
        return Array(order.prefix(k))
    }
}
