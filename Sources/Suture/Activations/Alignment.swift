// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// Rows of two models that belong together: row `a[i]` of one with row `b[i]` of the other.
public struct RowPairs: Sendable, Equatable {
    public let a: [Int64]
    public let b: [Int64]

    public var count: Int { a.count }

    /// - Throws: `invalidArgument` for lists of unequal lengths.
    public init(a: [Int64], b: [Int64]) throws {
        guard a.count == b.count else {
            throw SutureError.invalidArgument(
                "rows_b has \(b.count) elements, expected \(a.count) as rows_a: they are pairs")
        }
        self.a = a
        self.b = b
    }

    /// The tokens at which two tokenizers have read the same text: for every place at which a token of
    /// each side ends, the last token of each that ends there.
    ///
    /// Both lists are those of one text, in bytes of the original text; special tokens are taken out
    /// before. Equal neighbours are legal: tokens within one character, or tokens without text. Equal
    /// lists without equal neighbours give the identity; lists that share no end give no pair. Linear
    /// time.
    ///
    /// - Throws: `invalidArgument` if a list decreases, or has a negative end.
    public init(endsA: [Int64], endsB: [Int64]) throws {
        var (rowsA, rowsB) = ([Int64](), [Int64]())
        try endsA.withUnsafeBufferPointer { a in
            try endsB.withUnsafeBufferPointer { b in
                let shared = try SharedEnds(a, b)
                rowsA.reserveCapacity(min(a.count, b.count))
                rowsB.reserveCapacity(min(a.count, b.count))
                shared.forEach {
                    rowsA.append(Int64($0))
                    rowsB.append(Int64($1))
                }
            }
        }
        a = rowsA
        b = rowsB
    }
}

/// The places at which both of two lists of token ends have an end.
public struct SharedEnds {
    private let a: UnsafeBufferPointer<Int64>
    private let b: UnsafeBufferPointer<Int64>

    /// - Throws: `invalidArgument` if a list decreases, or has a negative end.
    public init(_ a: UnsafeBufferPointer<Int64>, _ b: UnsafeBufferPointer<Int64>) throws {
        for (name, ends) in [("ends_a", a), ("ends_b", b)] where !ends.isEmpty {
            // Ascending, so that the first tells of all.
            guard ends[0] >= 0 else {
                throw SutureError.invalidArgument(
                    "\(name)[0] is \(ends[0]), expected bytes of the text, 0 or more: tokens whose end is not known (-1) are taken out before"
                )
            }
            for i in 1..<ends.count where ends[i] < ends[i - 1] {
                throw SutureError.invalidArgument(
                    "\(name)[\(i)] is \(ends[i]) after \(ends[i - 1]), expected ends that do not decrease: those of one text, in order"
                )
            }
        }
        self.a = a
        self.b = b
    }

    /// Calls `body` with the last index of each side at every shared end, in order.
    public func forEach(_ body: (Int, Int) -> Void) {
        var (i, j) = (0, 0)
        while i < a.count, j < b.count {
            let (end, other) = (a[i], b[j])
            if end < other {
                i += 1
            } else if end > other {
                j += 1
            } else {
                while i + 1 < a.count, a[i + 1] == end { i += 1 }
                while j + 1 < b.count, b[j + 1] == end { j += 1 }
                body(i, j)
                i += 1
                j += 1
            }
        }
    }
}

extension Moments {
    /// Adds the rows that belong together: row `pairs.a[i]` of `a` with row `pairs.b[i]` of `b`. They are
    /// read where they are; neither input is copied.
    ///
    /// - Throws: `invalidArgument` for other widths, no pairs, a row that does not exist, or a value that
    ///   is not finite in float32 in a row of a pair; `cancelled`; `outOfMemory`. In each case the
    ///   moments are as they were.
    public mutating func update(
        a: MatrixView, b: MatrixView, pairs: RowPairs, progress: Progress = .none
    ) throws {
        try pairs.a.withUnsafeBufferPointer { rowsA in
            try pairs.b.withUnsafeBufferPointer { rowsB in
                guard let baseA = rowsA.baseAddress, let baseB = rowsB.baseAddress else {
                    throw SutureError.invalidArgument("rows_a has 0 elements, expected at least 1 pair of rows")
                }
                try update(a: a, b: b, rowsA: baseA, rowsB: baseB, count: rowsA.count, progress: progress)
            }
        }
    }

    /// The same with the pairs in the caller's memory, which stays unchanged until this returns.
    public mutating func update(
        a: MatrixView, b: MatrixView, rowsA: UnsafePointer<Int64>, rowsB: UnsafePointer<Int64>, count: Int,
        progress: Progress = .none
    ) throws {
        guard count > 0 else {
            throw SutureError.invalidArgument("rows_a has \(count) elements, expected at least 1 pair of rows")
        }
        for (name, rows, view, matrix) in [("rows_a", rowsA, a, "h_a"), ("rows_b", rowsB, b, "h_b")] {
            let limit = Int64(view.rows)
            for i in 0..<count where rows[i] < 0 || rows[i] >= limit {
                throw SutureError.invalidArgument(
                    "\(name)[\(i)] is \(rows[i]), expected 0 to \(limit - 1): \(matrix) has \(limit) rows")
            }
        }
        try update(a: a.gathered(rowsA, count: count), b: b.gathered(rowsB, count: count), progress: progress)
    }
}
