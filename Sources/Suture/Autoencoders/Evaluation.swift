// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Running metrics of a SAE over a stream of tokens. Memory does not grow with the tokens; sums are
/// in float64, added up in a fixed order, so that the same calls give the same bits for any number
/// of threads.
public struct Evaluation: Sendable {
    public let sae: SAE
    private let coder: BlockCoder
    private var sums: EvaluationSums
    /// Of the tokens within the bound.
    private var ordinary: EvaluationSums
    /// Tokens of a larger norm count in the metrics of all tokens, not in those of ordinary ones.
    public private(set) var normBound = Double.infinity
    private var features: FeatureCounts

    public init(_ sae: SAE) {
        self.sae = sae
        coder = BlockCoder(sae)
        sums = EvaluationSums(dIn: sae.dIn)
        ordinary = EvaluationSums(dIn: sae.dIn)
        features = FeatureCounts(dSAE: sae.dSAE)
    }

    public var tokens: Int { sums.tokens }

    /// Sets the norm up to which tokens are ordinary; infinity: all are.
    ///
    /// - Throws: `invalidArgument` for a bound that is NaN, 0 or negative, or after the first token.
    public mutating func setNormBound(_ bound: Double) throws {
        guard bound > 0 else {
            throw SutureError.invalidArgument("norm_bound is \(bound), expected a number above 0, or infinity for none")
        }
        guard tokens == 0 else {
            throw SutureError.invalidArgument(
                "the evaluation has seen \(tokens) tokens, expected none yet: a bound comes before the first")
        }
        normBound = bound
    }

    /// Adds tokens.
    ///
    /// - Parameter x: (N, d_in), N >= 1.
    /// - Throws: as `SAE.encode`. On any error the evaluation is as it was before the call.
    public mutating func update(_ x: MatrixView, progress: Progress = .none) throws {
        try sae.checkTokens(x, "x")
        var call = EvaluationSums(dIn: sae.dIn)
        var callOrdinary = EvaluationSums(dIn: sae.dIn)
        let bound = normBound
        var callFeatures = FeatureCounts(dSAE: sae.dSAE)
        let blocks = coder.blocks(of: x.rows)
        // As many blocks at a time as keep every thread busy, and as their sums take little memory.
        let wave = 64
        let pool = Mutex<[FeatureBox]>([])
        try progress.report(0, of: blocks)
        try BLAS.singleThreaded { [coder] in
            for first in stride(from: 0, to: blocks, by: wave) {
                let count = min(wave, blocks - first)
                let found = Mutex([(all: EvaluationSums, ordinary: EvaluationSums)?](repeating: nil, count: count))
                try parallelFor(count, progress: progress, base: first, total: blocks) { index in
                    // Counts are whole numbers and maxima exact: their order does not matter.
                    let box = pool.withLock { $0.popLast() } ?? FeatureBox(dSAE: coder.sae.dSAE)
                    defer { pool.withLock { $0.append(box) } }
                    let sums = try coder.withScratch { scratch in
                        let range = try coder.encode(x, block: first + index, scratch)
                        return EvaluationSums.ofBlock(
                            scratch, rows: range.count, coder, normBound: bound, &box.features)
                    }
                    found.withLock { $0[index] = sums }
                }
                for sums in found.withLock({ $0 }) {
                    guard let sums else { continue }
                    call.merge(sums.all)
                    callOrdinary.merge(sums.ordinary)
                }
            }
        }
        try progress.report(blocks, of: blocks)
        for box in pool.withLock({ $0 }) { callFeatures.merge(box.features) }
        sums.merge(call)
        ordinary.merge(callOrdinary)
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
        /// Tokens that are not ordinary, and their share of the variance.
        public let beyond: Int
        public let shareBeyond: Double
        /// The same metrics over ordinary tokens; NaN if there are none.
        public let ordinary: Ordinary
    }

    /// Metrics over the tokens within the bound on norms.
    public struct Ordinary: Sendable {
        public let tokens: Int
        public let explainedVariance: Double
        public var fvu: Double { 1 - explainedVariance }
        public let l0: Double
        public let mse: Double
        public let cosine: Double
        public let normRatio: Double
    }

