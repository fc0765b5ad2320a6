// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// An encoder's weights, one row a latent, as the search for a token's largest pre-activations
/// reads them. Whoever makes one keeps the memory alive.
struct EncoderRows {
    /// (d_sae, d_in)
    let rows: UnsafePointer<Float>
    /// (d_sae)
    let bias: UnsafePointer<Float>
    /// (d_sae) Pre-activations are ranked after multiplication by it; nil: as they are.
    let scales: UnsafePointer<Float>?
    /// (d_sae) What pre-activations (times scales) must be above, if it is not the same for all latents.
    var floors: UnsafePointer<Float>? = nil
    /// The same weights in bfloat16, where the CPU is faster with them.
    let panels: EncoderPanels?
}

/// A copy of an encoder in bfloat16, in the order in which tiles are multiplied: scores from it tell
/// which latents may win, and those are scored again in float32. Half the size of the encoder.
///
/// `@unchecked Sendable`: each panel is written by one thread, and not while the panels are read.
final class EncoderPanels: @unchecked Sendable {
    static let latents = Int(SK_PANEL)
    /// Whether the CPU is faster with it.
    static var areFaster: Bool { sk_prefers_bf16() }

    let count: Int
    private let dIn: Int
    private let dSAE: Int
    private let stride: Int
    private let weights: Buffer<UInt16>
    /// -infinity for latents that the last panel lacks.
    private let bias: Buffer<Float>

    init(dIn: Int, dSAE: Int) throws {
        (self.dIn, self.dSAE) = (dIn, dSAE)
        count = (dSAE - 1) / Self.latents + 1
        stride = Self.latents * sk_bf16_width(dIn)
        weights = try Buffer(count: count * stride, for: "the encoder in bfloat16")
        bias = try Buffer(count: count * Self.latents, for: "the encoder in bfloat16")
        bias.pointer.update(repeating: -.infinity, count: bias.count)
    }

    /// Rounds the latents of one panel.
    func pack(
        _ panel: Int, rows: UnsafePointer<Float>, bias source: UnsafePointer<Float>, scales: UnsafePointer<Float>?,
        floors: UnsafePointer<Float>? = nil
    ) {
        let first = panel * Self.latents
        let latents = min(Self.latents, dSAE - first)
        sk_pack_panel(
            rows + first * dIn, dIn, scales.map { $0 + first }, latents, dIn, weights.pointer + panel * stride)
        for latent in first..<first + latents {
            let ranked = scales.map { source[latent] * $0[latent] } ?? source[latent]
            bias.pointer[latent] = floors.map { ranked - $0[latent] } ?? ranked
        }
    }

    /// Offers the scores of panels `range` to the lists of `count` tokens.
    func offer(
        _ range: Range<Int>, tokens: UnsafePointer<UInt16>, count: Int, to lists: UnsafePointer<sk_lists>
    ) {
        let first = range.lowerBound
        sk_candidates(
            tokens, count, weights.pointer + first * stride, range.count, dIn, bias.pointer + first * Self.latents,
            first * Self.latents, lists)
    }
}
