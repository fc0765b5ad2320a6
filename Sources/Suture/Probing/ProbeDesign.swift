// SPDX-License-Identifier: Apache-2.0

/// The samples of a fit as its solver sees them: columns centred and of standard deviation 1, after a
/// first column of ones for the intercept. Vectors of coefficients have 1 + cols numbers, the
/// intercept first. All sums have a fixed order. Call within `BLAS.singleThreaded`.
protocol ProbeDesign: AnyObject {
    var rows: Int { get }
    /// Coefficients.
    var width: Int { get }
    /// (width - 1)
    var scales: ColumnScales { get }
    /// Whether products may be as rough as float32, where that is faster.
    var isRough: Bool { get set }
    /// Whether the matrix of second derivatives is cheap beside a few hundred products.
    var prefersMatrix: Bool { get }

    /// logits = X v
    func multiply(_ v: Buffer<Double>, into logits: Buffer<Double>) throws
    /// sums = Xᵀ slopes
    func multiplyTransposed(_ slopes: Buffer<Double>, into sums: Buffer<Double>) throws
    /// sums = Xᵀ diag(curvatures) X v; may be less exact than the others.
    func curvatureProduct(_ curvatures: Buffer<Double>, _ v: Buffer<Double>, into sums: Buffer<Double>) throws
    /// The diagonal of Xᵀ diag(curvatures) X.
    func curvatureDiagonal(_ curvatures: Buffer<Double>, into diagonal: Buffer<Double>) throws
    /// The upper triangle (at least) of Xᵀ diag(curvatures) X, (width, width).
    func curvatureMatrix(_ curvatures: Buffer<Double>) throws -> DoubleMatrix
}

/// A design that is held whole in float64: few columns, or the first ones of more, so that nested
/// choices of features share it.
final class HeldDesign: ProbeDesign {
    /// The most columns held.
    static let columnLimit = 96
    private static let elementLimit = 1 << 26

    let rows: Int
    let width: Int
    let scales: ColumnScales
    let prefersMatrix = true
    /// Everything is exact.
    var isRough: Bool {
        get { false }
        set {}
    }
    private let matrix: DoubleMatrix
    private let chunks: RowChunks
    /// For products of columns, which are more work.
    private let productChunks: RowChunks
    private let progress: Progress

    /// Whether so many columns can be held.
    ///
    /// Products of more take longer than the conjugate gradients that do without.
    static func holds(rows: Int, cols: Int) -> Bool { cols <= columnLimit && rows * (cols + 1) <= elementLimit }

    /// All columns of the samples, or some, in their order.
    ///
    /// - Throws: `SutureError.invalidArgument` at the first number that is not finite.
    convenience init(_ samples: Samples, columns: [Int]?, name: String, progress: Progress) throws {
        // Numbers of other types can be told by the means: those beyond float32 only by looking.
        if case .dense(let view) = samples, view.type == .float64 { try samples.requireFinite(name) }
        let matrix = try samples.gathered(columns, leading: 1, progress: progress)
        let scales = try ColumnScales(scaling: matrix)
        if (0..<scales.count).contains(where: { !scales.means.pointer[$0].isFinite }) {
            try samples.requireFinite(name)
        }
        self.init(matrix: matrix, scales: scales, cols: scales.count, progress: progress)
    }

    private init(matrix: DoubleMatrix, scales: ColumnScales, cols: Int, progress: Progress) {
        (self.matrix, self.scales, self.progress) = (matrix, scales, progress)
        (rows, width) = (matrix.rows, cols + 1)
        chunks = RowChunks(rows: rows, work: rows * width)
        productChunks = RowChunks(rows: rows, work: rows * width * max(1, width / 16))
    }

    /// The first columns only, in the same memory.
    func first(_ cols: Int) -> HeldDesign {
        HeldDesign(matrix: matrix, scales: scales, cols: cols, progress: progress)
    }

    func multiply(_ v: Buffer<Double>, into logits: Buffer<Double>) throws {
        let (matrix, width) = (matrix, width)
        try chunks.forEach(progress: progress) { range in
            BLAS.gemv(
                m: range.count, n: width, a: matrix.pointer + range.lowerBound * matrix.cols, lda: matrix.cols,
                x: v.pointer, y: logits.pointer + range.lowerBound)
        }
    }

