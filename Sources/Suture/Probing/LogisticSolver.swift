// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc

/// Minimises `½ Σ penalties v² + Σ weights log(1 + exp(-sign X v))` by Newton steps: solved with the
/// matrix of second derivatives where it is small, else by conjugate gradients as far as the step is
/// worth (Dembo & Steihaug 1983), and with the matrix again where those get nowhere.
final class LogisticSolver {
    struct Outcome {
        var iterations = 0
        var converged = false
        var objective = 0.0
        /// Norm of the gradient, in the coordinates of the penalty.
        var gradientNorm = 0.0
    }

    let design: any ProbeDesign
    private let signs: Buffer<Double>
    private let weights: Buffer<Double>
    let penalties: Buffer<Double>
    /// Coefficients, the intercept first; the start is what is in them.
    let coefficients: Buffer<Double>

    private let logits: Buffer<Double>
    let gradient: Buffer<Double>
    private let slopes: Buffer<Double>
    let curvatures: Buffer<Double>
    private var usesMatrix: Bool
    /// How far logits have moved at most, since the first.
    private(set) var travelled = 0.0
    /// The last factor of the matrix, and where that was; minus infinity where it has a ridge.
    private var factor: DoubleMatrix?
    private var factorAt = -Double.infinity
    /// The diagonal that conjugate gradients divide by, and where that was.
    var diagonal: Buffer<Double>?
    var diagonalAt = -Double.infinity
    /// How far the last step is from that of Newton at most, relative to it; 1: not known.
    var inexactness = 1.0
    /// Whether a matrix of float32 numbers would be too rough.
    private var needsExactMatrix: Bool
    /// The square of the last step, as long as its matrix says; 0 if it was not taken whole.
    private var lastSquare = 0.0

    /// - Parameters:
    ///   - signs: (rows) 1 or -1.
    ///   - weights: (rows) at least 0.
    ///   - penalties: (width) that of the intercept is 0.
    init(
        _ design: any ProbeDesign, signs: Buffer<Double>, weights: Buffer<Double>, penalties: Buffer<Double>,
        start: Buffer<Double>
    ) throws {
        (self.design, self.signs, self.weights, self.penalties) = (design, signs, weights, penalties)
        coefficients = start
        logits = try Buffer(count: design.rows, for: "a probe")
        slopes = try Buffer(count: design.rows, for: "a probe")
        curvatures = try Buffer(count: design.rows, for: "a probe")
        gradient = try Buffer(count: design.width, for: "a probe")
        usesMatrix = design is HeldDesign
        needsExactMatrix = !usesMatrix
    }

