// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// The three parts of the forward pass, each on one block of tokens.
struct ForwardPass {
    let memory: StepMemory
    let tokens: TokenRows
    /// Rows of `tokens` that make up the batch.
    let order: [Int]
    let weights: TrainerWeights
    let encoder: EncoderRows
    /// (d_sae) Of decoder rows, where they are not 1.
    let norms: UnsafePointer<Float>?
    let largest: LargestPreActivation
    let activation: any TrainedActivation
    /// Where the auxiliary loss is to be computed.
    let dead: DeadLatents?
    /// Where the codes are to stay those of another model.
    let codePull: CodePull?
    let pulse: Pulse

    /// Tokens as float32, less b_dec where the encoder wants that.
    func gather(_ block: Int) throws {
        let dIn = memory.dIn
        for row in memory.range(block) {
            let target = memory.input + row * dIn
            tokens.read(order[row], into: target)
            let bad = sk_first_nonfinite_f32(target, dIn)
            guard bad == dIn else { throw tokens.nonFinite(order[row], column: bad, value: target[bad]) }
            if weights.inputScale != 1 { for i in 0..<dIn { target[i] *= weights.inputScale } }
            if weights.subtractsDecoderBias { sk_axpy(-1, weights.decoderBias, target, dIn) }
            let bound = largest.bound(target, dIn)
            guard bound.isSafe else {
                throw SutureError.numerical(
                    "pre-activations may reach \(bound.value): training diverged, or the activations or weights are too "
                        + "large for float32")
            }
        }
        try pulse.beat(memory.range(block).lowerBound)
    }

    /// Finds active latents.
    func search(_ block: Int) throws {
        let (range, codes) = (memory.range(block), memory.codes[block])
        codes.clear()
        try activation.search(
            range.count, input: memory.input + range.lowerBound * memory.dIn, encoder: encoder, codes: codes,
            beat: { try pulse.beat(range.lowerBound) })
    }

    /// Errors, gradients by activations, and the block's sums.
    func decode(_ block: Int) throws {
        let (dIn, range, codes, sums) = (memory.dIn, memory.range(block), memory.codes[block], memory.blockSums(block))
        let scale = Float(2 / Double(memory.rows))
        sums.clear()
        let missing = memory.pull?.codes[block]
        missing?.clear()
        let most = range.reduce(0) { max($0, codes.entries($1 - range.lowerBound).count) }
        let scratch = try codePull.map { try PullScratch(width: $0.codes.width, capacity: most) }
        for row in range {
            if let norms = encoder.scales { codes.divide(row - range.lowerBound, by: norms) }
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
            for slot in 0..<entries.count { entries.slopes[slot] *= scale }
            sums.pointer[5] += activation.penalise(entries, norms: norms)
            if let codePull, let missing, let scratch {
                sums.pointer[8] += try pull(codePull, missing, row, entries, scratch: scratch)
            }
            var (valueSquares, slopeSquares, active) = (0.0, 0.0, 0)
            for slot in 0..<entries.count {
                let (value, slope) = (Double(entries.values[slot]), Double(entries.slopes[slot]))
                slopeSquares += slope * slope
                valueSquares += value * value
                active += value > 0 ? 1 : 0
                if let threshold = entries.thresholdSlopes { slopeSquares += Double(threshold[slot] * threshold[slot]) }
            }
            sums.pointer[2] += valueSquares
            sums.pointer[3] += slopeSquares
            sums.pointer[4] += Double(active)
            try pulse.beat(row)
        }
        if let dead, let auxiliary = memory.auxiliary { try decodeDead(dead, auxiliary, block) }
    }
}
