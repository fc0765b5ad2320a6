// SPDX-License-Identifier: Apache-2.0

/// Sparse rows in memory that somebody else owns: codes, or compressed sparse rows (CSR).
///
/// `@unchecked Sendable`: the memory is only read through it.
public struct SparseRows: @unchecked Sendable {
    /// The numbers, in one of two types.
    public enum Values {
        case float32(UnsafePointer<Float>)
        case float64(UnsafePointer<Double>)
    }

    private enum Layout {
        /// Row r begins at slot r * width and uses counts[r] of them.
        case slots(width: Int, counts: UnsafePointer<Int32>)
        /// Row r has the numbers starts[r] ..< starts[r + 1].
        case starts(UnsafePointer<Int64>)
    }

    public let rows: Int
    public let cols: Int
    let indices: UnsafePointer<Int32>
    let values: Values
    private let layout: Layout
    private let owner: AnyObject?

    public init(_ codes: SparseCodes) {
        (rows, cols, indices) = (codes.rows, codes.dSAE, codes.indices)
        values = .float32(codes.values)
        layout = .slots(width: codes.width, counts: codes.counts)
        owner = codes
    }

    /// CSR; indices ascend within each row.
    ///
    /// - Throws: `SutureError.invalidArgument` where starts or indices are no such matrix, or a number
    ///   is not finite as float32.
    public init(
        rows: Int, cols: Int, starts: UnsafePointer<Int64>, indices: UnsafePointer<Int32>, values: Values
    ) throws {
        guard starts[0] == 0 else {
            throw SutureError.invalidArgument("starts[0] is \(starts[0]), expected 0")
        }
        // All of them before any index: one beyond the last start is beyond the caller's memory too.
        for row in 0..<rows {
            guard starts[row + 1] >= starts[row] else {
                throw SutureError.invalidArgument(
                    "starts[\(row + 1)] is \(starts[row + 1]), expected at least starts[\(row)] = \(starts[row])")
            }
        }
        for row in 0..<rows {
            var last = -1
            for slot in Int(starts[row])..<Int(starts[row + 1]) {
                let index = Int(indices[slot])
                guard index > last, index < cols else {
                    throw SutureError.invalidArgument(
                        "indices[\(slot)] is \(index), expected columns of row \(row) in ascending order, below \(cols)"
                    )
                }
                last = index
            }
        }
        for slot in 0..<Int(starts[rows]) {
            let value: Double
            switch values {
            case .float32(let numbers): value = Double(numbers[slot])
            case .float64(let numbers): value = numbers[slot]
            }
            guard Float(value).isFinite else {
                throw SutureError.invalidArgument("values[\(slot)] is \(value), expected finite numbers")
            }
        }
        (self.rows, self.cols, self.indices, self.values) = (rows, cols, indices, values)
        layout = .starts(starts)
        owner = nil
    }

    /// Slots of one row.
    @inline(__always)
    func slots(_ row: Int) -> Range<Int> {
        switch layout {
        case .slots(let width, let counts): return row * width..<row * width + Int(counts[row])
        case .starts(let starts): return Int(starts[row])..<Int(starts[row + 1])
        }
    }

    /// Numbers in use.
    var count: Int {
        switch layout {
        case .slots(_, let counts): return (0..<rows).reduce(0) { $0 + Int(counts[$1]) }
        case .starts(let starts): return Int(starts[rows])
        }
    }

    /// Calls `body(column, value)` for each number of a row, in the order of its slots.
    @inline(__always)
    func forEach(_ row: Int, _ body: (Int, Double) -> Void) {
        switch values {
        case .float32(let numbers): for slot in slots(row) { body(Int(indices[slot]), Double(numbers[slot])) }
        case .float64(let numbers): for slot in slots(row) { body(Int(indices[slot]), numbers[slot]) }
        }
    }

    /// Sum of the numbers of a row times those of a vector.
    @inline(__always)
    func dot(_ row: Int, _ vector: UnsafePointer<Double>) -> Double {
        switch values {
        case .float32(let numbers): return dot(numbers, slots(row), vector)
        case .float64(let numbers): return dot(numbers, slots(row), vector)
        }
    }

