// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Pointers to the weights of a trainer, for parallel bodies.
struct TrainerWeights {
    /// (d_sae, d_in): the encoder, transposed.
    let encoder: UnsafeMutablePointer<Float>
    let encoderBias: UnsafeMutablePointer<Float>
    let decoder: UnsafeMutablePointer<Float>
    let decoderBias: UnsafeMutablePointer<Float>
    let subtractsDecoderBias: Bool
    /// Of all activations.
    let inputScale: Float
}

extension Trainer {
    /// The forward pass on rows `order` of `tokens`, and the gradient by each active latent.
    ///
    /// In blocks of rows: gather and convert, encoder product into scratch of blockRows x d_sae,
    /// top-k of each row, sparse decode, error, slopes. Changes nothing but `memory`.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the first row in order with a NaN or infinity;
    ///   `SutureError.numerical` where the weights have diverged.
    func forward(_ tokens: TokenRows, _ order: [Int], memory: StepMemory, pulse: Pulse) throws -> StepTotals {
        let weights = self.weights
        let norms = try options.decoderNorm == .free ? decoderNorms(pulse) : nil
        defer { withExtendedLifetime(norms) {} }
        let shared = Unchecked((tokens, memory, weights, scratch))
        try BLAS.singleThreaded {
            try parallelFor(memory.blocks, progress: pulse.repeated) { block in
                let (tokens, memory, weights, scratch) = shared.value
                let first = block * memory.blockRows
                let range = first..<min(first + memory.blockRows, memory.rows)
                try gather(tokens, order, range, memory, weights)
                try pulse.beat(first)
                try scratch.withBuffer { scores in
                    try encode(range, memory, weights, scores: scores, pulse: pulse)
                    try decode(
                        range, memory, weights, norms: norms?.pointer, scores: scores, pulse: pulse,
                        sums: memory.blockSums(block))
                }
            }
        }
        let totals = memory.totals()
        try check(totals, rows: memory.rows)
        return totals
    }

    /// The norm of each decoder row.
    private func decoderNorms(_ pulse: Pulse) throws -> Buffer<Float> {
        let norms = try Buffer<Float>(zeros: dSAE)
        let shared = Unchecked((weights, dIn, norms.pointer))
        let (dSAE, width) = (dSAE, 256)
        try parallelFor((dSAE + width - 1) / width, progress: pulse.repeated) { block in
            let (weights, dIn, norms) = shared.value
            for latent in block * width..<min((block + 1) * width, dSAE) {
                let row = weights.decoder + latent * dIn
                norms[latent] = sk_dot(row, row, dIn).squareRoot()
            }
        }
        return norms
    }

    /// Refuses a step whose gradients could overflow, before anything has changed.
    private func check(_ totals: StepTotals, rows: Int) throws {
        let scale = 2 / Double(rows)
        // Cauchy-Schwarz bounds on every element of the gradients (and of their partial sums);
        // their squares enter Adam.
        let decoderBound = scale * (totals.valueSquares * totals.errorSquares).squareRoot()
        let encoderBound = (totals.slopeSquares * max(totals.inputSquares, Double(rows))).squareRoot()
        let biasBound = scale * (totals.errorSquares * Double(rows)).squareRoot()
        guard [decoderBound, encoderBound, biasBound].allSatisfy({ $0 < gradientLimit }) else {
            throw SutureError.numerical(
                "the loss is \(totals.errorSquares / Double(rows)) at step \(steps + 1): training diverged; "
                    + "a smaller lr or a smaller scale of the activations may help")
        }
    }
}

/// Largest element of a gradient: its square is well within float32.
let gradientLimit = 1e18

/// Rows `range` of the batch as float32, less b_dec where the encoder wants that.
private func gather(
    _ tokens: TokenRows, _ order: [Int], _ range: Range<Int>, _ memory: StepMemory, _ weights: TrainerWeights
) throws {
    let dIn = memory.dIn
    for row in range {
        let target = memory.input + row * dIn
        tokens.read(order[row], into: target)
        let bad = sk_first_nonfinite_f32(target, dIn)
        guard bad == dIn else { throw tokens.nonFinite(order[row], column: bad, value: target[bad]) }
        if weights.inputScale != 1 { for i in 0..<dIn { target[i] *= weights.inputScale } }
        if weights.subtractsDecoderBias { sk_axpy(-1, weights.decoderBias, target, dIn) }
    }
}

