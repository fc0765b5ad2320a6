// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// What a fit did.
public struct StitchReport: Sendable, Equatable {
    public var method = Stitch.Method.joint
    /// What was minimised by the joint method.
    public var form = ObjectiveForm.scaled
    /// Objective on the fitted rows, of the weights as delivered (float32): of the start, which is
    /// least squares, and of the result. The same where there are no steps.
    public var before = StitchObjective()
    public var after = StitchObjective()
    /// Norm of the gradient at the end relative to that at P = 0, in coordinates in which the
    /// activations that are read are white and those that are predicted have a mean variance of 1:
    /// squared, tr(gᵀ S⁻¹ g) of each map, times the variance of its target, summed over both.
    public var gradientNorm = 0.0
    /// Ridge added to the covariance of A, for the way up, and of B, for the way down, relative to
    /// their mean diagonals.
    public var ridgeA = 0.0
    public var ridgeB = 0.0
    public var iterations = 0
    public var converged = false
    /// Numerical ranks of the two covariances.
    public var rankA = 0
    public var rankB = 0
    /// A covariance has not full rank.
    public var isRankDeficient = false
    /// Fewer than ten tokens per dimension of the wider side.
    public var hasFewTokens = false
    /// The raw form was asked for, and the streams differ in scale more than `unlikeScales` times.
    public var hasUnlikeScales = false
    /// A few rows of massive norm carry much of the variance of a stream (`Moments.normReports`).
    public var isCarriedByFewRows = false
    /// Bounds on the norms of the rows that were fitted, infinity for none, and pairs they left out.
    public var normBoundA = Double.infinity
    public var normBoundB = Double.infinity
    public var leftOut: UInt64 = 0
    public var seconds = 0.0

    /// Ratio of two streams' scales (roots of their mean variances) from which the raw form is warned
    /// of: the errors of the smaller one then count less than a ninth.
    static let unlikeScales = 3.0

    /// What is kept with the stitch.
    var metadata: [(key: String, value: JSON)] {
        var result: [(key: String, value: JSON)] = [
            ("tokens", .integer(Int64(after.tokens))), ("alpha", .number(after.alpha)),
            ("method", .string(method.name)),
        ]
        if method == .joint { result.append(("objective_form", .string(form == .raw ? "raw" : "scaled"))) }
        for (key, bound) in [("norm_bound_a", normBoundA), ("norm_bound_b", normBoundB)] where bound < .infinity {
            result.append((key, .number(bound)))
        }
        result.append(
            (
                "objective",
                .object([
                    ("up", .number(after.up)), ("down", .number(after.down)),
                    ("a_round_trip", .number(after.roundTripA)), ("b_round_trip", .number(after.roundTripB)),
                    ("total", .number(after.total)), ("scaled_total", .number(after.scaledTotal)),
                    ("up_explained_variance", .number(after.upExplainedVariance)),
                    ("down_explained_variance", .number(after.downExplainedVariance)),
                    ("a_round_trip_explained_variance", .number(after.roundTripAExplainedVariance)),
                    ("b_round_trip_explained_variance", .number(after.roundTripBExplainedVariance)),
                ])
            ))
        return result
    }
}
