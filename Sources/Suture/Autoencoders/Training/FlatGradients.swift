// SPDX-License-Identifier: Apache-2.0

/// Where the gradients of each array of weights are in one flat buffer: W_enc (d_in, d_sae), b_enc
/// (d_sae), W_dec (d_sae, d_in), b_dec (d_in) and, for JumpReLU, threshold (d_sae), row by row and one
/// after the other.
public struct GradientLayout: Sendable, Equatable {
    public let dIn: Int
    public let dSAE: Int
    /// Whether thresholds are trained.
    public let hasThresholds: Bool

    /// Where each array begins; W_enc does at 0.
    public var encoderBias: Int { dIn * dSAE }
    public var decoder: Int { encoderBias + dSAE }
    public var decoderBias: Int { decoder + dSAE * dIn }
    public var thresholds: Int? { hasThresholds ? decoderBias + dIn : nil }
    /// Elements of the whole.
    public var count: Int { decoderBias + dIn + (hasThresholds ? dSAE : 0) }
}

/// Gradients of a step in a flat buffer, reduced outside.
struct FlatGradients: LatentGradients {
    let elements: UnsafePointer<Float>
    let layout: GradientLayout
    let rows: Int
    /// (d_sae): tokens on which each latent was active.
    let firings: UnsafePointer<Int64>?

    /// Columns of W_enc are far apart in memory: a block of them is fetched at once.
    func stagingSize(dIn: Int, latents: Int) -> Int { dIn * latents }

    func begin(_ latents: Range<Int>, _ scratch: LatentScratch) {
        let (dIn, dSAE) = (layout.dIn, layout.dSAE)
        for i in 0..<dIn {
            for latent in latents {
                scratch.staging[(latent - latents.lowerBound) * dIn + i] = elements[i * dSAE + latent]
            }
        }
    }

    func gradient(ofLatent latent: Int, _ scratch: LatentScratch) -> Float {
        let dIn = layout.dIn
        scratch.encoder.update(from: scratch.staging + latent % Trainer.latentBlock * dIn, count: dIn)
        scratch.decoder.update(from: elements + layout.decoder + latent * dIn, count: dIn)
        return elements[layout.encoderBias + latent]
    }

    func thresholdGradient(ofLatent latent: Int) -> Float { layout.thresholds.map { elements[$0 + latent] } ?? 0 }

    func mayHaveGradient(_ latent: Int) -> Bool { true }

    func fired(_ latent: Int) -> Bool {
        if let firings { return firings[latent] > 0 }
        return elements[layout.encoderBias + latent] != 0
    }

    var decoderBias: [Float] { (0..<layout.dIn).map { elements[layout.decoderBias + $0] } }

    /// - Throws: `SutureError.invalidArgument` for an element that is not finite, or so large that its
    ///   square would not be.
    func validate() throws {
        let (length, count) = (1 << 16, layout.count)
        let shared = Unchecked(elements)
        try parallelFor((count + length - 1) / length) { block in
            let (elements, range) = (shared.value, block * length..<min((block + 1) * length, count))
            let limit = Float(gradientLimit)
            var bad = 0
            for i in range { bad |= abs(elements[i]) < limit ? 0 : 1 }
            guard bad != 0, let first = range.first(where: { !(abs(elements[$0]) < limit) }) else { return }
            throw SutureError.invalidArgument(
                "gradients[\(first)] is \(elements[first]), expected finite numbers below 1e18")
        }
        guard let firings else { return }
        for latent in 0..<layout.dSAE where firings[latent] < 0 {
            throw SutureError.invalidArgument("firings[\(latent)] is \(firings[latent]), expected at least 0")
        }
    }
}
