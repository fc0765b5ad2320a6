// SPDX-License-Identifier: Apache-2.0

/// Entries of sparse codes, latent by latent and for each latent in the order of the tokens: so that a
/// latent's gradients can be summed by itself.
///
/// `@unchecked Sendable`: parallel bodies write to their own segment of the tokens.
final class LatentGroups: @unchecked Sendable {
    private let dSAE: Int
    private let places: Buffer<Int>
    /// Entries of each segment of blocks, counted by latent.
    private let segmentCounts: Buffer<Int32>
    private var grouped: GroupedCodes

    /// Segments that are grouped side by side: a fixed number, so that little memory goes into counts.
    private static var segments: Int { 8 }

    /// - Parameters:
    ///   - slots: entries that there is room for to begin with.
    ///   - thresholds: whether thresholds have gradients.
    init(dSAE: Int, slots: Int, thresholds: Bool) throws {
        self.dSAE = dSAE
        places = try Buffer(zeros: dSAE + 1)
        segmentCounts = try Buffer(zeros: Self.segments * dSAE)
        grouped = try GroupedCodes(slots, thresholds: thresholds)
    }

    /// (d_sae + 1): where each latent's part begins.
    var starts: UnsafePointer<Int> { UnsafePointer(places.pointer) }
    var tokens: UnsafePointer<Int32> { UnsafePointer(grouped.tokens.pointer) }
    /// Activations times a factor.
    var values: UnsafePointer<Float> { UnsafePointer(grouped.values.pointer) }
    var slopes: UnsafePointer<Float> { UnsafePointer(grouped.slopes.pointer) }
    var thresholdSlopes: UnsafePointer<Float>? { grouped.thresholdSlopes.map { UnsafePointer($0.pointer) } }

    /// The sum of a latent's slopes: the gradient of its bias.
    func sumOfSlopes(_ latent: Int) -> Double {
        var sum = 0.0
        for entry in starts[latent]..<starts[latent + 1] { sum += Double(slopes[entry]) }
        return sum
    }

    /// Groups the codes of all blocks of `blockRows` tokens (a counting sort).
    func group(_ codes: ArraySlice<BlockCodes>, blockRows: Int, valueScale: Float) throws {
        let blocks = codes.count
        let total = codes.reduce(0) { $0 + $1.count }
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
            places.pointer[latent] = place
            for segment in 0..<segments {
                let counts = segmentCounts.pointer + segment * dSAE
                let count = Int(counts[latent])
                counts[latent] = Int32(truncatingIfNeeded: place - places.pointer[latent])
                place += count
            }
        }
        places.pointer[dSAE] = place
        try parallelFor(segments) { [self, grouped] segment in
            let offsets = segmentCounts.pointer + segment * dSAE
            for block in segment * blocksEach..<min((segment + 1) * blocksEach, blocks) {
                for token in 0..<codes[block].tokens {
                    let entries = codes[block].entries(token)
                    for slot in 0..<entries.count {
                        let latent = Int(entries.indices[slot])
                        let place = places.pointer[latent] + Int(offsets[latent])
                        offsets[latent] += 1
                        grouped.tokens.pointer[place] = Int32(truncatingIfNeeded: block * blockRows + token)
                        grouped.values.pointer[place] = valueScale * entries.values[slot]
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

/// Memory for grouped entries.
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
