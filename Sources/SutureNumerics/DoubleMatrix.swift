// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Float64 working memory, row-major and contiguous, for moments and solvers. Unlike an array it
/// reports exhausted memory as an error, and it is shared, not copied, when assigned.
///
/// `@unchecked Sendable`: whoever computes with one owns it, and parallel code writes to disjoint
/// parts of it; what is handed on is no longer written to.
///
/// `pointer` is valid while the object lives: bind the object to a name, or capture it, first.
public final class DoubleMatrix: @unchecked Sendable {
    public let rows: Int
    public let cols: Int
    public let pointer: UnsafeMutablePointer<Double>

    public var count: Int { rows * cols }

    /// Zero-filled, 64-byte aligned.
    ///
    /// - Throws: `SutureError.outOfMemory`.
    public init(rows: Int, cols: Int) throws {
        let (count, overflow) = rows.multipliedReportingOverflow(by: cols)
        let (bytes, byteOverflow) = count.multipliedReportingOverflow(by: 8)
        // calloc leaves the zeroing of large blocks to the kernel, page by page as they are touched;
        // 56 bytes more make room for the alignment that calloc does not promise.
        guard rows >= 0, cols >= 0, !overflow, !byteOverflow, bytes < Int.max - 64, let raw = calloc(1, bytes + 56)
        else { throw SutureError.outOfMemory("a \(rows) x \(cols) float64 matrix does not fit in memory") }
        self.rows = rows
        self.cols = cols
        allocation = raw
        pointer = raw.alignedUp(toMultipleOf: 64).assumingMemoryBound(to: Double.self)
    }

    private let allocation: UnsafeMutableRawPointer

    deinit { free(allocation) }

    public subscript(row: Int, col: Int) -> Double {
        get { pointer[row * cols + col] }
        set { pointer[row * cols + col] = newValue }
    }

    public static func identity(_ n: Int) throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: n, cols: n)
        for i in 0..<n { result[i, i] = 1 }
        return result
    }

    public func copy() throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: rows, cols: cols)
        result.pointer.update(from: pointer, count: count)
        return result
    }

    public func transposed() throws -> DoubleMatrix {
        let result = try DoubleMatrix(rows: cols, cols: rows)
        // Blocks of 32 keep both sides in cache.
        for rowBlock in stride(from: 0, to: rows, by: 32) {
            for colBlock in stride(from: 0, to: cols, by: 32) {
                for row in rowBlock..<min(rowBlock + 32, rows) {
                    for col in colBlock..<min(colBlock + 32, cols) {
                        result.pointer[col * rows + row] = pointer[row * cols + col]
                    }
                }
            }
        }
        return result
    }

    public func fill(_ value: Double) { pointer.update(repeating: value, count: count) }

    /// A copy of the numbers, row by row.
    public var elements: [Double] {
        [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let base = buffer.baseAddress { base.initialize(from: pointer, count: count) }
            initialized = count
        }
    }
}
