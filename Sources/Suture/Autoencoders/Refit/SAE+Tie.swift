// SPDX-License-Identifier: Apache-2.0

extension SAE {
    /// The same decoder directions, with an encoder that looks along them: decoder rows are brought to
    /// unit norm, their norms moved into the encoder; then each encoder column w becomes `(w · d) d`,
    /// where d is its decoder row, and its bias such that the mean token gives 0.
    ///
    /// The gain w · d stays because it tells how much of a token each of several latents, active
    /// together, takes for itself. A latent whose gain is not above 0 gets the mean of the others (1
    /// where there are none); one whose decoder row is zero stays.
    ///
    /// - Parameter mean: the mean token, (d_in).
    /// - Throws: `SutureError.numerical` where a weight is beyond float32.
    func tied(mean: [Double]) throws -> SAE {
        let (dIn, dSAE) = (self.dIn, self.dSAE)
        let norms = decoderNorms
        // w · d with d of unit norm, times the norm that moves into w: w · (row of the decoder).
        var gains = [Double](repeating: 0, count: dSAE)
        for i in 0..<dIn {
            for latent in 0..<dSAE { gains[latent] += Double(encoder[i, latent]) * Double(decoder[latent, i]) }
        }
        let usual = gains.filter { $0 > 0 }
        let substitute = usual.isEmpty ? 1 : usual.reduce(0, +) / Double(usual.count)
        for latent in 0..<dSAE where !(gains[latent] > 0) { gains[latent] = substitute }
        let tiedEncoder = try FloatMatrix(rows: dIn, cols: dSAE) { target in
            for i in 0..<dIn {
                for latent in 0..<dSAE {
                    target[i * dSAE + latent] =
                        norms[latent] > 0
                        ? Float(gains[latent] * Double(decoder[latent, i]) / norms[latent]) : encoder[i, latent]
                }
            }
        }
        let tiedDecoder = try FloatMatrix(rows: dSAE, cols: dIn) { target in
            for latent in 0..<dSAE where norms[latent] > 0 {
                for i in 0..<dIn {
                    target[latent * dIn + i] = Float(Double(decoder[latent, i]) / norms[latent])
                }
            }
        }
        let tiedBias = try FloatMatrix(rows: 1, cols: dSAE) { target in
            for latent in 0..<dSAE {
                guard norms[latent] > 0 else {
                    target[latent] = encoderBias[0, latent]
                    continue
                }
                var shift = 0.0
                for i in 0..<dIn { shift += mean[i] * Double(decoder[latent, i]) }
                target[latent] = Float(-gains[latent] * shift / norms[latent])
            }
        }
        try requireFinite("tied", [("W_enc", tiedEncoder), ("b_enc", tiedBias)])
        return try SAE(
            encoder: tiedEncoder, encoderBias: tiedBias, decoder: tiedDecoder, decoderBias: decoderBias,
            architecture: architecture, normalization: normalization, metadata: metadata)
    }
}

/// Refuses computed weights that float32 cannot hold.
///
/// - Parameter kind: how they were made, for the message.
func requireFinite(_ kind: String, _ weights: [(name: String, matrix: FloatMatrix)]) throws {
    for (name, matrix) in weights {
        if let bad = matrix.view.firstNonFinite() {
            throw SutureError.numerical(
                "the \(kind) \(name)[\(bad.row), \(bad.column)] is \(bad.value), beyond the range of float32")
        }
    }
}