    /// - Parameters:
    ///   - tolerance: stop when the Newton step, whose length bounds the distance of the weights from
    ///     the minimum, is below it relative to 1 + their norm, or the next one is bound to be.
    ///   - check: called between pieces of work.
    func minimise(tolerance: Double, maxIterations: Int, check: () throws -> Void) throws -> Outcome {
        let (rows, width) = (design.rows, design.width)
        var outcome = Outcome()
        let step = try Buffer<Double>(count: width, for: "a probe")
        let change = try Buffer<Double>(count: rows, for: "a probe")
        let trial = try Buffer<Double>(count: rows, for: "a probe")
        design.isRough = true
        var value = try evaluate(step)
        if design.isRough, !(norm(gradient) > 0) || !norm(gradient).isFinite {
            // Slopes that are too small or large for float32.
            design.isRough = false
            value = try evaluate(step)
        }
        let start = norm(gradient)
        guard value.isFinite, start.isFinite else {
            throw SutureError.numerical("the loss or its gradient is beyond float64: lower C or sample_weight")
        }
        while outcome.iterations < maxIterations {
            try check()
            guard norm(gradient) > 0 else {
                if design.isRough {
                    design.isRough = false
                    value = try evaluate(step)
                    continue
                }
                outcome.converged = true
                break
            }
            let size = 1 + (2 * penalty(of: 0, step)).squareRoot()
            try newtonStep(
                into: step, relative: norm(gradient) / start, wanted: tolerance * size, change: change, check: check)
            outcome.iterations += 1
            var slope = 0.0
            for j in 0..<width { slope += gradient.pointer[j] * step.pointer[j] }
            guard slope < 0, slope.isFinite else {
                guard design.isRough else { break }
                design.isRough = false
                value = try evaluate(step)
                continue
            }
            // What a step promises at most, and what rounding makes of it.
            let noise = 1e-13 * abs(value)
            var (length, found, furthest, gain) = (1.0, false, 0.0, 0.0)
            for _ in 0..<60 {
                furthest = sk_add_step(logits.pointer, length, change.pointer, trial.pointer, rows)
                let next = loss(trial) + penalty(of: length, step)
                if next <= value + 1e-4 * length * slope + noise {
                    gain = value - next
                    (value, found) = (next, true)
                    break
                }
                length /= 2
            }
            guard found else {
                if design.isRough {
                    // Perhaps only because products are.
                    design.isRough = false
                    value = try evaluate(step)
                    continue
                }
                // Where rounding is all that is left, no step gets any further.
                _ = loss(logits)
                outcome.converged = -slope <= 1e-10 * abs(value)
                break
            }
            for j in 0..<width { coefficients.pointer[j] += length * step.pointer[j] }
            logits.pointer.update(from: trial.pointer, count: rows)
            travelled += length * furthest
            // A step that should have got much nearer and did not: by conjugate gradients that rounding
            // leads astray, as where columns add up to others and the penalty is small.
            if !usesMatrix, !design.isRough, length == 1, furthest <= 0.3, -slope > 0.3 * lastSquare, lastSquare > 0 {
                usesMatrix = design.prefersMatrix
            }
            lastSquare = length == 1 ? -slope : 0
            if design.isRough, gain <= 1e-7 * abs(value) || (length == 1 && -slope <= 1e-8 * size * size) {
                // Near the minimum, or as near as float32 tells: from here on exactly.
                design.isRough = false
                value = try evaluate(step)
                continue
            }
            try computeGradient()
            // A step of length s leads to one of at most (exp(drift) - 1) exp(drift) s: along it no
            // curvature leaves that range around the one that it was made for.
            let drift = usesMatrix ? travelled - factorAt : furthest
            let next = drift < 1 ? min(1, (expm1(drift) + inexactness) * exp(drift)) : 1
            let enough = max(tolerance * tolerance * size * size, 1e-15 * abs(value))
            if length == 1, -slope * next * next <= enough {
                outcome.converged = true
                break
            }
        }
        if design.isRough {
            design.isRough = false
            value = try evaluate(step)
        }
        outcome.objective = value
        outcome.gradientNorm = norm(gradient)
        return outcome
    }

    /// Logits, gradient and value at the coefficients. `step` is not used.
    private func evaluate(_ step: Buffer<Double>) throws -> Double {
        try design.multiply(coefficients, into: logits)
        let value = loss(logits) + penalty(of: 0, step)
        try computeGradient()
        return value
    }

    /// The loss, and its derivatives by the logits.
    private func loss(_ logits: Buffer<Double>) -> Double {
        sk_logistic(
            logits.pointer, signs.pointer, weights.pointer, logits.count, slopes.pointer, curvatures.pointer)
    }

    /// The penalty after a step.
    private func penalty(of length: Double, _ step: Buffer<Double>) -> Double {
        var sum = 0.0
        for j in 1..<coefficients.count {
            let value = coefficients.pointer[j] + (length == 0 ? 0 : length * step.pointer[j])
            sum += penalties.pointer[j] * value * value
        }
        return sum / 2
    }

    private func computeGradient() throws {
        try design.multiplyTransposed(slopes, into: gradient)
        for j in 1..<gradient.count { gradient.pointer[j] += penalties.pointer[j] * coefficients.pointer[j] }
    }

    /// In coordinates in which the penalty is ½ |w|²; the intercept as it is.
    private func norm(_ vector: Buffer<Double>) -> Double {
        var sum = vector.pointer[0] * vector.pointer[0]
        for j in 1..<vector.count { sum += vector.pointer[j] * vector.pointer[j] / penalties.pointer[j] }
        return sum.squareRoot()
    }

