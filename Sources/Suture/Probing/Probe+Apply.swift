// SPDX-License-Identifier: Apache-2.0

extension Probe {
    /// Writes `h weightsᵀ + bias`, (rows, outputs), summed in float64.
    ///
    /// - Throws: `SutureError.invalidArgument` for another width or a number that is not finite;
    ///   `.numerical` for a logit beyond float32; `.cancelled`.
    public func logits(
        _ samples: Samples, into target: UnsafeMutablePointer<Float>, rowStride: Int, name: String = "x",
        progress: Progress = .none
    ) throws {
        guard samples.cols == dIn else {
            throw SutureError.invalidArgument("\(name) has \(samples.cols) columns, expected d_in = \(dIn)")
        }
        let (cols, outputs, bias, weights) = (dIn, outputs, bias, weights)
        // (outputs, d_in), and the other way round for sparse rows.
        let rows = try Buffer<Double>(count: outputs * cols, for: "a probe")
        for i in 0..<outputs * cols { rows.pointer[i] = Double(weights.pointer[i]) }
        let columns = try Buffer<Double>(count: outputs * cols, for: "a probe")
        for output in 0..<outputs {
            for j in 0..<cols { columns.pointer[j * outputs + output] = rows.pointer[output * cols + j] }
        }
        let out = Unchecked(target)
        let chunks = RowChunks(rows: samples.rows, work: samples.work)
        try BLAS.singleThreaded {
            try chunks.forEach(progress: progress) { range in
                let sums = try Buffer<Double>(count: blockRows(cols) * outputs, for: "a probe")
                func write(_ i: Int, _ sums: UnsafePointer<Double>) throws {
                    for output in 0..<outputs {
                        let logit = Float(sums[output] + Double(bias[0, output]))
                        guard logit.isFinite else {
                            throw SutureError.numerical("the logit of \(name)[\(i)] is beyond float32")
                        }
                        out.value[i * rowStride + output] = logit
                    }
                }
                switch samples {
                case .dense(let view):
                    for piece in range.pieces(of: blockRows(cols)) {
                        let block = view.rows(piece)
                        if let bad = block.firstNonFinite(asFloat32: true) {
                            throw SutureError.invalidArgument(
                                "\(name)[\(piece.lowerBound + bad.row), \(bad.column)] is \(bad.value), "
                                    + "expected finite numbers")
                        }
                        try block.blocks(0..<piece.count) { rowsOfBlock, numbers in
                            BLAS.gemm(
                                transposeB: true, m: rowsOfBlock.count, n: outputs, k: cols, alpha: 1.0, a: numbers,
                                lda: cols, b: rows.pointer, ldb: cols, beta: 0.0, c: sums.pointer, ldc: outputs)
                        }
                        for i in piece { try write(i, sums.pointer + (i - piece.lowerBound) * outputs) }
                    }
                case .sparse(let matrix):
                    for i in range {
                        sums.pointer.update(repeating: 0, count: outputs)
                        matrix.forEach(i) { column, value in
                            let weights = columns.pointer + column * outputs
                            for output in 0..<outputs { sums.pointer[output] += value * weights[output] }
                        }
                        try write(i, sums.pointer)
                    }
                }
            }
        }
    }
}
