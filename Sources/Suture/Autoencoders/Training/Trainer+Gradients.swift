// SPDX-License-Identifier: Apache-2.0

/// Gradients of the loss on a batch.
public struct TrainingGradients: Sendable {
    /// (1, count), in the order of `layout`.
    public let flat: FloatMatrix
    public let layout: GradientLayout
    public let metrics: TrainingMetrics
    /// What the gradients are of, so all its terms.
    public var loss: Double { metrics.loss + metrics.sparsityLoss + metrics.auxLoss + metrics.pullLoss }
}

/// A step in two halves, for gradients that are reduced over several processes in between.
extension Trainer {
    public var gradientLayout: GradientLayout {
        GradientLayout(dIn: dIn, dSAE: dSAE, hasThresholds: activation.thresholds != nil)
    }

    /// The gradients of the loss on the rows of `x` (N, d_in), without a step.
    ///
    /// - Throws: as `step`.
    public func gradients(_ x: MatrixView, like codes: SparseCodes? = nil) throws -> TrainingGradients {
        let layout = gradientLayout
        var metrics = TrainingMetrics()
        let flat = try FloatMatrix(rows: 1, cols: layout.count) { metrics = try gradients(x, like: codes, into: $0) }
        return TrainingGradients(flat: flat, layout: layout, metrics: metrics)
    }

    /// Writes the gradients of the loss on the rows of `x` (N, d_in) to `target`, which has
    /// `gradientLayout.count` elements. They are those of the mean over these tokens and of the weights
    /// as they are: neither clipped nor projected.
    ///
    /// - Parameters:
    ///   - codes: of these rows in the other model, with `TrainingOptions.pull`.
    ///   - firings: (d_sae), gets the tokens on which each latent was active.
    /// - Returns: the batch's `loss`, `variance` and `l0`; the rest as the last step left it.
    /// - Throws: as `step`; `SutureError.invalidArgument` if the options take something from the
    ///   activations at the first step (`decoderBiasStart`, `normalizeActivations`) and it is not done.
    public func gradients(
        _ x: MatrixView, like codes: SparseCodes? = nil, into target: UnsafeMutablePointer<Float>,
        firings: UnsafeMutablePointer<Int64>? = nil,
        progress: Progress = .none
    ) throws -> TrainingMetrics {
        try exclusively {
            let begun = Pulse.nanoseconds()
            let rows = try batchRows(x)
            try requireStart()
            let pulse = Pulse(progress, total: rows.count)
            let memory = try memory(for: rows.count)
            let pull = try codePull(codes, rows: rows.count)
            let totals = try forward(rows, Array(0..<rows.count), memory: memory, pull: pull, pulse: pulse)
            try memory.group()
            try write(memory, decoderBias: decoderBiasGradient(memory, totals, pulse: pulse), to: target, pulse: pulse)
            if let firings {
                for latent in 0..<dSAE { firings[latent] = Int64(memory.firings(latent)) }
            }
            var metrics = self.metrics
            metrics.take(totals, tokens: rows.count)
            metrics.pullLoss = Double(pull?.weight ?? 0) * totals.pullSquares / Double(rows.count)
            metrics.seconds = Double(Pulse.nanoseconds() - begun) * 1e-9
            return metrics
        }
    }

    private func write(
        _ memory: StepMemory, decoderBias: [Float], to target: UnsafeMutablePointer<Float>, pulse: Pulse
    ) throws {
        let layout = gradientLayout
        for i in 0..<dIn { target[layout.decoderBias + i] = decoderBias[i] }
        let shared = Unchecked((memory, target))
        // Columns of W_enc are far apart in memory: a block of them is written at once.
        try forLatentBlocks(of: memory, staging: Trainer.latentBlock * dIn, pulse) { latents, scratch in
            let (memory, target) = shared.value
            let dIn = layout.dIn
            for latent in latents {
                target[layout.encoderBias + latent] = memory.gradient(ofLatent: latent, scratch)
                if let thresholds = layout.thresholds {
                    target[thresholds + latent] = memory.thresholdGradient(ofLatent: latent)
                }
                (target + layout.decoder + latent * dIn).update(from: scratch.decoder, count: dIn)
                (scratch.staging + (latent - latents.lowerBound) * dIn).update(from: scratch.encoder, count: dIn)
            }
            for i in 0..<dIn {
                for latent in latents {
                    target[i * layout.dSAE + latent] = scratch.staging[(latent - latents.lowerBound) * dIn + i]
                }
            }
        }
    }

    /// Applies the gradients of a step, reduced over several batches, as `step` would its own: clipping,
    /// the projection of decoder gradients, Adam, decoder norms, counters.
    ///
    /// - Parameters:
    ///   - gradients: `gradientLayout.count` elements, those of the mean over all tokens of the step.
    ///   - tokens: how many these are.
    ///   - firings: (d_sae), the tokens on which each latent was active, for the count of dead ones; nil
    ///     takes for active what has a gradient of b_enc other than 0.
    /// - Returns: `steps`, `tokens`, `dead`, `learningRate`, `seconds`, and operations, which count the
    ///   whole step's (without firings, not those of active latents); of the losses, which are not
    ///   known here, the moving average stays and the rest is NaN.
    /// - Throws: `SutureError.invalidArgument` for elements that are not finite; `.cancelled`. As for
    ///   `step` the trainer is then as before, but for a cancel while the weights change.
    public func apply(
        _ gradients: UnsafePointer<Float>, tokens count: Int, firings: UnsafePointer<Int64>? = nil,
        progress: Progress = .none
    ) throws -> TrainingMetrics {
        try exclusively {
            let begun = Pulse.nanoseconds()
            let (_, overflow) = tokens.addingReportingOverflow(count)
            guard count >= 1, count <= 1 << 48, !overflow else {
                throw SutureError.invalidArgument("tokens is \(count), expected 1 to 2^48")
            }
            try requireStart()
            let source = FlatGradients(elements: gradients, layout: gradientLayout, rows: count, firings: firings)
            try source.validate()
            let pulse = Pulse(progress, total: count)
            try finish(source, decoderBiasGradient: source.decoderBias, pulse: pulse)
            try pulse.endUpdate()
            let active = firings.map { firings in (0..<dSAE).reduce(0) { $0 + Double(firings[$1]) } } ?? 0
            running.count(flops(tokens: count, active: active))
            var metrics = self.metrics
            (metrics.loss, metrics.variance, metrics.l0) = (.nan, .nan, .nan)
            (metrics.sparsityLoss, metrics.auxLoss, metrics.pullLoss) = (.nan, .nan, .nan)
            metrics.seconds = Double(Pulse.nanoseconds() - begun) * 1e-9
            return metrics
        }
    }
}
