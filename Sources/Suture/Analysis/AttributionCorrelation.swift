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
    private static let ranges = PairedLatents.ranges
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
                let range = try PairedLatents(low: low, high: min(low + latents, dSAE))
                let (valuesA, valuesB) = (attributions[0].pointer, attributions[1].pointer)
                for row in 0..<count where next.value[first + row] >= 0 {
                    range.forEach(
                        codesA, first + row, { valuesA[row * width + $0] }, codesB, first + row,
                        { valuesB[row * width + $0] }
                    ) { latent, x, y in
                        updated.pointer[latent].count(x, y)
                    }
                }
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
