// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureNumerics

/// How alike two SAEs' features act on the next token: for every feature the Pearson correlation over
/// tokens between `f_i(h_A) v_i[next token]` and the same of model B, where `v_i = W_dec[i] W_U` are a
/// feature's logit weights (arXiv 2506.06609, eq. 10).
///
/// Only what is active costs anything: one dot product of length d for each active latent and token;
/// no (d_sae, vocabulary) matrix exists. Sums are running means and squares about them (Welford 1962)
/// over the tokens on which either side is active, in float64 and in the order of the tokens; the
/// inactive tokens' zeros are counted in closed form. So the bits depend neither on threads nor on
/// how tokens are cut into calls.
public struct AttributionCorrelation: Sendable {
    public let a: LogitSide
    public let b: LogitSide
    /// Tokens that had a next token.
    public private(set) var tokens = 0
    private var moments: Buffer<PairMoments>

    public var dSAE: Int { a.dSAE }
    /// Tokens that a next token can be.
    public var vocabulary: Int { a.vocabulary }

    /// - Throws: `invalidArgument` unless both sides have as many latents and the same vocabulary.
    public init(a: LogitSide, b: LogitSide) throws {
        guard a.dSAE == b.dSAE else {
            throw SutureError.invalidArgument("W_dec_b has \(b.dSAE) rows, expected d_sae = \(a.dSAE) as W_dec_a")
        }
        guard a.vocabulary == b.vocabulary else {
            throw SutureError.invalidArgument(
                "unembedding_b has a vocabulary of \(b.vocabulary) tokens, "
                    + "expected that of unembedding_a, \(a.vocabulary)")
        }
        self.a = a
        self.b = b
        moments = try Buffer(zeros: a.dSAE, for: "attribution correlations")
    }

    /// Latents are dealt out to so many tasks.
    private static let ranges = 8
    private static let block = 64
    /// Attributions of each side that are held at a time.
    private static let held = 1 << 22

    /// Adds tokens: row t of both codes, and the token that follows it; negative where none does.
    ///
    /// - Throws: `invalidArgument` for codes of other sizes or a token beyond the vocabulary;
    ///   `numerical` where an attribution is beyond float32. On any error nothing has changed.
    public mutating func update(
        a codesA: SparseCodes, b codesB: SparseCodes, nextTokens: UnsafeBufferPointer<Int64>,
        progress: Progress = .none
    ) throws {
        for (name, codes) in [("codes_a", codesA), ("codes_b", codesB)] where codes.dSAE != dSAE {
            throw SutureError.invalidArgument("\(name) has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        guard codesB.rows == codesA.rows else {
            throw SutureError.invalidArgument("codes_b has \(codesB.rows) rows, expected \(codesA.rows) as codes_a")
        }
        guard nextTokens.count == codesA.rows else {
            throw SutureError.invalidArgument(
                "next_tokens has \(nextTokens.count) tokens, expected \(codesA.rows), the rows of codes_a")
        }
        var known = 0
        for (row, token) in nextTokens.enumerated() where token >= 0 {
            guard token < vocabulary else {
                throw SutureError.invalidArgument(
                    "next_tokens[\(row)] is \(token), expected less than \(vocabulary), the vocabulary, "
                        + "or a negative number for none")
            }
            known += 1
        }
        let updated = try moments.copy(for: "attribution correlations")
        let width = max(codesA.width, codesB.width)
        let chunk = max(Self.block, min(4096, Self.held / max(1, width)))
        let rows = min(chunk, codesA.rows)
        let attributions = try (0..<2).map { _ in try Buffer<Double>(count: rows * width, for: "attributions") }
        let next = Unchecked(nextTokens)
        let sides = [(a, codesA), (b, codesB)]
        for first in stride(from: 0, to: codesA.rows, by: chunk) {
            let count = min(chunk, codesA.rows - first)
            let blocks = (count + Self.block - 1) / Self.block
            try parallelFor(2 * blocks, progress: progress.fixed(first, of: codesA.rows)) { task in
                let (side, start) = (task % 2, task / 2 * Self.block)
                let weights = try Buffer<Float>(count: width, for: "attributions")
                for row in start..<min(start + Self.block, count) where next.value[first + row] >= 0 {
                    try sides[side].0.attribute(
                        sides[side].1, row: first + row, to: Int(next.value[first + row]), weights: weights.pointer,
                        into: attributions[side].pointer + row * width)
                }
            }
            let latents = (dSAE + Self.ranges - 1) / Self.ranges
            try parallelFor(Self.ranges) { [dSAE] range in
                let low = min(range * latents, dSAE)
                let pairs = LatentRange(low: low, high: min(low + latents, dSAE), updated)
                try pairs.add(
                    codesA, attributions[0].pointer, codesB, attributions[1].pointer, width: width, first: first,
                    count: count, next: next.value)
            }
        }
        try progress.report(codesA.rows, of: codesA.rows)
        moments = updated
        tokens += known
    }

    /// Adds the tokens that `other` has seen, as if one pass had seen both, up to rounding.
    ///
    /// - Throws: `invalidArgument` if the sizes differ.
    public mutating func merge(_ other: AttributionCorrelation) throws {
        guard other.dSAE == dSAE, other.vocabulary == vocabulary else {
            throw SutureError.invalidArgument(
                "other has d_sae = \(other.dSAE) and a vocabulary of \(other.vocabulary), "
                    + "expected \(dSAE) and \(vocabulary)")
        }
        let merged = try moments.copy(for: "attribution correlations")
        for latent in 0..<dSAE { merged.pointer[latent].merge(other.moments.pointer[latent]) }
        moments = merged
        tokens += other.tokens
    }

    /// The correlation of each feature; NaN where a side never varies.
    public func correlations() -> [Double] {
        (0..<dSAE).map { moments.pointer[$0].correlation(tokens: tokens) }
    }

    /// Tokens on which each feature was active on side A and side B, among those with a next token.
    public func activeTokens() -> (a: [UInt64], b: [UInt64]) {
        ((0..<dSAE).map { moments.pointer[$0].activeA }, (0..<dSAE).map { moments.pointer[$0].activeB })
    }
}

/// Moments of pairs over the tokens on which either side is active.
struct PairMoments: BitwiseCopyable {
    var count: UInt64
    var activeA: UInt64
    var activeB: UInt64
    var meanX: Double
    var meanY: Double
    /// Sums of squares and products about the means.
    var xx: Double
    var yy: Double
    var xy: Double

