// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import Synchronization

/// For each latent of one SAE the latent of another, of any width, whose activations correlate most
/// with its own on paired rows: how alike two SAEs are at best, a scale for `Fidelity`.
///
/// The largest of thousands of correlations flatters, so half of the rows choose and the others judge:
/// blocks of 64 rows take turns, in the order in which they come. Pearson's correlation over all rows of
/// a half, in float64.
///
/// Only latents that fire on a row together are looked at, and no table of all pairs of latents is made:
/// the codes are kept, 8 bytes a slot, and looking at them takes 16 bytes more for each time that a
/// latent of A fires. Which is the same for any number of latents: with 32 slots on both sides, 1 kB a
/// row. The bits depend neither on threads nor on how rows are cut into calls.
public struct BestMatches: Sendable {
    /// So many rows in a row choose, then as many judge.
    public static let blockRows = 64

    public let dSAEA: Int
    public let dSAEB: Int
    /// Pairs of rows seen.
    public private(set) var rows = 0
    private var codesA: [SparseCodes] = []
    private var codesB: [SparseCodes] = []

    /// - Throws: `invalidArgument` for a size out of range.
    public init(dSAEA: Int, dSAEB: Int) throws {
        for (name, size) in [("d_sae_a", dSAEA), ("d_sae_b", dSAEB)] where size < 1 || size > Int(Int32.max) {
            throw SutureError.invalidArgument("\(name) is \(size), expected 1 to \(Int32.max)")
        }
        self.dSAEA = dSAEA
        self.dSAEB = dSAEB
    }

    /// Adds rows: row t of both codes belongs to the same token, or to tokens that end at the same place.
    ///
    /// - Throws: `invalidArgument` for codes of another d_sae or unequal numbers of rows. Then nothing has
    ///   changed.
    public mutating func update(a: SparseCodes, b: SparseCodes) throws {
        for (name, codes, dSAE) in [("codes_a", a, dSAEA), ("codes_b", b, dSAEB)] where codes.dSAE != dSAE {
            throw SutureError.invalidArgument("\(name) has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        guard b.rows == a.rows else {
            throw SutureError.invalidArgument("codes_b has \(b.rows) rows, expected \(a.rows) as codes_a")
        }
        guard a.rows <= Int(UInt32.max), a.rows < Int.max - rows, codesA.count < Int(Int32.max) else {
            throw SutureError.invalidArgument("\(rows) and \(a.rows) rows together are more than can be counted")
        }
        guard a.rows > 0 else { return }
        codesA.append(a)
        codesB.append(b)
        rows += a.rows
    }

    /// What was found.
    public struct Found: Sendable {
        /// For each latent of A that of B, and the other way round; -1 where none correlates above 0.
        public var matches: [Int64]
        public var matchesB: [Int64]
        /// On the rows that judge; NaN where there is no match, or a side does not vary there.
        public var correlations: [Double]
        /// On the rows that chose: flattering.
        public var chosen: [Double]
        /// On the rows that judge, with the match's activations on other rows.
        public var controls: [Double]
        /// Rows on which each latent of A fires.
        public var activeTokens: [UInt64]
        public var summary: Summary
    }

    /// All latents in a few numbers.
    public struct Summary: Sendable, Equatable {
        public var rows = 0
        /// Latents that fire at least `minimum` times in A: those that are judged.
        public var judged = 0
        /// Latents that fire in A, but more rarely.
        public var rare = 0
        /// Judged latents without a match, which count as 0.
        public var unmatched = 0
        /// Judged latents that are their match's match.
        public var mutual = 0
        /// Quartiles over judged latents; NaN where there are none.
        public var correlation = Fidelity.Quartiles()
        public var chosen = Fidelity.Quartiles()
        public var control = Fidelity.Quartiles()
        /// Share of A's active latents, over the rows that judge, whose match is active too: of all latents.
        public var shareActive = Double.nan
    }

    /// Chooses and judges. Latents that fire at least `minimum` times in A, on all rows, are judged.
    ///
    /// - Throws: `invalidArgument` if `minimum` is below 1, or there are too few rows for both halves;
    ///   `cancelled`; `outOfMemory`.
    public func find(minimum: Int = 10, progress: Progress = .none) throws -> Found {
        guard minimum >= 1 else {
            throw SutureError.invalidArgument("min_count is \(minimum), expected at least 1")
        }
        guard rows >= 2 * Self.blockRows else {
            throw SutureError.invalidArgument(
                "matches has \(rows) pairs of rows, expected at least \(2 * Self.blockRows): blocks of "
                    + "\(Self.blockRows) rows choose and judge in turns")
        }
        let search = try MatchSearch(a: codesA, b: codesB, dSAEA: dSAEA, dSAEB: dSAEB, rows: rows)
        // Many, so that progress is told often.
        let tasks = min(dSAEA, 1024)
        let latents = (dSAEA + tasks - 1) / tasks
        let dSAEA = dSAEA
        try parallelFor(tasks, progress: progress.inRows(rows, of: (rows + tasks - 1) / tasks)) { task in
            let low = min(task * latents, dSAEA)
            try search.run(low..<min(low + latents, dSAEA))
        }
        try progress.report(rows, of: rows)
        return found(search, minimum: minimum)
    }

    private func found(_ search: MatchSearch, minimum: Int) -> Found {
        let matchesB = search.matchesB()
        let results = (0..<dSAEA).map { search.results.pointer[$0] }
        var summary = Summary()
        summary.rows = rows
        var correlations: [Double] = [], chosen: [Double] = [], controls: [Double] = []
        var (active, shared) = (UInt64(0), UInt64(0))
        for (latent, result) in results.enumerated() {
            active += result.judgedActive
            shared += result.judgedShared
            guard result.active >= UInt64(minimum) else {
                if result.active > 0 { summary.rare += 1 }
                continue
            }
            summary.judged += 1
            if result.match < 0 { summary.unmatched += 1 }
            if result.match >= 0, matchesB[Int(result.match)] == Int64(latent) { summary.mutual += 1 }
            func known(_ value: Double) -> Double { value.isNaN ? 0 : value }
            correlations.append(known(result.correlation))
            chosen.append(known(result.chosen))
            controls.append(known(result.control))
        }
        summary.correlation = .init(of: correlations)
        summary.chosen = .init(of: chosen)
        summary.control = .init(of: controls)
        if active > 0 { summary.shareActive = Double(shared) / Double(active) }
        return Found(
            matches: results.map { Int64($0.match) }, matchesB: matchesB, correlations: results.map(\.correlation),
            chosen: results.map(\.chosen), controls: results.map(\.control), activeTokens: results.map(\.active),
            summary: summary)
    }
}

/// What is found of one latent of A.
private struct LatentMatch: BitwiseCopyable {
    var match: Int32
    var chosen: Double
    var correlation: Double
    var control: Double
    /// Rows on which it fires: all, those that judge, and of these those on which the match fires.
    var active: UInt64
    var judgedActive: UInt64
    var judgedShared: UInt64
}

/// Sums of one latent's activations over the rows of a half.
private struct HalfSums: BitwiseCopyable {
    var sum = 0.0
    var square = 0.0

