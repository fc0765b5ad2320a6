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
    /// Where this view is a choice of rows: the row of the memory that each of its rows is. Then rows
    /// are not `rowStride` apart: read them by `readRow`.
    public let picks: UnsafePointer<Int64>?

    /// - Precondition (checked by `SutureABI` for foreign memory): `base` is valid for
    ///   `(rows - 1) * rowStride + cols` elements.
    public init(
        base: UnsafeRawPointer?, rows: Int, cols: Int, rowStride: Int, type: ElementType, owner: AnyObject? = nil
    ) {
        self.init(base: base, rows: rows, cols: cols, rowStride: rowStride, type: type, owner: owner, picks: nil)
    }

    private init(
        base: UnsafeRawPointer?, rows: Int, cols: Int, rowStride: Int, type: ElementType, owner: AnyObject?,
        picks: UnsafePointer<Int64>?
    ) {
        self.base = base
        self.rows = rows
        self.cols = cols
        self.rowStride = rowStride
        self.type = type
        self.owner = owner
        self.picks = picks
    }

    /// The `count` rows that `picks` names, in that order, sharing the memory of both.
    ///
    /// - Precondition: each is 0 to `rows - 1`, and `picks` stays alive and unchanged as the rows do.
    public func gathered(_ picks: UnsafePointer<Int64>, count: Int) -> MatrixView {
        MatrixView(
            base: base, rows: count, cols: cols, rowStride: rowStride, type: type, owner: owner, picks: picks)
    }

    /// Rows `range`, sharing the memory.
    public func rows(_ range: Range<Int>) -> MatrixView { block(rows: range, cols: 0..<cols) }

    /// Rows `rows` of columns `cols`, sharing the memory.
    public func block(rows: Range<Int>, cols: Range<Int>) -> MatrixView {
        let first = picks == nil ? rows.lowerBound * rowStride : 0
        let offset = (first + cols.lowerBound) * type.byteCount
        return MatrixView(
            base: base.map { $0 + offset }, rows: rows.count, cols: cols.count, rowStride: rowStride, type: type,
            owner: owner, picks: picks.map { $0 + rows.lowerBound })
    }

    /// The first element of row `row` in memory that begins at `base`.
    @inline(__always)
    private func start(of row: Int, from base: UnsafeRawPointer) -> UnsafeRawPointer {
        base + (picks.map { Int($0[row]) } ?? row) * rowStride * type.byteCount
    }

    /// Writes row `row` as float32; float64 is rounded.
    public func readRow(_ row: Int, into target: UnsafeMutablePointer<Float>) {
        guard let base else { return }
        let source = start(of: row, from: base)
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
        let source = start(of: row, from: base)
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
            let source = start(of: row, from: base)
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
