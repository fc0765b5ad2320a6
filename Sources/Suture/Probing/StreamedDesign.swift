// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// A design with many columns, read where the samples are. Centring and scaling happen to the vectors,
/// not to the numbers: `X v = rows · u - means · u + v0` with `u = v / deviations`.
///
/// Of dense samples the centred and scaled numbers are kept once in float32 as well, for products with
/// the second derivatives: a Newton step need not be exact, and memory is read once for both halves.
final class StreamedDesign: ProbeDesign {
    private static let copyLimit = 1 << 29

    let rows: Int
    let width: Int
    let scales: ColumnScales
    private let samples: Samples
    private let chunks: RowChunks
    private let progress: Progress
    /// (rows, cols), dense samples only.
    private let copy: Buffer<Float>?
    /// Rows of the copy that stay in the cache, and their numbers: 0, 1, ….
    private let height: Int
    private let every: Buffer<Int32>
    private var roughly: Bool

    var isRough: Bool {
        get { roughly }
        set { roughly = newValue && copy != nil }
    }

    var roundsProducts: Bool { copy != nil }
    /// At most so many columns, and products of them, for the matrix of second derivatives.
    var prefersMatrix: Bool { width <= 2049 }

    private var cols: Int { width - 1 }

    /// - Throws: `SutureError.invalidArgument` at the first number that is not finite.
    init(_ samples: Samples, name: String, progress: Progress) throws {
        (self.samples, self.progress) = (samples, progress)
        (rows, width) = (samples.rows, samples.cols + 1)
        scales = try ColumnScales(samples, name: name, progress: progress)
        chunks = RowChunks(rows: rows, work: samples.work, width: 2 * width)
        height = max(1, min(256, 65_536 / samples.cols))
        every = try Buffer(count: height, for: "a probe")
        for i in 0..<height { every.pointer[i] = Int32(i) }
        guard case .dense = samples, rows * samples.cols <= Self.copyLimit else {
            (copy, roughly) = (nil, false)
            return
        }
        let copy = try Buffer<Float>(count: rows * samples.cols, for: "a probe")
        (self.copy, roughly) = (copy, true)
        let cols = samples.cols
        let factors = try self.factors()
        let means = scales.means
        try chunks.forEach(progress: progress) { range in
            try samples.addRows(range) { i, row in
                let target = copy.pointer + i * cols
                for j in 0..<cols { target[j] = Float((row[j] - means.pointer[j]) * factors.pointer[j]) }
            } sparse: { _, _, _ in
            }
        }
    }

    /// 1 / deviation, 0 for columns that do not vary.
    private func factors() throws -> Buffer<Double> {
        let factors = try Buffer<Double>(count: cols, for: "a probe")
        for j in 0..<cols {
            factors.pointer[j] = scales.constant.pointer[j] ? 0 : 1 / scales.deviations.pointer[j]
        }
        return factors
    }

    /// u, and v0 - means · u.
    private func unscaled(_ v: Buffer<Double>) throws -> (u: Buffer<Double>, shift: Double) {
        let u = try factors()
        var shift = v.pointer[0]
        for j in 0..<cols {
            u.pointer[j] *= v.pointer[1 + j]
            shift -= scales.means.pointer[j] * u.pointer[j]
        }
        return (u, shift)
    }

    /// Sums over columns and, in sums[0], over rows, to those of centred and scaled columns.
    private func rescale(_ sums: Buffer<Double>) {
        for j in 0..<cols {
            let centred = sums.pointer[1 + j] - scales.means.pointer[j] * sums.pointer[0]
            sums.pointer[1 + j] = scales.constant.pointer[j] ? 0 : centred / scales.deviations.pointer[j]
        }
    }

