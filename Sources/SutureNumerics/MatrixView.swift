// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// A matrix of any element type in memory that somebody else owns: token rows at the library's
/// door, and the only thing in the core that knows more than one element type.
///
/// `@unchecked Sendable`: the memory is only read through it, and whoever makes one promises that
/// it stays alive and unchanged until the call that got it returns.
public struct MatrixView: @unchecked Sendable {
    public let base: UnsafeRawPointer?
    public let rows: Int
    public let cols: Int
    /// Elements from one row to the next.
    public let rowStride: Int
    public let type: ElementType
    /// What keeps the memory alive, where that is a Swift object: Swift may end the life of a
    /// variable at its last use, which `matrix.view` would be.
    private let owner: AnyObject?

    /// - Precondition (checked by `SutureABI` for foreign memory): `base` is valid for
    ///   `(rows - 1) * rowStride + cols` elements.
    public init(
        base: UnsafeRawPointer?, rows: Int, cols: Int, rowStride: Int, type: ElementType, owner: AnyObject? = nil
    ) {
        self.base = base
        self.rows = rows
        self.cols = cols
        self.rowStride = rowStride
        self.type = type
        self.owner = owner
    }

    /// Rows `range`, sharing the memory.
    public func rows(_ range: Range<Int>) -> MatrixView {
        let offset = range.lowerBound * rowStride * type.byteCount
        return MatrixView(
            base: base.map { $0 + offset }, rows: range.count, cols: cols, rowStride: rowStride, type: type,
            owner: owner)
    }

    /// Rows `rows` of columns `cols`, sharing the memory.
    public func block(rows: Range<Int>, cols: Range<Int>) -> MatrixView {
        let offset = (rows.lowerBound * rowStride + cols.lowerBound) * type.byteCount
        return MatrixView(
            base: base.map { $0 + offset }, rows: rows.count, cols: cols.count, rowStride: rowStride, type: type)
    }

    /// Writes row `row` as float32; float64 is rounded.
    public func readRow(_ row: Int, into target: UnsafeMutablePointer<Float>) {
        guard let base else { return }
        let source = base + row * rowStride * type.byteCount
        switch type {
        case .float32: UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: cols * 4)
        case .float64: sk_f64_to_f32(source.assumingMemoryBound(to: Double.self), target, cols)
        case .float16: sk_f16_to_f32(source.assumingMemoryBound(to: UInt16.self), target, cols)
        case .bfloat16: sk_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), target, cols)
        }
    }

    /// Writes all rows as float32, one after the other.
    public func read(into target: UnsafeMutablePointer<Float>) {
        for row in 0..<rows { readRow(row, into: target + row * cols) }
    }

    /// Writes row `row` as float64, exactly. `scratch` holds `cols` floats.
    public func readRow(_ row: Int, into target: UnsafeMutablePointer<Double>, scratch: UnsafeMutablePointer<Float>) {
        guard let base else { return }
        let source = base + row * rowStride * type.byteCount
        switch type {
        case .float32: sk_f32_to_f64(source.assumingMemoryBound(to: Float.self), target, cols)
        case .float64: UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: cols * 8)
        case .float16, .bfloat16:
            readRow(row, into: scratch)
            sk_f32_to_f64(scratch, target, cols)
        }
    }

    /// Position of the first NaN or infinite element, as (row, column).
    ///
    /// - Parameter asFloat32: also find float64 values too large for float32.
    public func firstNonFinite(asFloat32: Bool = false) -> (row: Int, column: Int, value: Double)? {
        // A matrix without rows may claim any number of columns, more than memory for one row holds.
        guard let base, rows > 0, cols > 0 else { return nil }
        let scratch = UnsafeMutablePointer<Float>.allocate(capacity: cols)
        defer { scratch.deallocate() }
        for row in 0..<rows {
            let source = base + row * rowStride * type.byteCount
            let column: Int
            switch type {
            case .float32 where UInt(bitPattern: source) % 4 == 0:
                column = sk_first_nonfinite_f32(source.assumingMemoryBound(to: Float.self), cols)
            case .float64 where !asFloat32 && UInt(bitPattern: source) % 8 == 0:
                column = sk_first_nonfinite_f64(source.assumingMemoryBound(to: Double.self), cols)
            default:
                readRow(row, into: scratch)
                column = sk_first_nonfinite_f32(scratch, cols)
            }
            if column < cols {
                readRow(row, into: scratch)
                return (row, column, Double(scratch[column]))
            }
        }
        return nil
    }
}
