// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc

/// First and second moments of one array of parameters.
struct AdamMoments {
    let first: Buffer<Float>
    let second: Buffer<Float>

    init(_ count: Int) throws {
        first = try Buffer(zeros: count)
        second = try Buffer(zeros: count)
    }
}

/// The numbers of one Adam step, as torch.optim.Adam takes them: corrections in float64, then
/// rounded once.
struct AdamStep {
    let oneMinusBeta1: Float
    let beta2: Float
    let oneMinusBeta2: Float
    let stepSize: Float
    let rootCorrection2: Float
    let epsilon: Float

    init(_ options: TrainingOptions, step: Int) {
        oneMinusBeta1 = Float(1 - options.beta1)
        beta2 = Float(options.beta2)
        oneMinusBeta2 = Float(1 - options.beta2)
        stepSize = Float(options.learningRate(after: step - 1) / (1 - pow(options.beta1, Double(step))))
        rootCorrection2 = Float((1 - pow(options.beta2, Double(step))).squareRoot())
        epsilon = Float(options.epsilon)
    }

    /// Moves `count` parameters from `offset` on.
    func apply(
        _ parameters: UnsafeMutablePointer<Float>, _ moments: AdamMoments, offset: Int,
        gradient: UnsafePointer<Float>, count: Int
    ) {
        sk_adam(
            parameters + offset, moments.first.pointer + offset, moments.second.pointer + offset, gradient, count,
            oneMinusBeta1, beta2, oneMinusBeta2, stepSize, rootCorrection2, epsilon)
    }
}

extension StepMemory {
    /// The gradient of one latent's weights: encoder and decoder row (d_in) each; returns that of
    /// its bias. Tokens are summed in order, so the bits depend on nothing else.
    func gradient(
        ofLatent latent: Int, encoder: UnsafeMutablePointer<Float>, decoder: UnsafeMutablePointer<Float>
    ) -> Float {
        encoder.update(repeating: 0, count: dIn)
        decoder.update(repeating: 0, count: dIn)
        let (first, count) = (groups[latent], groups[latent + 1] - groups[latent])
        let tokens = groupedTokens + first
        sk_gather_sum(input, dIn, tokens, groupedSlopes + first, count, encoder, dIn)
        sk_gather_sum(error, dIn, tokens, groupedValues + first, count, decoder, dIn)
        if let auxiliary {
            let entries = auxiliary.groups
            let (first, count) = (entries.starts[latent], entries.starts[latent + 1] - entries.starts[latent])
            sk_gather_sum(input, dIn, entries.tokens + first, entries.slopes + first, count, encoder, dIn)
            sk_gather_sum(auxiliary.error, dIn, entries.tokens + first, entries.values + first, count, decoder, dIn)
        }
        if let entries = pull?.groups {
            let (first, count) = (entries.starts[latent], entries.starts[latent + 1] - entries.starts[latent])
            sk_gather_sum(input, dIn, entries.tokens + first, entries.slopes + first, count, encoder, dIn)
        }
        if let pull = normPull, pull.coefficient > 0, pull.norms[latent] > 0 {
            var sum = 0.0
            for entry in first..<first + count { sum += Double(groupedValues[entry]) }
            // Grouped values are activations times 2 / rows.
            let factor = pull.coefficient * Float(sum / 2) / pull.norms[latent]
            sk_axpy(factor, pull.rows + latent * dIn, decoder, dIn)
        }
        return biasGradient(ofLatent: latent)
    }

    func biasGradient(ofLatent latent: Int) -> Float {
        var sum = 0.0
        for entry in groups[latent]..<groups[latent + 1] { sum += Double(groupedSlopes[entry]) }
        if let auxiliary { sum += auxiliary.groups.sumOfSlopes(latent) }
        if let pull { sum += pull.groups.sumOfSlopes(latent) }
        return Float(sum)
    }
}

extension Trainer {
    /// Latents of one piece of parallel work.
    static var latentBlock: Int { EncoderPanels.latents }

