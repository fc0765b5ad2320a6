// SPDX-License-Identifier: Apache-2.0

/// Conjugate gradients on some columns, each a system of its own with its own step lengths
/// (Hestenes & Stiefel 1952, preconditioned by the diagonal), from zero.
///
/// Loops go over plain numbers in rows of fixed width, which the compiler vectorises.
final class GradientPanel {
    private static let width = RefitSystem.panelWidth

    private let system: RefitSystem
    private let columns: Range<Int>
    private let scales: [Double]
    /// (d_sae, width) each; columns beyond those of the system are zero.
    private let solution: Buffer<Double>
    private let left: Buffer<Double>
    private let direction: Buffer<Double>
    private let product: Buffer<Double>
    /// residual · scaled residual of each column, at the start, now, and next.
    private let squaresAtStart: Buffer<Double>
    private let squares: Buffer<Double>
    private let next: Buffer<Double>
    /// direction · product, then the step lengths; and sums on the way.
    private let lengths: Buffer<Double>
    private let token: Buffer<Double>
    private let mean: Buffer<Double>

    /// - Parameter scales: the inverse of the matrix's diagonal, (d_sae).
    init(_ system: RefitSystem, columns: Range<Int>, scales: [Double]) throws {
        (self.system, self.columns, self.scales) = (system, columns, scales)
        func rows(_ count: Int) throws -> Buffer<Double> {
            let made = try Buffer<Double>(count: count * Self.width, for: "a panel")
            made.pointer.update(repeating: 0, count: made.count)
            return made
        }
        (solution, left) = (try rows(system.dSAE), try rows(system.dSAE))
        (direction, product) = (try rows(system.dSAE), try rows(system.dSAE))
        (squaresAtStart, squares, next) = (try rows(1), try rows(1), try rows(1))
        (lengths, token, mean) = (try rows(1), try rows(1), try rows(1))
        for latent in 0..<system.dSAE {
            let first = latent * Self.width
            for (lane, column) in columns.enumerated() {
                let value = system.solution[latent, column]
                left.pointer[first + lane] = value
                direction.pointer[first + lane] = value * scales[latent]
                squaresAtStart.pointer[lane] += value * value * scales[latent]
            }
        }
        squares.pointer.update(from: squaresAtStart.pointer, count: Self.width)
    }

    /// Largest over the columns.
    var residual: Double {
        var largest = 0.0
        for lane in 0..<columns.count where squaresAtStart.pointer[lane] > 0 {
            largest = max(largest, (squares.pointer[lane] / squaresAtStart.pointer[lane]).squareRoot())
        }
        return largest
    }

    func step(check: () throws -> Void) throws {
        try multiply(check: check)
        let width = Self.width
        let (x, r, p, q) = (solution.pointer, left.pointer, direction.pointer, product.pointer)
        let (squares, next, lengths) = (squares.pointer, next.pointer, lengths.pointer)
        for j in 0..<width { (next[j], lengths[j]) = (0, 0) }
        for latent in 0..<system.dSAE {
            let first = latent * width
            for j in 0..<width { lengths[j] += p[first + j] * q[first + j] }
        }
        // 0 where a column is solved.
        for j in 0..<width { lengths[j] = lengths[j] > 0 ? squares[j] / lengths[j] : 0 }
        for latent in 0..<system.dSAE {
            let (first, scale) = (latent * width, scales[latent])
            for j in 0..<width {
                x[first + j] += lengths[j] * p[first + j]
                let value = r[first + j] - lengths[j] * q[first + j]
                r[first + j] = value
                next[j] += value * value * scale
            }
        }
        for j in 0..<width { lengths[j] = squares[j] > 0 ? next[j] / squares[j] : 0 }
        squares.update(from: next, count: width)
        for latent in 0..<system.dSAE {
            let (first, scale) = (latent * width, scales[latent])
            for j in 0..<width { p[first + j] = r[first + j] * scale + lengths[j] * p[first + j] }
        }
    }

    /// product = (F'F - N f f' + diag(pull)) direction, token by token.
    private func multiply(check: () throws -> Void) throws {
        let width = Self.width
        let (source, target) = (direction.pointer, product.pointer)
        let (token, mean) = (token.pointer, mean.pointer)
        for j in 0..<width { mean[j] = 0 }
        for latent in 0..<system.dSAE {
            let (pull, share, first) = (system.pull[latent], system.means[latent], latent * width)
            for j in 0..<width {
                target[first + j] = source[first + j] * pull
                mean[j] -= source[first + j] * share
            }
        }
        for piece in system.codes {
            let (indices, values, counts) = (piece.indices, piece.values, piece.counts)
            for row in 0..<piece.rows {
                let slots = row * piece.width..<row * piece.width + Int(counts[row])
                // The mean is taken off each token, not from the sum: nothing cancels.
                for j in 0..<width { token[j] = mean[j] }
                for slot in slots {
                    let (value, from) = (Double(values[slot]), source + Int(indices[slot]) * width)
                    for j in 0..<width { token[j] += from[j] * value }
                }
                for slot in slots {
                    let (value, to) = (Double(values[slot]), target + Int(indices[slot]) * width)
                    for j in 0..<width { to[j] += token[j] * value }
                }
            }
            try check()
        }
    }

    func store() {
        for latent in 0..<system.dSAE {
            for (lane, column) in columns.enumerated() {
                system.solution[latent, column] = solution.pointer[latent * Self.width + lane]
            }
        }
    }
}
