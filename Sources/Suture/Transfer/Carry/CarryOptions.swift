// SPDX-License-Identifier: Apache-2.0

/// Settings of `Carry`.
public struct CarryOptions: Sendable {
    /// Relative to the mean variance of B's coordinates, at least 0; nil: by generalised
    /// cross-validation.
    public var ridge: Double?
    /// So many times the regression is repeated on what B's codes still lack of A's, 0 to 100.
    public var rounds = 2
    /// Pairs of rows that are kept for calibration and rounds, taken evenly; at least 1.
    public var sample = 65_536

    /// Whether the decoder is the regression of B's rows on all of A's codes together. Without, for a
    /// caller who refits it to B's own codes, each row is that on its latent's codes alone.
    public var solvesDecoder = true

    public init() {}

    func validate() throws {
        if let ridge, !(ridge >= 0 && ridge <= 1e12) {
            throw SutureError.invalidArgument("ridge is \(ridge), expected 0 to 1e12")
        }
        guard rounds >= 0, rounds <= 100 else {
            throw SutureError.invalidArgument("rounds is \(rounds), expected 0 to 100")
        }
        guard sample >= 1, sample <= 1 << 30 else {
            throw SutureError.invalidArgument("sample is \(sample), expected 1 to \(1 << 30)")
        }
    }
}

/// What carrying by pairs found.
public struct CarryReport: Sendable {
    /// Pairs of rows that the regression rests on.
    public var rows = 0
    /// Pairs that it did not see, on which carried and original latents are compared.
    public var heldOutRows = 0
    /// Relative to the mean variance of B's coordinates.
    public var ridge = 0.0
    /// Latents that never fired in A and so never fire in B.
    public var silent = 0
    /// Latents whose firing B's rows predict no better than chance does.
    public var unpredicted = 0
    /// How often each latent fired in A, of `rows`.
    public var firings: [UInt64] = []
    /// Share of each latent's variance in A that B's rows predict linearly, by generalised
    /// cross-validation; NaN for a latent that does not vary.
    public var rSquared: [Double] = []
    /// Latents in A and B on the pairs held out.
    public var fidelity: Fidelity
    public var seconds = 0.0
}