    func multiply(_ v: Buffer<Double>, into logits: Buffer<Double>) throws {
        let (samples, cols) = (samples, cols)
        if roughly, let copy {
            let (short, intercept) = (try rounded(v, from: 1), v.pointer[0])
            try chunks.forEach(progress: progress) { range in
                for i in range {
                    logits.pointer[i] = Double(sk_dot(copy.pointer + i * cols, short.pointer, cols)) + intercept
                }
            }
            return
        }
        let (u, shift) = try unscaled(v)
        let floats = samples.floats.map { Unchecked($0) }
        try chunks.forEach(progress: progress) { range in
            if let (base, stride) = floats?.value {
                for i in range { logits.pointer[i] = sk_mixed_dot(base + i * stride, u.pointer, cols) + shift }
                return
            }
            switch samples {
            case .dense(let view):
                try view.blocks(range) { piece, block in
                    BLAS.gemv(
                        m: piece.count, n: cols, a: block, lda: cols, x: u.pointer,
                        y: logits.pointer + piece.lowerBound)
                }
                for i in range { logits.pointer[i] += shift }
            case .sparse(let matrix):
                for i in range { logits.pointer[i] = matrix.dot(i, u.pointer) + shift }
            }
        }
    }

    /// Numbers as float32, without the first ones.
    private func rounded(_ numbers: Buffer<Double>, from start: Int) throws -> Buffer<Float> {
        let short = try Buffer<Float>(count: numbers.count - start, for: "a probe")
        sk_f64_to_f32(numbers.pointer + start, short.pointer, short.count)
        return short
    }

