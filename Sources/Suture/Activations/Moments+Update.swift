// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import Synchronization

// Rows are taken in blocks of fixed size, blocks in stripes. Stripe s goes to lane s mod L, which
// keeps moments of its own: a block's rows are centred by the block's mean, and one dsyrk adds their
// products to the lane's sums. The correction of Chan et al. for the shift between the two means is
// one more row, sqrt(n1 n2 / (n1 + n2)) (mean2 - mean1), of the same dsyrk. At the end lanes are
// merged in order.
//
// Neither the stripes nor L depend on the number of threads, so neither do the bits. Wide moments
// are cut into tiles of columns: there the lanes are few (memory), the tiles many.

extension Moments {
    /// Columns up to which one thread works on a block alone.
    static let tileCols = 512
    /// Lanes may take this much memory together; there is at least one lane.
    static let laneBytes = 64 << 20

    /// Narrow blocks stay in the second-level cache from conversion to product; wide ones are long, so
    /// that the sums are read and written less often.
    static func blockRows(width: Int) -> Int { width <= tileCols ? 256 : 1024 }

    /// Blocks of a stripe: 1024 rows make a task of some milliseconds.
    static func stripeBlocks(width: Int) -> Int { width <= tileCols ? 4 : 1 }

    /// Adds paired rows: row i of both is the same token. Pairs beyond a bound on the norms are counted
    /// in `leftOut` only.
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

        let pass = try MomentsPass(a: a, b: b, norms: norms.emptied)
        let end = progress.fixed(a.rows, of: a.rows)
        try BLAS.singleThreaded { try pass.run(progress: progress.inRows(a.rows, of: pass.stripeRows)) }
        // The new sums are complete before the old ones are let go.
        var result = pass.lanes[0].moments(dA: dA, dB: dB)
        for lane in pass.lanes.dropFirst() {
            result = try result.joined(with: lane.moments(dA: dA, dB: dB), progress: end)
        }
        self = try result.joined(with: self, progress: end)
    }
}

extension Moments {
    /// `absorbing` for moments either of which may have no tokens. The bounds are the same.
    fileprivate func joined(with other: Moments, progress: Progress) throws -> Moments {
        if tokens > 0, other.tokens > 0 { return try absorbing(other, progress: progress) }
        var result = tokens > 0 ? self : other
        result.norms = norms
        result.norms.merge(other.norms)
        return result
    }
}

/// Sums over the blocks of one lane. Parallel tasks write to disjoint columns and tiles of it.
private final class MomentsLane: @unchecked Sendable {
    let mean: DoubleMatrix
    let scatter: DoubleMatrix
    /// Rows in the sums.
    var seen = 0
    /// Which pairs count.
    var norms: PairNorms
    /// Rows of the block in work that count, by their number in the block.
    var kept: [Int] = []
    /// Squared norms of the block in work, those of A first.
    let squares: DoubleMatrix

    init(width: Int, blockRows: Int, norms: PairNorms) throws {
        mean = try DoubleMatrix(rows: 1, cols: width)
        scatter = try DoubleMatrix(rows: width, cols: width)
        squares = try DoubleMatrix(rows: 2, cols: blockRows)
        self.norms = norms
        kept.reserveCapacity(blockRows)
    }

    /// Chooses the rows of a block whose squared norms are there.
    func choose(of rows: Int) {
        kept.removeAll(keepingCapacity: true)
        for row in 0..<rows where norms.take(squareA: squares[0, row], squareB: squares[1, row]) { kept.append(row) }
    }

    func moments(dA: Int, dB: Int) -> Moments {
        Moments(dA: dA, dB: dB, tokens: UInt64(seen), mean: mean, scatter: scatter, norms: norms)
    }
}

/// A block has a value that is not finite.
private struct NonFiniteBlock: Error { let block: Int }

