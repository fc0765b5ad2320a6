// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// A stitching problem in white coordinates that are turned into the principal directions of each
/// side, in which colouring and whitening are scales of rows and columns, not products.
///
/// With n (ra, rb) and m (rb, ra) the maps between white coordinates, k = Uᵀ V their correlations, and
/// sx, sy the standard deviations of the principal directions,
///     L = wy |(n - k) sy|² + wx |(m - kᵀ) sx|² + alpha wx |(n m - 1) sx|² + alpha wy |(m n - 1) sy|² + floor
struct StitchSpectrum {
    let alpha: Double
    /// Weights of both sides' errors. Their sum is 1: L is in units of its own, alike in all problems.
    let weights: (x: Double, y: Double)
    let deviations: (x: [Double], y: [Double])
    /// (ra, rb)
    let correlations: DoubleMatrix
    let floor: Double

    /// Rows are the principal directions, in the problem's white coordinates.
    private let turnX: DoubleMatrix
    private let turnY: DoubleMatrix
    private let problem: StitchProblem

    init(_ problem: StitchProblem) throws {
        self.problem = problem
        let ((valuesX, turnX), (valuesY, turnY)) = try concurrently {
            try Self.principal(problem.x)
        } _: {
            try Self.principal(problem.y)
        }
        (self.turnX, self.turnY) = (turnX, turnY)
        alpha = problem.alpha
        let total = problem.weights.x + problem.weights.y
        weights = (problem.weights.x / total, problem.weights.y / total)
        deviations = (valuesX, valuesY)
        let white = try DoubleMatrix.product(problem.kx, problem.y.whiten)
        correlations = try .product(try .product(turnX, white), turnY, transposeB: true)
        floor = weights.y * problem.floorUp + weights.x * problem.floorDown
    }

    private static func principal(_ side: StitchWhitening.Side) throws -> ([Double], DoubleMatrix) {
        let vectors = try DoubleMatrix.product(side.colour, side.colour, transposeB: true)
        let values = try LAPACK.eigenvalues(vectorsInto: vectors)
        // The turn is exact to rounding, so that white coordinates stay white, however small a variance
        // is beside the largest; only the weight of its errors is rounded, to what these values say.
        let least = (values.last ?? 0) * Double(values.count) * .ulpOfOne
        return (values.map { max($0, least).squareRoot() }, vectors)
    }

    /// The point of the problem that n and m stand for.
    func point(_ n: DoubleMatrix, _ m: DoubleMatrix) throws -> StitchPair {
        StitchPair(
            p: try .product(try .product(turnX, transposeA: true, n), try .product(turnY, problem.y.colour)),
            q: try .product(try .product(turnY, transposeA: true, m), try .product(turnX, problem.x.colour)))
    }
}
