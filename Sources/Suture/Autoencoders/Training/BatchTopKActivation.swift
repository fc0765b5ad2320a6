// SPDX-License-Identifier: Apache-2.0

/// ReLU, and of a whole batch's activations the k N largest, where N is the number of tokens (Bussmann et
/// al. 2024, arXiv 2412.06410; SAELens' BatchTopKTrainingSAE).
///
/// At inference tokens come one by one, and a threshold takes the choice's place: the moving average, by
/// 0.01 a step, of the batches' smallest activation that was chosen.
///
/// The search needs a bar that about k N activations are above, before they are known. It is taken from the
/// last batch, and from a sample of the tokens for the first; if too few are above it, it is lowered and
/// the batch is searched again. The choice does not depend on it.
///
/// `@unchecked Sendable`: what changes does so in `prepare`, `choose`, `finish` and `restore`.
final class BatchTopKActivation: TrainedActivation, @unchecked Sendable {
    private let searcher: ThresholdSearch
    private let k: Int
    private let dIn: Int
    private let dSAE: Int
    /// The moving average.
    private var threshold: Double
    /// Smallest activation chosen in the last batch, if there is one.
    private var smallest: Float?
    private var bar: Float?

    /// What is left of the threshold after a step.
    private static var decay: Double { 0.99 }
    /// Activations, relative to k N, that the bar should have above it.
    private static var aim: Double { 1.2 }
    /// Tokens that the first bar is taken from.
    private static var sampled: Int { 64 }

    init(_ search: ThresholdSearch, k: Int, dIn: Int, dSAE: Int, threshold: Float) {
        (searcher, self.k, self.dIn, self.dSAE) = (search, k, dIn, dSAE)
        self.threshold = Double(threshold)
    }

    var name: String { "batchtopk" }
    var activeAtFirst: Int { min(dSAE, k + k / 4 + 1) }
    var ranksByNorm: Bool { true }
    var choosesAcrossTokens: Bool { true }
    func architecture() -> Architecture { .batchTopK(threshold: Float(threshold), k: k) }

    func prepare(_ memory: StepMemory, _ encoder: EncoderRows) throws {
        guard bar == nil else { return }
        let count = min(Self.sampled, memory.rows)
        let input = try Buffer<Float>(count: count * dIn, for: "a sample of tokens")
        for i in 0..<count {
            (input.pointer + i * dIn).update(from: memory.input + i * memory.rows / count * dIn, count: dIn)
        }
        let codes = try BlockCodes(tokens: count, slots: count * dSAE / 2 + 1)
        bar = 0
        try search(count, input: input.pointer, encoder: encoder, codes: codes) {}
        withExtendedLifetime(input) {}
        let ranks = ValueRanks([codes])
        bar = ranks.value(rank(Self.aim, count), default: 0)
    }

    func search(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, codes: BlockCodes, beat: () throws -> Void
    ) throws {
        try searcher.forEach(count, input: input, encoder: encoder, bar: bar ?? 0, beat: beat) {
            _, found, indices, values in
            try codes.append(indices, values, count: found)
        }
    }

    func choose(_ memory: StepMemory) -> Bool {
        let bar = bar ?? 0
        let blocks = memory.codes[..<memory.blocks]
        let total = blocks.reduce(0) { $0 + $1.count }
        let wanted = rank(1, memory.rows)
        guard total >= wanted || bar == 0 else {
            // Once more on most of the way, then on all of it.
            self.bar = total > wanted / 2 ? bar / 2 : 0
            return false
        }
        guard total > 0 else {
            smallest = nil
            return true
        }
        let ranks = ValueRanks(blocks)
        let cut = ranks.value(wanted, default: ranks.least)
        let aimed = rank(Self.aim, memory.rows)
        // With too few for the aim: as far below the bar as the cut was above it.
        self.bar = total >= aimed ? ranks.value(aimed, default: 0) : max(0, bar - (cut - bar))
        smallest = cut
        // Last: it changes what was ranked.
        var ties = wanted - ranks.above(cut)
        for block in blocks { block.keep(above: cut, ties: &ties) }
        return true
    }

    private func rank(_ factor: Double, _ rows: Int) -> Int { max(1, Int(factor * Double(k) * Double(rows))) }

    func finish() {
        if let smallest { threshold = Self.decay * threshold + (1 - Self.decay) * Double(smallest) }
    }

    var state: [(name: String, value: Double)] { [("threshold", threshold)] }
    func restore(_ value: (_ name: String) throws -> Double) throws { threshold = try value("threshold") }
}

/// Which number has which rank among a batch's activations, all above 0: by counting their leading bits,
/// then the rest.
private struct ValueRanks {
    private let codes: ArraySlice<BlockCodes>
    /// Activations whose upper 16 bits are this.
    private var counts = [Int](repeating: 0, count: 1 << 16)
    /// The smallest.
    private(set) var least = Float.infinity
    private var total = 0

    init(_ codes: ArraySlice<BlockCodes>) {
        self.codes = codes
        for block in codes {
            for value in block.allValues {
                counts[Int(value.bitPattern >> 16)] += 1
                least = min(least, value)
            }
            total += block.count
        }
    }

    init(_ codes: [BlockCodes]) { self.init(codes[...]) }

    /// The `rank`th largest, from 1 on; `other` if there are fewer.
    func value(_ rank: Int, default other: Float) -> Float {
        guard rank <= total else { return other }
        var (above, bucket) = (0, counts.count - 1)
        while above + counts[bucket] < rank {
            above += counts[bucket]
            bucket -= 1
        }
        var rest = [Int](repeating: 0, count: 1 << 16)
        for block in codes {
            for value in block.allValues where Int(value.bitPattern >> 16) == bucket {
                rest[Int(value.bitPattern & 0xffff)] += 1
            }
        }
        var low = rest.count - 1
        while above + rest[low] < rank {
            above += rest[low]
            low -= 1
        }
        return Float(bitPattern: UInt32(bucket) << 16 | UInt32(low))
    }

    /// How many are above `bar`.
    func above(_ bar: Float) -> Int {
        codes.reduce(0) { $0 + $1.allValues.reduce(0) { $0 + ($1 > bar ? 1 : 0) } }
    }
}