    func multiplyTransposed(_ slopes: Buffer<Double>, into sums: Buffer<Double>) throws {
        let (samples, cols) = (samples, cols)
        if roughly, let copy {
            let short = try rounded(slopes, from: 0)
            let (height, every) = (height, every)
            try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
                let products = try Buffer<Float>(count: cols, for: "a probe")
                for i in range { sums[0] += slopes.pointer[i] }
                for piece in range.pieces(of: height) {
                    products.pointer.update(repeating: 0, count: cols)
                    sk_gather_sum(
                        copy.pointer + piece.lowerBound * cols, cols, every.pointer, short.pointer + piece.lowerBound,
                        piece.count, products.pointer, cols)
                    sk_mixed_axpy(1, products.pointer, sums + 1, cols)
                }
            }
            return
        }
        let floats = samples.floats.map { Unchecked($0) }
        try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
            for i in range { sums[0] += slopes.pointer[i] }
            if let (base, stride) = floats?.value {
                for i in range { sk_mixed_axpy(slopes.pointer[i], base + i * stride, sums + 1, cols) }
                return
            }
            switch samples {
            case .dense(let view):
                try view.blocks(range) { piece, block in
                    BLAS.gemv(
                        transpose: true, m: piece.count, n: cols, a: block, lda: cols,
                        x: slopes.pointer + piece.lowerBound, beta: 1, y: sums + 1)
                }
            case .sparse(let matrix):
                for i in range {
                    let slope = slopes.pointer[i]
                    matrix.forEach(i) { sums[1 + $0] += slope * $1 }
                }
            }
        }
        rescale(sums)
    }

    func curvatureProduct(
        _ curvatures: Buffer<Double>, _ v: Buffer<Double>, into sums: Buffer<Double>, logits: Buffer<Double>
    ) throws {
        let (samples, cols) = (samples, cols)
        if let copy {
            let (short, intercept) = (try rounded(v, from: 1), v.pointer[0])
            let (height, every) = (height, every)
            try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
                let part = try Buffer<Float>(count: height + cols, for: "a probe")
                let products = part.pointer + height
                for piece in range.pieces(of: height) {
                    let block = copy.pointer + piece.lowerBound * cols
                    sk_gather_dots(block, cols, every.pointer, piece.count, short.pointer, cols, part.pointer)
                    for i in piece {
                        let logit = Double(part.pointer[i - piece.lowerBound]) + intercept
                        let value = curvatures.pointer[i] * logit
                        logits.pointer[i] = logit
                        sums[0] += value
                        part.pointer[i - piece.lowerBound] = Float(value)
                    }
                    products.update(repeating: 0, count: cols)
                    sk_gather_sum(block, cols, every.pointer, part.pointer, piece.count, products, cols)
                    sk_mixed_axpy(1, products, sums + 1, cols)
                }
            }
            return
        }
        let (u, shift) = try unscaled(v)
        try chunks.sum(width, into: sums.pointer, progress: progress) { range, sums in
            switch samples {
            case .dense(let view):
                try view.blocks(range) { piece, block in
                    for i in piece {
                        let row = block + (i - piece.lowerBound) * cols
                        logits.pointer[i] = BLAS.dot(cols, row, u.pointer) + shift
                        let value = curvatures.pointer[i] * logits.pointer[i]
                        sums[0] += value
                        BLAS.axpy(cols, value, row, into: sums + 1)
                    }
                }
            case .sparse(let matrix):
                for i in range {
                    logits.pointer[i] = matrix.dot(i, u.pointer) + shift
                    let value = curvatures.pointer[i] * logits.pointer[i]
                    sums[0] += value
                    matrix.forEach(i) { sums[1 + $0] += value * $1 }
                }
            }
        }
        rescale(sums)
    }

    func curvatureDiagonal(_ curvatures: Buffer<Double>, into diagonal: Buffer<Double>) throws {
        let (samples, cols, copy) = (samples, cols, copy)
        let factors = try self.factors()
        // Sums of D x² and, beside them, of D x: what centring takes away.
        let sums = try Buffer<Double>(count: 2 * width, for: "a probe")
        let (first, means) = (width, scales.means)
        try chunks.sum(2 * width, into: sums.pointer, progress: progress) { range, sums in
            for i in range { sums[0] += curvatures.pointer[i] }
            if let copy {
                for i in range {
                    sk_add_weighted_squares(curvatures.pointer[i], copy.pointer + i * cols, sums + 1, cols)
                }
                return
            }
            try samples.addRows(range) { i, row in
                let weight = curvatures.pointer[i]
                for j in 0..<cols {
                    let centred = (row[j] - means.pointer[j]) * factors.pointer[j]
                    sums[1 + j] += weight * centred * centred
                }
            } sparse: { i, j, x in
                sums[1 + j] += curvatures.pointer[i] * x * x
                sums[first + 1 + j] += curvatures.pointer[i] * x
            }
        }
        diagonal.pointer.update(from: sums.pointer, count: width)
        guard case .sparse = samples else { return }
        for j in 0..<cols {
            let mean = means.pointer[j]
            let centred = sums.pointer[1 + j] - 2 * mean * sums.pointer[first + 1 + j] + mean * mean * sums.pointer[0]
            diagonal.pointer[1 + j] = max(0, centred) * factors.pointer[j] * factors.pointer[j]
        }
    }

    func curvatureMatrix(_ curvatures: Buffer<Double>, roughly: Bool) throws -> DoubleMatrix {
        let (samples, cols, width) = (samples, cols, width)
        let (factors, means) = (try factors(), scales.means)
        let result = try DoubleMatrix(rows: width, cols: width)
        for block in (0..<rows).pieces(of: 512) {
            let scaled = try DoubleMatrix(rows: block.count, cols: width)
            try parallelFor((block.count + 31) / 32) { part in
                let range = block.lowerBound + part * 32..<min(block.lowerBound + (part + 1) * 32, block.upperBound)
                func target(_ i: Int) -> UnsafeMutablePointer<Double> {
                    scaled.pointer + (i - block.lowerBound) * width
                }
                try samples.addRows(range) { i, row in
                    target(i)[0] = 1
                    for j in 0..<cols { target(i)[1 + j] = row[j] }
                } sparse: { i, j, x in
                    target(i)[1 + j] = x
                }
                for i in range {
                    let (row, root) = (target(i), curvatures.pointer[i].squareRoot())
                    row[0] = root
                    for j in 0..<cols { row[1 + j] = (row[1 + j] - means.pointer[j]) * factors.pointer[j] * root }
                }
            }
            try result.setProduct(scaled, transposeA: true, scaled, beta: 1)
        }
        return result
    }
}

extension MatrixView {
    /// Some rows in float64, a few at a time: as they lie in memory, without a copy, or converted.
    @inline(__always)
    func blocks(_ range: Range<Int>, _ body: (Range<Int>, UnsafePointer<Double>) -> Void) throws {
        let height = blockRows(cols)
        let block = try Buffer<Double>(count: height * cols, for: "a probe")
        let scratch = try Buffer<Float>(count: cols, for: "a probe")
        for piece in range.pieces(of: height) {
            for i in piece {
                readRow(i, into: block.pointer + (i - piece.lowerBound) * cols, scratch: scratch.pointer)
            }
            body(piece, UnsafePointer(block.pointer))
        }
    }
}
