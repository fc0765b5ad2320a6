// SPDX-License-Identifier: Apache-2.0

/// The k largest of the scores that each token was shown so far.
///
/// `@unchecked Sendable`: a token has one writer at a time.
final class LargestScores: @unchecked Sendable {
    let k: Int
    private let values: Buffer<Float>
    /// Smallest of a token's values, and where it stands.
    private let least: Buffer<Float>
    private let place: Buffer<Int32>

    init(tokens: Int, k: Int) throws {
        self.k = k
        values = try Buffer(count: tokens * k, for: "scores")
        least = try Buffer(count: tokens, for: "scores")
        place = try Buffer(count: tokens, for: "scores")
    }

    func clear(_ tokens: Range<Int>) {
        (values.pointer + tokens.lowerBound * k).update(repeating: -.infinity, count: tokens.count * k)
        (least.pointer + tokens.lowerBound).update(repeating: -.infinity, count: tokens.count)
        (place.pointer + tokens.lowerBound).update(repeating: 0, count: tokens.count)
    }

    /// Shows tokens the scores of one latent, `scores[token] + bias`.
    func show(_ scores: UnsafePointer<Float>, bias: Float, _ tokens: Range<Int>) {
        let least = least.pointer
        var token = tokens.lowerBound
        // Most scores are beyond no bar: sixteen are dismissed at a time.
        while token + 16 <= tokens.upperBound {
            let found = UnsafeRawPointer(scores + token).loadUnaligned(as: SIMD16<Float>.self) + bias
            let bars = UnsafeRawPointer(least + token).loadUnaligned(as: SIMD16<Float>.self)
            if any(found .> bars) {
                for place in token..<token + 16 { offer(scores[place] + bias, place) }
            }
            token += 16
        }
        for place in token..<tokens.upperBound { offer(scores[place] + bias, place) }
    }

    /// Shows a token one score.
    @inline(__always)
    func offer(_ score: Float, _ token: Int) {
        guard score > least.pointer[token] else { return }
        let row = values.pointer + token * k
        row[Int(place.pointer[token])] = score
        var smallest = 0
        for slot in 1..<max(k, 1) where row[slot] < row[smallest] { smallest = slot }
        (least.pointer[token], place.pointer[token]) = (row[smallest], Int32(truncatingIfNeeded: smallest))
    }

    /// The k-th largest score of a token.
    func bar(_ token: Int) -> Float { least.pointer[token] }

    /// Sum of a token's k largest scores; for those that it was not shown, of `other`.
    func sum(_ token: Int, default other: Float) -> Double {
        (0..<k).reduce(0) { sum, slot in
            let value = values.pointer[token * k + slot]
            return sum + Double(value > -.infinity ? value : other)
        }
    }
}