    mutating func add(_ value: Double) {
        sum += value
        square += value * value
    }

    /// The sum of squares about the mean of `rows` rows; 0 where it is nothing but rounding.
    func variation(_ rows: Int) -> Double {
        let about = square - sum * sum / Double(rows)
        return about > 1e-12 * square ? about : 0
    }

    /// Pearson's, NaN where a side does not vary.
    func correlation(_ other: HalfSums, product: Double, rows: Int) -> Double {
        let spread = (variation(rows) * other.variation(rows)).squareRoot()
        guard spread > 0 else { return .nan }
        return max(-1, min(1, (product - sum * other.sum / Double(rows)) / spread))
    }
}

/// The search through codes that are all there.
private final class MatchSearch: Sendable {
    let results: Buffer<LatentMatch>
    private let dSAEB: Int
    private let codesB: [SparseCodes]
    private let firings: FiringsByLatent
    /// The row that each piece of codes begins with.
    private let starts: [Int]
    private let (choosing, judging): (Int, Int)
    /// For each latent of B, its sums over the rows that choose and those that judge.
    private let choosingB: Buffer<HalfSums>
    private let judgingB: Buffer<HalfSums>
    /// For each latent of B, the best of A so far.
    private let bestB: Mutex<[(correlation: Double, latent: Int32)]>

    init(a: [SparseCodes], b: [SparseCodes], dSAEA: Int, dSAEB: Int, rows: Int) throws {
        let block = BestMatches.blockRows
        self.dSAEB = dSAEB
        codesB = b
        var starts = [0]
        for codes in b { starts.append(starts[starts.count - 1] + codes.rows) }
        self.starts = starts
        judging = rows / (2 * block) * block + max(0, rows % (2 * block) - block)
        choosing = rows - judging
        firings = try FiringsByLatent(a, dSAE: dSAEA)
        results = try Buffer(count: dSAEA, for: "matches")
        choosingB = try Buffer(zeros: dSAEB, for: "matches")
        judgingB = try Buffer(zeros: dSAEB, for: "matches")
        bestB = Mutex(Array(repeating: (0, -1), count: dSAEB))
        for (piece, codes) in b.enumerated() {
            for row in 0..<codes.rows {
                let sums = Self.judges(starts[piece] + row) ? judgingB : choosingB
                let first = row * codes.width
                for slot in first..<first + Int(codes.counts[row]) {
                    sums.pointer[Int(codes.indices[slot])].add(Double(codes.values[slot]))
                }
            }
        }
    }

