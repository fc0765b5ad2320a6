// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

// Rows are taken in blocks of fixed size. Block b goes to lane b mod L, which keeps moments of its
// own: the block's rows are centred by the block's mean, and one dsyrk adds their products to the
// lane's sums. The correction of Chan et al. for the shift between the two means is one more row,
// sqrt(n1 n2 / (n1 + n2)) (mean2 - mean1), of the same dsyrk. At the end lanes are merged in order.
//
// Neither the blocks nor L depend on the number of threads, so neither do the bits. Wide moments
// are cut into tiles of columns: there the lanes are few (memory), the tiles many.

extension Moments {
    static let blockRows = 512
    static let tileCols = 512
    /// Lanes may take this much memory together; there is at least one lane.
    static let laneBytes = 96 << 20

    /// Adds paired rows: row i of both is the same token.
    ///
    /// - Throws: `invalidArgument` for other widths than (d_a) and (d_b), unequal numbers of rows, or
    ///   a value that is not finite in float32; `cancelled`; `outOfMemory`. In each case the
    ///   moments are as they were.
    public mutating func update(a: MatrixView, b: MatrixView, progress: Progress = .none) throws {
        guard a.cols == dA else { throw SutureError.invalidArgument("h_a has \(a.cols) columns, expected d_a = \(dA)") }
        guard b.cols == dB else { throw SutureError.invalidArgument("h_b has \(b.cols) columns, expected d_b = \(dB)") }
        guard a.rows == b.rows else {
            throw SutureError.invalidArgument("h_a has \(a.rows) rows and h_b \(b.rows), expected paired rows")
        }
        guard a.rows > 0 else { throw SutureError.invalidArgument("h_a has 0 rows, expected at least 1") }
        try checkCount(adding: UInt64(a.rows))
        try progress.report(0, of: a.rows)

        let pass = try MomentsPass(a: a, b: b)
        let rows = a.rows
        let end = progress.fixed(rows, of: rows)
        try BLAS.singleThreaded { try pass.run(progress: progress.inRows(rows, of: Self.blockRows)) }
        // The new sums are complete before the old ones are let go.
        var result = pass.lanes[0].moments(dA: dA, dB: dB)
        for lane in pass.lanes.dropFirst() {
            result = try result.absorbing(lane.moments(dA: dA, dB: dB), progress: end)
        }
        if tokens > 0 { result = try result.absorbing(self, progress: end) }
        self = result
    }
}

/// Sums over the blocks of one lane. Parallel tasks write to disjoint columns and tiles of it.
private final class MomentsLane: @unchecked Sendable {
    let mean: DoubleMatrix
    let scatter: DoubleMatrix
    /// Rows of the block in work, centred, and the row that stands for the shift of the means.
    let block: DoubleMatrix
    /// Rows in the sums, and in the block in work.
    var seen = 0
    var blockCount = 0

    init(width: Int, blockRows: Int) throws {
        mean = try DoubleMatrix(rows: 1, cols: width)
        scatter = try DoubleMatrix(rows: width, cols: width)
        block = try DoubleMatrix(rows: blockRows + 1, cols: width)
    }

    func moments(dA: Int, dB: Int) -> Moments {
        Moments(dA: dA, dB: dB, tokens: UInt64(seen), mean: mean, scatter: scatter)
    }
}

/// A block has a value that is not finite.
private struct NonFiniteBlock: Error { let block: Int }

/// One pass over paired rows.
private struct MomentsPass: Sendable {
    let a: MatrixView
    let b: MatrixView
    let width: Int
    let blocks: Int
    let lanes: [MomentsLane]
    /// Column ranges, and pairs of them: the upper triangle.
    let chunks: [Range<Int>]
    let tiles: [(Int, Int)]
    let ones: DoubleMatrix

    init(a: MatrixView, b: MatrixView) throws {
        self.a = a
        self.b = b
        let width = a.cols + b.cols
        self.width = width
        let blockRows = min(Moments.blockRows, a.rows)
        blocks = (a.rows + Moments.blockRows - 1) / Moments.blockRows
        let (square, overflow) = width.multipliedReportingOverflow(by: width + blockRows + 1)
        guard !overflow else { throw SutureError.outOfMemory("moments of \(width) columns do not fit in memory") }
        // A lane costs a merge at the end, so it should have some blocks to itself.
        let count = max(1, min(Moments.laneBytes / 8 / square, 32, blocks / 4))
        lanes = try (0..<count).map { _ in try MomentsLane(width: width, blockRows: blockRows) }
        chunks = stride(from: 0, to: width, by: Moments.tileCols).map { $0..<min($0 + Moments.tileCols, width) }
        let chunkCount = chunks.count
        tiles = (0..<chunkCount).flatMap { i in (i..<chunkCount).map { (i, $0) } }
        ones = try DoubleMatrix(rows: 1, cols: blockRows)
        ones.fill(1)
    }

