// SPDX-License-Identifier: Apache-2.0

extension MatrixView {
    /// |row|² in float64 for each of the rows `range`, to `target`. The order of additions is fixed, so
    /// that a row has the same norm wherever it is looked at.
    public func squaredNorms(_ range: Range<Int>, into target: UnsafeMutablePointer<Double>) {
        withUnsafeTemporaryAllocation(of: Double.self, capacity: max(cols, 1)) { row in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: max(cols, 1)) { scratch in
                guard let row = row.baseAddress, let scratch = scratch.baseAddress else { return }
                for (i, index) in range.enumerated() {
                    readRow(index, into: row, scratch: scratch)
                    target[i] = sumOfSquares(row, cols)
                }
            }
        }
    }
}

/// Sum of x², in an order that depends on `count` alone.
public func sumOfSquares(_ x: UnsafePointer<Double>, _ count: Int) -> Double {
    let raw = UnsafeRawPointer(x)
    var (even, odd) = (SIMD8<Double>(), SIMD8<Double>())
    var i = 0
    while i + 16 <= count {
        let first = raw.loadUnaligned(fromByteOffset: 8 * i, as: SIMD8<Double>.self)
        let second = raw.loadUnaligned(fromByteOffset: 8 * i + 64, as: SIMD8<Double>.self)
        even += first * first
        odd += second * second
        i += 16
    }
    var total = (even + odd).sum()
    while i < count {
        total += x[i] * x[i]
        i += 1
    }
    return total
}
