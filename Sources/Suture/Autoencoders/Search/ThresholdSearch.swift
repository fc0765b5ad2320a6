// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Finds all latents of tokens whose pre-activations are above a bar, block by block, without a
/// (tokens, d_sae) matrix.
///
/// As in `TopKSearch` a fast product picks candidates, which are scored again in float32: values have
/// the same bits on every CPU, and so, but for chance, has the choice. What the fast scores may be off by
/// is taken off the bar beforehand, from the size of the token and of the weights; how far they were off
/// is seen at the candidates, and a token for which that was too much is scored again whole.
final class ThresholdSearch: Sendable {
    private let scores: LatentScores
    private let pool: ScratchPool<SearchScratch>

    /// The bar is lowered by so many standard deviations: weights of a latent may be larger than the mean
    /// they are computed from.
    private static var reach: Float { 8 }
    /// And by less than so many of those seen at the candidates it must not be.
    private static var least: Float { 5 }
    /// A token may have few candidates, whose errors are large by chance: to them come so many whose errors
    /// are as expected.
    private static var expected: Float { 16 }
    /// Latents from which the mean squares of weights are taken.
    private static var sampled: Int { 256 }

    /// - Parameter blockRows: tokens of a block.
    init(dIn: Int, dSAE: Int, blockRows: Int) {
        scores = LatentScores(dIn: dIn, dSAE: dSAE)
        pool = ScratchPool { try SearchScratch(rows: blockRows, dIn: dIn, dSAE: dSAE, keep: 0) }
    }

    /// Standard deviation of a fast score's error, relative to the root of the sum of (x w)² over the
    /// coordinates: measured for bfloat16; for float32 that of as many roundings one after the other.
    private func relativeDeviation(_ encoder: EncoderRows) -> Float {
        encoder.panels == nil ? Float(scores.dIn).squareRoot() / 0x1p24 : 2.34e-3
    }

    /// Calls `found` for each of `count` tokens, in order, with its pre-activations (times the encoder's
    /// scales) that are above `bar` and the encoder's floors, in the order of the latents. The pointers
    /// are good until `found` returns.
    ///
    /// Nothing may overflow: `encoder` and `input` are such that no score is NaN or infinite.
    ///
    /// - Parameters:
    ///   - input: (count, d_in), count <= blockRows.
    ///   - bar: 0 where the encoder has floors.
    ///   - beat: called at least every 10 to 20 ms.
    func forEach(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, bar: Float, beat: () throws -> Void,
        found: (_ row: Int, _ count: Int, _ indices: UnsafePointer<Int32>, _ values: UnsafePointer<Float>) throws ->
            Void
    ) throws {
        let deviation = relativeDeviation(encoder)
        let sizes = WeightSizes(encoder, scores, sampled: Self.sampled)
        try pool.with { scratch in
            let margins = (0..<count).map { row in
                let size = sizes.typicalTerm(input + row * scores.dIn)
                let margin = Self.reach * deviation * size + 8 * max(abs(bar), sizes.largestOffset).ulp
                // Beyond float32 nothing is known of the errors: every latent is a candidate.
                return margin.isFinite ? margin : .infinity
            }
            for row in 0..<count { scratch.clear(row, bar: bar - margins[row]) }
            try scores.offer(count, input: input, encoder: encoder, to: scratch, beat: beat)
            for row in 0..<count {
                let token = input + row * scores.dIn
                let length =
                    rescore(row, token, encoder, bar: bar, margin: margins[row], scratch)
                    ?? scoreAll(token, encoder, bar: bar, scratch)
                try found(row, length, scratch.latents.pointer, scratch.exact.pointer)
                if row & 7 == 7 { try beat() }
            }
        }
    }

    /// Scores the candidates of a list again, and returns how many are above the bar. Nil if candidates may
    /// be missing.
    private func rescore(
        _ row: Int, _ token: UnsafePointer<Float>, _ encoder: EncoderRows, bar: Float, margin: Float,
        _ scratch: SearchScratch
    ) -> Int? {
        let (indices, rounded, count) = (scratch.indices(row), scratch.values(row), scratch.count(row))
        let (latents, exact) = (scratch.latents.pointer, scratch.exact.pointer)
        scores.score(0..<count, indices, token, encoder, into: exact)
        var (squares, largest): (Float, Float) = (0, 0)
        var above = 0
        for i in 0..<count {
            let (latent, value) = (indices[i], exact[i])
            let floor = encoder.floors?[Int(latent)]
            let error = value - (floor ?? 0) - rounded[i]
            squares += error * error
            largest = max(largest, abs(error))
            latents[above] = latent
            exact[above] = value
            above += value > (floor ?? bar) ? 1 : 0
        }
        guard count > 0 else { return 0 }
        let usual = margin / Self.reach
        let deviation = ((squares + Self.expected * usual * usual) / (Float(count) + Self.expected)).squareRoot()
        return max(Self.least * deviation, largest) <= margin ? above : nil
    }

    /// Scores all latents in float32, and returns how many are above the bar.
    private func scoreAll(
        _ token: UnsafePointer<Float>, _ encoder: EncoderRows, bar: Float, _ scratch: SearchScratch
    ) -> Int {
        let (latents, exact) = (scratch.latents.pointer, scratch.exact.pointer)
        var above = 0
        scores.scoreAll(token, encoder) { first, found in
            for (i, value) in found.enumerated() {
                latents[above] = Int32(truncatingIfNeeded: first + i)
                exact[above] = value
                above += value > (encoder.floors?[first + i] ?? bar) ? 1 : 0
            }
        }
        return above
    }
}

/// How large an encoder's weights are, so far as errors of scores go.
private struct WeightSizes {
    /// (d_in): root of the mean square over latents, as much larger as their largest norm is than the
    /// root of its mean square: latents of large norm are candidates more often than others.
    private let roots: [Float]
    /// Largest |bias| + |floor|.
    let largestOffset: Float

    /// - Parameter sampled: latents, evenly spaced, that the means are taken over.
    init(_ encoder: EncoderRows, _ scores: LatentScores, sampled: Int) {
        let (dIn, dSAE) = (scores.dIn, scores.dSAE)
        var squares = [Float](repeating: 0, count: dIn)
        var (total, most): (Float, Float) = (0, 0)
        let count = min(sampled, dSAE)
        for i in 0..<count {
            let latent = i * dSAE / count
            let row = encoder.rows + latent * dIn
            let scale = encoder.scales?[latent] ?? 1
            for j in 0..<dIn { squares[j] += (row[j] * scale) * (row[j] * scale) }
            let square = sk_dot(row, row, dIn) * scale * scale
            total += square
            most = max(most, square)
        }
        // most / (total / count) times squares / count. Where the sample says nothing of the others'
        // weights, the margin becomes infinite.
        let factor = total > 0 ? most / total : .infinity
        roots = squares.map { ($0 * factor).squareRoot() }
        var largest: Float = 0
        for latent in 0..<dSAE {
            let bias = abs(encoder.bias[latent]) * (encoder.scales?[latent] ?? 1)
            largest = max(largest, bias + abs(encoder.floors?[latent] ?? 0))
        }
        largestOffset = largest
    }

    /// Root of the sum over coordinates of (x w)², for a typical latent.
    func typicalTerm(_ token: UnsafePointer<Float>) -> Float {
        roots.withUnsafeBufferPointer { roots in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: roots.count) { terms in
                guard let base = terms.baseAddress else { return 0 }
                for j in 0..<roots.count { base[j] = token[j] * roots[j] }
                return sk_dot(base, base, roots.count).squareRoot()
            }
        }
    }
}
