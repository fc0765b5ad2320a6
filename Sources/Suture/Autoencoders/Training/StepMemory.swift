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
    private let starts: Buffer<Int>
    /// Active latents of each segment of blocks, counted by latent.
    private let segmentCounts: Buffer<Int32>
    private var grouped: GroupedCodes

    /// Segments that are grouped side by side: a fixed number, so that little memory goes into counts.
    private static var segments: Int { 8 }

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
        starts = try Buffer(zeros: dSAE + 1)
        segmentCounts = try Buffer(zeros: Self.segments * dSAE)
        grouped = try GroupedCodes(capacity * active, thresholds: thresholds)
    }

    var normPull: NormPull?

    /// (rows, d_in): what enters the encoder, so x - b_dec where b_dec is subtracted.
    var input: UnsafeMutablePointer<Float> { inputMemory.pointer }
    /// (rows, d_in): x_hat - x.
    var error: UnsafeMutablePointer<Float> { errorMemory.pointer }
    /// (d_sae + 1): where each latent's part of the grouped arrays begins.
    var groups: UnsafePointer<Int> { UnsafePointer(starts.pointer) }
    /// Token of each active latent (in order), its activation times 2 / rows, and its slope: latent by
    /// latent.
    var groupedTokens: UnsafePointer<Int32> { UnsafePointer(grouped.tokens.pointer) }
    var groupedValues: UnsafePointer<Float> { UnsafePointer(grouped.values.pointer) }
    var groupedSlopes: UnsafePointer<Float> { UnsafePointer(grouped.slopes.pointer) }
    var groupedThresholdSlopes: UnsafePointer<Float>? {
        grouped.thresholdSlopes.map { UnsafePointer($0.pointer) }
    }

    var blocks: Int { (rows + blockRows - 1) / blockRows }

    /// The tokens of block `block`.
    func range(_ block: Int) -> Range<Int> { block * blockRows..<min((block + 1) * blockRows, rows) }

    /// Makes ready for a step on `count` tokens, at most `capacity`.
    func begin(_ count: Int) {
        rows = count
        for block in codes { block.clear() }
    }

    func blockSums(_ block: Int) -> BlockSums {
        BlockSums(pointer: sums.pointer + block * BlockSums.width(dIn), dIn: dIn)
    }

    /// Groups the active latents of all tokens by latent (a counting sort), so that each latent's
    /// gradients can be summed by itself and in the order of the tokens.
    func group() throws {
        let total = codes[..<blocks].reduce(0) { $0 + $1.count }
        if total > grouped.count {
            grouped = try GroupedCodes(total + total / 4, thresholds: grouped.thresholdSlopes != nil)
        }
        let blocksEach = (blocks + Self.segments - 1) / Self.segments
        let segments = (blocks + blocksEach - 1) / blocksEach
        try parallelFor(segments) { [self] segment in
            let counts = segmentCounts.pointer + segment * dSAE
            counts.update(repeating: 0, count: dSAE)
            for block in segment * blocksEach..<min((segment + 1) * blocksEach, blocks) {
                for token in 0..<codes[block].tokens {
                    let entries = codes[block].entries(token)
                    for slot in 0..<entries.count { counts[Int(entries.indices[slot])] += 1 }
                }
            }
        }
        // Counts become places: latent by latent, and within each segment by segment.
        var place = 0
        for latent in 0..<dSAE {
            starts.pointer[latent] = place
            for segment in 0..<segments {
                let counts = segmentCounts.pointer + segment * dSAE
                let count = Int(counts[latent])
                counts[latent] = Int32(truncatingIfNeeded: place - starts.pointer[latent])
                place += count
            }
        }
        starts.pointer[dSAE] = place
        let scale = Float(2 / Double(rows))
        try parallelFor(segments) { [self, grouped] segment in
            let places = segmentCounts.pointer + segment * dSAE
            for block in segment * blocksEach..<min((segment + 1) * blocksEach, blocks) {
                for token in 0..<codes[block].tokens {
                    let entries = codes[block].entries(token)
                    for slot in 0..<entries.count {
                        let latent = Int(entries.indices[slot])
                        let place = starts.pointer[latent] + Int(places[latent])
                        places[latent] += 1
                        grouped.tokens.pointer[place] = Int32(truncatingIfNeeded: block * blockRows + token)
                        grouped.values.pointer[place] = scale * entries.values[slot]
                        grouped.slopes.pointer[place] = entries.slopes[slot]
                        if let slopes = entries.thresholdSlopes {
                            grouped.thresholdSlopes?.pointer[place] = slopes[slot]
                        }
                    }
                }
            }
        }
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

/// Active latents of a batch, latent by latent.
private struct GroupedCodes: Sendable {
    let count: Int
    let tokens: Buffer<Int32>
    let values: Buffer<Float>
    let slopes: Buffer<Float>
    let thresholdSlopes: Buffer<Float>?

    init(_ count: Int, thresholds: Bool) throws {
        self.count = count
        tokens = try Buffer(count: count, for: "sparse codes")
        values = try Buffer(count: count, for: "sparse codes")
        slopes = try Buffer(count: count, for: "sparse codes")
        thresholdSlopes = thresholds ? try Buffer(count: count, for: "sparse codes") : nil
    }
}
