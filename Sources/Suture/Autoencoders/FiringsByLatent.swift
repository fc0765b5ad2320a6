// SPDX-License-Identifier: Apache-2.0

/// The tokens on which each latent fires, and how strongly: codes, put in order of latents.
final class FiringsByLatent: Sendable {
    private let starts: [Int]
    private let tokens: Buffer<Int64>
    let values: Buffer<Double>

    /// - Parameters:
    ///   - codes: pieces of one stream of tokens, in order.
    ///   - firings: how often each latent fires in them.
    init(_ codes: [SparseCodes], firings: [Int]) throws {
        var starts = [0]
        starts.reserveCapacity(firings.count + 1)
        for count in firings { starts.append(starts[starts.count - 1] + count) }
        let active = starts[firings.count]
        tokens = try Buffer(count: active, for: "codes")
        values = try Buffer(count: active, for: "codes")
        var next = starts
        for (index, piece) in codes.enumerated() {
            for row in 0..<piece.rows {
                let first = row * piece.width
                for slot in first..<first + Int(piece.counts[row]) {
                    let latent = Int(piece.indices[slot])
                    tokens.pointer[next[latent]] = Int64(index) << 32 | Int64(row)
                    values.pointer[next[latent]] = Double(piece.values[slot])
                    next[latent] += 1
                }
            }
        }
        self.starts = starts
    }

    convenience init(_ codes: [SparseCodes], dSAE: Int) throws {
        try self.init(codes, firings: codes.firings(dSAE: dSAE))
    }

    /// The entries of a latent, tokens in order.
    func range(_ latent: Int) -> Range<Int> { starts[latent]..<starts[latent + 1] }

    /// The piece of codes that has an entry's token, and its row there.
    func token(_ entry: Int) -> (piece: Int, row: Int) {
        let packed = tokens.pointer[entry]
        return (Int(packed >> 32), Int(packed & 0xffff_ffff))
    }
}

extension [SparseCodes] {
    /// How often each of `dSAE` latents fires.
    func firings(dSAE: Int) -> [Int] {
        var firings = [Int](repeating: 0, count: dSAE)
        for codes in self {
            for row in 0..<codes.rows {
                let first = row * codes.width
                for slot in first..<first + Int(codes.counts[row]) { firings[Int(codes.indices[slot])] += 1 }
            }
        }
        return firings
    }
}