/// One pass over paired rows.
private struct MomentsPass: Sendable {
    let a: MatrixView
    let b: MatrixView
    let width: Int
    let blockRows: Int
    let stripeBlocks: Int
    let blocks: Int
    let lanes: [MomentsLane]
    /// Column ranges, and pairs of them: the upper triangle.
    let chunks: [Range<Int>]
    let tiles: [(Int, Int)]
    let ones: DoubleMatrix

    var stripeRows: Int { blockRows * stripeBlocks }

    init(a: MatrixView, b: MatrixView, norms: PairNorms) throws {
        self.a = a
        self.b = b
        let width = a.cols + b.cols
        self.width = width
        blockRows = Moments.blockRows(width: width)
        stripeBlocks = Moments.stripeBlocks(width: width)
        blocks = (a.rows + blockRows - 1) / blockRows
        let (square, overflow) = width.multipliedReportingOverflow(by: width)
        guard !overflow else { throw SutureError.outOfMemory("moments of \(width) columns do not fit in memory") }
        // A lane costs a merge at the end, so it should have some stripes to itself.
        let count = max(1, min(Moments.laneBytes / 8 / square, 32, blocks / (2 * stripeBlocks)))
        let longest = min(blockRows, a.rows)
        lanes = try (0..<count).map { _ in try MomentsLane(width: width, blockRows: longest, norms: norms) }
        chunks = stride(from: 0, to: width, by: Moments.tileCols).map { $0..<min($0 + Moments.tileCols, width) }
        let chunkCount = chunks.count
        tiles = (0..<chunkCount).flatMap { i in (i..<chunkCount).map { (i, $0) } }
        ones = try DoubleMatrix(rows: 1, cols: min(blockRows, a.rows))
        ones.fill(1)
    }

    /// Call within `BLAS.singleThreaded`. Progress is in stripes.
    func run(progress: Progress) throws {
        do {
            if chunks.count == 1 { try runNarrow(progress) } else { try runWide(progress) }
        } catch let failure as NonFiniteBlock {
            throw nonFinite(failure.block)
        }
    }

    /// Rows of a block in work, centred, and the row that stands for the shift of the means.
    private func makeBuffer() throws -> DoubleMatrix { try DoubleMatrix(rows: min(blockRows, a.rows) + 1, cols: width) }

    private func rowCount(_ block: Int) -> Int { min(blockRows, a.rows - block * blockRows) }

    /// A thread takes a stripe through both steps, while its blocks are in cache.
    private func runNarrow(_ progress: Progress) throws {
        let stripes = (blocks + stripeBlocks - 1) / stripeBlocks
        let free = Mutex<[DoubleMatrix]>([])
        for first in stride(from: 0, to: stripes, by: lanes.count) {
            try parallelFor(min(lanes.count, stripes - first), progress: progress, base: first, total: stripes) { i in
                let lane = lanes[i]
                let buffer = try free.withLock { $0.popLast() } ?? makeBuffer()
                defer { free.withLock { $0.append(buffer) } }
                let start = (first + i) * stripeBlocks
                for block in start..<min(start + stripeBlocks, blocks) {
                    try measure(block, lane, 0..<rowCount(block))
                    lane.choose(of: rowCount(block))
                    guard !lane.kept.isEmpty else { continue }
                    load(block, lane, chunk: 0, buffer)
                    accumulate(lane, tile: 0, buffer)
                    lane.seen += lane.kept.count
                }
            }
        }
    }

