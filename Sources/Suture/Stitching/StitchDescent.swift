// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Nonlinear conjugate gradients on the stitching objective with one unknown eliminated, in either
/// precision; see `StitchSolver` for the idea. Gradients are those by z = n sy and by y = m sx, halved.
///
/// A step takes eighteen to twenty-one products of (a, a, b): four for the gradient, three or four for
/// the preconditioned gradient of y, five for what it does to the gradient of z, three or four for the
/// z that makes up for it, four for the line search (which shares two). What is quadratic along the
/// line (n m, mᵀ m, n sy² nᵀ) is carried along, not computed again.
final class StitchDescent<Scalar: SolverScalar> {
    typealias Work = SolverMatrix<Scalar>

    enum Outcome {
        case converged
        /// Rounding hides what could be gained.
        case stalled
        case outOfSteps
    }

    private let spectrum: StitchSpectrum
    private let alpha: Double
    private let weights: (x: Double, y: Double)
    private let (sx, sy, sxInverse, syInverse, sxSquare, sySquare): (Work, Work, Work, Work, Work, Work)
    private let (k, kTransposed): (Work, Work)

    /// The point: n (ra, rb) and m (rb, ra).
    let (n, m): (Work, Work)
    /// n m - 1, mᵀ m and n sy² nᵀ (ra, ra).
    private let (trip, gramM, gramN): (Work, Work, Work)
    private let (gradientZ, gradientY): (Work, Work)
    /// Direction of descent, by m and n; the preconditioned gradient of y, this and the last.
    private let (directionM, directionN): (Work, Work)
    private var (step, lastStep): (Work, Work)
    private let (wide, wide2, tall, tall2): (Work, Work, Work, Work)
    private let (small, small2): (Work, Work)
    private let (tripWeighted, trip1, trip2, gramM1, gramM2, gramN1, gramN2): (Work, Work, Work, Work, Work, Work, Work)
    /// Sums of squares of the direction, by y and by z.
    private var (squaresY, squaresZ) = (0.0, 0.0)
    private var blocks: (z: StitchBlock<Scalar>, y: StitchBlock<Scalar>)?
    /// What the next step is taken to be long: as the last, within bounds that keep an odd one from spoiling the next.
    private var expectedLength = 1.0

    private(set) var iterations: Int
    /// Relative to that at n = m = 0.
    private(set) var gradientNorm = Double.infinity
    /// Of the last step, relative.
    private(set) var decrease: Double

    init(
        _ spectrum: StitchSpectrum, n: DoubleMatrix, m: DoubleMatrix, iterations: Int = 0, decrease: Double = .infinity
    ) throws {
        self.spectrum = spectrum
        alpha = spectrum.alpha
        weights = spectrum.weights
        let (x, y) = spectrum.deviations
        (sx, sy) = (try Work(row: x), try Work(row: y))
        (sxInverse, syInverse) = (try Work(row: x.map { 1 / $0 }), try Work(row: y.map { 1 / $0 }))
        (sxSquare, sySquare) = (try Work(row: x.map { $0 * $0 }), try Work(row: y.map { $0 * $0 }))
        k = try Work(spectrum.correlations)
        let (a, b) = (k.rows, k.cols)
        func wide() throws -> Work { try Work(a, b) }
        func tall() throws -> Work { try Work(b, a) }
        func small() throws -> Work { try Work(a, a) }
        kTransposed = try tall()
        (self.n, self.m) = (try Work(n), try Work(m))
        (trip, gramM, gramN) = (try small(), try small(), try small())
        (gradientZ, gradientY) = (try wide(), try tall())
        (directionM, directionN, step, lastStep) = (try tall(), try wide(), try tall(), try tall())
        (self.wide, wide2, self.tall, tall2) = (try wide(), try wide(), try tall(), try tall())
        (tripWeighted, trip1, trip2, gramM1) = (try small(), try small(), try small(), try small())
        (gramM2, gramN1, gramN2) = (try small(), try small(), try small())
        (self.small, small2) = (try small(), try small())
        self.iterations = iterations
        self.decrease = decrease
        try kTransposed.setTransposed(k)
    }

