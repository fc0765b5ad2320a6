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

    private static let mostProducts = 200

    private let design: any ProbeDesign
    private let signs: Buffer<Double>
    private let weights: Buffer<Double>
    private let penalties: Buffer<Double>
    /// Coefficients, the intercept first; the start is what is in them.
    let coefficients: Buffer<Double>

    private let logits: Buffer<Double>
    private let gradient: Buffer<Double>
    private let slopes: Buffer<Double>
    private let curvatures: Buffer<Double>
    private var usesMatrix: Bool
    /// The last factor of the matrix, and how far logits have moved since at most.
    private var factor: DoubleMatrix?
    private var drift = 0.0

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
    }

    /// - Parameters:
    ///   - tolerance: stop when the Newton step, whose length bounds the distance of the weights from
    ///     the minimum, is below it relative to 1 + their norm.
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
            try newtonStep(into: step, relative: norm(gradient) / start, check: check)
            outcome.iterations += 1
            var slope = 0.0
            for j in 0..<width { slope += gradient.pointer[j] * step.pointer[j] }
            guard slope < 0, slope.isFinite else { break }
            try design.multiply(step, into: change)
            // What a step promises at most, and what rounding makes of it.
            let noise = 1e-13 * abs(value)
            var (length, found) = (1.0, false)
            for _ in 0..<60 {
                for i in 0..<rows { trial.pointer[i] = logits.pointer[i] + length * change.pointer[i] }
                let next = loss(trial) + penalty(of: length, step)
                if next <= value + 1e-4 * length * slope + noise {
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
            var furthest = 0.0
            for i in 0..<rows { furthest = max(furthest, abs(change.pointer[i])) }
            drift += length * furthest
            let size = 1 + (2 * penalty(of: 0, step)).squareRoot()
            if design.isRough, length == 1, -slope <= 1e-6 * size * size {
                // Near the minimum: from here on exactly.
                design.isRough = false
                value = try evaluate(step)
                continue
            }
            try computeGradient()
            if length == 1, -slope <= max(tolerance * tolerance * size * size, 1e-15 * abs(value)) {
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

    private func newtonStep(into step: Buffer<Double>, relative: Double, check: () throws -> Void) throws {
        if usesMatrix, try factorisedStep(into: step, check: check) { return }
        let enough = max(1e-3, min(0.25, relative.squareRoot()))
        let solved = try conjugateGradients(into: step, tolerance: enough, check: check)
        if !solved, design.prefersMatrix {
            usesMatrix = true
            let rough = try Buffer<Double>(count: step.count, for: "a probe")
            rough.pointer.update(from: step.pointer, count: step.count)
            if try !factorisedStep(into: step, check: check) {
                step.pointer.update(from: rough.pointer, count: step.count)
            }
        }
    }

    /// False if the matrix is not positive definite even with a ridge.
    private func factorisedStep(into step: Buffer<Double>, check: () throws -> Void) throws -> Bool {
        let width = design.width
        // A curvature changes by at most as many percent as its logit does hundredths: steps with the
        // old matrix then get at least ten times nearer each, for a fraction of the work.
        if let factor, drift <= 0.1 { return try solve(factor, into: step) }
        let matrix = try design.curvatureMatrix(curvatures)
        for j in 1..<width { matrix[j, j] += penalties.pointer[j] }
        let diagonal = (0..<width).map { matrix[$0, $0] }
        // An intercept whose samples are all far from the boundary has next to no curvature.
        for ridge in [0, 1e-12, 1e-8, 1e-4] {
            let factor = try matrix.copy()
            for j in 0..<width { factor[j, j] = diagonal[j] + ridge * (diagonal[j] + 1e-300) }
            guard try factor.factorise(check: { _ in try check() }), try solve(factor, into: step) else { continue }
            (self.factor, drift) = (factor, 0)
            return true
        }
        return false
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

    /// Solves for the step until the residual is below `tolerance` of the gradient, both in the norm of
    /// the inverse diagonal. False if that takes too many products.
    private func conjugateGradients(
        into step: Buffer<Double>, tolerance: Double, check: () throws -> Void
    ) throws -> Bool {
        let width = design.width
        func vector() throws -> Buffer<Double> { try Buffer<Double>(zeros: width, for: "a probe") }
        let (diagonal, residual, direction, product) = (try vector(), try vector(), try vector(), try vector())
        try design.curvatureDiagonal(curvatures, into: diagonal)
        for j in 0..<width {
            diagonal.pointer[j] = max(diagonal.pointer[j] + penalties.pointer[j], 1e-300)
            residual.pointer[j] = -gradient.pointer[j]
            direction.pointer[j] = residual.pointer[j] / diagonal.pointer[j]
            step.pointer[j] = 0
        }
        func square(_ vector: Buffer<Double>) -> Double {
            var sum = 0.0
            for j in 0..<width { sum += vector.pointer[j] * vector.pointer[j] / diagonal.pointer[j] }
            return sum
        }
        var size = square(residual)
        let enough = size * tolerance * tolerance
        for _ in 0..<Self.mostProducts {
            try check()
            try design.curvatureProduct(curvatures, direction, into: product)
            var curvature = 0.0
            for j in 0..<width {
                product.pointer[j] += penalties.pointer[j] * direction.pointer[j]
                curvature += product.pointer[j] * direction.pointer[j]
            }
            guard curvature > 0, curvature.isFinite else { return step.pointer[0] != 0 }
            let length = size / curvature
            for j in 0..<width {
                step.pointer[j] += length * direction.pointer[j]
                residual.pointer[j] -= length * product.pointer[j]
            }
            let next = square(residual)
            if next <= enough { return true }
            for j in 0..<width {
                direction.pointer[j] = residual.pointer[j] / diagonal.pointer[j] + next / size * direction.pointer[j]
            }
            size = next
        }
        return false
    }
}