    /// All threads work on one block a lane, first on its norms, then on its columns and its tiles.
    private func runWide(_ progress: Progress) throws {
        let buffers = try lanes.map { _ in try makeBuffer() }
        for first in stride(from: 0, to: blocks, by: lanes.count) {
            let active = min(lanes.count, blocks - first)
            let note = progress.fixed(first, of: blocks)
            let slices = (blockRows + sliceRows - 1) / sliceRows
            try parallelFor(active * slices, progress: note) { task in
                let (block, start) = (first + task / slices, task % slices * sliceRows)
                let rows = rowCount(block)
                if start < rows { try measure(block, lanes[task / slices], start..<min(start + sliceRows, rows)) }
            }
            for i in 0..<active { lanes[i].choose(of: rowCount(first + i)) }
            try parallelFor(active * chunks.count, progress: note) { task in
                let i = task / chunks.count
                if !lanes[i].kept.isEmpty { load(first + i, lanes[i], chunk: task % chunks.count, buffers[i]) }
            }
            try parallelFor(active * tiles.count, progress: note) { task in
                let i = task / tiles.count
                if !lanes[i].kept.isEmpty { accumulate(lanes[i], tile: task % tiles.count, buffers[i]) }
            }
            for i in 0..<active { lanes[i].seen += lanes[i].kept.count }
        }
    }

    /// Rows whose norms one thread takes at a time.
    private let sliceRows = 64

    /// Writes the squared norms of some rows of a block.
    private func measure(_ block: Int, _ lane: MomentsLane, _ rows: Range<Int>) throws {
        for (side, target) in [(a, lane.squares.pointer), (b, lane.squares.pointer + lane.squares.cols)] {
            let part = side.rows(block * blockRows + rows.lowerBound..<block * blockRows + rows.upperBound)
            guard part.firstNonFinite(asFloat32: true) == nil else { throw NonFiniteBlock(block: block) }
            part.squaredNorms(0..<rows.count, into: target + rows.lowerBound)
        }
    }

    /// Converts columns `chunk` of the rows of a block that count to float64, centres them, and moves
    /// the lane's mean.
    private func load(_ block: Int, _ lane: MomentsLane, chunk: Int, _ buffer: DoubleMatrix) {
        let columns = chunks[chunk]
        let (first, count) = (block * blockRows, lane.kept.count)
        let target = buffer.pointer
        withUnsafeTemporaryAllocation(of: Float.self, capacity: columns.count) { scratch in
            guard let scratch = scratch.baseAddress else { return }
            for (side, offset) in [(a, 0), (b, a.cols)] {
                let part = columns.clamped(to: offset..<offset + side.cols)
                guard !part.isEmpty else { continue }
                let view = side.block(
                    rows: first..<first + rowCount(block), cols: part.lowerBound - offset..<part.upperBound - offset)
                for (row, source) in lane.kept.enumerated() {
                    view.readRow(source, into: target + row * width + part.lowerBound, scratch: scratch)
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
    private func accumulate(_ lane: MomentsLane, tile: Int, _ buffer: DoubleMatrix) {
        let (rows, cols) = (chunks[tiles[tile].0], chunks[tiles[tile].1])
        let (source, inner) = (buffer.pointer, lane.kept.count + 1)
        let target = lane.scatter.pointer + rows.lowerBound * width + cols.lowerBound
        if rows == cols {
            BLAS.syrk(
                transpose: true, n: cols.count, k: inner, a: source + cols.lowerBound, lda: width, beta: 1, c: target,
                ldc: width)
        } else {
            BLAS.gemm(
                transposeA: true, m: rows.count, n: cols.count, k: inner, a: source + rows.lowerBound, lda: width,
                b: source + cols.lowerBound, ldb: width, beta: 1, c: target, ldc: width)
        }
    }

    /// Names the first row of a block that is not finite.
    private func nonFinite(_ block: Int) -> SutureError {
        let range = block * blockRows..<block * blockRows + rowCount(block)
        let found = [("h_a", a), ("h_b", b)].compactMap { name, side in
            side.rows(range).firstNonFinite(asFloat32: true).map { (name: name, side: side, bad: $0) }
        }
        guard let first = found.min(by: { $0.bad.row < $1.bad.row }) else {
            return .internal("a block of activations changed while it was read")
        }
        let place = range.lowerBound + first.bad.row
        let row = first.side.picks.map { Int($0[place]) } ?? place
        return .invalidArgument(
            "\(first.name)[\(row), \(first.bad.column)] is \(first.bad.value), expected finite numbers in the range of float32"
        )
    }
}
