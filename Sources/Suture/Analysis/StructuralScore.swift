// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Which features depend on how a sentence is built and which on what it says. Each sentence comes in
/// several variants that keep its function words and punctuation and change its content words. A
/// feature that is active (on any token) in all of them is structural for that sentence; its score is
/// the number of sentences where it is active in all variants, divided by the number where it is
/// active in any.
public struct StructuralScore: Sendable {
    public let dSAE: Int
    /// Sentences seen.
    public private(set) var sentences = 0
    /// Sentences in which a feature was active in all variants, and in any.
    private var counts: Buffer<StructuralCounts>

    /// - Throws: `invalidArgument`, `outOfMemory`.
    public init(dSAE: Int) throws {
        guard dSAE >= 1, dSAE <= Int(Int32.max) else {
            throw SutureError.invalidArgument("d_sae is \(dSAE), expected 1 to \(Int32.max)")
        }
        self.dSAE = dSAE
        counts = try Buffer(zeros: dSAE, for: "structural scores")
    }

    /// Adds sentences, all variants of a sentence one after the other.
    ///
    /// - Parameters:
    ///   - codes: of all tokens, text by text.
    ///   - lengths: tokens of each text; a text may have none, and then nothing is active in it.
    ///   - variants: texts a sentence, at least 2, the original counted.
    /// - Throws: `invalidArgument`, `cancelled`; then nothing has changed.
    public mutating func update(
        _ codes: SparseCodes, lengths: UnsafeBufferPointer<Int64>, variants: Int, progress: Progress = .none
    ) throws {
        guard codes.dSAE == dSAE else {
            throw SutureError.invalidArgument("codes has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        guard variants >= 2, variants <= Int(Int32.max) else {
            throw SutureError.invalidArgument("variants is \(variants), expected 2 to \(Int32.max)")
        }
        guard lengths.count >= 1, lengths.count % variants == 0, lengths.count < Int(Int32.max) else {
            throw SutureError.invalidArgument(
                "lengths has \(lengths.count) texts, expected \(variants), the variants, for each sentence")
        }
        var total = 0
        for (text, length) in lengths.enumerated() {
            guard length >= 0, length <= Int64(codes.rows - total) else {
                throw SutureError.invalidArgument(
                    "lengths[\(text)] is \(length), expected 0 to \(codes.rows - total), the rows of codes left")
            }
            total += Int(length)
        }
        guard total == codes.rows else {
            throw SutureError.invalidArgument("lengths are \(total) tokens, expected \(codes.rows), the rows of codes")
        }
        let updated = try counts.copy(for: "structural scores")
        let states = try Buffer<LatentState>(count: dSAE, for: "structural scores")
        states.pointer.update(repeating: LatentState(text: -1, texts: 0), count: dSAE)
        let touched = try Buffer<Int32>(count: dSAE, for: "structural scores")
        var row = 0
        for sentence in 0..<lengths.count / variants {
            var active = 0
            for text in sentence * variants..<(sentence + 1) * variants {
                let mark = Int32(truncatingIfNeeded: text)
                let end = row + Int(lengths[text])
                while row < end {
                    for slot in row * codes.width..<row * codes.width + Int(codes.counts[row]) {
                        let latent = Int(codes.indices[slot])
                        let state = states.pointer + latent
                        guard state.pointee.text != mark else { continue }
                        if state.pointee.texts == 0 {
                            touched.pointer[active] = codes.indices[slot]
                            active += 1
                        }
                        state.pointee.text = mark
                        state.pointee.texts += 1
                    }
                    row += 1
                }
            }
            for place in 0..<active {
                let latent = Int(touched.pointer[place])
                updated.pointer[latent].any += 1
                if Int(states.pointer[latent].texts) == variants { updated.pointer[latent].all += 1 }
                states.pointer[latent].texts = 0
            }
            if sentence % 64 == 0 { try progress.report(row, of: codes.rows) }
        }
        counts = updated
        sentences += lengths.count / variants
    }

    /// Score of each feature, 0 to 1; NaN for one that was never active.
    public func scores() -> [Double] {
        zip(inAll, inAny).map { $1 == 0 ? .nan : Double($0) / Double($1) }
    }

    /// Sentences in which each feature was active in all variants.
    public var inAll: [UInt64] { (0..<dSAE).map { counts.pointer[$0].all } }
    /// Sentences in which each feature was active in any variant.
    public var inAny: [UInt64] { (0..<dSAE).map { counts.pointer[$0].any } }
}

struct StructuralCounts: BitwiseCopyable {
    var all: UInt64
    var any: UInt64
}

/// The last text a latent was active in, and how many texts of the present sentence.
private struct LatentState: BitwiseCopyable {
    var text: Int32
    var texts: Int32
}
