// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Float32 weights, row-major and contiguous, in memory that stays where it is: Python and C look
/// at it directly. Filled once by its maker, then never changed.
///
/// `@unchecked Sendable`: immutable after `init` returns.
public final class FloatMatrix: @unchecked Sendable {
    public let rows: Int
    public let cols: Int
    private let memory: UnsafeMutablePointer<Float>

    public var count: Int { rows * cols }
    public var pointer: UnsafePointer<Float> { UnsafePointer(memory) }
    public var buffer: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: memory, count: count) }

    /// Zero-filled, 64-byte aligned memory that `fill` may write to.
    ///
    /// - Throws: `SutureError.outOfMemory`, or what `fill` throws.
    public init(rows: Int, cols: Int, fill: (UnsafeMutablePointer<Float>) throws -> Void) throws {
        let (count, overflow) = rows.multipliedReportingOverflow(by: cols)
        let (bytes, byteOverflow) = count.multipliedReportingOverflow(by: 4)
        var raw: UnsafeMutableRawPointer?
        guard rows >= 0, cols >= 0, !overflow, !byteOverflow, posix_memalign(&raw, 64, max(bytes, 64)) == 0,
            let raw
        else { throw SutureError.outOfMemory("a \(rows) x \(cols) float32 matrix does not fit in memory") }
        memset(raw, 0, max(bytes, 64))
        self.rows = rows
        self.cols = cols
        memory = raw.assumingMemoryBound(to: Float.self)
        // All stored properties are set, so deinit frees the memory if this throws.
        try fill(memory)
    }

    public convenience init(_ matrix: Matrix<Float>) throws {
        try self.init(rows: matrix.rows, cols: matrix.cols) { target in
            matrix.elements.withUnsafeBufferPointer { source in
                if let base = source.baseAddress { target.update(from: base, count: source.count) }
            }
        }
    }

    /// A copy of `elements`, row by row.
    ///
    /// - Throws: `SutureError.invalidArgument` if their number is not `rows * cols`.
    public convenience init(rows: Int, cols: Int, elements: [Float]) throws {
        let (count, overflow) = rows.multipliedReportingOverflow(by: cols)
        guard rows >= 0, cols >= 0, !overflow, elements.count == count else {
            throw SutureError.invalidArgument(
                "elements has \(elements.count) numbers, expected rows * cols = \(rows) * \(cols)")
        }
        try self.init(rows: rows, cols: cols) { target in
            elements.withUnsafeBufferPointer { source in
                if let base = source.baseAddress { target.update(from: base, count: source.count) }
            }
        }
    }

    /// Rounded from float64.
    public convenience init(_ matrix: Matrix<Double>) throws {
        try self.init(rows: matrix.rows, cols: matrix.cols) { target in
            for (i, value) in matrix.elements.enumerated() { target[i] = Float(value) }
        }
    }

    deinit { free(memory) }

    public subscript(row: Int, col: Int) -> Float { memory[row * cols + col] }

    /// A copy that can be computed with.
    public var matrix: Matrix<Float> { Matrix(rows: rows, cols: cols, elements: Array(buffer)) }

    /// An exact copy in float64.
    public var doubles: Matrix<Double> { Matrix(rows: rows, cols: cols, elements: buffer.map { Double($0) }) }

    /// The same memory as a view, which keeps it alive.
    public var view: MatrixView {
        MatrixView(base: UnsafeRawPointer(memory), rows: rows, cols: cols, rowStride: cols, type: .float32, owner: self)
    }
}