    mutating func add(_ x: Double, _ y: Double) {
        count += 1
        let n = Double(count)
        let (dx, dy) = (x - meanX, y - meanY)
        meanX += dx / n
        meanY += dy / n
        xx += dx * (x - meanX)
        yy += dy * (y - meanY)
        xy += dx * (y - meanY)
    }

    /// As Chan, Golub & LeVeque (1983).
    mutating func merge(_ other: PairMoments) {
        guard other.count > 0 else { return }
        let (n, m) = (Double(count), Double(other.count))
        let (dx, dy, weight) = (other.meanX - meanX, other.meanY - meanY, n * m / (n + m))
        xx += other.xx + dx * dx * weight
        yy += other.yy + dy * dy * weight
        xy += other.xy + dx * dy * weight
        meanX += dx * (m / (n + m))
        meanY += dy * (m / (n + m))
        count += other.count
        activeA += other.activeA
        activeB += other.activeB
    }

    /// Over all tokens: those not counted here are pairs of zeros.
    func correlation(tokens: Int) -> Double {
        var all = self
        let zeros = PairMoments(
            count: UInt64(tokens) - count, activeA: 0, activeB: 0, meanX: 0, meanY: 0, xx: 0, yy: 0, xy: 0)
        all.merge(zeros)
        guard all.xx > 0, all.yy > 0 else { return .nan }
        return max(-1, min(1, all.xy / (all.xx.squareRoot() * all.yy.squareRoot())))
    }
}

/// The latents that one task adds up.
private struct LatentRange {
    let low: Int
    let high: Int
    let moments: Buffer<PairMoments>

    init(low: Int, high: Int, _ moments: Buffer<PairMoments>) {
        self.low = low
        self.high = high
        self.moments = moments
    }

    /// Rows `first` and on of both codes; attributions are (count, width).
    func add(
        _ codesA: SparseCodes, _ valuesA: UnsafePointer<Double>, _ codesB: SparseCodes,
        _ valuesB: UnsafePointer<Double>, width: Int, first: Int, count: Int, next: UnsafeBufferPointer<Int64>
    ) throws {
        guard low < high else { return }
        // Of side A: the row a latent was last active in and not yet paired, and its attribution there.
        let pending = try Buffer<Int32>(count: high - low, for: "attribution correlations")
        let x = try Buffer<Double>(count: high - low, for: "attribution correlations")
        pending.pointer.update(repeating: -1, count: high - low)
        for row in 0..<count where next[first + row] >= 0 {
            let (rowA, rowB) = (first + row, first + row)
            let indicesA = codesA.indices + rowA * codesA.width
            let indicesB = codesB.indices + rowB * codesB.width
            let (countA, countB) = (Int(codesA.counts[rowA]), Int(codesB.counts[rowB]))
            let mark = Int32(truncatingIfNeeded: row)
            for slot in 0..<countA {
                let latent = Int(indicesA[slot])
                guard latent >= low, latent < high else { continue }
                pending.pointer[latent - low] = mark
                x.pointer[latent - low] = valuesA[row * width + slot]
                moments.pointer[latent].activeA += 1
            }
            for slot in 0..<countB {
                let latent = Int(indicesB[slot])
                guard latent >= low, latent < high else { continue }
                let both = pending.pointer[latent - low] == mark
                pending.pointer[latent - low] = -1
                moments.pointer[latent].activeB += 1
                moments.pointer[latent].add(both ? x.pointer[latent - low] : 0, valuesB[row * width + slot])
            }
            for slot in 0..<countA {
                let latent = Int(indicesA[slot])
                guard latent >= low, latent < high, pending.pointer[latent - low] == mark else { continue }
                moments.pointer[latent].add(x.pointer[latent - low], 0)
            }
        }
    }
}
