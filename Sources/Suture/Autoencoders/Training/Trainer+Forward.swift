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

extension EncoderCopy {
    /// Derives a block of latents anew from a trainer's weights; before that, where they are wanted, the
    /// norms of its decoder rows.
    func refresh(_ latents: Range<Int>, _ weights: TrainerWeights, _ norms: UnsafeMutablePointer<Float>?) {
        if let norms {
            for latent in latents {
                let row = weights.decoder + latent * dIn
                norms[latent] = sk_dot(row, row, dIn).squareRoot()
            }
        }
        refresh(
            latents.lowerBound / EncoderPanels.latents, rows: weights.encoder, bias: weights.encoderBias,
            scales: norms.map { UnsafePointer($0) })
    }
}

extension Trainer {
    /// The forward pass on rows `order` of `tokens`, and the gradient by each active latent.
    ///
    /// In blocks of rows: gather and convert, search for active latents, sparse decode, error, slopes.
    /// Changes nothing but `memory`.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the first row in order with a NaN or infinity;
    ///   `SutureError.numerical` where the weights have diverged.
    func forward(_ tokens: TokenRows, _ order: [Int], memory: StepMemory, pulse: Pulse) throws -> StepTotals {
        memory.begin(order.count)
        let shared = Unchecked(
            (tokens, weights, search, encoderRows, encoderCopy.largestPreActivation(), decoderNorms?.pointer))
        try BLAS.singleThreaded {
            try parallelFor(memory.blocks, progress: pulse.repeated) { block in
                let (tokens, weights, search, encoder, largest, norms) = shared.value
                let range = memory.range(block)
                try gather(tokens, order, range, memory, weights, largest: largest)
                try pulse.beat(range.lowerBound)
                let codes = memory.codes[block]
                try search.forEach(
                    range.count, input: memory.input + range.lowerBound * memory.dIn, encoder: encoder,
                    beat: { try pulse.beat(range.lowerBound) },
                    found: { row, indices, values in
                        var count = 0
                        while count < search.k, values[count] > 0 { count += 1 }
                        try codes.append(indices, values, count: count)
                        if let norms { codes.divide(row, by: norms) }
                    })
                try decode(range, memory, codes, weights, pulse: pulse, sums: memory.blockSums(block))
            }
        }
        let totals = StepTotals(memory)
        try check(totals, rows: memory.rows)
        return totals
    }

    /// To be called whenever anything but an update has changed the weights.
    func refreshEncoderCopy() {
        for block in 0..<encoderCopy.count {
            let first = block * EncoderPanels.latents
            encoderCopy.refresh(first..<min(first + EncoderPanels.latents, dSAE), weights, decoderNorms?.pointer)
        }
    }

    private var encoderRows: EncoderRows {
        EncoderRows(
            rows: weights.encoder, bias: weights.encoderBias, scales: decoderNorms?.pointer, panels: encoderCopy.panels)
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
    _ tokens: TokenRows, _ order: [Int], _ range: Range<Int>, _ memory: StepMemory, _ weights: TrainerWeights,
    largest: LargestPreActivation
) throws {
    let dIn = memory.dIn
    for row in range {
        let target = memory.input + row * dIn
        tokens.read(order[row], into: target)
        let bad = sk_first_nonfinite_f32(target, dIn)
        guard bad == dIn else { throw tokens.nonFinite(order[row], column: bad, value: target[bad]) }
        if weights.inputScale != 1 { for i in 0..<dIn { target[i] *= weights.inputScale } }
        if weights.subtractsDecoderBias { sk_axpy(-1, weights.decoderBias, target, dIn) }
        let bound = largest.bound(target, dIn)
        guard bound.isSafe else {
            throw SutureError.numerical(
                "pre-activations may reach \(bound.value): training diverged, or the activations or weights are too large "
                    + "for float32")
        }
    }
}

/// Decodes the rows of a block: errors, slopes, and the block's sums.
private func decode(
    _ range: Range<Int>, _ memory: StepMemory, _ codes: BlockCodes, _ weights: TrainerWeights, pulse: Pulse,
    sums: BlockSums
) throws {
    let dIn = memory.dIn
    let scale = Float(2 / Double(memory.rows))
    sums.clear()
    for row in range {
        let entries = codes.entries(row - range.lowerBound)
        let input = memory.input + row * dIn
        let error = memory.error + row * dIn
        // With b_dec subtracted from the input, x_hat - x = f W_dec - input.
        if weights.subtractsDecoderBias {
            error.update(repeating: 0, count: dIn)
        } else {
            error.update(from: weights.decoderBias, count: dIn)
        }
        sk_gather_sum(weights.decoder, dIn, entries.indices, entries.values, entries.count, error, dIn)
        sk_axpy(-1, input, error, dIn)
        sums.pointer[0] += sk_add_squares(error, sums.error, dIn)
        sums.pointer[1] += sk_add_squares(input, sums.input, dIn)

        sk_gather_dots(weights.decoder, dIn, entries.indices, entries.count, error, dIn, entries.slopes)
        var (valueSquares, slopeSquares) = (0.0, 0.0)
        for slot in 0..<entries.count {
            entries.slopes[slot] *= scale
            let (value, slope) = (Double(entries.values[slot]), Double(entries.slopes[slot]))
            slopeSquares += slope * slope
            valueSquares += value * value
        }
        sums.pointer[2] += valueSquares
        sums.pointer[3] += slopeSquares
        sums.pointer[4] += Double(entries.count)
        try pulse.beat(row)
    }
}
