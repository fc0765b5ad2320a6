// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// The normal equations of a decoder, for codes that stay: with codes F (N, d_sae), tokens X (N, d_in)
/// and the present decoder W, find D for W + D from
/// `(F'F - N f f' + diag(r)) D = F'(X - F W) - N f (x - f W)`,
/// where f and x are the means of F and X. That is least squares with a free bias, which the means
/// eliminate, and with a pull of strength r towards the present rows.
///
/// The columns of D are systems of their own. They are gone through in panels of fixed width, each by
/// one thread, tokens in their order: the bits do not depend on the number of threads.
///
/// `@unchecked Sendable`: filled by its maker; a solver then writes to `solution`, each panel by one
/// thread.
final class RefitSystem: @unchecked Sendable {
    /// Columns of a panel.
    static let panelWidth = 32
    /// Tokens encoded together.
    private static let pieceRows = 4096

    let dIn: Int
    let dSAE: Int
    let tokens: Int
    /// Active latents of all tokens, piece by piece.
    let codes: [SparseCodes]
    /// Active latents in all.
    let active: Int
    /// Number of tokens on which each latent fires.
    let firings: [Int]
    /// Mean activation of each latent.
    let means: [Double]
    /// Sum of squared activations of each latent.
    let squares: [Double]
    /// The pull towards each present row.
    let pull: [Double]
    /// (d_sae, d_in): first the right-hand side, then what solves the system.
    let solution: DoubleMatrix
    /// Mean token.
    private(set) var tokenMeans: [Double]
    /// Mean over tokens of what the present decoder leaves, without its bias.
    private(set) var residualMeans: [Double]
    /// Sum over tokens and coordinates of (x - mean)², of the squared error of the present SAE, and of
    /// that error with the best bias.
    private(set) var variance = 0.0
    private(set) var errorBefore = 0.0
    private(set) var errorCentred = 0.0

    /// - Parameters:
    ///   - sae: folded: the codes are those of the tokens as they are.
    ///   - sample: is read here only, not by what solves the system.
    ///   - given: codes of the sample, in pieces; nil for those that the SAE has.
    ///   - ridge: the pull in tokens: as if each latent fired on so many more, as strongly as it does
    ///     on average, and its row were right there. So it does not depend on how the strength of a
    ///     latent is divided between encoder and decoder.
    init(_ sae: SAE, sample: RefitSample, codes given: [SparseCodes]?, ridge: Double, pulse: Pulse) throws {
        let count = Double(sample.count)
        (dIn, dSAE, tokens) = (sae.dIn, sae.dSAE, sample.count)
        codes = try given ?? Self.encode(sae, sample, pulse: pulse)
        var active = 0
        var firings = [Int](repeating: 0, count: dSAE)
        var sums = [Double](repeating: 0, count: dSAE)
        var squares = sums
        for codes in codes {
            for row in 0..<codes.rows {
                let (count, first) = (Int(codes.counts[row]), row * codes.width)
                active += count
                for slot in first..<first + count {
                    let (latent, value) = (Int(codes.indices[slot]), Double(codes.values[slot]))
                    firings[latent] += 1
                    sums[latent] += value
                    squares[latent] += value * value
                }
            }
            try pulse.beat(sample.count)
        }
        (self.active, self.firings, self.squares) = (active, firings, squares)
        means = sums.map { $0 / count }
        // A latent that never fires gets any positive number: nothing pulls its row away.
        pull = zip(squares, firings).map { $1 > 0 ? ridge * $0 / Double($1) : 1 }
        solution = try DoubleMatrix(rows: dSAE, cols: dIn)
        tokenMeans = [Double](repeating: 0, count: dIn)
        residualMeans = tokenMeans
        try gather(sae, sample, pulse: pulse)
    }

    private static func encode(_ sae: SAE, _ sample: RefitSample, pulse: Pulse) throws -> [SparseCodes] {
        try (0..<sample.count).panels(of: pieceRows).map { piece in
            let tokens = try sample.read(piece)
            try pulse.beat(piece.lowerBound)
            return try sae.encode(tokens.view, progress: pulse.repeated)
        }
    }

    /// Means, sums of squares and the right-hand side.
    private func gather(_ sae: SAE, _ sample: RefitSample, pulse: Pulse) throws {
        let panels = (0..<dIn).panels(of: Self.panelWidth).map { GatheredPanel($0) }
        let shared = Unchecked(sample)
        try parallelFor(panels.count, progress: pulse.repeated) { [self] index in
            try panels[index].gather(self, sae, shared.value, pulse: pulse)
        }
        tokenMeans = panels.flatMap(\.tokenMeans)
        residualMeans = panels.flatMap(\.residualMeans)
        for panel in panels {
            variance += panel.variance
            errorBefore += panel.errorBefore
            errorCentred += panel.errorCentred
        }
    }
}

/// Tokens that lie evenly among all rows: neighbours in a stream say much the same, and its beginning
/// may be about one thing.
struct RefitSample {
    let rows: TokenRows
    let count: Int

    private let draw: Int
    private let draws: Int

    /// - Parameters:
    ///   - count: at most so many; nil for all.
    ///   - draw: which of `draws` samples; they have no row in common where there are rows enough.
    init(_ rows: TokenRows, count: Int?, draw: Int = 0, of draws: Int = 1) {
        self.rows = rows
        self.count = min(count ?? rows.count, rows.count)
        (self.draw, self.draws) = (draw, draws)
    }

    /// Rows are fewer than 2^63, tokens too: the product needs twice the bits.
    func row(_ token: Int) -> Int {
        let (high, low) = (token * draws + draw).multipliedFullWidth(by: rows.count)
        return (count * draws).dividingFullWidth((high, low)).quotient
    }

    /// The tokens of `range` as float32.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the first element that is not finite.
    func read(_ range: Range<Int>) throws -> FloatMatrix {
        let width = rows.shards[0].cols
        return try FloatMatrix(rows: range.count, cols: width) { target in
            for (index, token) in range.enumerated() {
                let values = target + index * width
                rows.read(row(token), into: values)
                let bad = sk_first_nonfinite_f32(values, width)
                guard bad == width else { throw rows.nonFinite(row(token), column: bad, value: values[bad]) }
            }
        }
    }
}