    /// With four partial sums, which do not wait for each other.
    @inline(__always)
    private func dot<Number: BinaryFloatingPoint>(
        _ numbers: UnsafePointer<Number>, _ slots: Range<Int>, _ vector: UnsafePointer<Double>
    ) -> Double {
        var sums = (0.0, 0.0, 0.0, 0.0)
        var slot = slots.lowerBound
        func term(_ slot: Int) -> Double { Double(numbers[slot]) * vector[Int(indices[slot])] }
        while slot + 4 <= slots.upperBound {
            sums.0 += term(slot)
            sums.1 += term(slot + 1)
            sums.2 += term(slot + 2)
            sums.3 += term(slot + 3)
            slot += 4
        }
        while slot < slots.upperBound {
            sums.0 += term(slot)
            slot += 1
        }
        return (sums.0 + sums.1) + (sums.2 + sums.3)
    }
}

/// What probes are fitted to and applied to: one row a sample.
public enum Samples: Sendable {
    case dense(MatrixView)
    case sparse(SparseRows)

    public var rows: Int {
        switch self {
        case .dense(let view): return view.rows
        case .sparse(let matrix): return matrix.rows
        }
    }

    public var cols: Int {
        switch self {
        case .dense(let view): return view.cols
        case .sparse(let matrix): return matrix.cols
        }
    }

    /// Numbers that one pass looks at.
    var work: Int {
        switch self {
        case .dense(let view): return view.rows * view.cols
        case .sparse(let matrix): return matrix.count
        }
    }

    /// Float32 rows that can be read where they are, and the distance between them.
    var floats: (base: UnsafePointer<Float>, stride: Int)? {
        guard case .dense(let view) = self, view.type == .float32, view.picks == nil, let base = view.base,
            UInt(bitPattern: base) % 4 == 0
        else { return nil }
        return (base.assumingMemoryBound(to: Float.self), view.rowStride)
    }

    /// Refuses NaN, infinity and numbers beyond float32; sparse rows have been looked at already.
    func requireFinite(_ name: String) throws {
        guard case .dense(let view) = self, let bad = view.firstNonFinite(asFloat32: true) else { return }
        throw SutureError.invalidArgument("\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
    }
}

/// Rows cut into pieces that threads share, the same ones whatever the number of threads.
struct RowChunks: Sendable {
    private let rows: Int
    private let size: Int
    private let work: Int
    var count: Int { (rows + size - 1) / size }

    /// Numbers that sums of all pieces may take together: 256 MiB.
    private static let sumLimit = 1 << 25

    /// - Parameters:
    ///   - work: numbers that a pass over all rows looks at.
    ///   - width: most sums that each piece has of its own.
    init(rows: Int, work: Int, width: Int = 1) {
        // Below half a million numbers a thread costs more than it saves, and waits for a busy machine.
        // Long passes in more pieces, so that a cancel is noticed between them.
        let pieces = max(1, min(max(16, work >> 24), work >> 19, Self.sumLimit / max(1, width)))
        (self.rows, self.work) = (rows, work)
        size = max(1, (rows + pieces - 1) / pieces)
    }

    subscript(chunk: Int) -> Range<Int> { chunk * size..<min((chunk + 1) * size, rows) }

    /// Runs `body` for each chunk with `width` sums of its own, zero at first, and adds those up in order.
    func sum(
        _ width: Int, into target: UnsafeMutablePointer<Double>, progress: Progress = .none,
        _ body: @escaping @Sendable (_ rows: Range<Int>, _ sums: UnsafeMutablePointer<Double>) throws -> Void
    ) throws {
        let partial = try Buffer<Double>(zeros: count * width, for: "sums of a probe")
        try parallelFor(count, progress: watched(progress)) { try body(self[$0], partial.pointer + $0 * width) }
        target.update(repeating: 0, count: width)
        for chunk in 0..<count {
            for j in 0..<width { target[j] += partial.pointer[chunk * width + j] }
        }
    }

    /// Runs `body` for each chunk.
    func forEach(progress: Progress = .none, _ body: @escaping @Sendable (Range<Int>) throws -> Void) throws {
        try parallelFor(count, progress: watched(progress)) { try body(self[$0]) }
    }

    /// Short passes are not worth the waiting that reports on the way cost.
    private func watched(_ progress: Progress) -> Progress { work > 1 << 22 ? progress.fixed(0, of: 0) : .none }
}

/// Rows of a dense matrix that are converted at a time: few enough to stay in the cache.
func blockRows(_ cols: Int) -> Int { max(1, min(256, 32_768 / max(cols, 1))) }

extension Range where Bound == Int {
    /// Pieces of at most `size`, in order.
    func pieces(of size: Int) -> [Range<Int>] {
        stride(from: lowerBound, to: upperBound, by: size).map { $0..<Swift.min($0 + size, upperBound) }
    }
}
