// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Whether latent i of one SAE still is latent i of another: how their activations agree, token by
/// token, on paired rows. Made for a SAE and what was carried of it to another model; explained
/// variance does not tell this.
///
/// For every latent Pearson's correlation of activations with its standard error, and on how many
/// tokens it fires in A, in B and in both. Only what is active costs anything. Sums are in float64 and
/// in the order of the tokens, so that the bits depend neither on threads nor on how tokens are cut into
/// calls (those of the control do depend on the calls). Memory: 240 bytes a latent.
public struct Fidelity: Sendable {
    public let dSAE: Int
    /// Pairs of rows seen.
    public private(set) var rows = 0
    private var moments: Buffer<LatentFidelity>

    /// - Throws: `invalidArgument` for a size out of range; `outOfMemory`.
    public init(dSAE: Int) throws {
        guard dSAE >= 1, dSAE <= Int(Int32.max) else {
            throw SutureError.invalidArgument("d_sae is \(dSAE), expected 1 to \(Int32.max)")
        }
        self.dSAE = dSAE
        moments = try Buffer(zeros: dSAE, for: "fidelity")
    }

    /// Adds rows: row t of both codes belongs to the same token, or to tokens that end at the same place.
    ///
    /// As a control, row t of A also goes with row t + n / 2 of the n rows of this call: features of
    /// other tokens, which should agree in nothing.
    ///
    /// - Throws: `invalidArgument` for codes of another d_sae or unequal numbers of rows; `cancelled`;
    ///   `outOfMemory`. On any error nothing has changed.
    public mutating func update(a codesA: SparseCodes, b codesB: SparseCodes, progress: Progress = .none) throws {
        for (name, codes) in [("codes_a", codesA), ("codes_b", codesB)] where codes.dSAE != dSAE {
            throw SutureError.invalidArgument("\(name) has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        guard codesB.rows == codesA.rows else {
            throw SutureError.invalidArgument("codes_b has \(codesB.rows) rows, expected \(codesA.rows) as codes_a")
        }
        let count = codesA.rows
        guard count < Int.max - rows else {
            throw SutureError.invalidArgument("\(rows) and \(count) rows together are more than can be counted")
        }
        let updated = try moments.copy(for: "fidelity")
        let latents = (dSAE + PairedLatents.ranges - 1) / PairedLatents.ranges
        let (shift, dSAE) = (count / 2, dSAE)
        try parallelFor(PairedLatents.ranges, progress: progress.fixed(0, of: count)) { task in
            let low = min(task * latents, dSAE)
            let range = try PairedLatents(low: low, high: min(low + latents, dSAE))
            for row in 0..<count {
                let slotsA = codesA.values + row * codesA.width
                func pair(_ other: Int, _ body: (Int, Double?, Double?) -> Void) {
                    let slotsB = codesB.values + other * codesB.width
                    range.forEach(codesA, row, { Double(slotsA[$0]) }, codesB, other, { Double(slotsB[$0]) }, body)
                }
                pair(row) { updated.pointer[$0].add($1, $2) }
                if shift > 0 { pair((row + shift) % count) { updated.pointer[$0].control.count($1, $2) } }
            }
        }
        try progress.report(count, of: count)
        moments = updated
        rows += count
    }

    /// Adds the rows that `other` has seen, as if one pass had seen both, up to rounding.
    ///
    /// - Throws: `invalidArgument` if the sizes differ.
    public mutating func merge(_ other: Fidelity) throws {
        guard other.dSAE == dSAE else {
            throw SutureError.invalidArgument("other has d_sae = \(other.dSAE), expected \(dSAE)")
        }
        guard other.rows < Int.max - rows else {
            throw SutureError.invalidArgument("\(rows) and \(other.rows) rows together are more than can be counted")
        }
        let merged = try moments.copy(for: "fidelity")
        for latent in 0..<dSAE { merged.pointer[latent].merge(other.moments.pointer[latent]) }
        moments = merged
        rows += other.rows
    }

    // MARK: Reading

    /// Pearson's correlation of each latent's activations in A and B; NaN where a side never varies.
    public func correlations() -> [Double] { each { $0.pairs.correlation(tokens: rows) } }

    /// Standard errors of the correlations, by the delta method, tokens taken as independent; NaN where
    /// there is no correlation.
    public func standardErrors() -> [Double] { each { $0.standardError(tokens: rows) } }

    /// Correlations with other tokens.
    public func controls() -> [Double] { each { $0.control.correlation(tokens: rows) } }

    /// Tokens on which each latent fires in A, in B and in both.
    public func activeTokens() -> (a: [UInt64], b: [UInt64], both: [UInt64]) {
        (each { $0.pairs.activeA }, each { $0.pairs.activeB }, each { $0.pairs.activeBoth })
    }

    private func each<Value>(_ body: (LatentFidelity) -> Value) -> [Value] {
        (0..<dSAE).map { body(moments.pointer[$0]) }
    }

    /// All latents in a few numbers.
    public struct Summary: Sendable, Equatable {
        /// Latents that fire at least `minimum` times in A: those that are judged.
        public var judged = 0
        /// Latents that fire in A, but more rarely.
        public var rare = 0
        /// Judged latents that never fire in B, whose correlation and F1 count as 0.
        public var silent = 0
        /// Quartiles over judged latents; NaN where there are none.
        public var correlation = Quartiles()
        public var f1 = Quartiles()
        /// Correlations with other tokens.
        public var control = Quartiles()
        /// Share of A's active latents, over tokens, that are active in B too: of all latents.
        public var shareActive = Double.nan
    }

    public struct Quartiles: Sendable, Equatable {
        public var lower = Double.nan
        public var median = Double.nan
        public var upper = Double.nan

        init() {}

        /// With linear interpolation between order statistics.
        init(of values: [Double]) {
            let sorted = values.sorted()
            guard !sorted.isEmpty else { return }
            func quantile(_ share: Double) -> Double {
                let place = share * Double(sorted.count - 1)
                let index = min(Int(place), sorted.count - 1)
                let next = min(index + 1, sorted.count - 1)
                return sorted[index] + (place - Double(index)) * (sorted[next] - sorted[index])
            }
            (lower, median, upper) = (quantile(0.25), quantile(0.5), quantile(0.75))
        }
    }

    /// One rule for all tables: latents that fire at least `minimum` times in A are judged, and one that
    /// does not vary in B counts as 0, so that dropping latents never helps.
    ///
    /// - Throws: `invalidArgument` if `minimum` is below 1.
    public func summary(minimum: Int = 10) throws -> Summary {
        guard minimum >= 1 else {
            throw SutureError.invalidArgument("min_count is \(minimum), expected at least 1")
        }
        var result = Summary()
        var correlations: [Double] = [], f1: [Double] = [], controls: [Double] = []
        var (active, shared) = (UInt64(0), UInt64(0))
        for latent in each({ $0 }) {
            let pairs = latent.pairs
            active += pairs.activeA
            shared += pairs.activeBoth
            guard pairs.activeA >= UInt64(minimum) else {
                if pairs.activeA > 0 { result.rare += 1 }
                continue
            }
            result.judged += 1
            if pairs.activeB == 0 { result.silent += 1 }
            func known(_ value: Double) -> Double { value.isNaN ? 0 : value }
            correlations.append(known(pairs.correlation(tokens: rows)))
            controls.append(known(latent.control.correlation(tokens: rows)))
            f1.append(2 * Double(pairs.activeBoth) / Double(pairs.activeA + pairs.activeB))
        }
        result.correlation = Quartiles(of: correlations)
        result.f1 = Quartiles(of: f1)
        result.control = Quartiles(of: controls)
        if active > 0 { result.shareActive = Double(shared) / Double(active) }
        return result
    }
}

/// What is known of one latent.
private struct LatentFidelity: BitwiseCopyable {
    var pairs: PairMoments
    var control: PairMoments
    /// Sums of xᵖ yᵠ, in the order of `powers`, over tokens on which either side is active.
    var sums: PowerSums