    /// - Parameters:
    ///   - wanted: how near to that of Newton the step need not be, in the norm of the penalty.
    ///   - change: gets X step.
    private func newtonStep(
        into step: Buffer<Double>, relative: Double, wanted: Double, change: Buffer<Double>, check: () throws -> Void
    ) throws {
        if usesMatrix, try factorisedStep(into: step, check: check) { return try design.multiply(step, into: change) }
        let enough = max(1e-3, min(0.25, relative.squareRoot()))
        let isSolved = try conjugateGradients(
            into: step, tolerance: enough, wanted: wanted, change: change, check: check)
        if !isSolved, design.prefersMatrix {
            usesMatrix = true
            let rough = try Buffer<Double>(count: step.count, for: "a probe")
            rough.pointer.update(from: step.pointer, count: step.count)
            if try factorisedStep(into: step, check: check) { return try design.multiply(step, into: change) }
            step.pointer.update(from: rough.pointer, count: step.count)
        }
        if design.roundsProducts, !design.isRough { try design.multiply(step, into: change) }
    }

    /// False if the matrix is not positive definite even with a ridge.
    private func factorisedStep(into step: Buffer<Double>, check: () throws -> Void) throws -> Bool {
        let width = design.width
        // A curvature changes by at most as many percent as its logit does hundredths: steps with the
        // old matrix then get at least ten times nearer each, for a fraction of the work. Where they do
        // though some logits have moved further, that is as good, if the matrix is much work.
        if let factor, try solve(factor, into: step) {
            if travelled - factorAt <= 0.1 { return true }
            var square = 0.0
            for j in 0..<width { square -= gradient.pointer[j] * step.pointer[j] }
            if width > 8, square <= 0.02 * lastSquare { return true }
        }
        let matrix = try curvatureMatrix()
        for j in 1..<width { matrix[j, j] += penalties.pointer[j] }
        let diagonal = (0..<width).map { matrix[$0, $0] }
        // An intercept whose samples are all far from the boundary has next to no curvature.
        for ridge in [0, 1e-12, 1e-8, 1e-4] {
            let factor = try matrix.copy()
            for j in 0..<width { factor[j, j] = diagonal[j] + ridge * (diagonal[j] + 1e-300) }
            guard try factor.factorise(check: { _ in try check() }), try solve(factor, into: step) else { continue }
            // One with a ridge says nothing about the next step.
            (self.factor, factorAt) = (factor, ridge == 0 ? travelled : -.infinity)
            return true
        }
        return false
    }

    /// Roughly where the rounding stays small beside the penalties, below which no curvature is: a step
    /// then gets a tenth nearer as well.
    private func curvatureMatrix() throws -> DoubleMatrix {
        let width = design.width
        if !needsExactMatrix {
            let matrix = try design.curvatureMatrix(curvatures, roughly: true)
            let trace = (0..<width).reduce(0) { $0 + matrix[$1, $1] }
            var least = Double.infinity
            for j in 1..<width { least = min(least, penalties.pointer[j]) }
            // Errors of the products, and of an intercept that the columns may add up to.
            inexactness = 4 * 0x1p-24 * trace * Double(width) / least
            if inexactness <= 0.1 { return matrix }
        }
        (inexactness, needsExactMatrix) = (0, true)
        return try design.curvatureMatrix(curvatures, roughly: false)
    }

    private func solve(_ factor: DoubleMatrix, into step: Buffer<Double>) throws -> Bool {
        let solution = try DoubleMatrix(rows: step.count, cols: 1)
        for j in 0..<step.count { solution.pointer[j] = -gradient.pointer[j] }
        try solution.solveLeft(factor, transpose: true)
        try solution.solveLeft(factor)
        guard (0..<step.count).allSatisfy({ solution.pointer[$0].isFinite }) else { return false }
        step.pointer.update(from: solution.pointer, count: step.count)
        return true
    }
}
