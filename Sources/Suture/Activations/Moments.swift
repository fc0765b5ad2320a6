// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Means and second moments of paired activations of model A and model B, gathered in one pass:
/// all that a stitch needs to know of its data (arXiv 2506.06609, eq. 1–3, depend on nothing else).
///
/// Both sides are kept as one vector `[h_A, h_B]` of d = d_a + d_b coordinates: its mean, and the
/// sum over tokens of the products of its centred coordinates. Memory: 8 d² bytes, whatever the
/// number of tokens.
///
/// A value: copies are independent, and share their memory until one of them changes.
public struct Moments: Sendable {
    public let dA: Int
    public let dB: Int
    /// Pairs of rows that count: all that were seen, less those beyond a bound on their norm.
    public private(set) var tokens: UInt64 = 0
    /// (1, d)
    private(set) var mean: DoubleMatrix
    /// (d, d), upper triangle: sum of (x - mean)ᵀ (x - mean).
    private(set) var scatter: DoubleMatrix
    /// Bounds on the norms, and what is known of the norms of all rows seen.
    var norms = PairNorms()

    /// Moments of no tokens yet, and without a bound on their norms; see `setNormBounds`.
    ///
    /// - Throws: `invalidArgument` unless both are at least 1; `outOfMemory`.
    public init(dA: Int, dB: Int) throws {
        for (name, value) in [("d_a", dA), ("d_b", dB)] where value < 1 || value > Self.widthLimit {
            throw SutureError.invalidArgument("\(name) is \(value), expected 1 to \(Self.widthLimit)")
        }
        self.dA = dA
        self.dB = dB
        mean = try DoubleMatrix(rows: 1, cols: dA + dB)
        scatter = try DoubleMatrix(rows: dA + dB, cols: dA + dB)
    }

    /// - Precondition: shapes fit; for readers of stored moments.
    init(dA: Int, dB: Int, tokens: UInt64, mean: DoubleMatrix, scatter: DoubleMatrix, norms: PairNorms) {
        self.dA = dA
        self.dB = dB
        self.tokens = tokens
        self.mean = mean
        self.scatter = scatter
        self.norms = norms
    }

    /// Most coordinates a side: two of them still fit BLAS' indices.
    static let widthLimit = Int(Int32.max) / 2

    var width: Int { dA + dB }

    /// Adds the tokens of `other` (Chan, Golub & LeVeque 1983): the same as if one pass had seen
    /// both, up to rounding.
    ///
    /// - Throws: `invalidArgument` if the widths differ, or the bounds on the norms (but see
    ///   `setNormBounds` for estimated ones); then nothing has changed.
    public mutating func merge(_ other: Moments) throws {
        guard other.dA == dA, other.dB == dB else {
            throw SutureError.invalidArgument(
                "other has d_a = \(other.dA), d_b = \(other.dB), expected d_a = \(dA), d_b = \(dB)")
        }
        // Moments without rows and without bounds are nothing yet.
        if other.seen == 0, other.norms.origin == .none { return }
        if seen == 0, norms.origin == .none {
            self = other
            return
        }
        let bounds = try mergedBounds(other)
        try checkCount(adding: other.seen)
        if other.tokens == 0 {
            norms.merge(other.norms)
        } else if tokens == 0 {
            var taken = other
            taken.norms = norms
            taken.norms.merge(other.norms)
            self = taken
        } else {
            let merged = Moments(
                dA: dA, dB: dB, tokens: tokens, mean: try mean.copy(), scatter: try scatter.copy(), norms: norms)
            self = try merged.absorbing(other, progress: .none)
        }
        (norms.a.bound, norms.b.bound, norms.origin) = bounds
    }

    /// The bounds of these moments and `other` together.
    private func mergedBounds(_ other: Moments) throws -> (a: Double, b: Double, origin: PairNorms.Origin) {
        let (mine, theirs) = (norms, other.norms)
        let origin = mine.origin == .estimated && theirs.origin == .estimated ? mine.origin : .given
        if mine.a.bound == theirs.a.bound, mine.b.bound == theirs.b.bound {
            return (mine.a.bound, mine.b.bound, mine.origin == theirs.origin ? mine.origin : origin)
        }
        let smaller = (a: min(mine.a.bound, theirs.a.bound), b: min(mine.b.bound, theirs.b.bound))
        let isSame = [mine, theirs].allSatisfy { $0.a.largest <= smaller.a && $0.b.largest <= smaller.b }
        guard origin == .estimated, isSame else {
            func text(_ norms: PairNorms) -> String {
                "norm_bound_a = \(norms.a.bound), norm_bound_b = \(norms.b.bound)"
            }
            throw SutureError.invalidArgument(
                "other has \(text(theirs)), expected \(text(mine)): parts of the data need the same bounds, computed once and given to all"
            )
        }
        return (smaller.a, smaller.b, origin)
    }

