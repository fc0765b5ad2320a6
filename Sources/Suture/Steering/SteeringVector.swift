// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A direction in a model's residual stream, and how far along it the steered text lies
/// (arXiv 2506.06609, eq. 8 and 9).
public struct SteeringVector: Sendable {
    /// (1, d), of norm 1.
    public let vector: FloatMatrix
    /// `z̄`: mean of `⟨h, vector⟩` over the tokens of the positive texts.
    public let zMean: Double
    /// (1, d), the mean activation of the positive texts, where it is known: a transfer without
    /// activations of the new model takes `z̄` from it.
    public let mean: FloatMatrix?
    /// What is known about where it comes from: model, layer, tokens, texts.
    public var metadata: Metadata

    public var dIn: Int { vector.cols }

    /// - Parameters:
    ///   - vector: (1, d), of any norm but zero; it is normalised, and `zMean` is taken to be meant
    ///     along the normalised one.
    /// - Throws: `invalidArgument` where shapes do not fit, the vector has norm 0 or `zMean` is not finite.
    public init(
        vector: FloatMatrix, zMean: Double, mean: FloatMatrix? = nil, metadata: Metadata = Metadata()
    ) throws {
        guard vector.rows == 1, vector.cols >= 1 else {
            throw SutureError.invalidArgument("vector is (\(vector.rows), \(vector.cols)), expected (1, d)")
        }
        if let mean, mean.rows != 1 || mean.cols != vector.cols {
            throw SutureError.invalidArgument(
                "mean is (\(mean.rows), \(mean.cols)), expected (1, \(vector.cols)) to go with vector")
        }
        guard zMean.isFinite else {
            throw SutureError.invalidArgument("z_mean is \(zMean), expected a finite number")
        }
        guard let unit = try Self.normalised(vector.buffer.map { Double($0) }) else {
            throw SutureError.invalidArgument("vector is zero in all \(vector.cols) places, expected a direction")
        }
        self.init(unit: unit, zMean: zMean, mean: mean, metadata: metadata)
    }

    /// `unit` is of norm 1 as `normalised` makes it.
    private init(unit: FloatMatrix, zMean: Double, mean: FloatMatrix?, metadata: Metadata) {
        self.vector = unit
        self.zMean = zMean
        self.mean = mean
        self.metadata = metadata
    }

    /// The steering vector along `direction` of texts with the mean activation `mean`: `z̄` is the mean
    /// of `⟨h, v⟩`, which is `⟨mean, v⟩`.
    ///
    /// - Returns: nil if `direction` is zero.
    static func along(_ direction: [Double], mean: [Double], metadata: Metadata) throws -> SteeringVector? {
        guard let unit = try normalised(direction) else { return nil }
        let rounded = try FloatMatrix(rows: 1, cols: mean.count) { target in
            for (i, value) in mean.enumerated() { target[i] = Float(value) }
        }
        if let bad = rounded.view.firstNonFinite() {
            throw SutureError.numerical(
                "the mean of the positive activations is beyond float32 in column \(bad.column)")
        }
        // Along the rounded vector, which is the one that steers.
        let zMean = zip(unit.buffer, mean).reduce(0) { $0 + Double($1.0) * $1.1 }
        return SteeringVector(unit: unit, zMean: zMean, mean: rounded, metadata: metadata)
    }

    /// Divided by its norm and rounded; one that has norm 1 to rounding stays as it is, so that a vector
    /// comes back from a file with the same bits. nil for zero.
    private static func normalised(_ values: [Double]) throws -> FloatMatrix? {
        let norm = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
        guard norm > 0, norm.isFinite else { return nil }
        let factor = abs(norm - 1) < 1e-6 ? 1 : 1 / norm
        return try FloatMatrix(rows: 1, cols: values.count) { target in
            for (i, value) in values.enumerated() { target[i] = Float(value * factor) }
        }
    }
}
