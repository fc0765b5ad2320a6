// SPDX-License-Identifier: Apache-2.0

/// Scores that may matter: of each latent those that come closest to their tokens' bars. While bars and
/// biases settle, only these need to be looked at again, a small part of all tokens times latents.
///
/// `@unchecked Sendable`: a latent has one writer at a time, and nobody reads before `arrange`.
final class CandidateScores: @unchecked Sendable {
    /// Where each latent's part begins, and how much of it is in use.
    private let starts: [Int]
    private let counts: Buffer<Int32>
    private let tokens: Buffer<Int32>
    private let scores: Buffer<Float>
    /// The same, token by token, latents in order.
    private let tokenStarts: Buffer<Int>
    private let byToken: Buffer<Entry>

    struct Entry: BitwiseCopyable {
        var latent: Int32
        var score: Float
    }

    /// So many times as often as it should fire, and so many more, a latent's scores are kept.
    private static let share = 4
    private static let spare = 64

    /// - Parameter wanted: on how many of the `tokens` each latent is to fire; 0: never.
    init(wanted: [Int], tokens count: Int) throws {
        var starts = [0]
        starts.reserveCapacity(wanted.count + 1)
        for firings in wanted {
            starts.append(starts[starts.count - 1] + (firings > 0 ? min(count, Self.share * firings + Self.spare) : 0))
        }
        self.starts = starts
        let total = starts[wanted.count]
        counts = try Buffer(zeros: wanted.count, for: "scores")
        tokens = try Buffer(count: total, for: "scores")
        scores = try Buffer(count: total, for: "scores")
        tokenStarts = try Buffer(count: count + 1, for: "scores")
        byToken = try Buffer(count: total, for: "scores")
    }

    /// How many scores of a latent are kept.
    func room(_ latent: Int) -> Int { starts[latent + 1] - starts[latent] }

    /// Keeps a latent's `scores` where `values` are above `cut`, as many as there is room for.
    func keep(
        _ latent: Int, _ scores: UnsafePointer<Float>, where values: UnsafePointer<Float>, above cut: Float, size: Int
    ) {
        let (first, room) = (starts[latent], room(latent))
        var kept = 0
        for token in 0..<size where values[token] > cut {
            guard kept < room else { break }
            tokens.pointer[first + kept] = Int32(truncatingIfNeeded: token)
            self.scores.pointer[first + kept] = scores[token]
            kept += 1
        }
        counts.pointer[latent] = Int32(truncatingIfNeeded: kept)
    }

    /// Puts what was kept in order of tokens too.
    func arrange() {
        let (places, size) = (tokenStarts.pointer, tokenStarts.count)
        places.update(repeating: 0, count: size)
        forEach { token, _, _ in places[token + 1] += 1 }
        for token in 1..<size { places[token] += places[token - 1] }
        // Filling moves each start to the next one's; afterwards they are moved back.
        forEach { token, latent, score in
            byToken.pointer[places[token]] = Entry(latent: Int32(truncatingIfNeeded: latent), score: score)
            places[token] += 1
        }
        for token in stride(from: size - 1, to: 0, by: -1) { places[token] = places[token - 1] }
        places[0] = 0
    }

    private func forEach(_ body: (_ token: Int, _ latent: Int, _ score: Float) -> Void) {
        for latent in 0..<starts.count - 1 {
            for entry in starts[latent]..<starts[latent] + Int(counts.pointer[latent]) {
                body(Int(tokens.pointer[entry]), latent, scores.pointer[entry])
            }
        }
    }

    /// A latent's scores less their tokens' bars.
    ///
    /// - Returns: how many there are.
    func values(_ latent: Int, less bars: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>) -> Int {
        let (first, count) = (starts[latent], Int(counts.pointer[latent]))
        for slot in 0..<count {
            target[slot] = scores.pointer[first + slot] - bars[Int(tokens.pointer[first + slot])]
        }
        return count
    }

    /// The scores of a token.
    func entries(_ token: Int) -> UnsafeBufferPointer<Entry> {
        let start = tokenStarts.pointer[token]
        return UnsafeBufferPointer(
            start: byToken.pointer + start, count: tokenStarts.pointer[token + 1] - start)
    }
}