    /// - Throws: `SutureError.invalidArgument` before the first token.
    public func report() throws -> Report {
        try requireTokens()
        let all = metrics(sums)
        // The variance of ordinary tokens about the mean of all.
        var shift = 0.0
        for (one, other) in zip(ordinary.mean, sums.mean) { shift += (one - other) * (one - other) }
        let inside = ordinary.squaresAboutMean + Double(ordinary.tokens) * shift
        let beyond = sums.tokens - ordinary.tokens
        let share = beyond > 0 && sums.squaresAboutMean > 0 ? 1 - inside / sums.squaresAboutMean : 0
        return Report(
            tokens: sums.tokens, explainedVariance: all.explainedVariance, l0: all.l0,
            deadFraction: Double(features.fired.count { $0 == 0 }) / Double(sae.dSAE), mse: all.mse,
            cosine: all.cosine, normRatio: all.normRatio, beyond: beyond, shareBeyond: min(max(share, 0), 1),
            ordinary: metrics(ordinary))
    }

    private func metrics(_ sums: EvaluationSums) -> Ordinary {
        let tokens = Double(sums.tokens)
        return Ordinary(
            tokens: sums.tokens,
            explainedVariance: sums.squaresAboutMean > 0 ? 1 - sums.squaredError / sums.squaresAboutMean : .nan,
            l0: Double(sums.active) / tokens, mse: sums.squaredError / (tokens * Double(sae.dIn)),
            cosine: sums.cosines / Double(sums.directed), normRatio: sums.normRatios / Double(sums.directed))
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

    /// Of the block in `scratch`, whose latents are counted in `features`: over all its tokens, and over
    /// those of norms up to `normBound`.
    static func ofBlock(
        _ scratch: BlockScratch, rows: Int, _ coder: BlockCoder, normBound: Double, _ features: inout FeatureCounts
    ) -> (all: EvaluationSums, ordinary: EvaluationSums) {
        let dIn = coder.sae.dIn
        var errors: [RowErrors] = []
        errors.reserveCapacity(rows)
        for row in 0..<rows {
            coder.decode(row: row, of: scratch, into: scratch.output.pointer)
            errors.append(RowErrors(scratch.input.pointer + row * dIn, scratch.output.pointer, dIn))
            for slot in row * coder.slots..<row * coder.slots + scratch.counts[row] {
                let (latent, value) = (Int(scratch.indices.pointer[slot]), scratch.values.pointer[slot])
                features.fired[latent] += 1
                if value > features.largest[latent] { features.largest[latent] = value }
            }
        }
        let all = EvaluationSums(scratch, Array(0..<rows), errors, dIn)
        let kept = (0..<rows).filter { errors[$0].square.squareRoot() <= normBound }
        return (all, kept.count == rows ? all : EvaluationSums(scratch, kept, errors, dIn))
    }

    /// Over some rows of a block.
    private init(_ scratch: BlockScratch, _ rows: [Int], _ errors: [RowErrors], _ dIn: Int) {
        self.init(dIn: dIn)
        tokens = rows.count
        guard tokens > 0 else { return }
        for row in rows {
            let one = errors[row]
            squaredError += one.error
            if one.square > 0 {
                directed += 1
                if one.outputSquare > 0 {
                    cosines += one.product / (one.square.squareRoot() * one.outputSquare.squareRoot())
                }
                normRatios += (one.outputSquare / one.square).squareRoot()
            }
            active += scratch.counts[row]
            let x = scratch.input.pointer + row * dIn
            for j in 0..<dIn { mean[j] += Double(x[j]) }
        }
        for j in 0..<dIn { mean[j] /= Double(tokens) }
        for row in rows {
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

/// What a token and its reconstruction have to do with each other.
private struct RowErrors {
    /// |x - x_hat|², x · x_hat, |x|², |x_hat|².
    var (error, product, square, outputSquare) = (0.0, 0.0, 0.0, 0.0)

    init(_ x: UnsafePointer<Float>, _ output: UnsafePointer<Float>, _ count: Int) {
        for j in 0..<count {
            let (a, b) = (Double(x[j]), Double(output[j]))
            error += (a - b) * (a - b)
            product += a * b
            square += a * a
            outputSquare += b * b
        }
    }
}
