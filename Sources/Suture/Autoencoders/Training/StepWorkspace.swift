// SPDX-License-Identifier: Apache-2.0

/// What one step knows between its forward pass and its update: the batch, its errors and its
/// sparse codes. Memory for up to `capacity` tokens; nothing of size tokens x d_sae.
final class StepWorkspace {
    let capacity: Int
    let blockRows: Int
    private let input: Buffer<Float>
    private let error: Buffer<Float>
    private let indices: Buffer<Int32>
    private let values: Buffer<Float>
    private let slopes: Buffer<Float>
    private let counts: Buffer<Int32>
    private let sums: Buffer<Double>
    private let groups: Buffer<Int>
    private let groupedTokens: Buffer<Int32>
    private let groupedValues: Buffer<Float>
    private let groupedSlopes: Buffer<Float>

    init(capacity: Int, dIn: Int, dSAE: Int, k: Int, blockRows: Int) throws {
        self.capacity = capacity
        self.blockRows = blockRows
        let (slots, overflow) = capacity.multipliedReportingOverflow(by: k)
        let (elements, elementOverflow) = capacity.multipliedReportingOverflow(by: dIn)
        guard !overflow, !elementOverflow, capacity <= Trainer.rowLimit else {
            throw SutureError.invalidArgument("a step on \(capacity) tokens, expected at most \(Trainer.rowLimit)")
        }
        let blocks = (capacity + blockRows - 1) / blockRows
        input = try Buffer(zeros: elements)
        error = try Buffer(zeros: elements)
        indices = try Buffer(zeros: slots)
        values = try Buffer(zeros: slots)
        slopes = try Buffer(zeros: slots)
        counts = try Buffer(zeros: capacity)
        sums = try Buffer(zeros: blocks * BlockSums.width(dIn))
        groups = try Buffer(zeros: dSAE + 1)
        groupedTokens = try Buffer(zeros: slots)
        groupedValues = try Buffer(zeros: slots)
        groupedSlopes = try Buffer(zeros: slots)
    }

    func memory(dIn: Int, dSAE: Int, k: Int, rows: Int) -> StepMemory {
        StepMemory(
            dIn: dIn, dSAE: dSAE, k: k, rows: rows, blockRows: blockRows, input: input.pointer, error: error.pointer,
            indices: indices.pointer, values: values.pointer, slopes: slopes.pointer, counts: counts.pointer,
            sums: sums.pointer, groups: groups.pointer, groupedTokens: groupedTokens.pointer,
            groupedValues: groupedValues.pointer, groupedSlopes: groupedSlopes.pointer)
    }
}

/// The arrays of a `StepWorkspace`, for `rows` tokens.
struct StepMemory {
    let dIn: Int
    let dSAE: Int
    let k: Int
    let rows: Int
    /// Tokens of one piece of parallel work in the forward pass.
    let blockRows: Int
    /// (rows, d_in): what enters the encoder, so x - b_dec where b_dec is subtracted.
    let input: UnsafeMutablePointer<Float>
    /// (rows, d_in): x_hat - x.
    let error: UnsafeMutablePointer<Float>
    /// (rows, k): active latents, largest first, and their activations.
    let indices: UnsafeMutablePointer<Int32>
    let values: UnsafeMutablePointer<Float>
    /// (rows, k): gradient of the loss by each active latent's activation.
    let slopes: UnsafeMutablePointer<Float>
    /// (rows): active latents.
    let counts: UnsafeMutablePointer<Int32>
    /// One `BlockSums` for each block of rows.
    let sums: UnsafeMutablePointer<Double>
    /// (d_sae + 1): where each latent's part of the grouped arrays begins.
    let groups: UnsafeMutablePointer<Int>
    /// Tokens (in order), activations and slopes of the active latents, latent by latent.
    let groupedTokens: UnsafeMutablePointer<Int32>
    let groupedValues: UnsafeMutablePointer<Float>
    let groupedSlopes: UnsafeMutablePointer<Float>

    var blocks: Int { (rows + blockRows - 1) / blockRows }

    func blockSums(_ block: Int) -> BlockSums {
        BlockSums(pointer: sums + block * BlockSums.width(dIn), dIn: dIn)
    }

    /// Adds up the sums of all blocks, in order: the same bits for any number of threads.
    func totals() -> StepTotals {
        var totals = StepTotals(error: [Double](repeating: 0, count: dIn))
        var input = [Double](repeating: 0, count: dIn)
        for block in 0..<blocks {
            let part = blockSums(block)
            totals.errorSquares += part.pointer[0]
            totals.inputSquares += part.pointer[1]
            totals.valueSquares += part.pointer[2]
            totals.slopeSquares += part.pointer[3]
            totals.active += part.pointer[4]
            for i in 0..<dIn {
                input[i] += part.input[i]
                totals.error[i] += part.error[i]
            }
        }
        let count = Double(rows)
        let mean = input.reduce(0) { $0 + ($1 / count) * ($1 / count) }
        let square = totals.inputSquares / count
        // Below rounding it is a batch of equal tokens.
        totals.variance = square - mean > 1e-13 * square ? square - mean : 0
        return totals
    }

    /// Groups the active latents of all tokens by latent (a counting sort), so that each latent's
    /// gradients can be summed by itself and in the order of the tokens.
    func group() {
        groups.update(repeating: 0, count: dSAE + 1)
        for token in 0..<rows {
            let row = indices + token * k
            for slot in 0..<Int(counts[token]) { groups[Int(row[slot]) + 1] += 1 }
        }
        for latent in 0..<dSAE { groups[latent + 1] += groups[latent] }
        for token in 0..<rows {
            let base = token * k
            for slot in base..<base + Int(counts[token]) {
                let latent = Int(indices[slot])
                let place = groups[latent]
                groups[latent] = place + 1
                groupedTokens[place] = Int32(truncatingIfNeeded: token)
                groupedValues[place] = values[slot]
                groupedSlopes[place] = slopes[slot]
            }
        }
        // Every entry has moved on to where the next latent begins: move them back by one.
        for latent in stride(from: dSAE, to: 0, by: -1) { groups[latent] = groups[latent - 1] }
        groups[0] = 0
    }
}

/// Sums over one block of tokens, in float64.
struct BlockSums {
    /// Squares of errors, inputs, activations and slopes; active latents; then two vectors.
    let pointer: UnsafeMutablePointer<Double>
    let dIn: Int

    static func width(_ dIn: Int) -> Int { 5 + 2 * dIn }

    var input: UnsafeMutablePointer<Double> { pointer + 5 }
    var error: UnsafeMutablePointer<Double> { pointer + 5 + dIn }
}

/// Sums over a whole batch.
struct StepTotals {
    var errorSquares = 0.0
    var inputSquares = 0.0
    var valueSquares = 0.0
    var slopeSquares = 0.0
    var active = 0.0
    /// Mean over tokens of |x - mean|².
    var variance = 0.0
    /// (d_in): x_hat - x, summed over tokens.
    var error: [Double]
}