    /// - Parameter least: relative decrease of a step that is taken for rounding.
    func run(tolerance: Double, least: Double, maxIterations: Int, _ check: DetachedCheck) throws -> Outcome {
        let scale = try gradientNormAtZero()
        try setProducts()
        try setGradient()
        var value = try objective()
        /// The last preconditioned gradient's product with the gradient; nil starts anew.
        var lastProduct: Double?
        /// Whether the blocks are those of this point; when they are to be renewed at the latest.
        var (isFresh, renewal) = (false, iterations)
        while true {
            try check.report(iterations, of: 0)
            let squares = (z: try gradientZ.dot(gradientZ), y: try gradientY.dot(gradientY))
            let norm = (squares.z + squares.y).squareRoot()
            gradientNorm = scale > 0 ? norm / scale : norm
            guard gradientNorm.isFinite, value.isFinite else {
                throw SutureError.numerical("the gradient of the stitching objective is not finite")
            }
            if gradientNorm == 0 || (gradientNorm < tolerance && decrease < tolerance) { return .converged }
            guard iterations < maxIterations else { return .outOfSteps }
            if decrease < tolerance, squares.y.squareRoot() < 0.9 * tolerance * scale {
                // All but there: the best n for m is what is missing.
                renewal = iterations
            }
            guard let blocks, isFresh || iterations < renewal else {
                try renew(check)
                value = try objective()
                isFresh = true
                // Early on the Hessian changes with each step, later slowly: sixteen steps cost ten times
                // what new blocks do, and at alpha 10 three times as many take twice as many steps.
                renewal = iterations + min(16, max(1, iterations / 2))
                continue
            }

            // Direction of m: conjugate by Polak and Ribière, preconditioned by the block of y.
            try blocks.y.solve(gradientY, factor: -1, into: step, scratch: tall)
            let product = -(try gradientY.dot(step))
            var beta = 0.0
            if let lastProduct { beta = max(0, (product + (try gradientY.dot(lastStep))) / lastProduct) }
            try check.report(iterations, of: 0)
            var slope = try setDirection(beta, blocks.z)
            if slope.y >= 0 || slope.z > -0.5 * slope.y {
                // The best n for m is no longer followed, or directions are no longer conjugate.
                guard isFresh else {
                    renewal = iterations
                    continue
                }
                if beta > 0 { slope = try setDirection(0, blocks.z) }
                if slope.z + slope.y >= 0 { slope = try leaveZ() }
            }
            let line = try polynomial(slope: 2 * (slope.z + slope.y))
            let length = line.firstMinimum
            let gain = -line.value(length)
            decrease = gain / max(value, 1e-14)
            guard decrease > least, product > 0 else {
                // Rounding hides all that could be gained this way. Once more straight down from new
                // blocks, then it is as good as this precision can tell.
                if isFresh, beta == 0 { return .stalled }
                (renewal, lastProduct) = (iterations, nil)
                continue
            }
            (step, lastStep) = (lastStep, step)
            lastProduct = product
            iterations += 1
            isFresh = false
            expectedLength = min(max(1, length), 2)
            value -= gain
            try n.add(length, directionN)
            try m.add(length, directionM)
            try trip.advance(length, trip1, trip2)
            try gramM.advance(length, gramM1, gramM2)
            try gramN.advance(length, gramN1, gramN2)
            try setGradient()
        }
    }

    // MARK: The objective at the point

    private func gradientNormAtZero() throws -> Double {
        try wide.setScaled(k, cols: sy)
        try tall.setScaled(kTransposed, cols: sx)
        let squares = (try wide.dot(wide), try tall.dot(tall))
        return (weights.y * weights.y * squares.0 + weights.x * weights.x * squares.1).squareRoot()
    }

    /// n m - 1 and the Gram matrices.
    private func setProducts() throws {
        try trip.setProduct(n, m)
        for i in 0..<trip.rows { trip.pointer[i * trip.cols + i] -= 1 }
        try gramM.setProduct(m, transposeA: true, m, symmetric: true)
        try wide.setScaled(n, cols: sySquare)
        try gramN.setProduct(wide, n, transposeB: true, symmetric: true)
    }

