// SPDX-License-Identifier: Apache-2.0
import Foundation

@testable import Suture

/// A TopK SAE, its gradients and Adam as the textbook has them: dense, in float64, in plain loops.
struct TrainReference {
    var encoder: [[Double]]  // (d_in, d_sae)
    var encoderBias: [Double]
    var decoder: [[Double]]  // (d_sae, d_in)
    var decoderBias: [Double]
    let k: Int
    let subtracts: Bool

    init(_ sae: SAE, k: Int) {
        func rows(_ matrix: FloatMatrix) -> [[Double]] {
            (0..<matrix.rows).map { row in (0..<matrix.cols).map { Double(matrix[row, $0]) } }
        }
        encoder = rows(sae.encoder)
        encoderBias = rows(sae.encoderBias)[0]
        decoder = rows(sae.decoder)
        decoderBias = rows(sae.decoderBias)[0]
        self.k = k
        subtracts = sae.subtractsDecoderBias
    }

    /// All parameters as one list, in the order of `TrainGradientList`.
    var parameters: [Double] {
        get { encoder.flatMap { $0 } + encoderBias + decoder.flatMap { $0 } + decoderBias }
        set {
            let (d, m) = (decoderBias.count, encoderBias.count)
            for i in 0..<d { encoder[i] = Array(newValue[i * m..<(i + 1) * m]) }
            encoderBias = Array(newValue[d * m..<d * m + m])
            for j in 0..<m { decoder[j] = Array(newValue[d * m + m + j * d..<d * m + m + (j + 1) * d]) }
            decoderBias = Array(newValue[2 * d * m + m..<2 * d * m + m + d])
        }
    }

    /// Dense activations, and x_hat - x.
    func forward(_ x: [Double]) -> (activations: [Double], error: [Double]) {
        let (d, m) = (decoderBias.count, encoderBias.count)
        var pre = encoderBias
        for i in 0..<d {
            let value = subtracts ? x[i] - decoderBias[i] : x[i]
            for j in 0..<m { pre[j] += value * encoder[i][j] }
        }
        let chosen = (0..<m).sorted { pre[$0] != pre[$1] ? pre[$0] > pre[$1] : $0 < $1 }.prefix(k)
        var activations = [Double](repeating: 0, count: m)
        for j in chosen { activations[j] = max(pre[j], 0) }
        var error = zip(decoderBias, x).map { $0 - $1 }
        for j in 0..<m where activations[j] > 0 {
            for i in 0..<d { error[i] += activations[j] * decoder[j][i] }
        }
        return (activations, error)
    }

    func loss(_ batch: [[Double]]) -> Double {
        batch.reduce(0) { sum, x in sum + forward(x).error.reduce(0) { $0 + $1 * $1 } } / Double(batch.count)
    }

    /// By back-propagation, in the order of `parameters`.
    func gradients(_ batch: [[Double]]) -> [Double] {
        let (d, m) = (decoderBias.count, encoderBias.count)
        var result = TrainReference(zerosLike: self)
        for x in batch {
            let (activations, error) = forward(x)
            let output = error.map { 2 * $0 / Double(batch.count) }
            for i in 0..<d { result.decoderBias[i] += output[i] }
            for j in 0..<m where activations[j] > 0 {
                var slope = 0.0
                for i in 0..<d {
                    result.decoder[j][i] += activations[j] * output[i]
                    slope += output[i] * decoder[j][i]
                }
                result.encoderBias[j] += slope
                for i in 0..<d {
                    result.encoder[i][j] += slope * (subtracts ? x[i] - decoderBias[i] : x[i])
                    if subtracts { result.decoderBias[i] -= slope * encoder[i][j] }
                }
            }
        }
        return result.parameters
    }

    private init(zerosLike other: TrainReference) {
        self = other
        parameters = [Double](repeating: 0, count: other.parameters.count)
    }

    mutating func normaliseDecoder() {
        for j in decoder.indices {
            let norm = decoder[j].reduce(0) { $0 + $1 * $1 }.squareRoot()
            decoder[j] = decoder[j].map { $0 / norm }
        }
    }
}

