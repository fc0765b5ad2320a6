// SPDX-License-Identifier: Apache-2.0

/// Floating-point operations of one training step; a multiplication with its addition counts as two.
///
/// A `Double`, since a long run's sum passes what `Int` holds; its whole numbers are exact to 2^53.
struct StepFlops: Equatable {
    /// What a dense step takes, as the paper counts (arXiv 2506.06609, Table 3): torch's flop counter
    /// on the forward and backward pass of SAELens' TopK, which sees six products of (tokens, d_in,
    /// d_sae): encoder, decoder, gradients of W_enc, W_dec, the activations, and of the encoder's input
    /// (for b_dec). So 12 d_in d_sae a token; the optimiser is not counted.
    var dense = 0.0
    /// What this library's step does, with the latents that fired.
    var executed = 0.0

    /// - Parameters:
    ///   - tokens: of the step.
    ///   - active: latents that fired, summed over the tokens.
    init(tokens: Int, active: Double, dIn: Int, dSAE: Int, subtractsDecoderBias: Bool, options: TrainingOptions) {
        let (tokens, width, latents) = (Double(tokens), Double(dIn), Double(dSAE))
        dense = 12 * width * latents * tokens

        // Every pre-activation, 2 d_in d_sae a token.
        executed += 2 * width * latents * tokens
        // 2 d_in for each active latent of each token: its exact pre-activation, decode, the slope, the
        // gradients by W_enc and W_dec. (The few candidates that then do not fire are not counted.)
        executed += 5 * 2 * width * active
        // Error, its square, the square of the input, the sums of both: 7 d_in a token.
        executed += 7 * width * tokens
        // Gradient of b_dec by way of the encoder's input: - W_enc times the gradient of b_enc.
        if subtractsDecoderBias { executed += 2 * width * latents }
        // 13 for each weight: 3 for the first moment, 4 for the second, 6 for the step; then 3 for each
        // of W_dec to bring its rows to norm 1.
        let weights = 2 * width * latents + latents + width
        executed += 13 * weights
        // Without it, the norms, and the products of all pre-activations with them.
        executed += options.decoderNorm == .free ? 2 * width * latents + latents * tokens : 3 * width * latents
        // The component of a gradient along its row, found and taken away.
        if options.decoderNorm == .unit { executed += 4 * width * latents }
        // The gradients once more, for their norm.
        if options.maxGradientNorm != nil { executed += 2 * 2 * width * active + 2 * weights }
    }
}
