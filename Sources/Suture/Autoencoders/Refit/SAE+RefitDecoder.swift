// SPDX-License-Identifier: Apache-2.0

/// Settings of `SAE.refitDecoder`.
public struct DecoderRefitOptions: Sendable {
    /// The pull towards the present decoder, in tokens, above 0: each row counts as much as `ridge`
    /// more tokens on which its latent fires, as strongly as it does on average, and is right. The
    /// row of a latent that fires on n tokens goes about n / (n + ridge) of its way.
    public var ridge = 30.0
    /// Tokens at most for each solution, taken evenly from all rows; nil for all.
    public var tokens: Int?
    /// After the refit: so many times the encoder is tied to the decoder (`SAE.tied`) and the decoder
    /// refitted. TopK only.
    public var tiedRounds = 0
    /// Of conjugate gradients: stop when the residual of every column, relative to the start, in the
    /// norm of the inverse diagonal, is at most this; above 0.
    public var tolerance = 1e-3
    /// Of conjugate gradients: most steps, at least 1.
    public var maxIterations = 200
    /// Which solver; nil for the direct one up to d_sae 4096, whose matrix takes 128 MB there.
    var solver: DecoderRefitReport.Solver?

    public init() {}

    func validate() throws {
        for (name, value) in [("ridge", ridge), ("tolerance", tolerance)] where !(value > 0 && value <= 1e12) {
            throw SutureError.invalidArgument("\(name) is \(value), expected a number above 0, at most 1e12")
        }
        if let tokens, tokens < 1 {
            throw SutureError.invalidArgument("tokens is \(tokens), expected at least 1")
        }
        guard tiedRounds >= 0, tiedRounds <= 1000 else {
            throw SutureError.invalidArgument("tied_rounds is \(tiedRounds), expected 0 to 1000")
        }
        guard maxIterations >= 1 else {
            throw SutureError.invalidArgument("max_iterations is \(maxIterations), expected at least 1")
        }
    }
}

/// What a decoder refit did.
public struct DecoderRefitReport: Sendable {
    public enum Solver: Sendable {
        /// The matrix, factorised.
        case cholesky
        /// Without the matrix.
        case conjugateGradients
    }
    /// Tokens it rests on.
    public let tokens: Int
    /// Latents that fired on none of them: their rows are as they were.
    public let silent: Int
    /// Over these tokens; NaN if they do not vary. `Evaluation` on other tokens tells what it is worth.
    public let explainedVarianceBefore: Double
    public let explainedVarianceAfter: Double
    public let solver: Solver
    /// Of conjugate gradients; 0 for Cholesky.
    public let iterations: Int
    public let residual: Double
    /// Whether the tolerance was reached.
    public let converged: Bool
    /// Products and sums carried out: the dense encoder product (2 d_in d_sae a token) and what the
    /// active latents need.
    public let flopsExecuted: Double
    public let seconds: Double
}

extension SAE {
    /// Solves the decoder and its bias by least squares for the codes that the SAE has now: the
    /// encoder and so the activations stay, `W_dec` and `b_dec` minimise
    /// `sum |x - f W_dec - b_dec|² + ridge sum_i q_i |W_dec,i - present row|²`, where q_i is the mean
    /// squared activation of latent i where it fires. Not in arXiv 2506.06609; after a transfer it lets
    /// decoder rows leave the image of the stitch, which an encoder of that rank can still make use of.
    ///
    /// With `tiedRounds`, the encoder then follows: it is tied to the decoder, `SAE.tied`, and the decoder
    /// refitted for the new codes, so many times, on other tokens each time where there are more. (The
    /// alternation of the method of optimal directions, Engan, Aase & Husøy 1999, with the encoder in
    /// place of a pursuit.)
    ///
    /// Decoder norms, a fixed scale and the subtraction of b_dec are folded into the weights first, as
    /// by `folded`: activations would change with the decoder otherwise. Memory: 8 bytes an active
    /// latent and token (16 more for the direct solver), float64 copies of the decoder, and up to d_sae
    /// 4096 a matrix (d_sae, d_sae) in float64. The same bits for any number of threads.
    ///
    /// - Parameter shards: (N, d_in) each, of any element type, together the tokens.
    /// - Throws: `SutureError.invalidArgument` for a shape, a setting out of range, or a value that is not
    ///   finite as float32, named by shard and row; `.unsupported` for a per-token normalisation, with
    ///   which the decoder's problem has other weights; `.numerical` where the result is beyond
    ///   float32; `.cancelled`; `.outOfMemory`.
    public func refitDecoder(
        _ shards: [MatrixView], options: DecoderRefitOptions = DecoderRefitOptions(), progress: Progress = .none
    ) throws -> (sae: SAE, report: DecoderRefitReport) {
        let start = Pulse.nanoseconds()
        try options.validate()
        guard !shards.isEmpty else {
            throw SutureError.invalidArgument("shards is empty, expected at least one matrix")
        }
        if normalization.isPerToken {
            throw SutureError.unsupported(
                "sae normalises each token (\(normalization.name)), expected one that does not to refit its decoder")
        }
        if options.tiedRounds > 0 {
            guard case .topK = architecture else {
                throw SutureError.unsupported(
                    "tied_rounds of a \(architecture.name) SAE, whose threshold would no longer fit; expected topk")
            }
        }
        let rows = try TokenRows(shards, dIn: dIn) { "shards[\($0)]" }
        let rounds = options.tiedRounds + 1
        var result = try refitOnce(folded(), rows, round: 0, of: rounds, options, progress)
        let before = result.explainedVarianceBefore
        var operations = result.operations
        for round in 1..<rounds {
            let tied = try result.sae.tied(mean: result.tokenMeans)
            result = try tied.refitOnce(tied, rows, round: round, of: rounds, options, progress)
            operations += result.operations
        }
        let report = DecoderRefitReport(
            tokens: result.tokens, silent: result.silent, explainedVarianceBefore: before,
            explainedVarianceAfter: result.explainedVarianceAfter, solver: result.outcome.solver,
            iterations: result.outcome.iterations, residual: result.outcome.residual,
            converged: result.outcome.converged, flopsExecuted: operations,
            seconds: Double(Pulse.nanoseconds() - start) * 1e-9)
        return (result.sae, report)
    }