    /// Pairs of rows seen, those left out included.
    private var seen: UInt64 { tokens + leftOut }

    func checkCount(adding count: UInt64) throws {
        // Beyond 2^53 a count is not exact in float64.
        let seen = seen
        guard seen < 1 << 53, count < 1 << 53, seen + count < 1 << 53 else {
            throw SutureError.invalidArgument("\(seen) and \(count) tokens together are more than 2^53")
        }
    }

    /// Merges `other` into the memory of these moments, which the caller must own, and returns them
    /// with the new count. Cancelled, that memory is worthless.
    func absorbing(_ other: Moments, progress: Progress) throws -> Moments {
        let (count, added) = (Double(tokens), Double(other.tokens))
        let share = added / (count + added)
        let width = self.width
        let difference = try DoubleMatrix(rows: 1, cols: width)
        for i in 0..<width { difference.pointer[i] = other.mean.pointer[i] - mean.pointer[i] }
        let (scatter, source) = (scatter, other.scatter)
        let rowsPerTask = max(1, 1_000_000 / width)
        try BLAS.singleThreaded {
            try parallelFor((width + rowsPerTask - 1) / rowsPerTask, progress: progress) { task in
                for i in task * rowsPerTask..<min((task + 1) * rowsPerTask, width) {
                    let (row, length) = (scatter.pointer + i * width + i, width - i)
                    BLAS.axpy(length, 1, source.pointer + i * width + i, into: row)
                    BLAS.axpy(length, count * share * difference.pointer[i], difference.pointer + i, into: row)
                }
            }
        }
        for i in 0..<width { mean.pointer[i] += share * difference.pointer[i] }
        var together = norms
        together.merge(other.norms)
        return Moments(
            dA: dA, dB: dB, tokens: tokens + other.tokens, mean: mean, scatter: scatter, norms: together)
    }

    // MARK: Reading

    /// One of the three covariance matrices.
    public enum Block: Sendable {
        /// (d_a, d_a)
        case aa
        /// (d_a, d_b)
        case ab
        /// (d_b, d_b)
        case bb
    }

    /// Writes the d_a means of model A; zeros before any token.
    public func readMeanA(into target: UnsafeMutablePointer<Double>) { target.update(from: mean.pointer, count: dA) }

    /// Writes the d_b means of model B; zeros before any token.
    public func readMeanB(into target: UnsafeMutablePointer<Double>) {
        target.update(from: mean.pointer + dA, count: dB)
    }

    /// Both, as arrays.
    var means: (a: [Double], b: [Double]) {
        let all = mean.elements
        return (Array(all[..<dA]), Array(all[dA...]))
    }

    /// - Throws: `invalidArgument` if fewer than `least` pairs of rows count.
    public func requireTokens(_ least: UInt64 = 1, _ name: String = "moments") throws {
        guard tokens < least else { return }
        guard leftOut > 0 else {
            throw SutureError.invalidArgument(
                "\(name) has seen \(least == 1 ? "no" : "\(tokens)") tokens, expected at least \(least)")
        }
        throw SutureError.invalidArgument(
            "\(name) counts \(tokens) of \(seen) tokens, expected at least \(least): the others are beyond norm_bound_a = \(norms.a.bound) or norm_bound_b = \(norms.b.bound)"
        )
    }

    /// Shape of a block.
    func shape(_ block: Block) -> (rows: Int, cols: Int) {
        switch block {
        case .aa: return (dA, dA)
        case .ab: return (dA, dB)
        case .bb: return (dB, dB)
        }
    }

    /// Writes a covariance (divided by the number of tokens), whole, row-major, to `target`.
    ///
    /// - Throws: `invalidArgument` if no token has been seen.
    public func readCovariance(_ block: Block, into target: UnsafeMutablePointer<Double>) throws {
        try requireTokens()
        let (rows, cols) = shape(block)
        let (top, left) = (block == .bb ? dA : 0, block == .aa ? 0 : dA)
        let scale = 1 / Double(tokens)
        for i in 0..<rows {
            let source = scatter.pointer + (top + i) * width + left
            let first = block == .ab ? 0 : i
            for j in first..<cols { target[i * cols + j] = scale * source[j] }
        }
        if block != .ab {
            // The lower triangle, in blocks that stay in cache.
            for rowBlock in stride(from: 0, to: rows, by: 64) {
                for colBlock in stride(from: 0, through: rowBlock, by: 64) {
                    for i in rowBlock..<min(rowBlock + 64, rows) {
                        for j in colBlock..<min(colBlock + 64, i) { target[i * cols + j] = target[j * cols + i] }
                    }
                }
            }
        }
    }

    /// A covariance as a matrix of its own.
    public func covariance(_ block: Block) throws -> DoubleMatrix {
        let (rows, cols) = shape(block)
        let result = try DoubleMatrix(rows: rows, cols: cols)
        try readCovariance(block, into: result.pointer)
        return result
    }
}