    private static func judges(_ row: Int) -> Bool { row / BestMatches.blockRows % 2 == 1 }

    /// The row of B that goes with a judging row as a control: half of the judging rows further on.
    private func controlRow(_ row: Int) -> (piece: Int, row: Int) {
        let block = BestMatches.blockRows
        let place = (row / (2 * block) * block + row % block + judging / 2) % judging
        let other = place / block * 2 * block + block + place % block
        var (low, high) = (0, starts.count - 1)
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= other { low = middle } else { high = middle }
        }
        return (low, other - starts[low])
    }

    /// Finds the matches of some latents of A.
    func run(_ latents: Range<Int>) throws {
        let products = try Buffer<Double>(count: dSAEB, for: "matches")
        // The latent of A that a product belongs to, plus 1; and which products there are.
        let owner = try Buffer<Int32>(zeros: dSAEB, for: "matches")
        let touched = try Buffer<Int32>(count: dSAEB, for: "matches")
        let best = try Buffer<Double>(zeros: dSAEB, for: "matches")
        let bestLatent = try Buffer<Int32>(count: dSAEB, for: "matches")
        for latent in latents {
            var (choosingA, judgingA) = (HalfSums(), HalfSums())
            var (count, fired) = (0, UInt64(0))
            let entries = firings.range(latent)
            let mark = Int32(truncatingIfNeeded: latent + 1)
            for entry in entries {
                let value = firings.values.pointer[entry]
                let (piece, row) = firings.token(entry)
                guard !Self.judges(starts[piece] + row) else {
                    judgingA.add(value)
                    fired += 1
                    continue
                }
                choosingA.add(value)
                let codes = codesB[piece]
                let (indices, values) = (codes.indices + row * codes.width, codes.values + row * codes.width)
                for slot in 0..<Int(codes.counts[row]) {
                    let other = Int(indices[slot])
                    let product = value * Double(values[slot])
                    if owner.pointer[other] == mark {
                        products.pointer[other] += product
                    } else {
                        owner.pointer[other] = mark
                        products.pointer[other] = product
                        touched.pointer[count] = indices[slot]
                        count += 1
                    }
                }
            }
            var (match, chosen) = (Int32(-1), 0.0)
            for index in 0..<count {
                let other = Int(touched.pointer[index])
                let found = choosingA.correlation(
                    choosingB.pointer[other], product: products.pointer[other], rows: choosing)
                // NaN is neither greater nor equal. Of equal ones the lowest latent, on both sides.
                if found > chosen || (found == chosen && match >= 0 && other < Int(match)) {
                    (match, chosen) = (Int32(truncatingIfNeeded: other), found)
                }
                if found > best.pointer[other] {
                    best.pointer[other] = found
                    bestLatent.pointer[other] = Int32(truncatingIfNeeded: latent)
                }
            }
            var result = LatentMatch(
                match: match, chosen: match < 0 ? .nan : chosen, correlation: .nan, control: .nan,
                active: UInt64(entries.count), judgedActive: fired, judgedShared: 0)
            if match >= 0 { judge(&result, entries, judgingA) }
            results.pointer[latent] = result
        }
        bestB.withLock { found in
            for latent in 0..<dSAEB where best.pointer[latent] > 0 {
                let mine = (correlation: best.pointer[latent], latent: bestLatent.pointer[latent])
                let other = found[latent]
                if mine.correlation > other.correlation
                    || (mine.correlation == other.correlation && mine.latent < other.latent)
                {
                    found[latent] = mine
                }
            }
        }
    }

    private func judge(_ result: inout LatentMatch, _ entries: Range<Int>, _ sums: HalfSums) {
        var (product, control) = (0.0, 0.0)
        func activation(_ piece: Int, _ row: Int) -> Double? {
            let codes = codesB[piece]
            let first = row * codes.width
            for slot in first..<first + Int(codes.counts[row]) where codes.indices[slot] == result.match {
                return Double(codes.values[slot])
            }
            return nil
        }
        for entry in entries {
            let (piece, row) = firings.token(entry)
            let global = starts[piece] + row
            guard Self.judges(global) else { continue }
            let value = firings.values.pointer[entry]
            if let other = activation(piece, row) {
                product += value * other
                result.judgedShared += 1
            }
            let (controlPiece, controlRow) = controlRow(global)
            if let other = activation(controlPiece, controlRow) { control += value * other }
        }
        let sumsB = judgingB.pointer[Int(result.match)]
        result.correlation = sums.correlation(sumsB, product: product, rows: judging)
        result.control = sums.correlation(sumsB, product: control, rows: judging)
    }

    /// For each latent of B the best of A.
    func matchesB() -> [Int64] { bestB.withLock { $0.map { Int64($0.latent) } } }
}