    /// Call within `BLAS.singleThreaded`. Progress is in blocks.
    func run(progress: Progress) throws {
        do {
            for first in stride(from: 0, to: blocks, by: lanes.count) {
                let active = min(lanes.count, blocks - first)
                for i in 0..<active {
                    lanes[i].blockCount = min(Moments.blockRows, a.rows - (first + i) * Moments.blockRows)
                }
                if chunks.count == 1 {
                    // Both steps at once, while the block is in cache.
                    try parallelFor(active, progress: progress, base: first, total: blocks) { i in
                        try load(block: first + i, lane: lanes[i], chunk: 0)
                        accumulate(lane: lanes[i], tile: 0)
                    }
                } else {
                    let note = progress.fixed(first, of: blocks)
                    try parallelFor(active * chunks.count, progress: note) { task in
                        let i = task / chunks.count
                        try load(block: first + i, lane: lanes[i], chunk: task % chunks.count)
                    }
                    try parallelFor(active * tiles.count, progress: note) { task in
                        accumulate(lane: lanes[task / tiles.count], tile: task % tiles.count)
                    }
                }
                for lane in lanes[0..<active] { lane.seen += lane.blockCount }
            }
        } catch let failure as NonFiniteBlock {
            throw nonFinite(failure.block)
        }
    }

    /// Converts columns `chunk` of a block to float64, centres them, and moves the lane's mean.
    private func load(block: Int, lane: MomentsLane, chunk: Int) throws {
        let columns = chunks[chunk]
        let (first, count) = (block * Moments.blockRows, lane.blockCount)
        let target = lane.block.pointer
        try withUnsafeTemporaryAllocation(of: Float.self, capacity: columns.count) { scratch in
            guard let scratch = scratch.baseAddress else { return }
            for (side, offset) in [(a, 0), (b, a.cols)] {
                let part = columns.clamped(to: offset..<offset + side.cols)
                guard !part.isEmpty else { continue }
                let view = side.block(
                    rows: first..<first + count, cols: part.lowerBound - offset..<part.upperBound - offset)
                guard view.firstNonFinite(asFloat32: true) == nil else { throw NonFiniteBlock(block: block) }
                for row in 0..<count {
                    view.readRow(row, into: target + row * width + part.lowerBound, scratch: scratch)
                }
            }
        }
        let corner = target + columns.lowerBound
        let shift = corner + count * width
        let mean = lane.mean.pointer + columns.lowerBound
        // Column means of the block, into the row that will hold the shift.
        BLAS.gemv(
            transpose: true, m: count, n: columns.count, alpha: 1 / Double(count), a: corner, lda: width,
            x: ones.pointer, y: shift)
        BLAS.addOuter(
            m: count, n: columns.count, alpha: -1, x: ones.pointer, y: shift, into: corner, lda: width)
        let (seen, added) = (Double(lane.seen), Double(count))
        let share = added / (seen + added)
        let weight = (seen * share).squareRoot()
        for i in 0..<columns.count {
            let difference = shift[i] - mean[i]
            mean[i] += share * difference
            shift[i] = weight * difference
        }
    }

    /// Adds one tile of the products of a lane's block.
    private func accumulate(lane: MomentsLane, tile: Int) {
        let (rows, cols) = (chunks[tiles[tile].0], chunks[tiles[tile].1])
        let (source, inner) = (lane.block.pointer, lane.blockCount + 1)
        let target = lane.scatter.pointer + rows.lowerBound * width + cols.lowerBound
        if rows == cols {
            BLAS.syrkTransposed(
                n: cols.count, k: inner, a: source + cols.lowerBound, lda: width, beta: 1, c: target, ldc: width)
        } else {
            BLAS.gemm(
                transposeA: true, m: rows.count, n: cols.count, k: inner, a: source + rows.lowerBound, lda: width,
                b: source + cols.lowerBound, ldb: width, beta: 1, c: target, ldc: width)
        }
    }

    /// Names the first row of a block that is not finite.
    private func nonFinite(_ block: Int) -> SutureError {
        let range = block * Moments.blockRows..<min((block + 1) * Moments.blockRows, a.rows)
        let found = [("h_a", a), ("h_b", b)].compactMap { name, side in
            side.rows(range).firstNonFinite(asFloat32: true).map { (name: name, bad: $0) }
        }
        guard let first = found.min(by: { $0.bad.row < $1.bad.row }) else {
            return .internal("a block of activations changed while it was read")
        }
        let row = range.lowerBound + first.bad.row
        return .invalidArgument(
            "\(first.name)[\(row), \(first.bad.column)] is \(first.bad.value), expected finite numbers in the range of float32"
        )
    }
}
