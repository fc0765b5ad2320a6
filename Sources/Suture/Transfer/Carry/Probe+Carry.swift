// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// What carrying a probe by pairs found.
public struct ProbeCarryReport: Sendable {
    /// Relative to the mean variance of B's coordinates.
    public var ridge: Double
    /// Share of the variance of each output's logits that B's rows predict, by generalised cross-validation;
    /// NaN for an output that does not vary, or where there are too few rows to tell.
    public var rSquared: [Double]
}

extension Probe {
    /// Carries a probe to another model by paired rows: its logits on A's rows regressed on B's. Moments
    /// are all it takes, for the logits are linear in A's rows: with P the ridge map from B to A of the
    /// same ridge, it is the probe composed with P (arXiv 2506.06609, eq. 7, with P for the stitch), but the
    /// ridge is chosen for the logits, each output's as a share of its variance, and not for all of A's
    /// coordinates. The mean of the logits over the pairs stays.
    ///
    /// - Parameters:
    ///   - moments: A is the probe's model.
    ///   - ridge: relative to the mean variance of B's coordinates, above 0 to 1e12; nil: by generalised
    ///     cross-validation.
    ///   - site: of B's rows, for the metadata; nil where it is not known.
    /// - Throws: `SutureError.invalidArgument` for another width, fewer than two tokens, a ridge out of range or
    ///   a side that does not vary; `.numerical` if no output varies, or for weights beyond float32;
    ///   `.cancelled`; `.outOfMemory`.
    public func carried(
        by moments: Moments, ridge: Double? = nil, site: Site? = nil, progress: Progress = .none
    ) throws -> (probe: Probe, report: ProbeCarryReport) {
        guard moments.dA == dIn else {
            throw SutureError.invalidArgument("moments has d_a = \(moments.dA), expected d_in = \(dIn) of the probe")
        }
        if let ridge, !(ridge > 0 && ridge <= 1e12) {
            throw SutureError.invalidArgument("ridge is \(ridge), expected above 0 and at most 1e12")
        }
        try moments.requireTokens(2)
        let source = self
        return try runDetached(progress: progress) { check in
            try BLAS.singleThreaded { try source.regressed(moments, ridge, site, check) }
        }
    }

    private func regressed(
        _ moments: Moments, _ given: Double?, _ site: Site?, _ check: DetachedCheck
    ) throws -> (probe: Probe, report: ProbeCarryReport) {
        let (count, dA, dB) = (outputs, moments.dA, moments.dB)
        let rank = try StitchWhitening.ranks(moments, check)[1]
        // (d_a, outputs)
        let functions = try DoubleMatrix(rows: dA, cols: count)
        for i in 0..<dA {
            for j in 0..<count { functions[i, j] = Double(weights[j, i]) }
        }
        let spread = try DoubleMatrix.product(moments.covariance(.aa), functions)
        let cross = try DoubleMatrix.product(moments.covariance(.ab), transposeA: true, functions)
        var deviations = [Double](repeating: 0, count: count)
        for j in 0..<count {
            var (variance, terms) = (0.0, 0.0)
            for i in 0..<dA {
                variance += functions[i, j] * spread[i, j]
                terms += abs(functions[i, j] * spread[i, j])
            }
            // What is left of terms that cancel is rounding.
            deviations[j] = variance > Double(dA) * 0x1p-52 * terms ? variance.squareRoot() : 0
        }
        let varying = deviations.count { $0 > 0 }
        guard varying > 0 else {
            throw SutureError.numerical("the logits of the probe do not vary over A's rows, expected some that do")
        }
        for i in 0..<dB {
            for j in 0..<count { cross[i, j] = deviations[j] > 0 ? cross[i, j] / deviations[j] : 0 }
        }
        try check.report(0, of: 0)
        let regression = try RidgeRegression(moments.covariance(.bb), cross, rank: rank, target: Double(varying))
        let tokens = Double(moments.tokens)
        let ridge = given ?? regression.crossValidated(tokens: tokens)
        let coefficients = try regression.coefficients(ridge: ridge)
        let errors = regression.errors(
            ridge: ridge, tokens: tokens, variances: deviations.map { $0 > 0 ? 1 : 0 })
        let means = moments.means
        let made = try FloatMatrix(rows: count, cols: dB) { target in
            for j in 0..<count {
                for i in 0..<dB { target[j * dB + i] = Float(coefficients[i, j] * deviations[j]) }
            }
        }
        let intercepts = try FloatMatrix(rows: 1, cols: count) { target in
            for j in 0..<count {
                var sum = Double(bias[0, j])
                for i in 0..<dA { sum += means.a[i] * functions[i, j] }
                // With the rounded weights: those that are used.
                for i in 0..<dB { sum -= means.b[i] * Double(made[j, i]) }
                target[j] = Float(sum)
            }
        }
        guard made.buffer.allSatisfy(\.isFinite), intercepts.buffer.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the weights of the carried probe are beyond float32")
        }
        let probe = try Probe(
            weights: made, bias: intercepts, classes: classes,
            metadata: TransferEnds.moved(metadata, from: nil, to: site))
        let found = (0..<count).map { j in errors.map { deviations[j] > 0 ? 1 - $0[j] : .nan } ?? .nan }
        return (probe, ProbeCarryReport(ridge: ridge, rSquared: found))
    }
}