    /// Runs `body` on blocks of latents in parallel, with scratch for one latent's gradients from
    /// `source` and the block's biases.
    ///
    /// - Parameter staging: elements of scratch besides, if the source needs none.
    func forLatentBlocks(
        of source: some LatentGradients, staging: Int = 0, _ pulse: Pulse?,
        _ body: @escaping @Sendable (_ latents: Range<Int>, _ scratch: LatentScratch) -> Void
    ) throws {
        let (dIn, dSAE, width, done) = (dIn, dSAE, Trainer.latentBlock, source.rows)
        let staging = max(staging, source.stagingSize(dIn: dIn, latents: width))
        let shared = Unchecked(source)
        try parallelFor((dSAE + width - 1) / width, progress: pulse?.repeated ?? .none) { block in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * dIn + width + staging) { memory in
                guard let base = memory.baseAddress else { return }
                let scratch = LatentScratch(
                    encoder: base, decoder: base + dIn, bias: base + 2 * dIn, staging: base + 2 * dIn + width)
                let latents = block * width..<min((block + 1) * width, dSAE)
                shared.value.begin(latents, scratch)
                body(latents, scratch)
            }
            try pulse?.beat(done)
        }
    }

    /// Gradient of b_dec. Where the encoder's input is x - b_dec it has a second part,
    /// - sum over latents of (gradient of b_enc) W_enc.
    func decoderBiasGradient(_ memory: StepMemory, _ totals: StepTotals, pulse: Pulse?) throws -> [Float] {
        let dIn = memory.dIn
        var sums = totals.error.map { $0 * 2 / Double(memory.rows) }
        if weights.subtractsDecoderBias {
            let width = Trainer.latentBlock
            let blocks = (memory.dSAE + width - 1) / width
            let parts = try Buffer<Double>(zeros: blocks * dIn)
            defer { withExtendedLifetime(parts) {} }
            let shared = Unchecked((memory, weights, parts.pointer))
            try forLatentBlocks(of: memory, pulse) { latents, _ in
                let (memory, weights, parts) = shared.value
                let part = parts + latents.lowerBound / Trainer.latentBlock * memory.dIn
                for latent in latents {
                    let slope = Double(memory.biasGradient(ofLatent: latent))
                    guard slope != 0 else { continue }
                    let row = weights.encoder + latent * memory.dIn
                    for i in 0..<memory.dIn { part[i] -= slope * Double(row[i]) }
                }
            }
            for block in 0..<blocks {
                for i in 0..<dIn { sums[i] += parts.pointer[block * dIn + i] }
            }
        }
        guard sums.allSatisfy({ abs($0) < gradientLimit }) else {
            throw SutureError.numerical("the gradient of b_dec is not finite at step \(steps + 1): training diverged")
        }
        return sums.map { Float($0) }
    }

    /// One Adam step on all weights, then decoder rows back to unit norm. The gradient of each latent
    /// goes into Adam as soon as it is there: no array of gradients exists.
    ///
    /// Cannot fail: everything that could was checked before.
    ///
    /// - Parameter factor: of all gradients, from `clippingFactor`.
    func update(
        _ source: some LatentGradients, decoderBiasGradient: [Float], factor: Float, pulse: Pulse
    ) throws {
        let adam = AdamStep(options, step: steps + 1)
        let tokensAfter = tokens + source.rows
        let (dIn, decoderNorm) = (dIn, options.decoderNorm)
        let decoderBiasGradient = factor == 1 ? decoderBiasGradient : decoderBiasGradient.map { $0 * factor }
        decoderBiasGradient.withUnsafeBufferPointer { gradient in
            guard let base = gradient.baseAddress else { return }
            adam.apply(weights.decoderBias, decoderBiasMoments, offset: 0, gradient: base, count: dIn)
        }
        let shared = Unchecked(
            (
                source, weights, encoderMoments, encoderBiasMoments, decoderMoments, lastFired.pointer, encoderCopy,
                decoderNorms?.pointer, startScales.map { UnsafePointer($0.pointer) }, activation
            ))
        try forLatentBlocks(of: source, pulse) { latents, scratch in
            let (
                source, weights, encoderMoments, encoderBiasMoments, decoderMoments, lastFired, copy, norms, scales,
                activation
            ) =
                shared.value
            for latent in latents {
                let row = weights.decoder + latent * dIn
                var bias = source.gradient(ofLatent: latent, scratch)
                decoderNorm.project(scratch.decoder, row: row, count: dIn)
                if factor != 1 {
                    bias *= factor
                    for i in 0..<dIn {
                        scratch.encoder[i] *= factor
                        scratch.decoder[i] *= factor
                    }
                }
                scratch.bias[latent - latents.lowerBound] = bias
                adam.apply(weights.encoder, encoderMoments, offset: latent * dIn, gradient: scratch.encoder, count: dIn)
                adam.apply(weights.decoder, decoderMoments, offset: latent * dIn, gradient: scratch.decoder, count: dIn)
                decoderNorm.normalise(row, count: dIn)
                if source.fired(latent) { lastFired[latent] = tokensAfter }
            }
            adam.apply(
                weights.encoderBias, encoderBiasMoments, offset: latents.lowerBound, gradient: scratch.bias,
                count: latents.count)
            if let thresholds = activation.thresholds {
                for latent in latents {
                    scratch.bias[latent - latents.lowerBound] = factor * source.thresholdGradient(ofLatent: latent)
                }
                adam.apply(
                    thresholds.values.pointer, thresholds.moments, offset: latents.lowerBound,
                    gradient: scratch.bias, count: latents.count)
                thresholds.project(latents)
            }
            copy.refresh(latents, weights, norms, scales: scales, activation)
        }
    }
}
