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
    private let dIn: Int
    private let dSAE: Int
    private let pool: ScratchPool<SearchScratch>

    /// Errors of rounded scores are about normal: beyond five standard deviations is one in 3.5 million.
    private static var errorMargin: Float { 5 }

    init(dIn: Int, dSAE: Int, k: Int, blockRows: Int) {
        (self.dIn, self.dSAE, self.k, self.blockRows) = (dIn, dSAE, k, blockRows)
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
            if let panels = encoder.panels {
                try offerBF16(count, input, panels, scratch, beat)
            } else {
                try offerFloat32(count, input, encoder, scratch, beat)
            }
            for row in 0..<count {
                let token = input + row * dIn
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

    /// Scores by OpenBLAS, a piece of the latents at a time.
    private func offerFloat32(
        _ count: Int, _ input: UnsafePointer<Float>, _ encoder: EncoderRows, _ scratch: SearchScratch,
        _ beat: () throws -> Void
    ) throws {
        let scores = try scratch.scores()
        var lists = scratch.lists
        for first in stride(from: 0, to: dSAE, by: scratch.piece) {
            let width = min(scratch.piece, dSAE - first)
            for row in 0..<count { (scores + row * width).update(from: encoder.bias + first, count: width) }
            BLAS.gemm(
                transposeB: true, m: count, n: width, k: dIn, a: input, lda: dIn, b: encoder.rows + first * dIn,
                ldb: dIn, beta: 1, c: scores, ldc: width)
            if let scales = encoder.scales {
                for row in 0..<count {
                    for i in 0..<width { scores[row * width + i] *= scales[first + i] }
                }
            }
            sk_offer(scores, width, count, width, first, &lists, 0)
            try beat()
        }
    }

    private func offerBF16(
        _ count: Int, _ input: UnsafePointer<Float>, _ panels: EncoderPanels, _ scratch: SearchScratch,
        _ beat: () throws -> Void
    ) throws {
        let tokens = try scratch.tokens()
        var lists = scratch.lists
        for row in 0..<count { sk_pack_token(input + row * dIn, dIn, tokens + row * scratch.width) }
        // About 10 ms on one core with AVX-512.
        let piece = max(6, 1_000_000_000 / (count * scratch.width * EncoderPanels.latents) / 6 * 6)
        for first in stride(from: 0, to: panels.count, by: piece) {
            panels.offer(first..<min(first + piece, panels.count), tokens: tokens, count: count, to: &lists)
            try beat()
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
        score(0..<first, latents, token, encoder, into: exact)
        var (squares, least): (Float, Float) = (0, .infinity)
        for i in 0..<first {
            squares += (exact[i] - rounded[i]) * (exact[i] - rounded[i])
            least = min(least, exact[i])
        }
        let deviation = (squares / Float(first)).squareRoot()
        let margin = deviation > 0 ? Self.errorMargin * deviation + 8 * abs(least).ulp : 0
        // Only what is above 0 is active.
        let floor = max(least, 0) - margin
        let bar = scratch.bar(row)
        guard bar < floor || (bar == floor && margin == 0) else { return nil }
        guard edge > floor else { return first }
        let more = sk_copy_between(
            scratch.indices(row), listed, count, floor.nextDown, edge, latents + first, rounded + first)
        score(first..<first + more, latents, token, encoder, into: exact)
        return first + more
    }

    /// Float32 scores of candidates `range`, at the same places of `target`.
    private func score(
        _ range: Range<Int>, _ indices: UnsafePointer<Int32>, _ token: UnsafePointer<Float>, _ encoder: EncoderRows,
        into target: UnsafeMutablePointer<Float>
    ) {
        let first = range.lowerBound
        sk_gather_dots(encoder.rows, dIn, indices + first, range.count, token, dIn, target + first)
        for i in range {
            let latent = Int(indices[i])
            target[i] += encoder.bias[latent]
            if let scales = encoder.scales { target[i] *= scales[latent] }
        }
    }

    /// Fills a list anew from float32 scores of all latents: for the rare token whose candidates are
    /// too close together.
    private func scoreAll(
        _ row: Int, _ token: UnsafePointer<Float>, _ encoder: EncoderRows, _ scratch: SearchScratch
    ) {
        scratch.clear(row)
        var lists = scratch.lists
        let step = Int(SK_OFFER)
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: step) { latents in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: step) { scores in
                guard let latents = latents.baseAddress, let scores = scores.baseAddress else { return }
                for first in Swift.stride(from: 0, to: dSAE, by: step) {
                    let count = min(step, dSAE - first)
                    for i in 0..<count { latents[i] = Int32(truncatingIfNeeded: first + i) }
                    score(0..<count, latents, token, encoder, into: scores)
                    sk_offer(scores, step, 1, count, first, &lists, row)
                }
            }
        }
    }
}
