// SPDX-License-Identifier: Apache-2.0
import Glibc

/// The activation function of a SAE, with what it needs.
public enum Architecture: Sendable {
    /// The k largest pre-activations of each token, then ReLU.
    case topK(k: Int)
    /// At inference: ReLU, kept where above one threshold common to all latents. In training: the k N
    /// largest of N tokens' activations, so k is their mean number a token; nil where it is not known.
    case batchTopK(threshold: Float, k: Int? = nil)
    /// relu(pre) where pre > threshold (1, d_sae).
    case jumpReLU(threshold: FloatMatrix)
    case relu
    /// (gate pre-activation > 0) * relu(magnitude pre-activation); `encoderBias` is not used.
    /// gate = x W_enc + b_gate, magnitude = x (W_enc * exp(r_mag)) + b_mag; all (1, d_sae).
    case gated(gateBias: FloatMatrix, magnitudeBias: FloatMatrix, magnitudeScale: FloatMatrix)

    /// As users write it.
    public var name: String {
        switch self {
        case .topK: return "topk"
        case .batchTopK: return "batchtopk"
        case .jumpReLU: return "jumprelu"
        case .relu: return "relu"
        case .gated: return "gated"
        }
    }
}

/// What happens to activations before the encoder, and is undone after the decoder.
public enum Normalization: Sendable, Equatable {
    case none
    /// x * scale in, x_hat / scale out: affine, so it can be folded into the weights.
    case fixedScale(Double)
    /// Each token divided by its norm / sqrt(d_in) (SAELens: constant_norm_rescale).
    case tokenNorm
    /// Each token centred and divided by its standard deviation (SAELens: layer_norm).
    case layerNorm

    /// As users write it.
    public var name: String {
        switch self {
        case .none: return "none"
        case .fixedScale: return "fixed_scale"
        case .tokenNorm: return "token_norm"
        case .layerNorm: return "layer_norm"
        }
    }

    /// Whether what is done to a token depends on the token: no affine map, not to be folded.
    public var isPerToken: Bool { self == .tokenNorm || self == .layerNorm }
}

/// A sparse autoencoder (arXiv 2506.06609, eq. 4): `f = activation(x W_enc + b_enc)`,
/// `x_hat = f W_dec + b_dec`, with the variations of the field's libraries as options.
public struct SAE: Sendable {
    /// (d_in, d_sae)
    public let encoder: FloatMatrix
    /// (1, d_sae); zeros for Gated.
    public let encoderBias: FloatMatrix
    /// (d_sae, d_in)
    public let decoder: FloatMatrix
    /// (1, d_in)
    public let decoderBias: FloatMatrix
    public let architecture: Architecture
    /// Whether `x - b_dec` enters the encoder instead of `x`.
    public let subtractsDecoderBias: Bool
    /// Whether pre-activations are multiplied by the norm of their decoder row before the
    /// activation function, and divided by it before decoding.
    public let rescalesByDecoderNorm: Bool
    public let normalization: Normalization
    /// What is known about where it comes from; SAELens' `metadata` (model_name, hook_name, …).
    public var metadata: Metadata
    /// What is known of each latent, where the SAE was carried by pairs; as many as there are latents.
    public private(set) var evidence: LatentEvidence?
    let encoderIndex = LazyEncoderIndex()

    /// - Throws: `SutureError.invalidArgument` for evidence of another number of latents.
    public mutating func setEvidence(_ evidence: LatentEvidence?) throws {
        if let count = evidence?.latents.count, count != dSAE {
            throw SutureError.invalidArgument("evidence is of \(count) latents, expected d_sae = \(dSAE)")
        }
        self.evidence = evidence
    }

    public var dIn: Int { encoder.rows }
    public var dSAE: Int { encoder.cols }

    /// Largest d_in and d_sae: what BLAS can index.
    static let sizeLimit = Int(Int32.max)

    /// - Throws: `SutureError.invalidArgument` where shapes or settings do not fit together, or a
    ///   weight is not finite.
    public init(
        encoder: FloatMatrix, encoderBias: FloatMatrix, decoder: FloatMatrix, decoderBias: FloatMatrix,
        architecture: Architecture, subtractsDecoderBias: Bool = false, rescalesByDecoderNorm: Bool = false,
        normalization: Normalization = .none, metadata: Metadata = Metadata()
    ) throws {
        let (dIn, dSAE) = (encoder.rows, encoder.cols)
        guard dIn >= 1, dSAE >= 1, dIn <= SAE.sizeLimit, dSAE <= SAE.sizeLimit else {
            throw SutureError.invalidArgument(
                "W_enc is (\(dIn), \(dSAE)), expected 1 to \(SAE.sizeLimit) rows and columns")
        }
        var shapes = [
            ("W_enc", encoder, dIn, dSAE), ("b_enc", encoderBias, 1, dSAE), ("W_dec", decoder, dSAE, dIn),
            ("b_dec", decoderBias, 1, dIn),
        ]
        switch architecture {
        case .topK(let k):
            guard k >= 1, k <= dSAE else {
                throw SutureError.invalidArgument("k is \(k), expected 1 to d_sae = \(dSAE)")
            }
        case .batchTopK(let threshold, let k):
            guard threshold.isFinite else {
                throw SutureError.invalidArgument("threshold is \(threshold), expected a finite number")
            }
            if let k, k < 1 || k > dSAE {
                throw SutureError.invalidArgument("k is \(k), expected 1 to d_sae = \(dSAE)")
            }
        case .jumpReLU(let threshold): shapes.append(("threshold", threshold, 1, dSAE))
        case .relu: break
        case .gated(let gateBias, let magnitudeBias, let magnitudeScale):
            shapes.append(("b_gate", gateBias, 1, dSAE))
            shapes.append(("b_mag", magnitudeBias, 1, dSAE))
            shapes.append(("r_mag", magnitudeScale, 1, dSAE))
        }
        for (name, matrix, rows, cols) in shapes where matrix.rows != rows || matrix.cols != cols {
            throw SutureError.invalidArgument(
                "\(name) is (\(matrix.rows), \(matrix.cols)), expected (\(rows), \(cols)) to go with W_enc (\(dIn), \(dSAE))"
            )
        }
        for (name, matrix, _, _) in shapes {
            if let bad = matrix.view.firstNonFinite() {
                throw SutureError.invalidArgument(
                    "\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
            }
        }
        if case .gated(_, _, let magnitudeScale) = architecture,
            let latent = (0..<dSAE).first(where: {
                exp(Double(magnitudeScale[0, $0])) > Double(Float.greatestFiniteMagnitude)
            })
        {
            throw SutureError.invalidArgument(
                "r_mag[0, \(latent)] is \(magnitudeScale[0, latent]), expected a number whose exponential fits in float32"
            )
        }
        if case .fixedScale(let scale) = normalization, !(1e-30...1e30).contains(scale) {
            throw SutureError.invalidArgument("scale is \(scale), expected a finite number above 0 (1e-30 to 1e30)")
        }
        self.encoder = encoder
        self.encoderBias = encoderBias
        self.decoder = decoder
        self.decoderBias = decoderBias
        self.architecture = architecture
        self.subtractsDecoderBias = subtractsDecoderBias
        self.rescalesByDecoderNorm = rescalesByDecoderNorm
        self.normalization = normalization
        self.metadata = metadata
    }
}
