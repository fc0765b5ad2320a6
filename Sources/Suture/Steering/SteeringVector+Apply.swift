// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureNumerics

/// What steering does to a token's activation h along the vector v.
public enum SteeringMode: Sendable {
    /// `h + (strength z̄ − ⟨h, v⟩) v`: every token comes to lie where the positive texts do (eq. 9).
    case clamp
    /// `h + strength z̄ v`.
    case add
    /// `h − ⟨h, v⟩ v`.
    case ablate
}

extension SteeringVector {
    /// Writes steered rows to `output` in float32: all of `h` but what lies along the vector stays.
    ///
    /// `output` may be the memory of `h` itself, float32 with the same stride.
    ///
    /// - Parameters:
    ///   - strength: factor of `z̄`; ablation has none.
    ///   - rowStride: elements from one row of the output to the next.
    /// - Throws: `invalidArgument` for another width, a strength or a value that is not finite, or a strength
    ///   that takes `z̄` beyond float32; `numerical` for a result beyond float32; `cancelled`; then the output
    ///   may be partly written.
    public func apply(
        _ mode: SteeringMode, strength: Double = 1, to h: MatrixView, into output: UnsafeMutablePointer<Float>,
        rowStride: Int, progress: Progress = .none
    ) throws {
        guard h.cols == dIn else {
            throw SutureError.invalidArgument("h has \(h.cols) columns, expected d = \(dIn)")
        }
        guard rowStride >= dIn else {
            throw SutureError.invalidArgument("row_stride of the output is \(rowStride), expected at least \(dIn)")
        }
        let goal = mode == .ablate ? 0 : strength * zMean
        guard Float(goal).isFinite else {
            throw SutureError.invalidArgument(
                "strength is \(strength), expected one with which strength * z_mean (\(zMean)) is a float32")
        }
        let blockRows = max(1, min(4096, 1_000_000 / dIn))
        let blocks = (h.rows + blockRows - 1) / blockRows
        let target = Unchecked(output)
        try parallelFor(blocks, progress: progress.inRows(h.rows, of: blockRows)) { block in
            let first = block * blockRows
            let rows = h.rows(first..<min(first + blockRows, h.rows))
            if let bad = rows.firstNonFinite(asFloat32: true) {
                throw SutureError.invalidArgument(
                    "h[\(first + bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
            }
            for i in 0..<rows.rows {
                let row = target.value + (first + i) * rowStride
                rows.readRow(i, into: row)
                let step: Double
                switch mode {
                case .clamp: step = goal - along(row)
                case .add: step = goal
                case .ablate: step = -along(row)
                }
                let factor = Float(step)
                for j in 0..<dIn { row[j] += factor * vector.pointer[j] }
                guard sk_first_nonfinite_f32(row, dIn) == dIn else {
                    throw SutureError.numerical("the steered h[\(first + i)] is beyond float32")
                }
            }
        }
    }

    /// `⟨row, vector⟩`, in float64 and in one order of additions.
    private func along(_ row: UnsafePointer<Float>) -> Double {
        var sums = SIMD8<Double>.zero
        var j = 0
        while j + 8 <= dIn {
            let left = UnsafeRawPointer(row + j).loadUnaligned(as: SIMD8<Float>.self)
            let right = UnsafeRawPointer(vector.pointer + j).loadUnaligned(as: SIMD8<Float>.self)
            sums += SIMD8<Double>(left) * SIMD8<Double>(right)
            j += 8
        }
        var sum = sums.sum()
        while j < dIn {
            sum += Double(row[j]) * Double(vector.pointer[j])
            j += 1
        }
        return sum
    }
}
