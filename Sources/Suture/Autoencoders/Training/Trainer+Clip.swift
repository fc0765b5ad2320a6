// SPDX-License-Identifier: Apache-2.0

extension Trainer {
    /// What the gradients of a step are to be multiplied by, so that their norm over all four arrays of
    /// weights is at most `maxGradientNorm`: min(1, max / (norm + 1e-6)), torch's clip_grad_norm_.
    ///
    /// The norm must be known before the first weight moves, and there are no arrays of gradients: so
    /// each latent's gradient is computed here, squared and forgotten, and computed again by `update`.
    /// Sums are float64 and in a fixed order. At d_in 512, d_sae 8192, k 32 and 4096 tokens that made a
    /// step 11 % longer.
    func clippingFactor(_ source: some LatentGradients, decoderBiasGradient: [Float], pulse: Pulse) throws -> Float {
        guard let limit = options.maxGradientNorm else { return 1 }
        let width = Trainer.latentBlock
        let blocks = (dSAE + width - 1) / width
        let parts = try Buffer<Double>(zeros: blocks)
        defer { withExtendedLifetime(parts) {} }
        let shared = Unchecked((source, weights, parts.pointer))
        let (dIn, decoderNorm) = (dIn, options.decoderNorm)
        try forLatentBlocks(of: source, pulse) { latents, scratch in
            let (source, weights, parts) = shared.value
            var sum = 0.0
            for latent in latents where source.mayHaveGradient(latent) {
                let bias = Double(source.gradient(ofLatent: latent, scratch))
                decoderNorm.project(scratch.decoder, row: weights.decoder + latent * dIn, count: dIn)
                let threshold = Double(source.thresholdGradient(ofLatent: latent))
                sum +=
                    threshold * threshold + bias * bias + sumOfSquares(scratch.encoder, dIn)
                    + sumOfSquares(scratch.decoder, dIn)
            }
            parts[latents.lowerBound / Trainer.latentBlock] = sum
        }
        var square = decoderBiasGradient.reduce(0) { $0 + Double($1) * Double($1) }
        for block in 0..<blocks { square += parts.pointer[block] }
        return Float(min(1, limit / (square.squareRoot() + 1e-6)))
    }
}

/// In float64, eight partial sums at a time.
private func sumOfSquares(_ x: UnsafePointer<Float>, _ count: Int) -> Double {
    var sums = SIMD8<Double>.zero
    let whole = count / 8 * 8
    for i in stride(from: 0, to: whole, by: 8) {
        let values = SIMD8<Double>(UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Float>.self))
        sums += values * values
    }
    var sum = sums.sum()
    for i in whole..<count { sum += Double(x[i]) * Double(x[i]) }
    return sum
}
