// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Minimises a stitching objective by nonlinear conjugate gradients over the exact alternation.
///
/// The alternation (best P' for Q', then best Q' for P') alone needs 100 to 1000 steps to seven
/// digits at alpha 1 to 10. Here one such step, from the current point, is the preconditioned
/// gradient; directions are conjugate by Polak–Ribière; and since L is a polynomial of degree 4
/// along a line, the step length is exact. On correlated synthetic data (64 and 128 dimensions) L
/// was within 1e-7 of its end after 4, 19 and 66 steps at alpha 0.1, 1 and 10, against 4, 114 and
/// 999 of the alternation, 3, 21 and 74 with Anderson acceleration of depth 8, and 6, 42 and 218
/// of a preconditioned L-BFGS with fewer eigenproblems a step.
struct StitchSolver {
    let problem: StitchProblem
    let tolerance: Double
    let maxIterations: Int
    let check: DetachedCheck

    struct Solution {
        var point: StitchPair
        var iterations = 0
        var converged = false
        /// Relative to that at P = Q = 0.
        var gradientNorm = 0.0
    }

    /// - Parameter start: the least-squares solution (Kx, Ky).
    func solve(from start: StitchPair) throws -> Solution {
        var solution = Solution(point: start)
        let scale = try problem.gradientNormAtZero()
        var direction: StitchPair?
        /// The last preconditioned gradient, and its product with the gradient.
        var last: (step: StitchPair, product: Double)?
        var decrease = Double.infinity
        var stalled = false
        while true {
            try check.report(solution.iterations, of: 0)
            let point = solution.point
            let (forP, forQ) = try concurrently {
                try problem.equationP(point.q)
            } _: {
                try problem.equationQ(point.p)
            }
            let gradient = try problem.gradient(point, forP, forQ)
            let norm = try gradient.dot(gradient).squareRoot()
            solution.gradientNorm = scale > 0 ? norm / scale : norm
            guard solution.gradientNorm.isFinite else {
                throw SutureError.numerical("the gradient of the stitching objective is not finite")
            }
            if norm == 0 || (solution.gradientNorm < tolerance && decrease < tolerance) {
                solution.converged = true
                return solution
            }
            guard solution.iterations < maxIterations else { return solution }

            try check.report(solution.iterations, of: 0)
            let betterP = try problem.minimiserP(forP)
            try check.report(solution.iterations, of: 0)
            let better = StitchPair(p: betterP, q: try problem.minimiserQ(try problem.equationQ(betterP)))
            try check.report(solution.iterations, of: 0)
            let step = try better.copy()
            try step.add(-1, point)

            // Signs: `step` is minus the preconditioned gradient.
            let product = -(try gradient.dot(step))
            if let last, let direction {
                let beta = max(0, (product + (try gradient.dot(last.step))) / last.product)
                try direction.scale(beta)
                try direction.add(1, step)
            } else {
                direction = try step.copy()
            }
            if let candidate = direction, try gradient.dot(candidate) >= 0 {
                direction = product > 0 ? try step.copy() : nil
            }
            solution.iterations += 1
            guard let direction, product > 0 else {
                // Not a direction of descent as a whole; yet the alternation itself never ascends.
                solution.point = better
                (last, decrease) = (nil, .infinity)
                continue
            }
            let polynomial = try problem.polynomial(point, direction, forP)
            let length = minimum(polynomial)
            decrease = (polynomial[0] - value(polynomial, length)) / polynomial[0]
            guard decrease > 1e-15 else {
                // Rounding hides all that could be gained this way. Once more straight down, then it is
                // as good as float64 can tell.
                if stalled {
                    solution.converged = true
                    return solution
                }
                stalled = true
                last = nil
                continue
            }
            stalled = false
            try point.add(length, direction)
            last = (step, product)
        }
    }

    private func value(_ c: [Double], _ t: Double) -> Double { c.reversed().reduce(0) { $0 * t + $1 } }

    /// The first minimum at t > 0 of a polynomial of degree 4 that falls at 0 and rises in the end.
    private func minimum(_ c: [Double]) -> Double {
        func slope(_ t: Double) -> Double { c[1] + t * (2 * c[2] + t * (3 * c[3] + t * 4 * c[4])) }
        var (low, high) = (0.0, 1.0)
        while slope(high) < 0, high < 0x1p60 { (low, high) = (high, 2 * high) }
        // Bisection to the last bit: its cost is nothing beside that of the coefficients.
        while true {
            let middle = low + (high - low) / 2
            guard middle > low, middle < high else { return low }
            if slope(middle) < 0 { low = middle } else { high = middle }
        }
    }
}
