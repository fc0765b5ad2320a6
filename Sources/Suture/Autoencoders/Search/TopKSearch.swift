// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Finds the k largest pre-activations of tokens, block by block, without a (tokens, d_sae) matrix.
///
/// A fast product picks candidates: in bfloat16 where the CPU is faster with it, else in float32. They
/// are then scored again in float32, each by itself, so that values and, but for chance, the choice
/// have the same bits on every CPU. How far the first scores of a token are off is seen at those of its
/// candidates: what might still be among the largest, five times that error considered, is scored
/// again too.
final class TopKSearch: Sendable {
    /// Tokens of a block.
    let blockRows: Int
    let k: Int
    private let scores: LatentScores
    /// Whether what is not above 0 need not be found.
    private let activeOnly: Bool
    private let pool: ScratchPool<SearchScratch>

    /// Errors of rounded scores are about normal: beyond five standard deviations is one in 3.5 million.
    private static var errorMargin: Float { 5 }

    init(dIn: Int, dSAE: Int, k: Int, blockRows: Int, activeOnly: Bool = true) {
        (self.k, self.blockRows, self.activeOnly) = (k, blockRows, activeOnly)
        scores = LatentScores(dIn: dIn, dSAE: dSAE)
        let keep = min(dSAE, k + k / 2 + 16)
        pool = ScratchPool { try SearchScratch(rows: blockRows, dIn: dIn, dSAE: dSAE, keep: keep) }
    }

    /// Calls `found` for each of `count` tokens, in order, with its k largest pre-activations (times
    /// the encoder's scales), largest first, ties by the lower latent. The pointers are good until
    /// `found` returns.
    ///
    /// Nothing may overflow: `encoder` and `input` are such that no score is NaN or infinite.
    ///
    /// - Parameters:
    ///   - input: (count, d_in), count <= blockRows.
    ///   - beat: called at least every 10 to 20 ms.
    func forEach(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, beat: () throws -> Void,
        found: (_ row: Int, _ indices: UnsafePointer<Int32>, _ values: UnsafePointer<Float>) throws -> Void
    ) throws {
        try pool.with { scratch in
            for row in 0..<count { scratch.clear(row) }
            try scores.offer(count, input: input, encoder: encoder, to: scratch, beat: beat)
            for row in 0..<count {
                let token = input + row * scores.dIn
                if let length = rescore(row, token, encoder, scratch) {
                    sk_rank(scratch.latents.pointer, scratch.exact.pointer, length, k)
                    try found(row, scratch.latents.pointer, scratch.exact.pointer)
                } else {
                    scoreAll(row, token, encoder, scratch)
                    sk_rank(scratch.indices(row), scratch.values(row), scratch.count(row), k)
                    try found(row, scratch.indices(row), scratch.values(row))
                }
            }
        }
    }

    /// Scores those candidates of a list again that may be among the k largest, and returns how many.
    /// Nil if candidates may be missing.
    private func rescore(
        _ row: Int, _ token: UnsafePointer<Float>, _ encoder: EncoderRows, _ scratch: SearchScratch
    ) -> Int? {
        let (listed, count) = (scratch.values(row), scratch.count(row))
        let (latents, rounded, exact) = (scratch.latents.pointer, scratch.rounded.pointer, scratch.exact.pointer)
        let edge = sk_bar_between(listed, count, k, k + max(k / 8, 2))
        let first = sk_copy_between(scratch.indices(row), listed, count, edge, .infinity, latents, rounded)
        scores.score(0..<first, latents, token, encoder, into: exact)
        var (squares, least): (Float, Float) = (0, .infinity)
        for i in 0..<first {
            squares += (exact[i] - rounded[i]) * (exact[i] - rounded[i])
            least = min(least, exact[i])
        }
        let deviation = (squares / Float(first)).squareRoot()
        let margin = deviation > 0 ? Self.errorMargin * deviation + 8 * abs(least).ulp : 0
        let floor = (activeOnly ? max(least, 0) : least) - margin
        let bar = scratch.bar(row)
        guard bar < floor || (bar == floor && margin == 0) else { return nil }
        guard edge > floor else { return first }
        let more = sk_copy_between(
            scratch.indices(row), listed, count, floor.nextDown, edge, latents + first, rounded + first)
        scores.score(first..<first + more, latents, token, encoder, into: exact)
        return first + more
    }

    /// Fills a list anew from float32 scores of all latents: for the rare token whose candidates are
    /// too close together.
    private func scoreAll(
        _ row: Int, _ token: UnsafePointer<Float>, _ encoder: EncoderRows, _ scratch: SearchScratch
    ) {
        scratch.clear(row)
        var lists = scratch.lists
        scores.scoreAll(token, encoder) { first, found in
            sk_offer(found.baseAddress, found.count, 1, found.count, first, &lists, row)
        }
    }
}
