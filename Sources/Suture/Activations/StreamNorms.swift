// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// What moments know of the norms of one stream's rows.
struct StreamNorms: Sendable, Equatable {
    /// Rows beyond this norm do not count.
    var bound = Double.infinity
    /// Of the pairs that count.
    var histogram = NormHistogram()
    /// Largest norm of a row that counts.
    var largest = 0.0
    /// Rows beyond the bound, and the sum of their squared norms.
    var beyond: UInt64 = 0
    var squaresBeyond = 0.0

    mutating func count(norm: Double, square: Double) {
        histogram.add(norm: norm, square: square)
        largest = max(largest, norm)
    }

    mutating func leaveOut(square: Double) {
        beyond += 1
        squaresBeyond += square
    }

    /// Adds the rows of `other`; the bound stays.
    mutating func merge(_ other: StreamNorms) {
        histogram.merge(other.histogram)
        largest = max(largest, other.largest)
        beyond += other.beyond
        squaresBeyond += other.squaresBeyond
    }
}

/// Which pairs count, and what is known of those that do not.
struct PairNorms: Sendable, Equatable {
    typealias Origin = Moments.BoundsOrigin

    var origin = Origin.none
    var a = StreamNorms()
    var b = StreamNorms()
    /// Pairs of which a row is beyond its bound.
    var leftOut: UInt64 = 0

    var hasBounds: Bool { a.bound < .infinity || b.bound < .infinity }

    /// Takes one pair of rows into account, and says whether it counts.
    mutating func take(squareA: Double, squareB: Double) -> Bool {
        let (normA, normB) = (squareA.squareRoot(), squareB.squareRoot())
        let (isBeyondA, isBeyondB) = (normA > a.bound, normB > b.bound)
        guard isBeyondA || isBeyondB else {
            a.count(norm: normA, square: squareA)
            b.count(norm: normB, square: squareB)
            return true
        }
        leftOut += 1
        if isBeyondA { a.leaveOut(square: squareA) }
        if isBeyondB { b.leaveOut(square: squareB) }
        return false
    }

    /// Adds the pairs of `other`; bounds and their origin stay.
    mutating func merge(_ other: PairNorms) {
        a.merge(other.a)
        b.merge(other.b)
        leftOut += other.leftOut
    }

    /// The same bounds, and no rows.
    var emptied: PairNorms {
        var result = PairNorms()
        (result.origin, result.a.bound, result.b.bound) = (origin, a.bound, b.bound)
        return result
    }
}

extension Moments {
    /// Who chose the bounds on the norms.
    public enum BoundsOrigin: UInt64, Sendable {
        /// Nobody: there are none.
        case none = 0
        /// They are estimates from the first rows of these very moments. Others may have other ones.
        case estimated = 1
        /// The caller, for all parts of the data alike.
        case given = 2
    }

    /// What is known of the norms of one stream's rows.
    public struct NormReport: Sendable, Equatable {
        /// Rows beyond this norm do not count; infinity where there is no bound.
        public var bound = Double.infinity
        /// Rows beyond it. A pair is left out with either of its rows, so this is at most `leftOut`.
        public var beyond: UInt64 = 0
        /// Their share of the sum of squared norms of all rows but those left out with their partner.
        public var shareBeyond = 0.0
        /// Of the rows that count: the median norm (to 3 %, zeros left out) and the largest one; 0
        /// where they are not known.
        public var median = 0.0
        public var largest = 0.0
        /// Of the rows that count, those of more than `massiveMultiple` times the median norm, and
        /// which share of the variance is theirs at least.
        public var massive: UInt64 = 0
        public var massiveShare = 0.0

        /// Less than one row in twenty, with more than a quarter of the variance.
        func isCarriedByFew(of tokens: UInt64) -> Bool {
            massive > 0 && massive < tokens / 20 && massiveShare > 0.25
        }
    }

    /// Rows are called massive if their norm is more than so many times the median of their stream.
    public static let massiveMultiple = 5.0

    /// Pairs of rows that were left out, for the norm of a row of theirs.
    public var leftOut: UInt64 { norms.leftOut }

    /// The bounds on the norms; infinity where there is none.
    public var normBounds: (a: Double, b: Double) { (norms.a.bound, norms.b.bound) }

    public var boundsOrigin: BoundsOrigin { norms.origin }

    /// Sets the bounds on the norms: rows beyond them do not count, and neither do their partners.
    ///
    /// They belong to the moments from then on: to their bytes, and to `merge`, which refuses moments
    /// with other bounds. Parts of one set of data must have the same ones: compute them once
    /// (`RowNorms.bound`), and give them to all.
    ///
    /// - Parameter estimated: whether each part has estimated bounds of its own. Such moments merge if
    ///   the smaller bounds leave out the same rows of both.
    /// - Throws: `invalidArgument` for a bound that is NaN, 0 or negative, or once rows were seen.
    public mutating func setNormBounds(a: Double, b: Double, estimated: Bool = false) throws {
        for (name, bound) in [("norm_bound_a", a), ("norm_bound_b", b)] where !(bound > 0) {
            throw SutureError.invalidArgument("\(name) is \(bound), expected a number above 0, or infinity for none")
        }
        guard tokens == 0, leftOut == 0 else {
            throw SutureError.invalidArgument(
                "moments has seen \(tokens + leftOut) tokens, expected none yet: bounds come before the first row")
        }
        norms.origin = estimated ? .estimated : .given
        (norms.a.bound, norms.b.bound) = (a, b)
    }

    /// What is known of the norms of both streams.
    public var normReports: (a: NormReport, b: NormReport) {
        func report(_ stream: StreamNorms, _ coordinates: Range<Int>) -> NormReport {
            var result = NormReport()
            result.bound = stream.bound
            result.beyond = stream.beyond
            // Version 1 of the bytes, and what was merged with it, has no norms.
            let isKnown = stream.histogram.rows == tokens && tokens > 0
            let total = stream.histogram.total + stream.squaresBeyond
            if total > 0 { result.shareBeyond = stream.squaresBeyond / total }
            guard isKnown else { return result }
            result.median = stream.histogram.median
            result.largest = stream.largest
            let centre = sumOfSquares(mean.pointer + coordinates.lowerBound, coordinates.count).squareRoot()
            let found = stream.histogram.beyond(Self.massiveMultiple * result.median, centre: centre)
            let variance = coordinates.reduce(0) { $0 + scatter[$1, $1] }
            result.massive = found.rows
            if variance > 0 { result.massiveShare = min(1, found.squares / variance) }
            return result
        }
        return (report(norms.a, 0..<dA), report(norms.b, dA..<width))
    }

    /// Whether a few rows of a stream carry much of its variance: then they decide what is fitted.
    public var isCarriedByFewRows: Bool {
        let (a, b) = normReports
        return a.isCarriedByFew(of: tokens) || b.isCarriedByFew(of: tokens)
    }
}
