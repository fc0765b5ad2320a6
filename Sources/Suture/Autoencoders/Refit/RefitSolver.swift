// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// How a system was solved.
struct RefitOutcome: Sendable {
    var solver: DecoderRefitReport.Solver
    var iterations = 0
    /// Largest over the columns, relative to the right-hand side; in the norm of the diagonal's inverse.
    var residual = 0.0
    var converged = true
    /// Products and sums of the solution.
    var operations = 0.0
}

extension RefitSystem {
    /// Largest d_sae whose matrix is made: 128 MB. Beyond, its factorisation takes more operations than gradients.
    static let directLimit = 4096

    /// Solves in place of the right-hand side. Touches nothing but this system: may go on after a
    /// caller who has cancelled.
    func solve(tolerance: Double, maxIterations: Int, direct: Bool, check: DetachedCheck) throws -> RefitOutcome {
        try BLAS.singleThreaded {
            direct
                ? try solveDirectly(check: check)
                : try solveByGradients(tolerance: tolerance, maxIterations: maxIterations, check: check)
        }
    }

    // MARK: The matrix itself

    private func solveDirectly(check: DetachedCheck) throws -> RefitOutcome {
        let matrix = try DoubleMatrix(rows: dSAE, cols: dSAE)
        let byLatent = try FiringsByLatent(codes, firings: firings)
        let parts = (0..<dSAE).panels(of: 64)
        let units = 1000
        // Parts end in any order; their number only grows.
        let ended = Atomic<Int>(0)
        try parallelFor(parts.count) { [self] part in
            // Row i: sum over the tokens on which i fires of its value times the token's codes.
            for latent in parts[part] {
                let row = matrix.pointer + latent * dSAE
                for entry in byLatent.range(latent) {
                    let (piece, token) = byLatent.token(entry)
                    let (codes, value) = (codes[piece], byLatent.values.pointer[entry])
                    let first = token * codes.width
                    for slot in first..<first + Int(codes.counts[token]) {
                        row[Int(codes.indices[slot])] += value * Double(codes.values[slot])
                    }
                }
                let factor = Double(tokens) * means[latent]
                for other in 0..<dSAE { row[other] -= factor * means[other] }
                row[latent] += pull[latent]
            }
            let count = ended.add(1, ordering: .relaxed).newValue
            try check.report(units * count / parts.count / 5, of: units)
        }
        let isDefinite = try matrix.factorise { done in
            try check.report(units / 5 + Int(done * Double(units) / 2), of: units)
        }
        guard isDefinite else {
            throw SutureError.numerical(
                "the normal equations of the decoder are not positive definite; use a larger ridge")
        }
        try solution.solveLeft(matrix, transpose: true)
        try check.report(units * 9 / 10, of: units)
        try solution.solveLeft(matrix)
        let (m, d) = (Double(dSAE), Double(dIn))
        let pairs = codes.reduce(0.0) { sum, piece in
            sum + (0..<piece.rows).reduce(0.0) { $0 + Double(piece.counts[$1]) * Double(piece.counts[$1]) }
        }
        return RefitOutcome(solver: .cholesky, operations: 2 * pairs + 2 * m * m + m * m * m / 3 + 2 * m * m * d)
    }

    // MARK: Conjugate gradients, without the matrix

    private func solveByGradients(tolerance: Double, maxIterations: Int, check: DetachedCheck) throws -> RefitOutcome {
        let panels = (0..<dIn).panels(of: Self.panelWidth)
        let count = Double(tokens)
        // Jacobi: latents differ in how often and how strongly they fire, more than in anything else.
        let scales = (0..<dSAE).map { 1 / (squares[$0] - count * means[$0] * means[$0] + pull[$0]) }
        let outcomes = try (0..<panels.count).map { _ in try DoubleMatrix(rows: 1, cols: 3) }
        try parallelFor(panels.count) { [self] index in
            let panel = try GradientPanel(self, columns: panels[index], scales: scales)
            var iterations = 0
            while iterations < maxIterations, panel.residual > tolerance {
                try panel.step {
                    try check.report(maxIterations * index + iterations, of: maxIterations * panels.count)
                }
                iterations += 1
            }
            panel.store()
            (outcomes[index][0, 0], outcomes[index][0, 1]) = (Double(iterations), panel.residual)
        }
        var outcome = RefitOutcome(solver: .conjugateGradients)
        for (found, columns) in zip(outcomes, panels) {
            outcome.iterations = max(outcome.iterations, Int(found[0, 0]))
            outcome.residual = max(outcome.residual, found[0, 1])
            outcome.operations += found[0, 0] * Double(columns.count) * (4 * Double(active) + 18 * Double(dSAE))
        }
        outcome.converged = outcome.residual <= tolerance
        return outcome
    }
}
