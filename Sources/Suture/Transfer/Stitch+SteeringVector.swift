// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

extension Stitch {
    /// Carries a steering vector of one model to the other (arXiv 2506.06609, §4): upwards,
    /// `v' = v P_up / |v P_up|`, without the bias, since `v` is a difference of activations.
    ///
    /// `z̄'` is exact with `acts`, the positive activations in the new model. Without them it is that of
    /// the mapped mean, `⟨up(mean), v'⟩` (ours). Sums are in float64.
    ///
    /// - Parameter site: where it comes from, in place of what its metadata say.
    /// - Throws: `invalidArgument` where sizes, models, layers or streams do not match, or neither mean nor `acts` is
    ///   there; `numerical` if the stitch maps the vector to zero; `cancelled`.
    public func transfer(
        _ vector: SteeringVector, direction: Direction = .up, site: Site? = nil, acts: [MatrixView]? = nil,
        progress: Progress = .none
    ) throws -> SteeringVector {
        let (matrix, bias) = map(direction)
        let ends = try TransferEnds(self, direction, of: "vector")
        guard vector.dIn == matrix.rows else {
            throw SutureError.invalidArgument(
                "vector has d = \(vector.dIn), expected \(ends.sourceSize) = \(matrix.rows) of the stitch "
                    + "(d_a = \(dA), d_b = \(dB)) for this direction")
        }
        let metadata = try ends.metadata(of: vector.metadata, from: site)
        let moved = product(vector.vector, matrix)
        guard !isRounding(moved, of: vector.vector, matrix) else {
            let target = direction == .up ? "B" : "A"
            throw SutureError.numerical(
                "the stitch maps vector to zero (but for rounding), expected a direction that \(target) has")
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

/// Whether nothing is left of `v matrix` but what the rounding of v to float32 makes of zero.
private func isRounding(_ product: [Double], of v: FloatMatrix, _ matrix: FloatMatrix) -> Bool {
    var terms = [Double](repeating: 0, count: matrix.cols)
    for i in 0..<matrix.rows where v[0, i] != 0 {
        for j in 0..<matrix.cols { terms[j] += abs(Double(v[0, i]) * Double(matrix[i, j])) }
    }
    return zip(product, terms).allSatisfy { abs($0) <= $1 * 0x1p-23 }
}
