// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

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
    /// Whether `curvatureProduct` is less exact than the rest.
    var roundsProducts: Bool { get }
    /// Whether the matrix of second derivatives is cheap beside a few hundred products.
    var prefersMatrix: Bool { get }

    /// logits = X v
    func multiply(_ v: Buffer<Double>, into logits: Buffer<Double>) throws
    /// sums = Xᵀ slopes
    func multiplyTransposed(_ slopes: Buffer<Double>, into sums: Buffer<Double>) throws
    /// logits = X v, sums = Xᵀ diag(curvatures) X v; may be less exact than the others.
    func curvatureProduct(
        _ curvatures: Buffer<Double>, _ v: Buffer<Double>, into sums: Buffer<Double>, logits: Buffer<Double>
    ) throws
    /// The diagonal of Xᵀ diag(curvatures) X.
    func curvatureDiagonal(_ curvatures: Buffer<Double>, into diagonal: Buffer<Double>) throws
    /// The upper triangle (at least) of Xᵀ diag(curvatures) X, (width, width); roughly: perhaps from
    /// numbers rounded to float32.
    func curvatureMatrix(_ curvatures: Buffer<Double>, roughly: Bool) throws -> DoubleMatrix
}

/// A design that is held whole in float64, column after column: few columns, or the first ones of more,
/// so that nested choices of features share it and each reads only its own.
final class HeldDesign: ProbeDesign {
    /// The most columns held.
    static let columnLimit = 96
    private static let elementLimit = 1 << 26

    let rows: Int
    let width: Int
    let scales: ColumnScales
    let roundsProducts = false
    let prefersMatrix = true
    /// Everything is exact.
    var isRough: Bool {
        get { false }
        set {}
    }
    /// (at least width, rows)
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
        let matrix = try samples.gatheredColumns(columns, progress: progress)
        if case .dense(let view) = samples, view.type == .float64 {
            // Numbers of other types can be told by the means: those beyond float32 only by looking.
            let gathered = MatrixView(
                base: UnsafeRawPointer(matrix.pointer), rows: matrix.rows, cols: matrix.cols, rowStride: matrix.cols,
                type: .float64, owner: matrix)
            if gathered.firstNonFinite(asFloat32: true) != nil { try samples.requireFinite(name) }
        }
        let scales = try ColumnScales(scaling: matrix)
        if (0..<scales.count).contains(where: { !scales.means.pointer[$0].isFinite }) {
            try samples.requireFinite(name)
        }
        self.init(matrix: matrix, scales: scales, cols: scales.count, progress: progress)
    }

    private init(matrix: DoubleMatrix, scales: ColumnScales, cols: Int, progress: Progress) {
        (self.matrix, self.scales, self.progress) = (matrix, scales, progress)
        (rows, width) = (matrix.cols, cols + 1)
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
                transpose: true, m: width, n: range.count, a: matrix.pointer + range.lowerBound, lda: matrix.cols,
                x: v.pointer, y: logits.pointer + range.lowerBound)
        }
    }

    func multiplyTransposed(_ slopes: Buffer<Double>, into sums: Buffer<Double>) throws {
        let (matrix, width) = (matrix, width)
        try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
            BLAS.gemv(
                m: width, n: range.count, a: matrix.pointer + range.lowerBound, lda: matrix.cols,
                x: slopes.pointer + range.lowerBound, y: sums)
        }
    }

    func curvatureProduct(
        _ curvatures: Buffer<Double>, _ v: Buffer<Double>, into sums: Buffer<Double>, logits: Buffer<Double>
    ) throws {
        try multiply(v, into: logits)
        let weighted = try Buffer<Double>(count: rows, for: "a probe")
        sk_products(logits.pointer, curvatures.pointer, weighted.pointer, rows)
        try multiplyTransposed(weighted, into: sums)
    }

    func curvatureDiagonal(_ curvatures: Buffer<Double>, into diagonal: Buffer<Double>) throws {
        let (matrix, width) = (matrix, width)
        try chunks.sum(width, into: diagonal.pointer, progress: progress) { range, sums in
            for j in 0..<width {
                let column = matrix.pointer + j * matrix.cols
                for i in range { sums[j] += curvatures.pointer[i] * column[i] * column[i] }
            }
        }
    }

    func curvatureMatrix(_ curvatures: Buffer<Double>, roughly: Bool) throws -> DoubleMatrix {
        let (matrix, width) = (matrix, width)
        let result = try DoubleMatrix(rows: width, cols: width)
        try productChunks.sum(width * width, into: result.pointer, progress: progress) { range, sums in
            let height = min(range.count, max(16, 32_768 / width))
            let roots = try Buffer<Double>(count: height, for: "a probe")
            let scaled = try Buffer<Double>(count: roughly ? 0 : height * width, for: "a probe")
            let short = try Buffer<Float>(count: roughly ? height * width : 0, for: "a probe")
            let part = try Buffer<Float>(zeros: roughly ? width * width : 0, for: "a probe")
            for piece in range.pieces(of: height) {
                let (from, count) = (piece.lowerBound, piece.count)
                sk_roots(curvatures.pointer + from, roots.pointer, count)
                for j in 0..<width {
                    let column = matrix.pointer + j * matrix.cols + from
                    if roughly {
                        sk_short_products(column, roots.pointer, short.pointer + j * height, count)
                    } else {
                        sk_products(column, roots.pointer, scaled.pointer + j * height, count)
                    }
                }
                guard roughly else {
                    BLAS.syrk(n: width, k: count, a: scaled.pointer, lda: height, beta: 1, c: sums, ldc: width)
                    continue
                }
                BLAS.syrk(n: width, k: count, a: short.pointer, lda: height, beta: 0, c: part.pointer, ldc: width)
                for i in 0..<width * width { sums[i] += Double(part.pointer[i]) }
            }
        }
        return result
    }
}
