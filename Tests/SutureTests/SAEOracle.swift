// SPDX-License-Identifier: Apache-2.0
import Glibc
import Suture
import Testing

/// Random SAEs of every kind, and what they compute written out in dense float64.
struct SAECase: Sendable, CustomTestStringConvertible {
    var architecture: String
    var subtracts = false
    var rescales = false
    var normalization = Normalization.none

    static let architectures = ["topk", "batchtopk", "jumprelu", "relu", "gated"]
    static let normalizations: [Normalization] = [.none, .fixedScale(0.37), .tokenNorm, .layerNorm]

    static let all: [SAECase] = architectures.flatMap { architecture in
        [false, true].flatMap { subtracts in
            [false, true].flatMap { rescales in
                normalizations.map {
                    SAECase(architecture: architecture, subtracts: subtracts, rescales: rescales, normalization: $0)
                }
            }
        }
    }
    /// Those that are affine maps around an activation function.
    static let affine = all.filter { $0.normalization != .tokenNorm && $0.normalization != .layerNorm }

    var testDescription: String {
        "\(architecture)\(subtracts ? " -b_dec" : "")\(rescales ? " rescaled" : "") \(normalization.name)"
    }

    func make(dIn: Int = 24, dSAE: Int = 200, k: Int = 9, seed: UInt64 = 7) throws -> SAE {
        var random = RandomSource(seed: seed)
        func matrix(_ rows: Int, _ cols: Int, _ value: () -> Double) throws -> FloatMatrix {
            try FloatMatrix(
                Matrix<Float>(rows: rows, cols: cols, elements: (0..<rows * cols).map { _ in Float(value()) }))
        }
        let width = 1 / Double(dIn).squareRoot()
        let encoder = try matrix(dIn, dSAE) { random.normal() * width }
        // Rows of different norms, one of them zero.
        var rows = Matrix<Float>(zeros: dSAE, dIn)
        for latent in 0..<dSAE where latent != 3 {
            let norm = 0.2 + 2 * random.uniform()
            for j in 0..<dIn { rows[latent, j] = Float(random.normal() * width * norm) }
        }
        let kind: Architecture
        switch architecture {
        case "topk": kind = .topK(k: k)
        case "batchtopk": kind = .batchTopK(threshold: 1.1)
        // Some thresholds below zero: relu still holds.
        case "jumprelu": kind = .jumpReLU(threshold: try matrix(1, dSAE) { 1.2 * random.uniform() - 0.1 })
        case "gated":
            kind = .gated(
                gateBias: try matrix(1, dSAE) { random.normal() * 0.5 - 0.8 },
                magnitudeBias: try matrix(1, dSAE) { random.normal() * 0.5 },
                magnitudeScale: try matrix(1, dSAE) { random.normal() * 0.4 })
        default: kind = .relu
        }
        return try SAE(
            encoder: encoder,
            encoderBias: try matrix(1, dSAE) { architecture == "gated" ? 0 : random.normal() * 0.3 - 0.2 },
            decoder: FloatMatrix(rows), decoderBias: try matrix(1, dIn) { random.normal() * 0.5 }, architecture: kind,
            subtractsDecoderBias: subtracts, rescalesByDecoderNorm: rescales, normalization: normalization)
    }
}

func randomTokens(_ rows: Int, _ cols: Int, seed: UInt64 = 11) throws -> FloatMatrix {
    var random = RandomSource(seed: seed)
    return try FloatMatrix(
        Matrix<Float>(
            rows: rows, cols: cols, elements: (0..<rows * cols).map { _ in Float(random.normal() * 1.3 + 0.2) }))
}

/// What a SAE computes for one token, in float64 from the definitions, with every dense vector
/// written out. No code of the library is used but its weights.
struct SAEOracle {
    let activations: [Double]
    let reconstruction: [Double]
    /// How far the decision between active and inactive is from turning over.
    let margin: Double

    init(_ sae: SAE, _ token: [Double]) {
        let (dIn, dSAE) = (sae.dIn, sae.dSAE)
        var (scale, mean, divisor) = (1.0, 0.0, 1.0)
        switch sae.normalization {
        case .none: break
        case .fixedScale(let factor): (scale, divisor) = (1 / factor, 1 / factor)
        case .tokenNorm:
            scale = (token.map { $0 * $0 }.reduce(0, +)).squareRoot() / Double(dIn).squareRoot()
            divisor = scale
        case .layerNorm:
            mean = token.reduce(0, +) / Double(dIn)
            scale = (token.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(dIn - 1)).squareRoot()
            divisor = scale + 1e-5
        }
        let input = (0..<dIn).map { j in
            (token[j] - mean) / divisor - (sae.subtractsDecoderBias ? Double(sae.decoderBias[0, j]) : 0)
        }
        let norms = (0..<dSAE).map { latent in
            sae.rescalesByDecoderNorm
                ? (0..<dIn).map { Double(sae.decoder[latent, $0]) * Double(sae.decoder[latent, $0]) }.reduce(0, +)
                    .squareRoot() : 1
        }
        let product = (0..<dSAE).map { latent in
            (0..<dIn).map { input[$0] * Double(sae.encoder[$0, latent]) }.reduce(0, +)
        }
        let pre = (0..<dSAE).map { (product[$0] + Double(sae.encoderBias[0, $0])) * norms[$0] }
        var margin = Double.infinity
        var activations = [Double](repeating: 0, count: dSAE)
        func threshold(_ latent: Int, _ value: Double) {
            margin = min(margin, abs(pre[latent] - value))
            activations[latent] = pre[latent] > value ? max(pre[latent], 0) : 0
        }
        switch sae.architecture {
        case .topK(let k):
            let order = (0..<dSAE).sorted { (pre[$0], -$0) > (pre[$1], -$1) }
            for latent in order.prefix(k) { activations[latent] = max(pre[latent], 0) }
            if k < dSAE { margin = pre[order[k - 1]] - pre[order[k]] }
        case .batchTopK(let value, _): for latent in 0..<dSAE { threshold(latent, Double(value)) }
        case .jumpReLU(let values): for latent in 0..<dSAE { threshold(latent, Double(values[0, latent])) }
        case .relu: for latent in 0..<dSAE { activations[latent] = max(pre[latent], 0) }
        case .gated(let gateBias, let magnitudeBias, let magnitudeScale):
            for latent in 0..<dSAE {
                let gate = product[latent] + Double(gateBias[0, latent])
                margin = min(margin, abs(gate))
                let magnitude =
                    product[latent] * exp(Double(magnitudeScale[0, latent])) + Double(magnitudeBias[0, latent])
                activations[latent] = gate > 0 ? max(magnitude, 0) * norms[latent] : 0
            }
        }
        reconstruction = (0..<dIn).map { j in
            var sum = Double(sae.decoderBias[0, j])
            for latent in 0..<dSAE where activations[latent] > 0 && norms[latent] > 0 {
                sum += activations[latent] / norms[latent] * Double(sae.decoder[latent, j])
            }
            return sum * scale + mean
        }
        self.activations = activations
        self.margin = margin
    }
}

extension FloatMatrix {
    func row(_ row: Int) -> [Double] { (0..<cols).map { Double(self[row, $0]) } }
}
