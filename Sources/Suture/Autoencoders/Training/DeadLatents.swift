// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// The dead latents of a step, as an encoder of their own, for the auxiliary loss (Gao et al. 2024, arXiv
/// 2406.04093, section A.2, without its division by the variance, as SAELens' TopKTrainingSAE has it):
///
///     aux_loss_coefficient min(n / aux_k, 1) mean over tokens of |z W_dec - (x - x_hat)|²
///
/// where n is the number of dead latents and z has the min(aux_k, n) largest of their pre-activations, as
/// they are, below 0 too. No gradient goes through x - x_hat.
final class DeadLatents: Sendable {
    /// In rising order.
    let latents: [Int32]
    /// Dead latents a token that take part.
    let k: Int
    /// What multiplies the squares.
    let weight: Float
    private let rows: Buffer<Float>
    private let bias: Buffer<Float>
    private let scales: Buffer<Float>?
    private let panels: EncoderPanels?
    private let search: TopKSearch

    /// - Parameters:
    ///   - latents: not empty.
    ///   - encoder: of all latents.
    init(_ latents: [Int32], of encoder: EncoderRows, dIn: Int, auxK: Int, coefficient: Double) throws {
        self.latents = latents
        k = min(auxK, latents.count)
        weight = Float(coefficient * min(Double(latents.count) / Double(auxK), 1))
        rows = try Buffer(count: latents.count * dIn, for: "the encoder of dead latents")
        bias = try Buffer(count: latents.count, for: "the encoder of dead latents")
        scales = encoder.scales == nil ? nil : try Buffer(count: latents.count, for: "the encoder of dead latents")
        panels = encoder.panels == nil ? nil : try EncoderPanels(dIn: dIn, dSAE: latents.count)
        search = TopKSearch(
            dIn: dIn, dSAE: latents.count, k: k, blockRows: Trainer.blockRows, activeOnly: false)
        for (place, latent) in latents.enumerated() {
            (rows.pointer + place * dIn).update(from: encoder.rows + Int(latent) * dIn, count: dIn)
            bias.pointer[place] = encoder.bias[Int(latent)]
            if let all = encoder.scales { scales?.pointer[place] = all[Int(latent)] }
        }
        if let panels {
            for panel in 0..<panels.count {
                panels.pack(
                    panel, rows: rows.pointer, bias: bias.pointer, scales: scales.map { UnsafePointer($0.pointer) })
            }
        }
    }

    /// Adds to `codes`, for each of `count` tokens (count, d_in), the largest pre-activations, with the
    /// latents' own numbers.
    func search(
        _ count: Int, input: UnsafePointer<Float>, codes: BlockCodes, beat: () throws -> Void
    ) throws {
        let encoder = EncoderRows(
            rows: rows.pointer, bias: bias.pointer, scales: scales.map { UnsafePointer($0.pointer) }, panels: panels)
        try search.forEach(count, input: input, encoder: encoder, beat: beat) { row, indices, values in
            try codes.append(indices, values, count: k)
            let entries = codes.entries(row)
            for slot in 0..<k {
                let place = Int(entries.indices[slot])
                entries.indices[slot] = latents[place]
                // A decoder row of zeros contributes nothing.
                if let scale = scales?.pointer[place] {
                    entries.values[slot] = scale > 0 ? entries.values[slot] / scale : 0
                }
            }
        }
    }
}

/// What the auxiliary loss adds to the memory of a step.
///
/// `@unchecked Sendable`: parallel bodies write to their own block.
final class AuxiliaryMemory: @unchecked Sendable {
    let codes: [BlockCodes]
    let groups: LatentGroups
    private let errors: Buffer<Float>

    init(capacity: Int, dIn: Int, dSAE: Int, k: Int, blockRows: Int) throws {
        let blocks = (capacity + blockRows - 1) / blockRows
        let width = min(capacity, blockRows)
        codes = try (0..<blocks).map { _ in try BlockCodes(tokens: width, slots: width * k) }
        groups = try LatentGroups(dSAE: dSAE, slots: capacity * k, thresholds: false)
        errors = try Buffer(count: capacity * dIn, for: "the auxiliary loss")
    }

    /// (rows, d_in): z W_dec - (x - x_hat).
    var error: UnsafeMutablePointer<Float> { errors.pointer }
}

extension Trainer {
    /// The latents that the auxiliary loss is about; nil if it is off, or none is dead.
    func deadLatents(_ encoder: EncoderRows) throws -> DeadLatents? {
        guard let coefficient = options.auxLossCoefficient else { return nil }
        let dead = (0..<dSAE).filter { tokens - lastFired.pointer[$0] >= options.deadFeatureWindow }
        guard !dead.isEmpty else { return nil }
        return try DeadLatents(
            dead.map { Int32(truncatingIfNeeded: $0) }, of: encoder, dIn: dIn,
            auxK: options.auxK ?? max(1, dIn / 2), coefficient: coefficient)
    }
}

extension ForwardPass {
    /// The auxiliary loss of a block that has been decoded, and its gradients by pre-activations.
    func decodeDead(_ dead: DeadLatents, _ auxiliary: AuxiliaryMemory, _ block: Int) throws {
        let (dIn, range, codes) = (memory.dIn, memory.range(block), auxiliary.codes[block])
        let sums = memory.blockSums(block)
        let scale = dead.weight * Float(2 / Double(memory.rows))
        codes.clear()
        try dead.search(
            range.count, input: memory.input + range.lowerBound * dIn, codes: codes,
            beat: { try pulse.beat(range.lowerBound) })
        for row in range {
            let entries = codes.entries(row - range.lowerBound)
            let error = auxiliary.error + row * dIn
            error.update(from: memory.error + row * dIn, count: dIn)
            sk_gather_sum(weights.decoder, dIn, entries.indices, entries.values, entries.count, error, dIn)
            sums.pointer[6] += Double(sk_dot(error, error, dIn))
            sk_gather_dots(weights.decoder, dIn, entries.indices, entries.count, error, dIn, entries.slopes)
            for slot in 0..<entries.count {
                entries.slopes[slot] *= scale
                let (value, slope) = (Double(entries.values[slot]), Double(entries.slopes[slot]))
                sums.pointer[3] += slope * slope
                sums.pointer[7] += value * value
            }
            try pulse.beat(row)
        }
    }
}