/// Adam on a list of numbers (Kingma & Ba 2015, algorithm 1).
struct TrainReferenceAdam {
    var first: [Double] = []
    var second: [Double] = []
    var steps = 0

    mutating func step(_ parameters: inout [Double], _ gradients: [Double], _ options: TrainingOptions) {
        if first.isEmpty {
            first = gradients.map { _ in 0 }
            second = first
        }
        steps += 1
        for i in parameters.indices {
            first[i] = options.beta1 * first[i] + (1 - options.beta1) * gradients[i]
            second[i] = options.beta2 * second[i] + (1 - options.beta2) * gradients[i] * gradients[i]
            let m = first[i] / (1 - pow(options.beta1, Double(steps)))
            let v = second[i] / (1 - pow(options.beta2, Double(steps)))
            parameters[i] -= options.learningRate * m / (v.squareRoot() + options.epsilon)
        }
    }
}

enum TrainSupport {
    /// Gaussian rows.
    static func gaussian(_ rows: Int, _ cols: Int, seed: UInt64, scale: Double = 1, mean: Double = 0) throws
        -> FloatMatrix
    {
        var random = RandomSource(seed: seed)
        return try FloatMatrix(rows: rows, cols: cols) { target in
            for i in 0..<rows * cols { target[i] = Float(mean + scale * random.normal()) }
        }
    }

    /// A random SAE; decoder rows are not of unit norm. Biases below zero leave some of the k
    /// latents of a token inactive.
    /// - Parameter unit: whether decoder rows have norm 1, which then is in the encoder.
    static func sae(
        dIn: Int, dSAE: Int, k: Int, subtracts: Bool = false, bias: Double = 0, seed: UInt64 = 7, unit: Bool = true
    ) throws -> SAE {
        let sae = try SAE(
            encoder: gaussian(dIn, dSAE, seed: seed, scale: 0.5),
            encoderBias: gaussian(1, dSAE, seed: seed + 1, scale: 0.3, mean: bias),
            decoder: gaussian(dSAE, dIn, seed: seed + 2, scale: 0.5),
            decoderBias: gaussian(1, dIn, seed: seed + 3, scale: 0.3), architecture: .topK(k: k),
            subtractsDecoderBias: subtracts)
        guard unit else { return sae }
        let norms = sae.decoderNorms
        func scaled(_ matrix: FloatMatrix, by factor: (_ row: Int, _ col: Int) -> Double) throws -> FloatMatrix {
            try FloatMatrix(rows: matrix.rows, cols: matrix.cols) { target in
                for row in 0..<matrix.rows {
                    for col in 0..<matrix.cols {
                        target[row * matrix.cols + col] = Float(Double(matrix[row, col]) * factor(row, col))
                    }
                }
            }
        }
        return try SAE(
            encoder: scaled(sae.encoder) { norms[$1] }, encoderBias: scaled(sae.encoderBias) { norms[$1] },
            decoder: scaled(sae.decoder) { row, _ in 1 / norms[row] }, decoderBias: sae.decoderBias,
            architecture: sae.architecture, subtractsDecoderBias: subtracts)
    }

    static func doubles(_ matrix: FloatMatrix) -> [[Double]] {
        (0..<matrix.rows).map { row in (0..<matrix.cols).map { Double(matrix[row, $0]) } }
    }

    /// All weights, in the order of `TrainReference.parameters`.
    static func parameters(_ sae: SAE) -> [Float] {
        Array(sae.encoder.buffer) + Array(sae.encoderBias.buffer) + Array(sae.decoder.buffer)
            + Array(sae.decoderBias.buffer)
    }

    static func parameters(_ gradients: TrainingGradients) -> [Float] { Array(gradients.flat.buffer) }

    /// Largest |a - b| relative to the largest |b|.
    static func worst(_ a: [Float], _ b: [Double]) -> Double {
        let scale = b.reduce(0) { max($0, abs($1)) }
        return zip(a, b).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / scale
    }
}
