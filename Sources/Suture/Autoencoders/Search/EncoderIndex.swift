// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// The encoder of a SAE as a search for active latents wants it: one row a latent, and what is derived
/// from that. 1.5 times the memory of the encoder where it has a bfloat16 copy, else as much again.
final class EncoderIndex: Sendable {
    private let rows: Buffer<Float>
    private let scales: Buffer<Float>?
    private let bias: FloatMatrix
    private let copy: EncoderCopy
    let largest: LargestPreActivation

    init(_ sae: SAE) throws {
        let (dIn, dSAE) = (sae.dIn, sae.dSAE)
        let rows = try Buffer<Float>(count: dSAE * dIn, for: "the transposed encoder")
        let scales = sae.rescalesByDecoderNorm ? try Buffer<Float>(count: dSAE, for: "decoder norms") : nil
        if let scales {
            for (latent, norm) in sae.decoderNorms.enumerated() { scales.pointer[latent] = Float(norm) }
        }
        let copy = try EncoderCopy(dIn: dIn, dSAE: dSAE, inBF16: EncoderPanels.areFaster)
        let (encoder, bias) = (sae.encoder, sae.encoderBias)
        try parallelFor(copy.count) { block in
            let first = block * EncoderPanels.latents
            for latent in first..<min(first + EncoderPanels.latents, dSAE) {
                let row = rows.pointer + latent * dIn
                for i in 0..<dIn { row[i] = encoder[i, latent] }
            }
            copy.refresh(block, rows: rows.pointer, bias: bias.pointer, scales: scales?.pointer)
        }
        (self.rows, self.scales, self.bias, self.copy) = (rows, scales, bias, copy)
        largest = copy.largestPreActivation()
    }

    /// Good as long as this index is.
    var encoderRows: EncoderRows {
        EncoderRows(rows: rows.pointer, bias: bias.pointer, scales: scales?.pointer, panels: copy.panels)
    }
}

/// An index that is made when it is first needed and shared by all copies of a SAE.
final class LazyEncoderIndex: Sendable {
    /// Tokens for which making an index pays: it costs about as much as encoding so many.
    private static let worthwhile = 256
    private let made = Mutex<EncoderIndex?>(nil)

    /// Nil for few tokens, unless it is there anyway.
    func index(of sae: SAE, tokens: Int) throws -> EncoderIndex? {
        try made.withLock { index in
            if index == nil, tokens >= Self.worthwhile { index = try EncoderIndex(sae) }
            return index
        }
    }
}