/// scores = input W_enc + b_enc, in pieces of at most 10 to 20 ms.
private func encode(
    _ range: Range<Int>, _ memory: StepMemory, _ weights: TrainerWeights, scores: UnsafeMutablePointer<Float>,
    pulse: Pulse
) throws {
    let (dIn, dSAE, rows) = (memory.dIn, memory.dSAE, range.count)
    for row in 0..<rows { (scores + row * dSAE).update(from: weights.encoderBias, count: dSAE) }
    let piece = max(256, 250_000_000 / (rows * dIn) / 64 * 64)
    for first in stride(from: 0, to: dSAE, by: piece) {
        let count = min(piece, dSAE - first)
        BLAS.gemm(
            transposeB: true, m: rows, n: count, k: dIn, a: memory.input + range.lowerBound * dIn, lda: dIn,
            b: weights.encoder + first * dIn, ldb: dIn, beta: 1, c: scores + first, ldc: dSAE)
        try pulse.beat(range.lowerBound)
    }
}

/// Top-k, decode, error and slopes of each row, and the block's sums.
///
/// - Parameter norms: (d_sae), what pre-activations are multiplied by for the top-k.
private func decode(
    _ range: Range<Int>, _ memory: StepMemory, _ weights: TrainerWeights, norms: UnsafePointer<Float>?,
    scores: UnsafeMutablePointer<Float>, pulse: Pulse, sums: BlockSums
) throws {
    let (dIn, dSAE, k) = (memory.dIn, memory.dSAE, memory.k)
    let scale = Float(2 / Double(memory.rows))
    sums.pointer.update(repeating: 0, count: BlockSums.width(dIn))
    for row in range {
        let rowScores = scores + (row - range.lowerBound) * dSAE
        if let norms { for latent in 0..<dSAE { rowScores[latent] *= norms[latent] } }
        let bad = sk_first_nonfinite_f32(rowScores, dSAE)
        guard bad == dSAE else {
            throw SutureError.numerical(
                "the pre-activation of latent \(bad) is \(rowScores[bad]): training diverged, or the activations "
                    + "or weights are too large for float32")
        }
        let indices = memory.indices + row * k
        let values = memory.values + row * k
        sk_topk(rowScores, dSAE, k, indices, values)
        var count = 0
        while count < k, values[count] > 0 { count += 1 }
        if let norms { for slot in 0..<count { values[slot] /= norms[Int(indices[slot])] } }
        memory.counts[row] = Int32(count)

        let input = memory.input + row * dIn
        let error = memory.error + row * dIn
        // With b_dec subtracted from the input, x_hat - x = f W_dec - input.
        if weights.subtractsDecoderBias {
            error.update(repeating: 0, count: dIn)
        } else {
            error.update(from: weights.decoderBias, count: dIn)
        }
        for slot in 0..<count { sk_axpy(values[slot], weights.decoder + Int(indices[slot]) * dIn, error, dIn) }
        sk_axpy(-1, input, error, dIn)

        var (errorSquares, inputSquares, valueSquares, slopeSquares) = (0.0, 0.0, 0.0, 0.0)
        for i in 0..<dIn {
            let (e, x) = (Double(error[i]), Double(input[i]))
            errorSquares += e * e
            inputSquares += x * x
            sums.error[i] += e
            sums.input[i] += x
        }
        let slopes = memory.slopes + row * k
        for slot in 0..<count {
            let slope = scale * sk_dot(error, weights.decoder + Int(indices[slot]) * dIn, dIn)
            slopes[slot] = slope
            slopeSquares += Double(slope) * Double(slope)
            valueSquares += Double(values[slot]) * Double(values[slot])
        }
        sums.pointer[0] += errorSquares
        sums.pointer[1] += inputSquares
        sums.pointer[2] += valueSquares
        sums.pointer[3] += slopeSquares
        sums.pointer[4] += Double(count)
        try pulse.beat(row)
    }
}
