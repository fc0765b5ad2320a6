// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What one step knows between its forward pass and its update: the batch, its errors and its
/// sparse codes. Memory for up to `capacity` tokens; nothing of size tokens x d_sae.
///
/// `@unchecked Sendable`: parallel bodies write to their own block or their own latents.
final class StepMemory: @unchecked Sendable {
    let dIn: Int
    let dSAE: Int
    let capacity: Int
    /// Tokens of one piece of parallel work in the forward pass.
    let blockRows: Int
    /// Tokens of the step.
    private(set) var rows = 0
    private let inputMemory: Buffer<Float>
    private let errorMemory: Buffer<Float>
    /// Sparse codes of each block.
    let codes: [BlockCodes]
    private let sums: Buffer<Double>
    private let latents: LatentGroups
    private var spareAuxiliary: AuxiliaryMemory?
    /// In a step with dead latents, where the options want the auxiliary loss.
    private(set) var auxiliary: AuxiliaryMemory?
    /// What multiplies the squares of the auxiliary loss.
    var auxiliaryWeight: Float = 0
    var normPull: NormPull?
    private var sparePull: PullMemory?
    /// In a step with a pull towards other codes.
    private(set) var pull: PullMemory?

    /// - Parameters:
    ///   - active: latents a token that there is room for to begin with.
    ///   - thresholds: whether thresholds have gradients.
    init(capacity: Int, dIn: Int, dSAE: Int, active: Int, thresholds: Bool, blockRows: Int) throws {
        (self.dIn, self.dSAE, self.capacity, self.blockRows) = (dIn, dSAE, capacity, blockRows)
        let (elements, overflow) = capacity.multipliedReportingOverflow(by: dIn)
        guard !overflow, capacity <= Trainer.rowLimit else {
            throw SutureError.invalidArgument("a step on \(capacity) tokens, expected at most \(Trainer.rowLimit)")
        }
        let blocks = (capacity + blockRows - 1) / blockRows
        inputMemory = try Buffer(zeros: elements)
        errorMemory = try Buffer(zeros: elements)
        let width = min(capacity, blockRows)
        codes = try (0..<blocks).map { _ in try BlockCodes(tokens: width, slots: width * active, thresholds: thresholds)
        }
        sums = try Buffer(zeros: blocks * BlockSums.width(dIn))
        latents = try LatentGroups(dSAE: dSAE, slots: capacity * active, thresholds: thresholds)
    }

    /// (rows, d_in): what enters the encoder, so x - b_dec where b_dec is subtracted.
    var input: UnsafeMutablePointer<Float> { inputMemory.pointer }
    /// (rows, d_in): x_hat - x.
    var error: UnsafeMutablePointer<Float> { errorMemory.pointer }
    /// (d_sae + 1): where each latent's part of the grouped arrays begins.
    var groups: UnsafePointer<Int> { latents.starts }
    /// Token of each active latent (in order), its activation times 2 / rows, and its slope: latent by
    /// latent.
    var groupedTokens: UnsafePointer<Int32> { latents.tokens }
    var groupedValues: UnsafePointer<Float> { latents.values }
    var groupedSlopes: UnsafePointer<Float> { latents.slopes }
    var groupedThresholdSlopes: UnsafePointer<Float>? { latents.thresholdSlopes }

    var blocks: Int { (rows + blockRows - 1) / blockRows }

    /// The tokens of block `block`.
    func range(_ block: Int) -> Range<Int> { block * blockRows..<min((block + 1) * blockRows, rows) }

    /// Makes ready for a step on `count` tokens, at most `capacity`.
    func begin(_ count: Int) {
        rows = count
        (auxiliary, pull) = (nil, nil)
        for block in codes { block.clear() }
    }

    func blockSums(_ block: Int) -> BlockSums {
        BlockSums(pointer: sums.pointer + block * BlockSums.width(dIn), dIn: dIn)
    }

    /// Memory for the auxiliary loss, made when it is first needed.
    func takeAuxiliary(k: Int) throws -> AuxiliaryMemory {
        let taken =
            try spareAuxiliary
            ?? AuxiliaryMemory(capacity: capacity, dIn: dIn, dSAE: dSAE, k: k, blockRows: blockRows)
        (spareAuxiliary, auxiliary) = (taken, taken)
        return taken
    }

    /// Memory for a pull, made when it is first needed.
    func takePull(active: Int) throws {
        let taken =
            try sparePull ?? PullMemory(capacity: capacity, dSAE: dSAE, active: max(1, active), blockRows: blockRows)
        (sparePull, pull) = (taken, taken)
    }

    /// Groups the active latents of all tokens by latent, and those of the auxiliary loss and of a pull.
    func group() throws {
        let scale = Float(2 / Double(rows))
        try latents.group(codes[..<blocks], blockRows: blockRows, valueScale: scale)
        if let auxiliary {
            try auxiliary.groups.group(
                auxiliary.codes[..<blocks], blockRows: blockRows, valueScale: auxiliaryWeight * scale)
        }
        if let pull { try pull.groups.group(pull.codes[..<blocks], blockRows: blockRows, valueScale: 0) }
    }
}

/// What a penalty on activations times the norms of decoder rows does to those rows.
struct NormPull {
    let coefficient: Float
    /// (d_sae, d_in)
    let rows: UnsafePointer<Float>
    /// (d_sae)
    let norms: UnsafePointer<Float>
}
