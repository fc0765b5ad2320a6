// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Settings of a fit.
public struct ProbeOptions: Sendable {
    /// Weight of the losses beside the penalty, as scikit-learn means it.
    public var C = 1.0
    /// Fit to columns of standard deviation 1; the weights are those of the columns as they are.
    public var standardises = false
    /// Both classes (a class and the rest) count the same, whatever the numbers of their samples.
    public var balances = false
    /// The Newton step whose relative length ends a fit.
    public var tolerance = 1e-6
    public var maxIterations = 100

    public init() {}

    func check() throws {
        func above(_ value: Double, _ name: String) throws {
            guard value > 0, value.isFinite else {
                throw SutureError.invalidArgument("\(name) is \(value), expected a finite number above 0")
            }
        }
        try above(C, "C")
        try above(tolerance, "tolerance")
        guard maxIterations >= 1 else {
            throw SutureError.invalidArgument("max_iterations is \(maxIterations), expected at least 1")
        }
    }
}

/// What a fit did; of several outputs the sum, the largest, or whether all.
public struct ProbeReport: Sendable {
    /// Newton steps.
    public var iterations = 0
    public var converged = true
    /// ½ |w|² + C Σ weight log(1 + exp(-margin)).
    public var objective = 0.0
    /// Norm of its gradient at the end.
    public var gradientNorm = 0.0
    public var seconds = 0.0

    mutating func add(_ outcome: LogisticSolver.Outcome) {
        iterations += outcome.iterations
        converged = converged && outcome.converged
        objective += outcome.objective
        gradientNorm = max(gradientNorm, outcome.gradientNorm)
    }
}

extension Probe {
    /// The labels of a fit, and what each sample counts.
    public struct Targets {
        let labels: UnsafePointer<Int32>
        let classes: Int
        let weights: UnsafePointer<Double>?
        /// Weight of all samples of each class.
        let totals: [Double]

        /// - Parameters:
        ///   - labels: (samples) 0 ..< classes.
        ///   - weights: (samples) at least 0, or nil for 1.
        /// - Throws: `SutureError.invalidArgument` for fewer than two classes, a label or weight out of
        ///   range, a class without samples that count.
        public init(
            samples: Int, labels: UnsafePointer<Int32>, classes: Int, weights: UnsafePointer<Double>? = nil
        ) throws {
            guard classes >= 2 else {
                throw SutureError.invalidArgument("classes is \(classes), expected at least 2")
            }
            var totals = [Double](repeating: 0, count: classes)
            for i in 0..<samples {
                guard labels[i] >= 0, labels[i] < classes else {
                    throw SutureError.invalidArgument("labels[\(i)] is \(labels[i]), expected 0 to \(classes - 1)")
                }
                let weight = weights?[i] ?? 1
                guard weight >= 0, weight.isFinite else {
                    throw SutureError.invalidArgument(
                        "sample_weight[\(i)] is \(weight), expected a finite number of at least 0")
                }
                totals[Int(labels[i])] += weight
            }
            guard totals.contains(where: { $0 > 0 }) else {
                throw SutureError.invalidArgument("sample_weight is 0 for all samples, expected some above 0")
            }
            for (label, total) in totals.enumerated() where total == 0 {
                throw SutureError.invalidArgument(
                    "labels has no sample \(weights == nil ? "" : "of weight above 0 ")of class \(label), "
                        + "expected at least one of each of \(classes) classes")
            }
            (self.labels, self.classes, self.weights, self.totals) = (labels, classes, weights, totals)
        }

        /// Signs and weights of one output: class `positive` against the rest.
        func problem(
            positive: Int, samples: Int, options: ProbeOptions
        ) throws -> (signs: Buffer<Double>, weights: Buffer<Double>) {
            let signs = try Buffer<Double>(count: samples, for: "a probe")
            let factors = try Buffer<Double>(count: samples, for: "a probe")
            let all = totals.reduce(0, +)
            let inside = totals[positive]
            let balance = options.balances ? (all / (2 * inside), all / (2 * (all - inside))) : (1, 1)
            for i in 0..<samples {
                let isPositive = labels[i] == positive
                signs.pointer[i] = isPositive ? 1 : -1
                factors.pointer[i] = options.C * (isPositive ? balance.0 : balance.1) * (weights?[i] ?? 1)
            }
            return (signs, factors)
        }
    }

    /// Logistic regression on all features: minimises `½ |w|² + C Σ weight log(1 + exp(-margin))`, the
    /// intercept free, for two classes or for each class against the rest.
    ///
    /// - Parameter name: what the samples are called in messages.
    /// - Throws: `SutureError.invalidArgument` for settings out of range or numbers that are not
    ///   finite; `.numerical` for weights beyond float32; `.cancelled`.
    public static func fit(
        _ samples: Samples, _ targets: Targets, options: ProbeOptions = ProbeOptions(), name: String = "x",
        progress: Progress = .none
    ) throws -> (probe: Probe, report: ProbeReport) {
        try options.check()
        return try BLAS.singleThreaded {
            let design: any ProbeDesign =
                HeldDesign.holds(rows: samples.rows, cols: samples.cols)
                ? try HeldDesign(samples, columns: nil, name: name, progress: progress)
                : try StreamedDesign(samples, name: name, progress: progress)
            var fit = try NestedFit(samples, targets, options: options, features: nil)
            return try fit.next(design, progress: progress)
        }
    }

