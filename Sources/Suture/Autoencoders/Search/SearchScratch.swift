// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Lists of candidate latents for a block of tokens, and what filling them takes.
///
/// `@unchecked Sendable`: the pool hands it to one thread at a time.
final class SearchScratch: @unchecked Sendable {
    /// Slots of a list.
    let capacity: Int
    /// Elements of a token in bfloat16.
    let width: Int
    /// Latents whose scores by a float32 product are kept at a time.
    let piece: Int
    private let rows: Int
    private var tokenMemory: Buffer<UInt16>?
    private var scoreMemory: Buffer<Float>?
    /// Candidates of one list that are scored again: latents, first and exact scores.
    let latents: Buffer<Int32>
    let rounded: Buffer<Float>
    let exact: Buffer<Float>
    private let bars: Buffer<Float>
    private let counts: Buffer<Int32>
    private let indices: Buffer<Int32>
    private let values: Buffer<Float>
    private(set) var lists = sk_lists()

    /// - Parameter keep: candidates that survive when a list is full; 0: lists have room for all latents.
    init(rows: Int, dIn: Int, dSAE: Int, keep: Int) throws {
        let purpose = "a search for latents"
        self.rows = rows
        width = sk_bf16_width(dIn)
        // About 512 KB: what the product writes is still in the cache when it is read.
        piece = min((dSAE + 63) / 64 * 64, max(256, (1 << 17) / rows / 64 * 64))
        // What is not used of the large ones is never touched, and takes no memory.
        capacity = (keep > 0 ? keep + keep / 2 : dSAE) + Int(SK_OFFER)
        // One more than candidates: copying writes one ahead.
        latents = try Buffer(count: capacity + 1, for: purpose)
        rounded = try Buffer(count: capacity + 1, for: purpose)
        exact = try Buffer(count: capacity, for: purpose)
        bars = try Buffer(count: rows, for: purpose)
        counts = try Buffer(count: rows, for: purpose)
        indices = try Buffer(count: rows * capacity, for: purpose)
        values = try Buffer(count: rows * capacity, for: purpose)
        lists = sk_lists(
            capacity: capacity, keep: keep, bars: bars.pointer, counts: counts.pointer, indices: indices.pointer,
            values: values.pointer)
    }

    /// Memory for tokens in bfloat16, (rows, width).
    func tokens() throws -> UnsafeMutablePointer<UInt16> {
        if let tokenMemory { return tokenMemory.pointer }
        // Tiles read whole groups of tokens.
        let group = Int(SK_TOKEN_GROUP)
        let memory = try Buffer<UInt16>(zeros: (rows + group - 1) / group * group * width, for: "tokens in bfloat16")
        tokenMemory = memory
        return memory.pointer
    }

    /// Memory for scores by a float32 product, (rows, piece).
    func scores() throws -> UnsafeMutablePointer<Float> {
        if let scoreMemory { return scoreMemory.pointer }
        let memory = try Buffer<Float>(count: rows * piece, for: "scores")
        scoreMemory = memory
        return memory.pointer
    }

    /// Empties list `row`; only scores above `bar` will enter it.
    func clear(_ row: Int, bar: Float = -.infinity) {
        bars.pointer[row] = bar
        counts.pointer[row] = 0
    }

    /// A number that no score left out of list `row` is above.
    func bar(_ row: Int) -> Float { bars.pointer[row] }
    func count(_ row: Int) -> Int { Int(counts.pointer[row]) }
    func indices(_ row: Int) -> UnsafeMutablePointer<Int32> { indices.pointer + row * capacity }
    func values(_ row: Int) -> UnsafeMutablePointer<Float> { values.pointer + row * capacity }
}
