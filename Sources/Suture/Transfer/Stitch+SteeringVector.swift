// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension Stitch {
    /// Carries a steering vector of one model to the other (arXiv 2506.06609, §4): upwards,
    /// `v' = v P_up / |v P_up|`, without the bias, since `v` is a difference of activations.
    ///
    /// `z̄'` is exact with `acts`, the positive activations in the new model. Without them it is that of
    /// the mapped mean, `⟨up(mean), v'⟩` (ours). Sums are in float64.
    ///
    /// - Throws: `invalidArgument` where sizes, models or layers do not match, or neither mean nor `acts` is
    ///   there; `numerical` if the stitch maps the vector to zero; `cancelled`.
    public func transfer(
        _ vector: SteeringVector, direction: Direction = .up, acts: [MatrixView]? = nil, progress: Progress = .none
    ) throws -> SteeringVector {
        let (matrix, bias) = map(direction)
        let ends = TransferEnds(self, direction, of: "vector")
        guard vector.dIn == matrix.rows else {
            throw SutureError.invalidArgument(
                "vector has d = \(vector.dIn), expected \(ends.sourceSize) = \(matrix.rows) of the stitch "
                    + "(d_a = \(dA), d_b = \(dB)) for this direction")
        }
        let metadata = try ends.metadata(of: vector.metadata)
        let moved = product(vector.vector, matrix)
        // What rounding leaves of a vector in the kernel of P.
        let scale = matrix.buffer.reduce(0) { max($0, Double(abs($1))) }
        let size = moved.reduce(0) { max($0, abs($1)) }
        guard size > 1e-7 * scale else {
            throw SutureError.numerical(
                "the stitch maps vector to zero (largest element \(size)), expected a direction that \(direction == .up ? "B" : "A") has"
            )
        }
        guard acts != nil || vector.mean != nil else {
            throw SutureError.invalidArgument(
                "vector has no mean, expected one, or acts of the new model, to take z_mean from")
        }
        var mean = [Double](repeating: 0, count: matrix.cols)
        if let old = vector.mean {
            mean = zip(product(old, matrix), bias.buffer).map { $0 + Double($1) }
        }
        guard let found = try SteeringVector.along(moved, mean: mean, metadata: metadata) else {
            throw SutureError.numerical("the stitch maps vector to zero, expected a direction")
        }
        guard let acts else { return found }
        return try found.remeasured(on: acts, "acts", progress: progress)
    }
}
