// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Running metrics of a SAE over a stream of tokens. Memory does not grow with the tokens; sums are
/// in float64, added up in a fixed order, so that the same calls give the same bits for any number
/// of threads.
public struct Evaluation: Sendable {
    public let sae: SAE
    private let coder: BlockCoder
    private var sums: EvaluationSums
    private var features: FeatureCounts

    public init(_ sae: SAE) {
        self.sae = sae
        coder = BlockCoder(sae)
        sums = EvaluationSums(dIn: sae.dIn)
        features = FeatureCounts(dSAE: sae.dSAE)
    }

    public var tokens: Int { sums.tokens }

    /// Adds tokens.
    ///
    /// - Parameter x: (N, d_in), N >= 1.
    /// - Throws: as `SAE.encode`. On any error the evaluation is as it was before the call.
    public mutating func update(_ x: MatrixView, progress: Progress = .none) throws {
        try sae.checkTokens(x, "x")
        var call = EvaluationSums(dIn: sae.dIn)
        var callFeatures = FeatureCounts(dSAE: sae.dSAE)
        let blocks = coder.blocks(of: x.rows)
        // As many blocks at a time as keep every thread busy, and as their sums take little memory.
        let wave = 64
        let pool = Mutex<[FeatureBox]>([])
        try progress.report(0, of: blocks)
        try BLAS.singleThreaded { [coder] in
            for first in stride(from: 0, to: blocks, by: wave) {
                let count = min(wave, blocks - first)
                let found = Mutex([EvaluationSums?](repeating: nil, count: count))
                try parallelFor(count, progress: progress, base: first, total: blocks) { index in
                    // Counts are whole numbers and maxima exact: their order does not matter.
                    let box = pool.withLock { $0.popLast() } ?? FeatureBox(dSAE: coder.sae.dSAE)
                    defer { pool.withLock { $0.append(box) } }
                    let sums = try coder.withScratch { scratch in
                        let range = try coder.encode(x, block: first + index, scratch)
                        return EvaluationSums(scratch, rows: range.count, coder, &box.features)
                    }
                    found.withLock { $0[index] = sums }
                }
                for sums in found.withLock({ $0 }) {
                    if let sums { call.merge(sums) }
                }
            }
        }
        try progress.report(blocks, of: blocks)
        for box in pool.withLock({ $0 }) { callFeatures.merge(box.features) }
        sums.merge(call)
        features.merge(callFeatures)
    }

    /// Metrics over all tokens so far.
    public struct Report: Sendable {
        public let tokens: Int
        /// 1 - sum |x - x_hat|^2 / sum |x - mean|^2, the mean over all tokens; NaN if the tokens do
        /// not vary.
        public let explainedVariance: Double
        /// 1 - explainedVariance.
        public var fvu: Double { 1 - explainedVariance }
        /// Mean active latents a token.
        public let l0: Double
        /// Latents that fired on none of the tokens, as a fraction of d_sae.
        public let deadFraction: Double
        /// Mean of (x - x_hat)^2 over tokens and coordinates.
        public let mse: Double
        /// Mean over tokens of the cosine between x and x_hat; 0 for a token whose x_hat is zero.
        /// Tokens that are zero themselves count neither here nor in `normRatio`; NaN if all are.
        public let cosine: Double
        /// Mean over tokens of |x_hat| / |x|.
        public let normRatio: Double
    }

    /// - Throws: `SutureError.invalidArgument` before the first token.
    public func report() throws -> Report {
        try requireTokens()
        let tokens = Double(sums.tokens)
        return Report(
            tokens: sums.tokens,
            explainedVariance: sums.squaresAboutMean > 0 ? 1 - sums.squaredError / sums.squaresAboutMean : .nan,
            l0: Double(sums.active) / tokens,
            deadFraction: Double(features.fired.count { $0 == 0 }) / Double(sae.dSAE),
            mse: sums.squaredError / (tokens * Double(sae.dIn)), cosine: sums.cosines / Double(sums.directed),
            normRatio: sums.normRatios / Double(sums.directed))
    }

