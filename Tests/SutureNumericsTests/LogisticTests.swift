// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc
import SutureNumerics
import SutureTestSupport
import Testing

/// The logistic loss and what its solver adds up, on every path this CPU has, against the C library.
@Suite(.serialized) struct LogisticTests {
    private static let paths = [SK_PORTABLE, SK_AVX2, SK_AVX512]
    /// Not a multiple of any lane count.
    private static let count = 1003

    private static func normals(_ seed: UInt64, scale: Double = 1) -> [Double] {
        var random = RandomSource(seed: seed &+ testSeedOffset)
        return (0..<count).map { _ in scale * random.normal() }
    }

    @Test(arguments: paths) func `losses and derivatives are those of log1p and exp`(path: sk_path) throws {
        // Small ones, large ones, and margins where exp(-z) is nothing beside 1 or beyond float64.
        var z = Self.normals(1, scale: 3)
        let special = [0.0, -0.0, 1e-300, 36.5, -36.5, 40, -40, 700, -700, 745, -745, 1e6, -1e6, 1e300, -1e300]
        for (i, value) in special.enumerated() { z[i] = value }
        let signs = Self.normals(2).map { $0 > 0 ? 1.0 : -1.0 }
        let weights = Self.normals(3).map { abs($0) + 0.01 }
        var slopes = [Double](repeating: 0, count: z.count)
        var curvatures = slopes
        var total = 0.0
        try withKernels(path) { total = sk_logistic(z, signs, weights, z.count, &slopes, &curvatures) }
        var expected = 0.0
        for i in z.indices {
            let margin = signs[i] * z[i]
            let loss = max(-margin, 0) + log1p(exp(-abs(margin)))
            expected += weights[i] * loss
            let wrong = margin > 0 ? exp(-margin) / (1 + exp(-margin)) : 1 / (1 + exp(margin))
            let curvature = exp(-abs(margin)) / (1 + exp(-abs(margin))) / (1 + exp(-abs(margin)))
            // A few units in the last place; the kernel's exp ends at 1e-304.
            func isNear(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 8 * 0x1p-52 * abs(b) + 1e-300 }
            #expect(isNear(slopes[i], -weights[i] * signs[i] * wrong), "z \(z[i])")
            #expect(isNear(curvatures[i], weights[i] * curvature), "z \(z[i])")
            var (one, two) = (0.0, 0.0)
            let alone = sk_logistic([z[i]], [signs[i]], [1], 1, &one, &two)
            #expect(isNear(alone, loss), "z \(z[i])")
        }
        // In another order than the kernel's eight partial sums.
        #expect(abs(total - expected) <= 1e-12 * expected)
    }

    @Test(arguments: paths) func `sums and products have the bits of single ones on every path`(
        path: sk_path
    ) throws {
        let (x, y) = (Self.normals(4), Self.normals(5))
        let positive = x.map { abs($0) }
        let floats = x.map { Float($0) }
        var (roots, products, moved, squares) = (x, x, x, y)
        var short = [Float](repeating: 0, count: x.count)
        var largest = 0.0
        try withKernels(path) {
            sk_roots(positive, &roots, x.count)
            sk_products(x, y, &products, x.count)
            sk_short_products(x, y, &short, x.count)
            largest = sk_add_step(x, 0.25, y, &moved, x.count)
            sk_add_weighted_squares(0.3, floats, &squares, x.count)
        }
        for i in x.indices {
            #expect(roots[i] == positive[i].squareRoot())
            #expect(products[i] == x[i] * y[i])
            #expect(short[i] == Float(x[i] * y[i]))
            #expect(moved[i] == x[i] + 0.25 * y[i])
            #expect(squares[i] == y[i] + 0.3 * (Double(floats[i]) * Double(floats[i])))
        }
        #expect(largest == y.map { abs($0) }.max())
    }
}
