// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// What a search needs beside an encoder's weights, derived from them block of latents by block: their
/// bfloat16 copy, where that is in use, and a bound on pre-activations.
///
/// `@unchecked Sendable`: a block is written by one thread, and not while others read.
final class EncoderCopy: @unchecked Sendable {
    let panels: EncoderPanels?
    /// Blocks of `EncoderPanels.latents` latents.
    let count: Int
    let dIn: Int
    private let dSAE: Int
    /// Largest norm of an encoder row and largest |bias| of each block.
    private let norms: Buffer<Float>
    private let biases: Buffer<Float>

    init(dIn: Int, dSAE: Int, inBF16: Bool) throws {
        (self.dIn, self.dSAE) = (dIn, dSAE)
        count = (dSAE - 1) / EncoderPanels.latents + 1
        panels = inBF16 ? try EncoderPanels(dIn: dIn, dSAE: dSAE) : nil
        norms = try Buffer(zeros: count)
        biases = try Buffer(zeros: count)
    }

    /// Derives block `block` anew from rows (d_sae, d_in), bias, scales and floors (d_sae).
    func refresh(
        _ block: Int, rows: UnsafePointer<Float>, bias: UnsafePointer<Float>, scales: UnsafePointer<Float>? = nil,
        floors: UnsafePointer<Float>? = nil
    ) {
        panels?.pack(block, rows: rows, bias: bias, scales: scales, floors: floors)
        let first = block * EncoderPanels.latents
        var (norm, largestBias): (Float, Float) = (0, 0)
        for latent in first..<min(first + EncoderPanels.latents, dSAE) {
            let scale = max(1, scales?[latent] ?? 1)
            let row = rows + latent * dIn
            norm = max(norm, scale * sk_dot(row, row, dIn).squareRoot())
            largestBias = max(largestBias, scale * abs(bias[latent]))
        }
        norms.pointer[block] = norm
        biases.pointer[block] = largestBias
    }

    func largestPreActivation() -> LargestPreActivation {
        var (norm, bias): (Float, Float) = (0, 0)
        for block in 0..<count {
            norm = max(norm, norms.pointer[block])
            bias = max(bias, biases.pointer[block])
        }
        return LargestPreActivation(norm: Double(norm), bias: Double(bias))
    }
}

/// A bound on the pre-activations that weights can make: norm * |token| + bias.
struct LargestPreActivation {
    let norm: Double
    let bias: Double

    /// The bound for a token, unless it is too near the end of float32 for partial sums to be finite.
    func bound(_ token: UnsafePointer<Float>, _ dIn: Int) -> (value: Double, isSafe: Bool) {
        let value = norm * Double(sk_dot(token, token, dIn)).squareRoot() + bias
        return (value, value < 1e37)
    }
}
