// SPDX-License-Identifier: Apache-2.0
import Glibc

extension SAE {
    /// Norm of each decoder row.
    var decoderNorms: [Double] {
        let pointer = decoder.pointer
        return (0..<dSAE).map { latent in
            var squares = 0.0
            for j in 0..<dIn {
                let value = Double(pointer[latent * dIn + j])
                squares += value * value
            }
            return squares.squareRoot()
        }
    }

    /// The same function with the same activations, written without options: decoder norms, a
    /// fixed scale and the subtraction of b_dec are folded into the weights.
    ///
    /// With fixed scale s (1 where there is none) and decoder norms n (1 where they do not count):
    /// `W_enc' = s W_enc n`, `b_enc' = (b_enc - b_dec W_enc) n`, `W_dec' = W_dec / (n s)`,
    /// `b_dec' = b_dec / s`. Pre-activations stay the numbers they were, so that the same latents win
    /// and thresholds stay. Norms fold only where the SAE rescales by them: elsewhere they would
    /// change which latents win. A per-token normalisation is no affine map and stays as it is.
    ///
    /// Computed in float64 and rounded once.
    public func folded() throws -> SAE { try folded(subtraction: true) }

    /// - Parameter subtraction: false leaves the subtraction of b_dec to the encoder.
    func folded(subtraction: Bool) throws -> SAE {
        var scale = 1.0
        if case .fixedScale(let value) = normalization { scale = value }
        let norms = rescalesByDecoderNorm ? decoderNorms : nil
        let foldsBias = subtraction && subtractsDecoderBias
        guard scale != 1 || norms != nil || foldsBias || normalization == .fixedScale(1) else { return self }

        let shift = foldsBias ? shiftOfBias() : [Double](repeating: 0, count: dSAE)
        /// b - factor * shift, times the norms.
        func bias(_ bias: FloatMatrix, factor: (Int) -> Double = { _ in 1 }) throws -> FloatMatrix {
            let source = bias.pointer
            return try FloatMatrix(rows: 1, cols: dSAE) { target in
                for j in 0..<dSAE { target[j] = Float((Double(source[j]) - factor(j) * shift[j]) * (norms?[j] ?? 1)) }
            }
        }
        let foldedArchitecture: Architecture
        switch architecture {
        case .gated(let gateBias, let magnitudeBias, let magnitudeScale):
            let logarithms = magnitudeScale.pointer
            foldedArchitecture = .gated(
                gateBias: try bias(gateBias),
                magnitudeBias: try bias(magnitudeBias) { exp(Double(logarithms[$0])) }, magnitudeScale: magnitudeScale)
        default: foldedArchitecture = architecture
        }
        let (encoderSource, decoderSource, biasSource) = (encoder.pointer, decoder.pointer, decoderBias.pointer)
        let foldedEncoder = try FloatMatrix(rows: dIn, cols: dSAE) { target in
            for i in 0..<dIn {
                for j in 0..<dSAE {
                    target[i * dSAE + j] = Float(Double(encoderSource[i * dSAE + j]) * scale * (norms?[j] ?? 1))
                }
            }
        }
        let foldedDecoder = try FloatMatrix(rows: dSAE, cols: dIn) { target in
            for latent in 0..<dSAE {
                let norm = norms?[latent] ?? 1
                // A row of zeros stays one.
                let factor = norm > 0 ? 1 / (norm * scale) : 0
                for j in 0..<dIn { target[latent * dIn + j] = Float(Double(decoderSource[latent * dIn + j]) * factor) }
            }
        }
        let foldedBias = try FloatMatrix(rows: 1, cols: dIn) { target in
            for j in 0..<dIn { target[j] = Float(Double(biasSource[j]) / scale) }
        }
        let isGated = if case .gated = architecture { true } else { false }
        var result = try SAE(
            encoder: foldedEncoder, encoderBias: isGated ? encoderBias : try bias(encoderBias), decoder: foldedDecoder,
            decoderBias: foldedBias, architecture: foldedArchitecture,
            subtractsDecoderBias: subtractsDecoderBias && !subtraction, rescalesByDecoderNorm: false,
            normalization: normalization.isPerToken ? normalization : .none, metadata: metadata)
        try result.setEvidence(evidence)
        return result
    }

    /// `b_dec W_enc`, (d_sae).
    private func shiftOfBias() -> [Double] {
        var shift = [Double](repeating: 0, count: dSAE)
        let (encoder, bias) = (encoder.pointer, decoderBias.pointer)
        for i in 0..<dIn where bias[i] != 0 {
            for j in 0..<dSAE { shift[j] += Double(bias[i]) * Double(encoder[i * dSAE + j]) }
        }
        return shift
    }
}