    mutating func add(_ x: Double?, _ y: Double?) {
        pairs.count(x, y)
        sums.add(x ?? 0, y ?? 0)
    }

    mutating func merge(_ other: LatentFidelity) {
        pairs.merge(other.pairs)
        control.merge(other.control)
        sums.merge(other.sums)
    }

    /// The correlation's influence function is psi = u v - r (u² + v²) / 2 in standardised coordinates u
    /// and v; its mean is 0, and the mean of its square over tokens, divided by their number, is the
    /// square of the standard error (Devlin, Gnanadesikan & Kettenring 1975).
    func standardError(tokens: Int) -> Double {
        let all = pairs.overAll(tokens: tokens)
        let r = pairs.correlation(tokens: tokens)
        guard !r.isNaN else { return .nan }
        let n = Double(tokens)
        let (sx, sy) = ((all.xx / n).squareRoot(), (all.yy / n).squareRoot())
        // psi as a polynomial in x and y: u = (x - mx) / sx, v = (y - my) / sy.
        let (mx, my) = (all.meanX / sx, all.meanY / sy)
        let (cx, cy) = (1 / sx, 1 / sy)
        // psi = xy cx cy - x cx my - y cy mx + mx my - r/2 (x² cx² - 2 x cx mx + mx² + y² cy² - 2 y cy my + my²)
        let psi = (
            one: mx * my - r / 2 * (mx * mx + my * my), x: cx * (r * mx - my), y: cy * (r * my - mx),
            xx: -r / 2 * cx * cx, yy: -r / 2 * cy * cy, xy: cx * cy
        )
        // Where neither is active psi is its constant.
        var square = psi.one * psi.one * n
        square +=
            2 * psi.one * (psi.x * sums.x + psi.y * sums.y + psi.xx * sums.xx + psi.yy * sums.yy + psi.xy * sums.xy)
        square += psi.x * psi.x * sums.xx + psi.y * psi.y * sums.yy + 2 * psi.x * psi.y * sums.xy
        square += 2 * psi.x * (psi.xx * sums.xxx + psi.yy * sums.xyy + psi.xy * sums.xxy)
        square += 2 * psi.y * (psi.xx * sums.xxy + psi.yy * sums.yyy + psi.xy * sums.xyy)
        square += psi.xx * psi.xx * sums.xxxx + psi.yy * psi.yy * sums.yyyy
        square += (psi.xy * psi.xy + 2 * psi.xx * psi.yy) * sums.xxyy
        square += 2 * psi.xy * (psi.xx * sums.xxxy + psi.yy * sums.xyyy)
        return max(0, square).squareRoot() / n
    }
}

/// Sums of products of powers up to the fourth degree.
private struct PowerSums: BitwiseCopyable {
    var x, y, xx, xy, yy, xxx, xxy, xyy, yyy, xxxx, xxxy, xxyy, xyyy, yyyy: Double

    mutating func add(_ a: Double, _ b: Double) {
        let (aa, ab, bb) = (a * a, a * b, b * b)
        x += a
        y += b
        xx += aa
        xy += ab
        yy += bb
        xxx += aa * a
        xxy += aa * b
        xyy += a * bb
        yyy += bb * b
        xxxx += aa * aa
        xxxy += aa * ab
        xxyy += ab * ab
        xyyy += ab * bb
        yyyy += bb * bb
    }

    mutating func merge(_ other: PowerSums) {
        x += other.x
        y += other.y
        xx += other.xx
        xy += other.xy
        yy += other.yy
        xxx += other.xxx
        xxy += other.xxy
        xyy += other.xyy
        yyy += other.yyy
        xxxx += other.xxxx
        xxxy += other.xxxy
        xxyy += other.xxyy
        xyyy += other.xyyy
        yyyy += other.yyyy
    }
}
