// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Minimises a stitching objective by nonlinear conjugate gradients on one unknown, which the other
/// follows.
///
/// For a given map m from y to x, L is quadratic in the other map n, and where two small eigenproblems
/// are solved, the best n is a few products away. So L is minimised over m alone, along directions that
/// are conjugate by Polak–Ribière and preconditioned by the block of m's Hessian; n moves with m so that
/// its gradient stays 0. Both blocks are kept for many steps and renewed as the point moves; along a line
/// L is a polynomial of degree 4, so the step length is exact. This needs as many steps as exact
/// alternation under conjugate gradients (and half those of conjugate gradients on both unknowns with
/// the same blocks), at about twenty products a step and no eigenproblem in most.
///
/// Steps are float32 until float32 ends, since there is nothing to gain from more digits far from
/// the end; the gradient that decides is float64.
struct StitchSolver {
    let problem: StitchProblem
    let tolerance: Double
    let maxIterations: Int
    let check: DetachedCheck

    /// Ranks from which float32 is worth the second set-up.
    static let singlePrecisionRank = 160
    /// Relative gradient that float32 gets to safely.
    private static let singlePrecisionTolerance = 3e-5

    struct Solution {
        var point: StitchPair
        var iterations = 0
        var converged = false
        /// Relative to that at P = Q = 0.
        var gradientNorm = 0.0
    }

    /// From least squares.
    func solve() throws -> Solution {
        let spectrum = try StitchSpectrum(problem)
        try check.report(0, of: 0)
        var (n, m) = (spectrum.correlations, try spectrum.correlations.transposed())
        var (iterations, decrease) = (0, Double.infinity)
        if n.rows >= Self.singlePrecisionRank {
            let rough = try StitchDescent<Float>(spectrum, n: n, m: m)
            let outcome = try rough.run(
                tolerance: max(0.9 * tolerance, Self.singlePrecisionTolerance), least: 2e-9,
                maxIterations: maxIterations, check)
            (n, m) = (try rough.n.doubles(), try rough.m.doubles())
            iterations = rough.iterations
            if outcome == .converged { decrease = rough.decrease }
        }
        let exact = try StitchDescent<Double>(spectrum, n: n, m: m, iterations: iterations, decrease: decrease)
        let outcome = try exact.run(tolerance: tolerance, least: 1e-15, maxIterations: maxIterations, check)
        return Solution(
            point: try spectrum.point(exact.n.doubles(), exact.m.doubles()), iterations: exact.iterations,
            converged: outcome != .outOfSteps, gradientNorm: exact.gradientNorm)
    }
}