    /// Probes on the first sizes[0], sizes[1], … of `features`: all other weights are 0. Each begins
    /// where the one before ended.
    ///
    /// - Throws: as `fit`, and `.invalidArgument` for a feature that is none or stands twice, or sizes
    ///   that do not ascend from 1 to the number of features.
    public static func fit(
        _ samples: Samples, _ targets: Targets, features: [Int], sizes: [Int], options: ProbeOptions = ProbeOptions(),
        name: String = "x", progress: Progress = .none
    ) throws -> [(probe: Probe, report: ProbeReport)] {
        try options.check()
        var seen = Set<Int>()
        for (i, feature) in features.enumerated() {
            guard feature >= 0, feature < samples.cols else {
                throw SutureError.invalidArgument(
                    "features[\(i)] is \(feature), expected 0 to \(samples.cols - 1), a column of \(name)")
            }
            guard seen.insert(feature).inserted else {
                throw SutureError.invalidArgument("features[\(i)] is \(feature), expected each feature once")
            }
        }
        guard let most = sizes.last else { throw SutureError.invalidArgument("sizes is empty, expected at least one") }
        for (i, size) in sizes.enumerated() {
            let least = i == 0 ? 1 : sizes[i - 1] + 1
            guard size >= least, size <= features.count else {
                throw SutureError.invalidArgument(
                    "sizes[\(i)] is \(size), expected \(least) to \(features.count), the number of features")
            }
        }
        return try BLAS.singleThreaded {
            let columns = Array(features.prefix(most))
            var fit = try NestedFit(samples, targets, options: options, features: columns)
            if HeldDesign.holds(rows: samples.rows, cols: most) {
                let design = try HeldDesign(samples, columns: columns, name: name, progress: progress)
                return try sizes.map { try fit.next(design.first($0), progress: progress) }
            }
            let held = try samples.gathered(columns, progress: progress)
            return try sizes.map { size in
                let view = MatrixView(
                    base: UnsafeRawPointer(held.pointer), rows: held.rows, cols: size, rowStride: held.cols,
                    type: .float64, owner: held)
                return try fit.next(
                    try StreamedDesign(.dense(view), name: name, progress: progress), progress: progress)
            }
        }
    }
}

/// Fits to ever more columns of the same samples.
private struct NestedFit {
    let samples: Samples
    let targets: Probe.Targets
    let options: ProbeOptions
    let features: [Int]?
    let outputs: [Int]
    /// The coefficients each output's last fit ended with.
    var last: [[Double]]

    init(_ samples: Samples, _ targets: Probe.Targets, options: ProbeOptions, features: [Int]?) throws {
        (self.samples, self.targets, self.options, self.features) = (samples, targets, options, features)
        outputs = targets.classes == 2 ? [1] : Array(0..<targets.classes)
        last = outputs.map { _ in [] }
    }

    mutating func next(_ design: any ProbeDesign, progress: Progress) throws -> (probe: Probe, report: ProbeReport) {
        let began = monotonicSeconds()
        let (cols, scales) = (design.width - 1, design.scales)
        let penalties = try Buffer<Double>(count: design.width, for: "a probe")
        penalties.pointer[0] = 0
        for j in 0..<cols {
            let deviation = scales.deviations.pointer[j]
            penalties.pointer[1 + j] = options.standardises ? 1 : 1 / (deviation * deviation)
        }
        var report = ProbeReport()
        var solutions: [Buffer<Double>] = []
        for (slot, positive) in outputs.enumerated() {
            let (signs, weights) = try targets.problem(positive: positive, samples: samples.rows, options: options)
            let start = try Buffer<Double>(zeros: design.width, for: "a probe")
            if last[slot].isEmpty {
                // The best intercept without weights.
                var sums = (0.0, 0.0)
                for i in 0..<samples.rows {
                    if signs.pointer[i] > 0 { sums.0 += weights.pointer[i] } else { sums.1 += weights.pointer[i] }
                }
                start.pointer[0] = log(sums.0 / sums.1)
            }
            for (j, value) in last[slot].enumerated() { start.pointer[j] = value }
            let solver = try LogisticSolver(
                design, signs: signs, weights: weights, penalties: penalties, start: start)
            let (done, total) = (slot, outputs.count)
            let outcome = try solver.minimise(tolerance: options.tolerance, maxIterations: options.maxIterations) {
                try progress.report(done, of: total)
            }
            report.add(outcome)
            solutions.append(start)
            last[slot] = (0..<design.width).map { start.pointer[$0] }
        }
        report.seconds = monotonicSeconds() - began
        return (try probe(solutions, scales, cols: cols), report)
    }

    /// Weights of the columns as they are.
    private func probe(_ solutions: [Buffer<Double>], _ scales: ColumnScales, cols: Int) throws -> Probe {
        var shifts = [Double](repeating: 0, count: solutions.count)
        let weights = try FloatMatrix(rows: solutions.count, cols: samples.cols) { target in
            for (output, solution) in solutions.enumerated() {
                shifts[output] = solution.pointer[0]
                for j in 0..<cols where !scales.constant.pointer[j] {
                    let weight = Float(solution.pointer[1 + j] / scales.deviations.pointer[j])
                    target[output * samples.cols + (features?[j] ?? j)] = weight
                    // What the rounded weight makes of the mean, so that rounding moves no logit there.
                    shifts[output] -= Double(weight) * scales.means.pointer[j]
                }
            }
        }
        let bias = try FloatMatrix(rows: 1, cols: solutions.count) { target in
            for (output, shift) in shifts.enumerated() { target[output] = Float(shift) }
        }
        guard weights.buffer.allSatisfy(\.isFinite), bias.buffer.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the weights of the probe are beyond float32: standardise, or lower C")
        }
        return try Probe(weights: weights, bias: bias)
    }
}

/// Seconds of a clock that only goes forward.
private func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
