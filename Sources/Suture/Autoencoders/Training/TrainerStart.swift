// SPDX-License-Identifier: Apache-2.0

/// Where b_dec begins.
public enum DecoderBiasStart: Sendable, CaseIterable {
    /// As it is in the SAE.
    case keep
    case zero
    /// The mean of the activations.
    case mean
    /// The point with the least sum of distances to the activations (Bricken et al. 2023, "Towards
    /// Monosemanticity").
    case geometricMedian

    /// As users write it.
    public var name: String {
        switch self {
        case .keep: return "keep"
        case .zero: return "zero"
        case .mean: return "mean"
        case .geometricMedian: return "geometric_median"
        }
    }
}

/// What activations are multiplied by before training sees them.
public enum ActivationNormalization: Sendable, CaseIterable {
    case none
    /// sqrt(d_in) / mean norm, one number for all tokens (SAELens' word for it); folded into the
    /// weights of the SAE that is given back.
    case expectedAverageOnlyIn

    /// As users write it.
    public var name: String {
        switch self {
        case .none: return "none"
        case .expectedAverageOnlyIn: return "expected_average_only_in"
        }
    }
}

/// What a trainer takes from the activations before its first step.
struct TrainerStart: Equatable {
    /// Whether that has been done, or nothing is to be taken.
    var isDone: Bool
    /// Factor of all activations.
    var inputScale = 1.0

    init(_ options: TrainingOptions) {
        isDone = options.normalizeActivations == .none && options.decoderBiasStart == .keep
    }
}

extension Trainer {
    /// Takes from `rows` what the options want, unless that has been done: the scale of the
    /// activations, and b_dec. On an error nothing has changed.
    ///
    /// The weights are those of a SAE of unscaled activations. With factor s, b_enc and b_dec times s
    /// make it one of scaled ones whose x_hat is s times what it was: activations grow by s, the same
    /// latents win, and a random start (W_enc = W_decᵀ, biases 0) stays as it is.
    func startIfNeeded(_ rows: TokenRows, pulse: Pulse) throws {
        guard !start.isDone else { return }
        let sample = TokenSample(rows, dIn: dIn, progress: pulse.repeated)
        var start = start
        if options.normalizeActivations == .expectedAverageOnlyIn {
            let norm = try sample.meanNorm()
            let scale = Double(dIn).squareRoot() / norm
            guard (1e-30...1e30).contains(scale) else {
                throw SutureError.invalidArgument(
                    "the mean norm of the activations is \(norm), expected above 0 and within 1e-30 to 1e30 times "
                        + "sqrt(d_in) for normalize_activations expected_average_only_in")
            }
            start.inputScale = scale
        }
        var bias: [Double]
        switch options.decoderBiasStart {
        case .keep: bias = (0..<dIn).map { Double(weights.decoderBias[$0]) }
        case .zero: bias = [Double](repeating: 0, count: dIn)
        case .mean: bias = try sample.mean()
        case .geometricMedian: bias = try sample.geometricMedian()
        }
        for i in 0..<dIn { bias[i] *= start.inputScale }
        let encoderBias = (0..<dSAE).map { Float(Double(weights.encoderBias[$0]) * start.inputScale) }
        guard bias.allSatisfy({ Float($0).isFinite }), encoderBias.allSatisfy({ $0.isFinite }) else {
            throw SutureError.invalidArgument(
                "b_enc or b_dec is too large to be multiplied by the scale of the activations, \(start.inputScale)")
        }
        for i in 0..<dIn { weights.decoderBias[i] = Float(bias[i]) }
        for (latent, value) in encoderBias.enumerated() {
            weights.encoderBias[latent] = value
            activation.thresholds?.scale(latent, by: start.inputScale)
        }
        refreshEncoderCopy()
        start.isDone = true
        self.start = start
    }

    /// Refuses gradients of weights that the first step would set anew.
    func requireStart() throws {
        guard start.isDone else {
            throw SutureError.invalidArgument(
                "b_dec_init is \(options.decoderBiasStart.name) and normalize_activations "
                    + "\(options.normalizeActivations.name), which take effect at the first step: expected one "
                    + "before gradients are asked for")
        }
    }
}
