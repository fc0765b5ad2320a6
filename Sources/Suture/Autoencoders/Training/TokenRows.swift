// SPDX-License-Identifier: Apache-2.0

/// Token rows in one or several matrices, counted through, and what to call each matrix in an error.
struct TokenRows {
    let shards: [MatrixView]
    /// First row of each shard, and the total.
    private let starts: [Int]
    private let name: (_ shard: Int) -> String

    var count: Int { starts[shards.count] }

    init(_ shards: [MatrixView], dIn: Int, name: @escaping (_ shard: Int) -> String) throws {
        var starts = [0]
        for (index, shard) in shards.enumerated() {
            guard shard.cols == dIn else {
                throw SutureError.invalidArgument(
                    "\(name(index)) has \(shard.cols) columns, expected d_in = \(dIn)")
            }
            guard shard.rows >= 1 else {
                throw SutureError.invalidArgument("\(name(index)) has \(shard.rows) rows, expected at least 1")
            }
            let (total, overflow) = (starts.last ?? 0).addingReportingOverflow(shard.rows)
            guard !overflow else {
                throw SutureError.invalidArgument("\(name(index)) has \(shard.rows) rows, more than can be counted")
            }
            starts.append(total)
        }
        self.shards = shards
        self.starts = starts
        self.name = name
    }

    private func locate(_ row: Int) -> (shard: Int, row: Int) {
        var (low, high) = (0, shards.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if starts[middle] <= row { low = middle } else { high = middle - 1 }
        }
        return (low, row - starts[low])
    }

    /// The matrix that has row `row`, what it is called, and the number of the row there.
    func place(of row: Int) -> (view: MatrixView, name: String, row: Int) {
        let (shard, local) = locate(row)
        return (shards[shard], name(shard), local)
    }

    /// Writes row `row` as float32.
    func read(_ row: Int, into target: UnsafeMutablePointer<Float>) {
        let (shard, local) = locate(row)
        shards[shard].readRow(local, into: target)
    }

    /// Writes columns `columns` of row `row` as float32.
    func read(_ row: Int, columns: Range<Int>, into target: UnsafeMutablePointer<Float>) {
        let (shard, local) = locate(row)
        shards[shard].block(rows: local..<local + 1, cols: columns).readRow(0, into: target)
    }

    /// The error for row `row`, whose element `column` is not finite as float32.
    func nonFinite(_ row: Int, column: Int, value: Float) -> SutureError {
        let (shard, local) = locate(row)
        return .invalidArgument("\(name(shard))[\(local), \(column)] is \(value) as float32, expected finite numbers")
    }
}