    /// The decoder for codes that come from elsewhere: those of another model's SAE on the same tokens.
    ///
    /// - Parameter codes: of all rows, in pieces.
    func withDecoder(for codes: [SparseCodes], of rows: TokenRows, progress: Progress) throws -> SAE {
        try refitOnce(self, rows, codes: codes, round: 0, of: 1, DecoderRefitOptions(), progress).sae
    }

    /// One refit, of `folded`, as round `round` of `rounds`.
    private func refitOnce(
        _ folded: SAE, _ rows: TokenRows, codes: [SparseCodes]? = nil, round: Int, of rounds: Int,
        _ options: DecoderRefitOptions, _ progress: Progress
    ) throws -> SingleRefit {
        let sample = RefitSample(rows, count: options.tokens, draw: round, of: rounds)
        let units = sample.count
        let part = progress.part(round, of: rounds, total: 2 * units * rounds)
        try part.report(0, of: 2 * units)
        let pulse = Pulse(part, total: 2 * units)
        let system = try RefitSystem(folded, sample: sample, codes: codes, ridge: options.ridge, pulse: pulse)
        let direct = options.solver.map { $0 == .cholesky } ?? (dSAE <= RefitSystem.directLimit)
        let rightSide = try system.solution.copy()
        let (tolerance, most) = (options.tolerance, options.maxIterations)
        // The second half of the work, as far as progress goes.
        let outcome = try runDetached(progress: part.part(1, of: 2, total: 2 * units)) { check in
            try system.solve(tolerance: tolerance, maxIterations: most, direct: direct, check: check)
        }
        try part.report(2 * units, of: 2 * units)
        let variance = system.variance > 0 ? system.variance : .nan
        let (n, m, d) = (Double(units), Double(dSAE), Double(dIn))
        return SingleRefit(
            sae: try folded.withDecoder(of: system), tokens: units, tokenMeans: system.tokenMeans,
            silent: system.firings.count { $0 == 0 }, explainedVarianceBefore: 1 - system.errorBefore / variance,
            explainedVarianceAfter: 1 - (try system.error(rightSide: rightSide)) / variance, outcome: outcome,
            operations: 2 * n * d * m + 4 * Double(system.active) * d + outcome.operations)
    }

    private func withDecoder(of system: RefitSystem) throws -> SAE {
        let change = system.solution
        var bias = system.residualMeans
        for latent in 0..<dSAE where system.means[latent] != 0 {
            for j in 0..<dIn { bias[j] -= system.means[latent] * change[latent, j] }
        }
        let decoder = try FloatMatrix(rows: dSAE, cols: dIn) { target in
            for i in 0..<dSAE * dIn { target[i] = Float(Double(self.decoder.pointer[i]) + change.pointer[i]) }
        }
        let decoderBias = try FloatMatrix(rows: 1, cols: dIn) { target in
            for j in 0..<dIn { target[j] = Float(bias[j]) }
        }
        try requireFinite("refitted", [("W_dec", decoder), ("b_dec", decoderBias)])
        var result = try SAE(
            encoder: encoder, encoderBias: encoderBias, decoder: decoder, decoderBias: decoderBias,
            architecture: architecture, normalization: normalization, metadata: metadata)
        try result.setEvidence(evidence)
        return result
    }
}

private struct SingleRefit {
    let sae: SAE
    let tokens: Int
    let tokenMeans: [Double]
    let silent: Int
    let explainedVarianceBefore: Double
    let explainedVarianceAfter: Double
    let outcome: RefitOutcome
    let operations: Double
}

extension Progress {
    /// For work that is part `index` of `count` equal parts of a whole of `total` units.
    fileprivate func part(_ index: Int, of count: Int, total: Int) -> Progress {
        guard isObserved else { return self }
        return Progress { done, parts in
            let share = parts > 0 ? Double(done) / Double(parts) : 0
            let units = (Double(index) + share) * (Double(total) / Double(count))
            return (try? report(Int(units.rounded()), of: total)) != nil
        }
    }
}

extension RefitSystem {
    /// Squared error with the solution: from `matrix solution = rightSide`, so but for what the
    /// solver left.
    fileprivate func error(rightSide: DoubleMatrix) throws -> Double {
        var gain = 0.0
        for latent in 0..<dSAE {
            for j in 0..<dIn {
                let change = solution[latent, j]
                gain += change * (rightSide[latent, j] + pull[latent] * change)
            }
        }
        return errorCentred - gain
    }
}