    private func setGradient() throws {
        // z: wy (n - k) sy + alpha wx (n m - 1) sx² mᵀ / sy + alpha wy (mᵀ m n - mᵀ) sy
        try tripWeighted.setScaled(trip, cols: sxSquare)
        try wide.setProduct(tripWeighted, m, transposeB: true)
        try wide2.setTransposed(m, factor: -1)
        try wide2.setProduct(gramM, n, beta: 1)
        try combine(gradientZ, n, k, sy, syInverse, own: weights.y, wide, alpha * weights.x, wide2, alpha * weights.y)
        // y: wx (m - kᵀ) sx + alpha (wx nᵀ (n m - 1) sx² + wy (m n sy² nᵀ - sy² nᵀ)) / sx
        try tall.setProduct(n, transposeA: true, tripWeighted)
        try wide.setScaled(n, cols: sySquare)
        try tall2.setTransposed(wide, factor: -1)
        try tall2.setProduct(m, gramN, beta: 1)
        let (gradientY, m, kTransposed, tall, tall2, sx, sxInverse) = (
            gradientY, m, kTransposed, tall, tall2, sx, sxInverse
        )
        let own = Scalar(weights.x)
        let (firstWeight, secondWeight) = (Scalar(alpha * weights.x), Scalar(alpha * weights.y))
        try gradientY.perRow { row in
            let cols = gradientY.cols
            let at = row * cols
            let (target, m, k) = (gradientY.pointer, m.pointer, kTransposed.pointer)
            let (first, second, sx, inverse) = (tall.pointer, tall2.pointer, sx.pointer, sxInverse.pointer)
            for j in 0..<cols {
                let inversion = firstWeight * first[at + j] + secondWeight * second[at + j]
                target[at + j] = own * (m[at + j] - k[at + j]) * sx[j] + inversion * inverse[j]
            }
        }
    }

    /// target = own (point - base) s + first w1 / s + second w2 s
    private func combine(
        _ target: Work, _ point: Work, _ base: Work, _ s: Work, _ sInverse: Work, own: Double, _ first: Work,
        _ w1: Double, _ second: Work, _ w2: Double
    ) throws {
        let (own, w1, w2) = (Scalar(own), Scalar(w1), Scalar(w2))
        try target.perRow { row in
            let cols = target.cols
            let at = row * cols
            let (z, x, k, s, inverse) = (target.pointer, point.pointer, base.pointer, s.pointer, sInverse.pointer)
            let (first, second) = (first.pointer, second.pointer)
            for j in 0..<cols {
                let scaled = own * (x[at + j] - k[at + j]) + w2 * second[at + j]
                z[at + j] = scaled * s[j] + w1 * first[at + j] * inverse[j]
            }
        }
    }

    /// L, of `setProducts`.
    private func objective() throws -> Double {
        func squares(_ x: Work, _ y: Work, _ scales: Work, _ scratch: Work) throws -> Double {
            try scratch.setScaled(x)
            try scratch.add(-1, y)
            try scratch.setScaled(scratch, cols: scales)
            return try scratch.dot(scratch)
        }
        let up = try squares(n, k, sy, wide)
        let down = try squares(m, kTransposed, sx, tall)
        try small.setScaled(trip, cols: sx)
        let tripX = try small.dot(small)
        // |(m n - 1) sy|², by matrices of the smaller size.
        try wide.setScaled(n, cols: sySquare)
        try wide2.setTransposed(m)
        let tripY = try gramM.dot(gramN) - 2 * wide.dot(wide2) + sy.dot(sy)
        return weights.y * (up + alpha * max(0, tripY)) + weights.x * (down + alpha * tripX) + spectrum.floor
    }

    // MARK: Blocks

    /// Blocks of the Hessian at the point, and the best n for m.
    private func renew(_ check: DetachedCheck) throws {
        let a = trip.rows
        let (gram, factorGram) = (try Work(a, a), try Work(a, a))
        try tall.setScaled(m, rows: syInverse, cols: sx)
        try gram.setScaled(gramM)
        try factorGram.setProduct(tall, transposeA: true, tall, symmetric: true)
        let z = try StitchBlock(
            own: weights.y, whole: alpha * weights.y, left: gram, low: alpha * weights.x, right: tall,
            factorGram: factorGram)
        try check.report(iterations, of: 0)
        try z.solve(gradientZ, factor: -1, into: wide, scratch: wide2)
        try wide.setScaled(wide, cols: syInverse)
        try n.add(1, wide)
        try setProducts()
        try setGradient()
        let (other, otherGram) = (try Work(a, a), try Work(a, a))
        try other.setScaled(gramN, rows: sxInverse, cols: sxInverse)
        try otherGram.setProduct(n, n, transposeB: true, symmetric: true)
        let y = try StitchBlock(
            own: weights.x, whole: alpha * weights.y, right: other, low: alpha * weights.x, left: n,
            factorGram: otherGram)
        blocks = (z, y)
        try check.report(iterations, of: 0)
    }

    // MARK: Lines

