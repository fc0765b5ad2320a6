// SPDX-License-Identifier: Apache-2.0

extension LogisticSolver {
    private static let mostProducts = 200

    /// Solves for the step until the residual is below `tolerance` of the gradient, both in the norm of
    /// the inverse diagonal, or what is left of the step below a third of `wanted`. False if that takes too many
    /// products.
    ///
    /// - Parameter change: gets X step.
    func conjugateGradients(
        into step: Buffer<Double>, tolerance: Double, wanted: Double, change: Buffer<Double>, check: () throws -> Void
    ) throws -> Bool {
        let (rows, width) = (design.rows, design.width)
        func vector() throws -> Buffer<Double> { try Buffer<Double>(zeros: width, for: "a probe") }
        let (residual, direction, product) = (try vector(), try vector(), try vector())
        let logits = try Buffer<Double>(count: rows, for: "a probe")
        let diagonal = try currentDiagonal(roughly: tolerance > 0.1)
        for j in 0..<width {
            residual.pointer[j] = -gradient.pointer[j]
            direction.pointer[j] = residual.pointer[j] / diagonal.pointer[j]
            step.pointer[j] = 0
        }
        change.pointer.update(repeating: 0, count: rows)
        func square(_ vector: Buffer<Double>) -> Double {
            var sum = 0.0
            for j in 0..<width { sum += vector.pointer[j] * vector.pointer[j] / diagonal.pointer[j] }
            return sum
        }
        var size = square(residual)
        let enough = size * tolerance * tolerance
        // The square of the step, in the norm of the second derivatives.
        var whole = 0.0
        inexactness = 1
        for _ in 0..<Self.mostProducts {
            try check()
            try design.curvatureProduct(curvatures, direction, into: product, logits: logits)
            var curvature = 0.0
            for j in 0..<width {
                product.pointer[j] += penalties.pointer[j] * direction.pointer[j]
                curvature += product.pointer[j] * direction.pointer[j]
            }
            guard curvature > 0, curvature.isFinite else { return step.pointer[0] != 0 }
            let length = size / curvature
            for j in 0..<width {
                step.pointer[j] += length * direction.pointer[j]
                residual.pointer[j] -= length * product.pointer[j]
            }
            BLAS.axpy(rows, length, logits.pointer, into: change.pointer)
            whole += length * size
            // What is left is at most this, as no second derivative is below the penalty.
            var left = residual.pointer[0] * residual.pointer[0] / diagonal.pointer[0]
            for j in 1..<width { left += residual.pointer[j] * residual.pointer[j] / penalties.pointer[j] }
            inexactness = min(1, (left / whole).squareRoot())
            let next = square(residual)
            if next <= enough || left <= 0.1 * wanted * wanted { return true }
            for j in 0..<width {
                direction.pointer[j] = residual.pointer[j] / diagonal.pointer[j] + next / size * direction.pointer[j]
            }
            size = next
        }
        return false
    }

    /// That of the second derivatives, not older than a curvature takes to change by a factor of e;
    /// roughly: as if curvatures had nothing to do with columns, whose mean square is 1.
    private func currentDiagonal(roughly: Bool) throws -> Buffer<Double> {
        if let diagonal, travelled - diagonalAt <= 1 { return diagonal }
        let found = try Buffer<Double>(zeros: design.width, for: "a probe")
        if roughly {
            var sum = 0.0
            for i in 0..<design.rows { sum += curvatures.pointer[i] }
            found.pointer.update(repeating: sum, count: design.width)
        } else {
            try design.curvatureDiagonal(curvatures, into: found)
        }
        for j in 0..<design.width {
            found.pointer[j] = max(found.pointer[j] + penalties.pointer[j], 1e-300)
        }
        if !roughly { (diagonal, diagonalAt) = (found, travelled) }
        return found
    }
}