    func multiplyTransposed(_ slopes: Buffer<Double>, into sums: Buffer<Double>) throws {
        let (matrix, width) = (matrix, width)
        try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
            BLAS.gemv(
                transpose: true, m: range.count, n: width, a: matrix.pointer + range.lowerBound * matrix.cols,
                lda: matrix.cols, x: slopes.pointer + range.lowerBound, y: sums)
        }
    }

    func curvatureProduct(_ curvatures: Buffer<Double>, _ v: Buffer<Double>, into sums: Buffer<Double>) throws {
        let logits = try Buffer<Double>(count: rows, for: "a probe")
        try multiply(v, into: logits)
        for i in 0..<rows { logits.pointer[i] *= curvatures.pointer[i] }
        try multiplyTransposed(logits, into: sums)
    }

    func curvatureDiagonal(_ curvatures: Buffer<Double>, into diagonal: Buffer<Double>) throws {
        let (matrix, width) = (matrix, width)
        try chunks.sum(width, into: diagonal.pointer, progress: progress) { range, sums in
            for i in range {
                let row = matrix.pointer + i * matrix.cols
                for j in 0..<width { sums[j] += curvatures.pointer[i] * row[j] * row[j] }
            }
        }
    }

    func curvatureMatrix(_ curvatures: Buffer<Double>) throws -> DoubleMatrix {
        let (matrix, width) = (matrix, width)
        let result = try DoubleMatrix(rows: width, cols: width)
        try productChunks.sum(width * width, into: result.pointer, progress: progress) { range, sums in
            let scaled = try Buffer<Double>(count: min(range.count, blockRows(width)) * width, for: "a probe")
            for piece in range.pieces(of: blockRows(width)) {
                for i in piece {
                    let (row, target) = (
                        matrix.pointer + i * matrix.cols, scaled.pointer + (i - piece.lowerBound) * width
                    )
                    let root = curvatures.pointer[i].squareRoot()
                    for j in 0..<width { target[j] = root * row[j] }
                }
                BLAS.syrkTransposed(
                    n: width, k: piece.count, a: scaled.pointer, lda: width, beta: 1, c: sums, ldc: width)
            }
        }
        return result
    }
}

extension Samples {
    /// Some columns (nil: all) as a dense matrix, after `leading` columns of zeros.
    func gathered(_ columns: [Int]?, leading: Int, progress: Progress = .none) throws -> DoubleMatrix {
        let count = columns?.count ?? cols
        let result = try DoubleMatrix(rows: rows, cols: leading + count)
        let chunks = RowChunks(rows: rows, work: rows * count)
        switch self {
        case .dense(let view):
            try chunks.forEach(progress: progress) { range in
                let scratch = try Buffer<Float>(count: view.cols, for: "a probe")
                let row = try Buffer<Double>(count: view.cols, for: "a probe")
                for i in range {
                    let target = result.pointer + i * result.cols + leading
                    guard let columns else {
                        view.readRow(i, into: target, scratch: scratch.pointer)
                        continue
                    }
                    if view.type == .float32, let base = view.base {
                        let source = base + i * view.rowStride * 4
                        for (slot, column) in columns.enumerated() {
                            target[slot] = Double(source.loadUnaligned(fromByteOffset: column * 4, as: Float.self))
                        }
                    } else {
                        view.readRow(i, into: row.pointer, scratch: scratch.pointer)
                        for (slot, column) in columns.enumerated() { target[slot] = row.pointer[column] }
                    }
                }
            }
        case .sparse(let matrix):
            // Where a column goes; -1: nowhere.
            let places = try Buffer<Int32>(count: matrix.cols, for: "a probe")
            for column in 0..<matrix.cols { places.pointer[column] = columns == nil ? Int32(column) : -1 }
            for (slot, column) in (columns ?? []).enumerated() { places.pointer[column] = Int32(slot) }
            try chunks.forEach(progress: progress) { range in
                for i in range {
                    let target = result.pointer + i * result.cols + leading
                    matrix.forEach(i) { column, value in
                        let place = Int(places.pointer[column])
                        if place >= 0 { target[place] = value }
                    }
                }
            }
        }
        return result
    }
}