    /// For each latent the fraction of tokens on which it fired, (d_sae).
    public func frequencies() throws -> [Double] {
        try requireTokens()
        return features.fired.map { Double($0) / Double(sums.tokens) }
    }

    /// For each latent its largest activation, 0 where it never fired, (d_sae).
    public func maxima() throws -> [Float] {
        try requireTokens()
        return features.largest
    }

    private func requireTokens() throws {
        guard sums.tokens > 0 else {
            throw SutureError.invalidArgument("the evaluation has seen no tokens, expected at least 1")
        }
    }
}

/// How often each latent fired, and how strongly at most.
private struct FeatureCounts {
    var fired: [UInt64]
    var largest: [Float]

    init(dSAE: Int) {
        fired = [UInt64](repeating: 0, count: dSAE)
        largest = [Float](repeating: 0, count: dSAE)
    }

    mutating func merge(_ other: FeatureCounts) {
        for latent in fired.indices {
            fired[latent] += other.fired[latent]
            largest[latent] = max(largest[latent], other.largest[latent])
        }
    }
}

/// `@unchecked Sendable`: the pool hands it to one thread at a time.
private final class FeatureBox: @unchecked Sendable {
    var features: FeatureCounts
    init(dSAE: Int) { features = FeatureCounts(dSAE: dSAE) }
}

/// Sums over some tokens, of which those of two sets of tokens can be merged.
private struct EvaluationSums: Sendable {
    var tokens = 0
    var active = 0
    /// Tokens other than zero.
    var directed = 0
    var squaredError = 0.0
    var cosines = 0.0
    var normRatios = 0.0
    /// Mean token, (d_in), and the sum over tokens and coordinates of (x - mean)^2.
    var mean: [Double]
    var squaresAboutMean = 0.0

    init(dIn: Int) { mean = [Double](repeating: 0, count: dIn) }

    /// Of the block in `scratch`, whose latents are counted in `features`.
    init(_ scratch: BlockScratch, rows: Int, _ coder: BlockCoder, _ features: inout FeatureCounts) {
        let dIn = coder.sae.dIn
        self.init(dIn: dIn)
        tokens = rows
        for row in 0..<rows {
            let x = scratch.input.pointer + row * dIn
            let output = scratch.output.pointer
            coder.decode(row: row, of: scratch, into: output)
            var (error, product, square, outputSquare) = (0.0, 0.0, 0.0, 0.0)
            for j in 0..<dIn {
                let (a, b) = (Double(x[j]), Double(output[j]))
                error += (a - b) * (a - b)
                product += a * b
                square += a * a
                outputSquare += b * b
                mean[j] += a
            }
            squaredError += error
            if square > 0 {
                directed += 1
                if outputSquare > 0 { cosines += product / (square.squareRoot() * outputSquare.squareRoot()) }
                normRatios += (outputSquare / square).squareRoot()
            }
            active += scratch.counts[row]
            for slot in row * coder.slots..<row * coder.slots + scratch.counts[row] {
                let (latent, value) = (Int(scratch.indices.pointer[slot]), scratch.values.pointer[slot])
                features.fired[latent] += 1
                if value > features.largest[latent] { features.largest[latent] = value }
            }
        }
        for j in 0..<dIn { mean[j] /= Double(rows) }
        for row in 0..<rows {
            for j in 0..<dIn {
                let deviation = Double(scratch.input.pointer[row * dIn + j]) - mean[j]
                squaresAboutMean += deviation * deviation
            }
        }
    }

    /// Adds the sums of other tokens (Chan, Golub & LeVeque 1983, for the mean and the squares).
    mutating func merge(_ other: EvaluationSums) {
        guard other.tokens > 0 else { return }
        let (n, m) = (Double(tokens), Double(other.tokens))
        var shift = 0.0
        for j in mean.indices {
            let difference = other.mean[j] - mean[j]
            shift += difference * difference
            mean[j] += difference * (m / (n + m))
        }
        squaresAboutMean += other.squaresAboutMean + shift * (n * m / (n + m))
        tokens += other.tokens
        active += other.active
        directed += other.directed
        squaredError += other.squaredError
        cosines += other.cosines
        normRatios += other.normRatios
    }
}
