// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Scores of latents, pre-activations times the encoder's scales less its floors: fast ones, of a block
/// of tokens and all latents, which go into lists of candidates; and float32 ones of single latents,
/// which have the same bits on every CPU.
struct LatentScores: Sendable {
    let dIn: Int
    let dSAE: Int

    /// Offers fast scores of `count` tokens (count, d_in) to the lists: from bfloat16 panels if the encoder
    /// has them, else from OpenBLAS.
    func offer(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, to scratch: SearchScratch,
        beat: () throws -> Void
    ) throws {
        if let panels = encoder.panels {
            try offerBF16(count, input, panels, scratch, beat)
        } else {
            try offerFloat32(count, input, encoder, scratch, beat)
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
            if let floors = encoder.floors {
                for row in 0..<count {
                    for i in 0..<width { scores[row * width + i] -= floors[first + i] }
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

    /// Float32 pre-activations times scales, floors not taken off, of candidates `range`, at the same
    /// places of `target`.
    func score(
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

    /// Float32 pre-activations times scales of all latents, a few at a time.
    func scoreAll(
        _ token: UnsafePointer<Float>, _ encoder: EncoderRows,
        body: (_ first: Int, _ scores: UnsafeBufferPointer<Float>) -> Void
    ) {
        let step = Int(SK_OFFER)
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: step) { latents in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: step) { scores in
                guard let latents = latents.baseAddress, let scores = scores.baseAddress else { return }
                for first in stride(from: 0, to: dSAE, by: step) {
                    let count = min(step, dSAE - first)
                    for i in 0..<count { latents[i] = Int32(truncatingIfNeeded: first + i) }
                    score(0..<count, latents, token, encoder, into: scores)
                    body(first, UnsafeBufferPointer(start: scores, count: count))
                }
            }
        }
    }
}