    /// Sets the direction: that of m to step / sx + beta times the last one, that of n to what then follows,
    /// so that the gradient of z is 0 to first order after a step of the expected length: n's lag is made up
    /// once, not once per unit of length. Returns half the derivatives along both.
    private func setDirection(_ beta: Double, _ block: StitchBlock<Scalar>) throws -> (z: Double, y: Double) {
        if beta > 0 {
            try directionM.setScaled(directionM, cols: sx)
            let (step, directionM, cols, beta) = (step, directionM, step.cols, Scalar(beta))
            try directionM.perRow { row in
                let (x, y) = (step.pointer, directionM.pointer)
                for j in row * cols..<(row + 1) * cols { y[j] = x[j] + beta * y[j] }
            }
        } else {
            try directionM.setScaled(step)
        }
        let slope = try gradientY.dot(directionM)
        squaresY = try directionM.dot(directionM)
        try directionM.setScaled(directionM, cols: sxInverse)

        try trip1.setProduct(n, directionM)
        try small.setScaled(trip1, cols: sxSquare)
        try gramM1.setProduct(m, transposeA: true, directionM)
        try gramM1.addTransposed()
        try wide.setProduct(small, m, transposeB: true)
        try wide.setProduct(tripWeighted, directionM, transposeB: true, beta: 1)
        try wide2.setTransposed(directionM, factor: -1)
        try wide2.setProduct(gramM1, n, beta: 1)
        try combine(wide, n, n, sy, syInverse, own: 0, wide, alpha * weights.x, wide2, alpha * weights.y)
        try wide.add(1 / expectedLength, gradientZ)
        try block.solve(wide, factor: -1, into: directionN, scratch: wide2)
        squaresZ = try directionN.dot(directionN)
        let slopeZ = try gradientZ.dot(directionN)
        try directionN.setScaled(directionN, cols: syInverse)
        return (slopeZ, slope)
    }

    /// Leaves n where it is.
    private func leaveZ() throws -> (z: Double, y: Double) {
        try directionN.setScaled(directionN, cols: Work(row: [Double](repeating: 0, count: directionN.cols)))
        squaresZ = 0
        try tall.setScaled(directionM, cols: sx)
        return (0, try gradientY.dot(tall))
    }

    /// L along the direction less L at the point.
    private func polynomial(slope: Double) throws -> StitchLine {
        try trip1.setProduct(directionN, m, beta: 1)
        try trip2.setProduct(directionN, directionM)
        try gramM2.setProduct(directionM, transposeA: true, directionM, symmetric: true)
        try wide.setScaled(directionN, cols: sySquare)
        try gramN1.setProduct(wide, n, transposeB: true)
        try gramN1.addTransposed()
        try gramN2.setProduct(wide, directionN, transposeB: true, symmetric: true)
        try wide2.setTransposed(directionM)
        let cross = try wide.dot(wide2)
        let (x, y) = (alpha * weights.x, alpha * weights.y)
        var second = weights.y * squaresZ + weights.x * squaresY + 2 * x * (try tripWeighted.dot(trip2))
        second += y * (try gramM.dot(gramN2) + gramM1.dot(gramN1) + gramM2.dot(gramN) - 2 * cross)
        var third = y * (try gramM1.dot(gramN2) + gramM2.dot(gramN1))
        var fourth = y * (try gramM2.dot(gramN2))
        try small.setScaled(trip1, cols: sx)
        try small2.setScaled(trip2, cols: sx)
        second += x * (try small.dot(small))
        third += 2 * x * (try small.dot(small2))
        fourth += x * (try small2.dot(small2))
        return StitchLine(coefficients: [0, slope, second, third, fourth])
    }
}

/// A polynomial of degree 4 that falls at 0 and rises in the end.
struct StitchLine {
    let coefficients: [Double]

    func value(_ t: Double) -> Double { coefficients.reversed().reduce(0) { $0 * t + $1 } }

    private func slope(_ t: Double) -> Double {
        let c = coefficients
        return c[1] + t * (2 * c[2] + t * (3 * c[3] + t * 4 * c[4]))
    }

    /// The first minimum at t > 0.
    var firstMinimum: Double {
        var (low, high) = (0.0, 1.0)
        while slope(high) < 0, high < 0x1p60 { (low, high) = (high, 2 * high) }
        // Bisection to the last bit: its cost is nothing beside that of the coefficients.
        while true {
            let middle = low + (high - low) / 2
            guard middle > low, middle < high else { return low }
            if slope(middle) < 0 { low = middle } else { high = middle }
        }
    }
}
