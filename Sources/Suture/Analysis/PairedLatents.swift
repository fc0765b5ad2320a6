// SPDX-License-Identifier: Apache-2.0

/// Moments of pairs over the tokens on which either side is active.
struct PairMoments: BitwiseCopyable {
    var count: UInt64
    var activeA: UInt64
    var activeB: UInt64
    var meanX: Double
    var meanY: Double
    /// Sums of squares and products about the means.
    var xx: Double
    var yy: Double
    var xy: Double

    /// A token on which a side, or both, is active.
    mutating func count(_ x: Double?, _ y: Double?) {
        if x != nil { activeA += 1 }
        if y != nil { activeB += 1 }
        add(x ?? 0, y ?? 0)
    }

    private mutating func add(_ x: Double, _ y: Double) {
        count += 1
        let n = Double(count)
        let (dx, dy) = (x - meanX, y - meanY)
        meanX += dx / n
        meanY += dy / n
        xx += dx * (x - meanX)
        yy += dy * (y - meanY)
        xy += dx * (y - meanY)
    }

    /// As Chan, Golub & LeVeque (1983).
    mutating func merge(_ other: PairMoments) {
        guard other.count > 0 else { return }
        let (n, m) = (Double(count), Double(other.count))
        let (dx, dy, weight) = (other.meanX - meanX, other.meanY - meanY, n * m / (n + m))
        xx += other.xx + dx * dx * weight
        yy += other.yy + dy * dy * weight
        xy += other.xy + dx * dy * weight
        meanX += dx * (m / (n + m))
        meanY += dy * (m / (n + m))
        count += other.count
        activeA += other.activeA
        activeB += other.activeB
    }

    /// Tokens on which both are active.
    var activeBoth: UInt64 { activeA + activeB - count }

    /// With the other tokens, which are pairs of zeros.
    func overAll(tokens: Int) -> PairMoments {
        var all = self
        let zeros = PairMoments(
            count: UInt64(tokens) - count, activeA: 0, activeB: 0, meanX: 0, meanY: 0, xx: 0, yy: 0, xy: 0)
        all.merge(zeros)
        return all
    }

    /// Pearson's, over all tokens; NaN where a side never varies.
    func correlation(tokens: Int) -> Double {
        let all = overAll(tokens: tokens)
        guard all.xx > 0, all.yy > 0 else { return .nan }
        return max(-1, min(1, all.xy / (all.xx.squareRoot() * all.yy.squareRoot())))
    }
}

/// The latents that one task looks at, in two codes of the same tokens.
struct PairedLatents {
    /// Latents are dealt out to so many tasks, whatever the number of threads.
    static let ranges = 8

    let low: Int
    let high: Int
    /// Of side A: the token a latent was last active in and not yet paired, and its slot there.
    private let pending: Buffer<Int>
    private let slots: Buffer<Int32>

    init(low: Int, high: Int) throws {
        self.low = low
        self.high = max(low, high)
        pending = try Buffer(count: self.high - low, for: "pairs of latents")
        slots = try Buffer(count: self.high - low, for: "pairs of latents")
        pending.pointer.update(repeating: -1, count: self.high - low)
    }

    /// Calls `body` once for each latent of the range that is active in row `rowA` of `codesA` or row
    /// `rowB` of `codesB`, with what `valueA` and `valueB` say of its slot there; nil where it is not
    /// active.
    @inline(__always)
    func forEach(
        _ codesA: SparseCodes, _ rowA: Int, _ valueA: (_ slot: Int) -> Double, _ codesB: SparseCodes, _ rowB: Int,
        _ valueB: (_ slot: Int) -> Double, _ body: (_ latent: Int, _ a: Double?, _ b: Double?) -> Void
    ) {
        let indicesA = codesA.indices + rowA * codesA.width
        let indicesB = codesB.indices + rowB * codesB.width
        let (countA, countB) = (Int(codesA.counts[rowA]), Int(codesB.counts[rowB]))
        for slot in 0..<countA {
            let latent = Int(indicesA[slot])
            guard latent >= low, latent < high else { continue }
            pending.pointer[latent - low] = rowA
            slots.pointer[latent - low] = Int32(truncatingIfNeeded: slot)
        }
        for slot in 0..<countB {
            let latent = Int(indicesB[slot])
            guard latent >= low, latent < high else { continue }
            let both = pending.pointer[latent - low] == rowA
            pending.pointer[latent - low] = -1
            body(latent, both ? valueA(Int(slots.pointer[latent - low])) : nil, valueB(slot))
        }
        for slot in 0..<countA {
            let latent = Int(indicesA[slot])
            guard latent >= low, latent < high, pending.pointer[latent - low] == rowA else { continue }
            pending.pointer[latent - low] = -1
            body(latent, valueA(slot), nil)
        }
    }
}
